//! A token of SoftHSM2's for the provider's tests, in this process.
// Each test program uses a part of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// The module.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The user's PIN.
pub const PIN: &str = "1234";

/// Makes a token "soft" with these keys, each a type as pkcs11-tool names it, a label and an id. Returns its folder, which stays.
pub fn token(keys: &[(&str, &str, &str)]) -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    fs::create_dir(folder.join("tokens")).unwrap();
    let configuration = folder.join("softhsm2.conf");
    let text =
        format!("directories.tokendir = {}\nobjectstore.backend = file\n", folder.join("tokens").display());
    fs::write(&configuration, text).unwrap();
    // The module reads its environment in this process.
    unsafe { env::set_var("SOFTHSM2_CONF", &configuration) };
    run(
        "softhsm2-util",
        &["--init-token", "--free", "--label", "soft", "--so-pin", "12345678", "--pin", PIN],
    );
    for (kind, label, id) in keys {
        tool(&["--keypairgen", "--key-type", kind, "--label", label, "--id", id]);
    }
    folder
}

/// pkcs11-tool on the token, logged in: another program that changes what is there.
pub fn tool(arguments: &[&str]) {
    run("pkcs11-tool", &[&["--module", MODULE, "--login", "--pin", PIN], arguments].concat());
}

/// The URI of a private key, with the PIN.
pub fn uri(name: &str) -> String {
    format!("pkcs11:token=soft;object={name};type=private?pin-value={PIN}")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
