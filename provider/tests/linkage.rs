//! The library is linked with no libcrypto (src/libcrypto.rs).
// The shared file calls libcrypto.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Command;

mod libcrypto;

#[test]
fn libcrypto_is_the_programs() {
    let library = libcrypto::built("libstrongroom_provider.so");
    let run = |program: &str, option: &str| {
        let output = Command::new(program).args([option, "--wide"]).arg(&library).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let undefined: Vec<_> = run("readelf", "--dyn-syms")
        .lines()
        .filter(|line| line.contains(" UND ") && line.contains("OPENSSL_"))
        .map(str::to_owned)
        .collect();
    assert!(undefined.is_empty(), "add these to the list in src/libcrypto.rs: {undefined:#?}");
    let needed = run("readelf", "--dynamic");
    assert!(
        needed.contains("NEEDED") && !needed.contains("libcrypto") && !needed.contains("libssl"),
        "{needed}"
    );
}
