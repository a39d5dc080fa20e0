//! OpenSC's pkcs11-tool with the module, and the openssl command to check what comes out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::macro_metavars_in_unsafe, reason = "the application's calls are what is unsafe")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use strongroom_pkcs11::key;
use strongroom_protocol::v1::KeyType;
use support::{Daemon, OFFICER, USER, module, text};

/// A daemon with one partition, and commands on it.
struct Token {
    daemon: Daemon,
    slot: u32,
    /// This user id acts as the crypto user. A log-in by PIN takes the daemon a good part of a second.
    admitted: bool,
}

impl Token {
    fn new() -> Self {
        let daemon = Daemon::start();
        let slot = daemon.create_partition("tls");
        Token { daemon, slot, admitted: false }
    }

    fn admitted() -> Self {
        let token = Token::new();
        token.daemon.admit(token.slot);
        Token { admitted: true, ..token }
    }

    fn command(&self, arguments: &[&str]) -> Output {
        Command::new("pkcs11-tool")
            .arg("--module")
            .arg(module())
            .args(["--slot", &self.slot.to_string()])
            .args(arguments)
            .env("STRONGROOM_SOCKET", self.daemon.socket())
            .output()
            .expect("pkcs11-tool: install the package opensc")
    }

    /// Runs pkcs11-tool, which has to succeed; returns what it printed.
    fn tool(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let printed = printed(&output);
        assert!(output.status.success(), "pkcs11-tool {arguments:?}: {printed}");
        printed
    }

    /// As [`Token::tool`], as the crypto user.
    fn as_user(&self, arguments: &[&str]) -> String {
        let login: &[&str] = if self.admitted { &[] } else { &["--login", "--pin", USER.1] };
        self.tool(&[login, arguments].concat())
    }

    /// Runs pkcs11-tool, which has to fail and name this error.
    fn refused(&self, arguments: &[&str], error: &str) {
        let output = self.command(arguments);
        let printed = printed(&output);
        assert!(!output.status.success() && printed.contains(error), "pkcs11-tool {arguments:?}: {printed}");
    }

    fn file(&self, name: &str) -> String {
        text(&self.daemon.path(name)).to_owned()
    }

    /// Makes a pair and saves its public key as a PEM file, whose path it returns.
    fn key_pair(&self, key_type: &str, id: &str) -> String {
        let printed =
            self.as_user(&["--keypairgen", "--key-type", key_type, "--id", id, "--label", key_type]);
        assert!(printed.contains("Private Key Object") && printed.contains("never extractable"), "{printed}");
        let (read, pem) = (self.file(&format!("{id}.read")), self.file(&format!("{id}.pem")));
        if let Some((_, rest)) = printed.split_once("EC_POINT:") {
            // pkcs11-tool 0.23 fails to write public keys on P-384 and P-521, of any token.
            std::fs::write(&read, spki(key_type, rest.split_whitespace().next().unwrap())).unwrap();
        } else {
            self.tool(&["--read-object", "--type", "pubkey", "--id", id, "-o", &read]);
        }
        openssl(&["pkey", "-pubin", "-in", &read, "-out", &pem]);
        pem
    }

    /// Signs a file with pkcs11-tool, verifies with pkcs11-tool, returns the signature's path.
    fn sign(&self, id: &str, data: &str, mechanism: &[&str]) -> String {
        let signature = self.file("signature");
        let operation = [&["--id", id], mechanism].concat();
        self.as_user(&[&["--sign", "-i", data, "-o", &signature], operation.as_slice()].concat());
        let verified = self.as_user(
            &[&["--verify", "-i", data, "--signature-file", &signature], operation.as_slice()].concat(),
        );
        assert!(verified.contains("Signature is valid"), "{mechanism:?}: {verified}");
        signature
    }
}

/// The flags of a token, as pkcs11-tool names them, follow its users' passwords; an initial password is good for
/// its change, and a locked one for nothing.
#[test]
fn initial_and_wrong_pins() {
    let token = Token::new();
    let flags = || {
        let printed = token.tool(&["--list-token-slots"]);
        printed.lines().find(|line| line.contains("token flags")).unwrap().to_owned()
    };
    assert!(!flags().contains("user PIN"), "{}", flags());
    let officer = ["--login", "--login-type", "so", "--so-pin", OFFICER.1];
    token.tool(&[&officer[..], &["--init-pin", "--new-pin", "set by the officer"]].concat());
    assert!(flags().contains("user PIN to be changed"), "{}", flags());
    let sign = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01"];
    token.refused(&[&["--login", "--pin", "set by the officer"], &sign[..]].concat(), "CKR_PIN_EXPIRED");
    let change = ["--change-pin", "--login", "--pin", "set by the officer", "--new-pin", USER.1];
    token.tool(&change);
    assert!(!flags().contains("user PIN"), "{}", flags());
    token.as_user(&sign);

    let wrong = ["--login", "--pin", "wrong", "--list-objects"];
    for _ in 0..9 {
        token.refused(&wrong, "CKR_PIN_INCORRECT");
    }
    let nearly = flags();
    assert!(nearly.contains("user PIN count low") && nearly.contains("final user PIN try"), "{nearly}");
    token.refused(&wrong, "CKR_PIN_INCORRECT");
    assert!(flags().contains("user PIN locked"), "{}", flags());
    token.refused(&["--login", "--pin", USER.1, "--list-objects"], "CKR_PIN_LOCKED");
    assert!(!flags().contains("SO PIN"), "{}", flags());
}

/// The public key of a printed EC_POINT.
fn spki(key_type: &str, point: &str) -> Vec<u8> {
    let key_type = match key_type {
        "EC:prime256v1" => KeyType::P256,
        "EC:secp384r1" => KeyType::P384,
        "EC:secp521r1" => KeyType::P521,
        "EC:secp224r1" => KeyType::P224,
        "EC:brainpoolP384r1" => KeyType::BrainpoolP384r1,
        _ => KeyType::Ed25519,
    };
    let byte = |index| u8::from_str_radix(&point[index..index + 2], 16).unwrap();
    let point: Vec<u8> = (0..point.len()).step_by(2).map(byte).collect();
    key::curve_spki(key::facts(key_type).unwrap(), &point).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", printed(&output));
    printed(&output)
}

fn write(path: &str, length: usize) {
    let bytes: Vec<u8> = (0..length).map(|index| (index * 7 + index / 251) as u8).collect();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn slots_mechanisms_and_the_tools_own_test() {
    let token = Token::new();
    let slots = token.tool(&["-L"]);
    for expected in
        ["token label        : tls", "token manufacturer : Strongroom", "login required", "PIN initialized"]
    {
        assert!(slots.contains(expected), "{slots}");
    }
    let mechanisms = token.tool(&["-M"]);
    for expected in
        ["RSA-X-509", "RSA-PKCS-OAEP", "RSA-PKCS-PSS", "ECDSA-SHA256", "EDDSA", "EC-EDWARDS-KEY-PAIR-GEN"]
    {
        assert!(mechanisms.contains(expected), "{mechanisms}");
    }
    assert!(token.tool(&["--list-interfaces"]).contains("3.0"));
    token.key_pair("rsa:2048", "01");
    token.key_pair("EC:prime256v1", "02");
    let tested = token.as_user(&["--test"]);
    assert!(tested.contains("No errors") && !tested.to_lowercase().contains("error:"), "{tested}");
    assert!(!tested.contains("ERR"), "{tested}");
    token.as_user(&["--test-fork"]);
}

#[test]
fn rsa_signatures_verify_with_openssl() {
    let token = Token::admitted();
    let public = token.key_pair("rsa:2048", "01");
    let data = token.file("data");
    write(&data, 70_000);
    for hash in ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"] {
        let digest = format!("-{}", hash.to_lowercase());
        let signature = token.sign("01", &data, &["-m", &format!("{hash}-RSA-PKCS")]);
        openssl(&["dgst", &digest, "-verify", &public, "-signature", &signature, &data]);
        let signature = token.sign("01", &data, &["-m", &format!("{hash}-RSA-PKCS-PSS")]);
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        openssl(
            &[&["dgst", &digest], &pss[..], &["-verify", &public, "-signature", &signature, &data]].concat(),
        );
    }
    let digest = token.file("digest");
    write(&digest, 32);
    let signature = token.sign("01", &digest, &["-m", "RSA-PKCS"]);
    openssl(&["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-in", &digest, "-sigfile", &signature]);
    let signature = token.sign("01", &digest, &["-m", "RSA-PKCS-PSS", "--hash-algorithm", "SHA256"]);
    let pss = ["-pkeyopt", "digest:sha256", "-pkeyopt", "rsa_padding_mode:pss"];
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-in", &digest, "-sigfile", &signature];
    openssl(&[&verify[..], &pss].concat());
}

#[test]
fn what_openssl_encrypts_is_decrypted() {
    let token = Token::admitted();
    let public = token.key_pair("rsa:2048", "01");
    let (message, ciphertext, out) = (token.file("message"), token.file("ciphertext"), token.file("out"));
    write(&message, 48);
    let encrypt = |options: &[&str]| {
        let options = options.iter().flat_map(|option| ["-pkeyopt", *option]);
        let encrypt =
            ["pkeyutl", "-encrypt", "-pubin", "-inkey", &public, "-in", &message, "-out", &ciphertext];
        openssl(&encrypt.into_iter().chain(options).collect::<Vec<_>>());
    };
    let decrypt = ["--decrypt", "--id", "01", "-i", &ciphertext, "-o", &out];
    let read = || std::fs::read(&out).unwrap();
    let expected = std::fs::read(&message).unwrap();
    encrypt(&["rsa_padding_mode:pkcs1"]);
    token.tool(&[&decrypt[..], &["-m", "RSA-PKCS"]].concat());
    assert_eq!(read(), expected);
    token.tool(&[&decrypt[..], &["-m", "RSA-X-509"]].concat());
    assert!(read().len() == 256 && read().starts_with(&[0, 2]) && read().ends_with(&expected));
    encrypt(&["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"]);
    let oaep = ["-m", "RSA-PKCS-OAEP", "--hash-algorithm", "SHA256", "--mgf", "MGF1-SHA256"];
    token.tool(&[&decrypt[..], &oaep].concat());
    assert_eq!(read(), expected);
    token.refused(&[&decrypt[..], &["-m", "RSA-PKCS"]].concat(), "CKR_ENCRYPTED_DATA_INVALID");

    // A key that was made to sign.
    token.tool(&["--keypairgen", "--key-type", "rsa:2048", "--id", "02", "--usage-sign"]);
    let decrypt = ["--decrypt", "--id", "02", "-i", &ciphertext, "-o", &out, "-m", "RSA-PKCS"];
    token.refused(&decrypt, "CKR_KEY_FUNCTION_NOT_PERMITTED");
}

#[test]
fn curve_signatures_verify_with_openssl() {
    let token = Token::admitted();
    let data = token.file("data");
    write(&data, 5_000);
    for (id, curve) in [
        ("02", "EC:prime256v1"),
        ("03", "EC:secp384r1"),
        ("04", "EC:secp521r1"),
        ("06", "EC:secp224r1"),
        ("07", "EC:brainpoolP384r1"),
    ] {
        let public = token.key_pair(curve, id);
        for hash in ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"] {
            let mechanism = format!("ECDSA-{hash}");
            let mechanism = ["-m", &mechanism, "--signature-format", "openssl"];
            let signature = token.file("signature");
            token.as_user(&[&["--sign", "--id", id, "-i", &data, "-o", &signature], &mechanism[..]].concat());
            let digest = format!("-{}", hash.to_lowercase());
            openssl(&["dgst", &digest, "-verify", &public, "-signature", &signature, &data]);
        }
        let digest = token.file("digest");
        write(&digest, 32);
        token.sign(id, &digest, &["-m", "ECDSA"]);
    }
    let public = token.key_pair("EC:edwards25519", "05");
    let signature = token.sign("05", &data, &["-m", "EDDSA"]);
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin"];
    openssl(&[&verify[..], &["-in", &data, "-sigfile", &signature]].concat());
}

#[test]
fn secrets_agree_with_openssls() {
    let token = Token::admitted();
    let (other, other_public, mine, theirs) =
        (token.file("other.pem"), token.file("other.der"), token.file("mine"), token.file("theirs"));
    for (id, curve, genpkey) in
        [("02", "EC:prime256v1", "P-256"), ("03", "EC:secp384r1", "P-384"), ("04", "EC:secp521r1", "P-521")]
    {
        let public = token.key_pair(curve, id);
        let curve = format!("ec_paramgen_curve:{genpkey}");
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", &other]);
        openssl(&["pkey", "-in", &other, "-pubout", "-outform", "DER", "-out", &other_public]);
        token.tool(&["--derive", "--id", id, "-m", "ECDH1-DERIVE", "-i", &other_public, "-o", &mine]);
        openssl(&["pkeyutl", "-derive", "-inkey", &other, "-peerkey", &public, "-out", &theirs]);
        assert_eq!(std::fs::read(&mine).unwrap(), std::fs::read(&theirs).unwrap());
    }
    // The secrets were the session's.
    assert!(!token.tool(&["-O"]).contains("Secret Key Object"));
    token.tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--id", "05", "--usage-sign"]);
    let derive = ["--derive", "--id", "05", "-m", "ECDH1-DERIVE", "-i", &other_public, "-o", &mine];
    token.refused(&derive, "CKR_KEY_FUNCTION_NOT_PERMITTED");
}

#[test]
fn objects_are_written_read_and_deleted() {
    let token = Token::admitted();
    let file = |name| token.file(name);
    let (key, certificate, der) = (file("key.pem"), file("certificate.pem"), file("certificate.der"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &certificate,
        "-subj",
        "/CN=web.example",
        "-days",
        "3",
    ]);
    openssl(&["x509", "-in", &certificate, "-outform", "der", "-out", &der]);
    token.as_user(&["--write-object", &der, "--type", "cert", "--id", "0a", "--label", "web"]);
    let read = file("read");
    token.tool(&["--read-object", "--type", "cert", "--id", "0a", "-o", &read]);
    assert_eq!(std::fs::read(&read).unwrap(), std::fs::read(&der).unwrap());
    let listed = token.tool(&["-O", "--type", "cert"]);
    assert!(listed.contains("CN=web.example"), "{listed}");

    // The private key goes in once, and signs for the certificate.
    token.as_user(&["--write-object", &key, "--type", "privkey", "--id", "0a", "--label", "web"]);
    let (data, public, signature) = (file("data"), file("public.pem"), file("signature"));
    write(&data, 1_000);
    openssl(&["x509", "-in", &certificate, "-noout", "-pubkey", "-out", &public]);
    token.as_user(&["--sign", "-m", "SHA256-RSA-PKCS", "--id", "0a", "-i", &data, "-o", &signature]);
    openssl(&["dgst", "-sha256", "-verify", &public, "-signature", &signature, &data]);
    let listed = token.as_user(&["-O", "--type", "privkey"]);
    assert!(listed.contains("sensitive") && !listed.contains("always sensitive"), "imported: {listed}");

    // So does one on a curve.
    let (ec, signature) = (file("ec.pem"), file("ec.signature"));
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", &ec]);
    openssl(&["pkey", "-in", &ec, "-pubout", "-out", &public]);
    token.as_user(&["--write-object", &ec, "--type", "privkey", "--id", "0b", "--label", "ec"]);
    let sign = ["--sign", "-m", "ECDSA-SHA384", "--signature-format", "openssl", "--id", "0b"];
    token.as_user(&[&sign[..], &["-i", &data, "-o", &signature]].concat());
    openssl(&["dgst", "-sha384", "-verify", &public, "-signature", &signature, &data]);

    token.as_user(&["--write-object", &data, "--type", "data", "--label", "note"]);
    token.as_user(&["--read-object", "--type", "data", "--label", "note", "-o", &read]);
    assert_eq!(std::fs::read(&read).unwrap(), std::fs::read(&data).unwrap());

    token.as_user(&["--set-id", "0c", "--type", "cert", "--id", "0a"]);
    for (class, id) in [("cert", "0c"), ("privkey", "0a"), ("privkey", "0b")] {
        token.as_user(&["--delete-object", "--type", class, "--id", id]);
    }
    let left = token.as_user(&["-O"]);
    assert!(
        left.contains("note") && !left.contains("Private Key") && !left.contains("Certificate"),
        "{left}"
    );
}

/// pkcs11-tool 0.23 encrypts with CBC only.
#[test]
fn secret_keys_are_made_written_and_deleted() {
    let token = Token::admitted();
    let mechanisms = token.tool(&["-M"]);
    assert!(mechanisms.contains("AES-KEY-GEN, keySize={16,32}, hw, generate"), "{mechanisms}");
    assert!(mechanisms.contains("AES-GCM, keySize={16,32}, hw, encrypt, decrypt"), "{mechanisms}");
    let hidden = ["--sensitive", "--private"];
    let generate = ["--keygen", "--key-type", "AES:32", "--id", "01", "--label", "made"];
    let made = token.tool(&[&generate[..], &hidden].concat());
    for expected in ["AES length 32", "encrypt, decrypt", "always sensitive, never extractable, local"] {
        assert!(made.contains(expected), "{made}");
    }
    // Without --sensitive it asks for a key that is not: it can be read if it is extractable too.
    let open = token.tool(&["--keygen", "--key-type", "AES:32", "--id", "03", "--extractable", "--private"]);
    assert!(open.contains("extractable, local") && !open.contains("sensitive"), "{open}");
    token.tool(&["--read-object", "--type", "secrkey", "--id", "03", "--output-file", &token.file("read")]);
    assert_eq!(fs::read(token.file("read")).unwrap().len(), 32);
    token.tool(&["--delete-object", "--type", "secrkey", "--id", "03"]);
    let value = token.file("value");
    write(&value, 16);
    let import = ["--write-object", &value, "--type", "secrkey", "--key-type", "AES:16", "--id", "02"];
    let imported = token.tool(&[&import[..], &hidden].concat());
    assert!(imported.contains("AES length 16") && !imported.contains("never extractable"), "{imported}");
    token.tool(&["--delete-object", "--type", "secrkey", "--id", "01"]);
    let left = token.tool(&["-O", "--type", "secrkey"]);
    assert!(left.matches("Secret Key Object").count() == 1 && left.contains("02"), "{left}");
}

/// With openssl on the other side. pkcs11-tool 0.23 wraps secret keys only.
#[test]
fn keys_are_wrapped_and_unwrapped() {
    let token = Token::admitted();
    let mechanisms = token.tool(&["-M"]);
    for expected in [
        "AES-KEY-WRAP, keySize={16,32}, hw, wrap, unwrap",
        "mechtype-0x1054, keySize={2048,4096}, hw, wrap, unwrap",
    ] {
        assert!(mechanisms.contains(expected), "{mechanisms}");
    }
    let [value, key, wrapped, opened] = ["value", "key", "wrapped", "opened"].map(|name| token.file(name));
    std::fs::write(&value, [0x42; 32]).unwrap();
    let hidden = ["--sensitive", "--private"];
    let kek = ["--write-object", &value, "--type", "secrkey", "--key-type", "AES:32", "--usage-wrap"];
    token.tool(&[&kek[..], &["--id", "01", "--label", "kek"], &hidden].concat());
    let secret = ["--keygen", "--key-type", "AES:16", "--id", "02", "--extractable"];
    token.tool(&[&secret[..], &hidden].concat());

    // Out, to openssl.
    let wrap = ["--wrap", "--id", "01", "-o", &wrapped];
    let hex = "42".repeat(32);
    token.tool(&[&wrap[..], &["--application-id", "02", "-m", "AES-KEY-WRAP"]].concat());
    let decrypt = ["enc", "-d", "-id-aes256-wrap", "-K", &hex, "-iv", "A6A6A6A6A6A6A6A6"];
    openssl(&[&decrypt[..], &["-in", &wrapped, "-out", &opened]].concat());
    assert_eq!(std::fs::read(&opened).unwrap().len(), 16);

    // In, from openssl: the same key, which then leaves in the same wrapping.
    let before = std::fs::read(&wrapped).unwrap();
    let unwrap = ["--unwrap", "-m", "AES-KEY-WRAP", "--id", "01", "-i", &wrapped, "--key-type", "AES:"];
    let again = ["--application-id", "03", "--application-label", "again", "--extractable"];
    token.tool(&[&unwrap[..], &again, &hidden].concat());
    token.tool(&[&wrap[..], &["--application-id", "03", "-m", "AES-KEY-WRAP"]].concat());
    assert_eq!(std::fs::read(&wrapped).unwrap(), before);
    let listed = token.tool(&["-O", "--type", "secrkey"]);
    assert!(listed.contains("again"), "{listed}");

    // What stays, stays.
    token.tool(&[&["--keygen", "--key-type", "AES:16", "--id", "04"], &hidden[..]].concat());
    let stays = [&wrap[..], &["--application-id", "04", "-m", "AES-KEY-WRAP"]].concat();
    token.refused(&stays, "CKR_KEY_UNEXTRACTABLE");
    std::fs::write(&key, [7; 40]).unwrap();
    let wrong = ["--unwrap", "-m", "AES-KEY-WRAP", "--id", "01", "-i", &key, "--key-type", "AES:"];
    token.refused(&[&wrong[..], &hidden].concat(), "CKR_WRAPPED_KEY_INVALID");

    // PKCS#1 v1.5, from openssl.
    let pair = ["--keypairgen", "--key-type", "rsa:2048", "--id", "05", "--usage-decrypt", "--usage-wrap"];
    token.tool(&pair);
    let public = token.file("public");
    token.tool(&["--read-object", "--type", "pubkey", "--id", "05", "-o", &public]);
    std::fs::write(&value, [0x24; 16]).unwrap();
    let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", &public];
    openssl(&[&encrypt[..], &["-in", &value, "-out", &key]].concat());
    let unwrap =
        ["--unwrap", "-m", "RSA-PKCS", "--id", "05", "-i", &key, "--key-type", "AES:", "--extractable"];
    token.tool(&[&unwrap[..], &["--application-id", "06"], &hidden].concat());
    token.tool(&[&wrap[..], &["--application-id", "06", "-m", "AES-KEY-WRAP"]].concat());
    openssl(&[&decrypt[..], &["-in", &wrapped, "-out", &opened]].concat());
    assert_eq!(std::fs::read(&opened).unwrap(), [0x24; 16]);
}

#[test]
fn pins() {
    let token = Token::new();
    let with = |pin: &str| token.command(&["--login", "--pin", pin, "-O"]).status.success();
    token.refused(&["--login", "--pin", "wrong-secret", "-O"], "CKR_PIN_INCORRECT");
    assert!(with("user:user-secret"));
    token.tool(&["--login", "--pin", USER.1, "--change-pin", "--new-pin", "changed-secret"]);
    assert!(!with(USER.1) && with("changed-secret"));
    let officer = ["--login", "--login-type", "so", "--so-pin", OFFICER.1];
    let change = |old: &str, new: &str| {
        token.tool(&["--login", "--pin", old, "--change-pin", "--new-pin", new]);
    };
    token.tool(&[&officer[..], &["--init-pin", "--new-pin", "second-secret"]].concat());
    assert!(!with("second-secret"), "the officer's choice has to be changed first");
    change("second-secret", "third-secret");
    assert!(with("third-secret"));
    // A second user is made by name; then a PIN has to name its user.
    token.tool(&[&officer[..], &["--init-pin", "--new-pin", "bob:bobs-first-secret"]].concat());
    change("bob:bobs-first-secret", "bob:bobs-secret");
    assert!(with("bob:bobs-secret") && with("user:third-secret") && !with("third-secret"));
    token.refused(&[&officer[..], &["--init-pin", "--new-pin", "whose-secret"]].concat(), "CKR_PIN_INVALID");
}

/// A program that initialises a token finds it as it wants it, or destroys nothing.
#[test]
fn a_token_is_initialised_as_it_is() {
    let token = Token::new();
    let init = |label: &'static str, pin: &'static str| ["--init-token", "--label", label, "--so-pin", pin];
    token.refused(&init("tls", "not the officer's"), "CKR_PIN_INCORRECT");
    token.refused(&init("another", OFFICER.1), "CKR_TOKEN_WRITE_PROTECTED");
    token.tool(&init("tls", OFFICER.1));
    token.as_user(&["--keypairgen", "--key-type", "EC:prime256v1", "--id", "10"]);
    token.refused(&init("tls", OFFICER.1), "CKR_TOKEN_WRITE_PROTECTED");
    assert!(token.as_user(&["-O"]).contains("Private Key Object"));
}

/// Keys that are restricted when they are made.
#[test]
fn keys_for_some_mechanisms_and_keys_that_ask_each_time() {
    let token = Token::new();
    let data = token.file("data");
    write(&data, 1000);
    let make = |id: &'static str, more: &[&'static str]| {
        let rsa = ["--keypairgen", "--key-type", "rsa:2048", "--usage-sign", "--id", id];
        token.as_user(&[&rsa[..], more].concat())
    };
    let login = ["--login", "--pin", USER.1];
    make("20", &["--allowed-mechanisms", "SHA256-RSA-PKCS"]);
    token.sign("20", &data, &["-m", "SHA256-RSA-PKCS"]);
    let other = ["--sign", "-i", &data, "--id", "20", "-m", "SHA384-RSA-PKCS"];
    token.refused(&[&login[..], &other].concat(), "CKR_MECHANISM_INVALID");
    let printed = make("30", &["--always-auth"]);
    assert!(printed.contains("always authenticate"), "{printed}");
    // It gives the PIN once more, for the signature.
    token.sign("30", &data, &["-m", "SHA256-RSA-PKCS"]);
}

#[test]
fn an_admitted_user_id_needs_no_pin() {
    let token = Token::admitted();
    assert!(!token.tool(&["-L"]).contains("login required"));
    token.tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01"]);
    assert!(token.tool(&["-O"]).contains("Private Key Object"));
    let (digest, signature) = (token.file("digest"), token.file("signature"));
    write(&digest, 32);
    token.tool(&["--sign", "-m", "ECDSA", "--id", "01", "-i", &digest, "-o", &signature]);
    assert_eq!(Path::new(&signature).metadata().unwrap().len(), 64);
}

#[test]
fn without_a_daemon_the_error_is_clear_and_quick() {
    let mut token = Token::new();
    token.daemon.kill();
    token.refused(&["-L"], "No slots");
}
