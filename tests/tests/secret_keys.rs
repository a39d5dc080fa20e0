//! Secret keys in a token by URI, with OpenSSL 3.5 and 4.0: `tests/programs/secret_keys.c`. What comes out is compared with what openssl
//! makes with the same bytes.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::softhsm::{PIN, SoftHsm};
use strongroom_tests::newer::OpenSsl;
use strongroom_tests::place::TOKEN;
use strongroom_tests::{operations, program};

const LIMIT: Duration = Duration::from_secs(60);

/// An AES key that is in the token too.
const AES: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Another secret that is in the token too.
const SECRET: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf";

/// SoftHSM2 with two secret keys, and the program.
struct Token {
    openssl: OpenSsl,
    softhsm: SoftHsm,
    environment: Environment,
    program: PathBuf,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn uri(label: &str) -> String {
    format!("pkcs11:token={TOKEN};object={label};type=secret-key")
}

impl Token {
    fn new(version: &str) -> Self {
        let openssl = OpenSsl::new(version).unwrap();
        let softhsm = SoftHsm::create(&openssl.bench.run.folder("softhsm").unwrap(), TOKEN).unwrap();
        let environment = softhsm.environment(&openssl.bench.programs).unwrap();
        operations::offer(&environment, "cipher mac kdf").unwrap();
        let program = openssl.build("secret_keys").unwrap();
        let token = Token { openssl, softhsm, environment, program };
        token.import("aes", AES, &["--key-type", "AES:32", "--private", "--sensitive"]);
        token.import("secret", SECRET, &["--private", "--sensitive"]);
        token.import("open", SECRET, &["--private", "--extractable"]);
        token
    }

    /// Stores a secret key with pkcs11-tool, a client that somebody else wrote.
    fn import(&self, label: &str, hex: &str, options: &[&str]) {
        let file = self.openssl.bench.file(label);
        fs::write(&file, bytes(hex)).unwrap();
        let write = ["--write-object", &file, "--type", "secrkey"];
        let uses = ["--label", label, "--usage-sign", "--usage-decrypt", "--usage-derive"];
        self.softhsm.pkcs11_tool(&[&write[..], &uses, options].concat()).unwrap();
    }

    /// What the program prints.
    fn run(&self, arguments: &[&str]) -> String {
        let environment = self.openssl.environment(&self.environment);
        let mut command = program::command(&self.program, &environment, arguments);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What openssl prints without the provider.
    fn theirs(&self, arguments: &[&str]) -> String {
        self.openssl.plain(arguments).trim().to_lowercase()
    }

    fn codes(&self, where_from: &str) {
        let file = self.data(100_000);
        for (name, with, kind, label, key, size) in [
            ("HMAC", "SHA256", "GENERIC-SECRET", "secret", SECRET, 5_000),
            ("HMAC", "SHA256", "GENERIC-SECRET", "secret", SECRET, 100_000),
            ("CMAC", "AES-256-CBC", "AES", "aes", AES, 5_000),
        ] {
            let file = if size == 100_000 { file.clone() } else { self.data(size) };
            let option = format!("hexkey:{key}");
            let with_option = if name == "HMAC" { "-digest" } else { "-cipher" };
            let theirs = self.theirs(&["mac", with_option, with, "-macopt", &option, "-in", &file, name]);
            let size = size.to_string();
            let ours = self.run(&["mac", name, with, kind, &format!("{where_from}{}", uri(label)), &size]);
            assert_eq!(ours.trim(), format!("code {theirs}"), "{name} {size}");
            // An application's bytes are a key of the same kind.
            let ours = self.run(&["mac", name, with, kind, &format!("hex:{key}"), &size]);
            assert_eq!(ours.trim(), format!("code {theirs}"), "{name} {size}");
        }
    }

    fn ciphers(&self, where_from: &str) {
        let uri = format!("{where_from}{}", uri("aes"));
        for (name, size) in [
            ("AES-256-CBC", 5_000),
            ("AES-256-ECB", 100_000),
            ("AES-256-CTR", 100_000),
            ("AES-256-GCM", 5_000),
        ] {
            let size = size.to_string();
            let ours = self.run(&["cipher", name, "AES", &uri, &size]);
            assert!(ours.ends_with("\ndecrypted \n"), "{name}: {ours}");
            // An application's bytes are a key of the same kind, in the same modes: its way is compared with OpenSSL's in symmetric.rs.
            let bytes = self.run(&["cipher", name, "AES", &format!("hex:{AES}"), &size]);
            assert!(ours == bytes, "{name}");
            if name == "AES-256-GCM" {
                continue;
            }
            let iv = if name == "AES-256-ECB" { "" } else { "0102030405060708090a0b0c0d0e0f10" };
            let (data, file) = (self.data(size.parse().unwrap()), self.openssl.bench.file("encrypted"));
            let name = format!("-{}", name.to_lowercase());
            let mut theirs = vec!["enc", &name, "-K", AES, "-in", &data, "-out", &file];
            if !iv.is_empty() {
                theirs.extend(["-iv", iv]);
            }
            self.openssl.plain(&theirs);
            let encrypted = fs::read(&file).unwrap();
            let hex: String = encrypted.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(ours.starts_with(&format!("encrypted {hex}\n")), "{name}");
        }
        let refused = self.run(&["cipher", "AES-128-CBC", "AES", &uri, "100"]);
        assert!(refused.contains("a key of 32 bytes where the cipher has 16"), "{refused}");
    }

    /// A file with the program's data.
    fn data(&self, size: usize) -> String {
        let file = self.openssl.bench.file(&format!("data-{size}"));
        let data: Vec<u8> = (0..size).map(|at| (at * at + at / 7) as u8).collect();
        fs::write(&file, data).unwrap();
        file
    }
}

#[test]
#[ignore = "builds OpenSSL 3.5 once, which takes five minutes"]
fn secret_keys_are_used_by_uri() {
    let token = Token::new("openssl-3.5");
    token.codes("");
    token.ciphers("");

    // By the openssl command too.
    let (data, encrypted) = (token.data(5_000), token.openssl.bench.file("by-command"));
    let skeyopt = format!("pkcs11_uri:{}", uri("aes"));
    let encrypt = [
        "enc",
        "-aes-256-cbc",
        "-skeymgmt",
        "AES",
        "-propquery",
        "provider=strongroom",
        "-skeyopt",
        &skeyopt,
    ];
    let iv = ["-iv", "00", "-in", &data, "-out", &encrypted];
    command::succeed(token.openssl.command(&token.environment, &[&encrypt[..], &iv].concat()), LIMIT)
        .unwrap();
    let decrypted = token.openssl.bench.file("decrypted");
    token.openssl.plain(&[
        "enc",
        "-d",
        "-aes-256-cbc",
        "-K",
        AES,
        "-iv",
        "00",
        "-in",
        &encrypted,
        "-out",
        &decrypted,
    ]);
    assert_eq!(fs::read(&decrypted).unwrap(), fs::read(&data).unwrap());

    // What may leave the token leaves it, and nothing else.
    assert_eq!(token.run(&["export", "GENERIC-SECRET", &uri("open")]).trim(), format!("exported {SECRET}"));
    let refused = token.run(&["export", "GENERIC-SECRET", &uri("secret")]);
    assert!(refused.contains("object=secret;type=secret-key does not leave its token"), "{refused}");

    // Made in the token, once, and used there.
    for (kind, name, uses, mac) in [
        ("GENERIC-SECRET", "made", "mac", ["HMAC", "SHA256"]),
        ("AES", "made-aes", "mac encrypt", ["CMAC", "AES-128-CBC"]),
    ] {
        let size = if kind == "AES" { "16" } else { "40" };
        let made = token.run(&["generate", kind, &uri(name), size, uses]);
        assert!(made.starts_with(&format!("generated pkcs11:token={TOKEN};object={name};id=")), "{made}");
        let again = token.run(&["generate", kind, &uri(name), size, uses]);
        assert!(again.contains("has a secret key of this name"), "{again}");
        let code = token.run(&["mac", mac[0], mac[1], kind, &uri(name), "1000"]);
        assert!(code.starts_with("code ") && code.len() > 32, "{code}");
        assert_eq!(token.run(&["mac", mac[0], mac[1], kind, &uri(name), "1000"]), code);
    }
    // By the openssl command too.
    let skeyopt = format!("pkcs11_uri:{}", uri("by-command"));
    let generate =
        ["skeyutl", "-genkey", "-skeymgmt", "AES", "-propquery", "provider=strongroom", "-skeyopt", &skeyopt];
    let told = command::succeed(token.openssl.command(&token.environment, &generate), LIMIT).unwrap();
    assert!(told.contains("object=by-command;") && told.contains("Provider: strongroom"), "{told}");
    let listed = token.softhsm.pkcs11_tool(&["-O", "--type", "secrkey"]).unwrap();
    assert!(listed.contains("made-aes") && listed.contains("never extractable"), "{listed}");

    // What is wrong is said.
    for (arguments, said) in [
        (["mac", "HMAC", "SHA256", "GENERIC-SECRET", &uri("nobody"), "9"], "no object that fits"),
        (["mac", "HMAC", "SHA256", "GENERIC-SECRET", &uri("aes"), "9"], "is an AES key"),
        (["mac", "CMAC", "AES-256-CBC", "AES", &uri("secret"), "9"], "is no AES key"),
        (
            ["mac", "CMAC", "AES-128-CBC", "AES", &uri("aes"), "9"],
            "a key of 32 bytes where the cipher has 16",
        ),
        (["mac", "HMAC", "SHA256", "GENERIC-SECRET", "pkcs11:token=tls;type=secret-key", "9"], "fits 6 keys"),
    ] {
        let told = token.run(&arguments);
        assert!(told.contains(said), "{arguments:?}: {told}");
    }

    // Nobody is offered them who did not ask for an operation.
    let environment =
        token.softhsm.environment_with_pin(&token.openssl.bench.programs, PIN, "silent.cnf").unwrap();
    let environment = token.openssl.environment(&environment);
    let arguments = ["export", "GENERIC-SECRET", &uri("open")];
    let command = program::command(&token.program, &environment, &arguments);
    command::succeed(command, LIMIT).unwrap_err();
}

/// With OpenSSL 4.0 they are objects of the store, and keys for derivation.
#[test]
#[ignore = "builds OpenSSL 4.0 once, which takes five minutes"]
fn openssl_4_0_stores_secret_keys() {
    let token = Token::new("openssl-4.0");
    token.codes("store:");
    token.ciphers("store:");
    let options = ["-kdfopt", "digest:SHA256", "-kdfopt", "seed:label and seed"];
    let secret = format!("hexsecret:{SECRET}");
    let file = token.openssl.bench.file("derived");
    let derive = ["kdf", "-keylen", "42", "-binary", "-out", &file, "-kdfopt", &secret];
    token.openssl.plain(&[&derive[..], &options, &["TLS1-PRF"]].concat());
    let derived: String = fs::read(token.openssl.bench.file("derived"))
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let ours = token.run(&["kdf", "SHA256", "GENERIC-SECRET", &format!("store:{}", uri("secret"))]);
    assert_eq!(ours.trim(), format!("derived {derived}"));
    let listed = token
        .openssl
        .command(&token.environment, &["storeutl", "-noout", "-skeys", &format!("pkcs11:token={TOKEN}")]);
    let listed = command::succeed(listed, LIMIT).unwrap();
    assert!(listed.contains("Total found: 3"), "{listed}");
}

/// AES keys of a partition.
#[test]
#[ignore = "builds OpenSSL 3.5 once, which takes five minutes"]
fn keys_of_a_partition_encrypt_with_gcm() {
    let openssl = OpenSsl::new("openssl-3.5").unwrap();
    let program = openssl.build("secret_keys").unwrap();
    openssl.manage(&["key", "generate", "backups", "--type", "aes-256"]);
    let environment = openssl.bench.partition.environment();
    operations::offer(&environment, "cipher").unwrap();
    let environment = openssl.environment(&environment);
    let run = |arguments: &[&str]| {
        let output = program::command(&program, &environment, arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let told = run(&["cipher", "AES-256-GCM", "AES", &uri("backups"), "5000"]);
    assert!(told.starts_with("encrypted ") && told.ends_with("\ndecrypted \n"), "{told}");
}
