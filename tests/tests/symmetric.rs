//! What tokens do without a key pair (`strongroom-operations`), each result compared with OpenSSL's own.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{run_openssl, text};
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::softhsm::SoftHsm;
use strongroom_tests::kryoptic::Kryoptic;
use strongroom_tests::operations::offer;
use strongroom_tests::place::TOKEN;
use strongroom_tests::program;

const LIMIT: Duration = Duration::from_secs(60);

/// More than what goes to the token in one call, in bytes.
const LONG: &str = "300000";

/// `strongroom-operations`.
const OPERATIONS: &str = "digest kdf mac cipher";

/// A token, and the program that uses it.
struct Token {
    run: RunFolder,
    environment: Environment,
    program: PathBuf,
}

impl Token {
    fn new(make: impl FnOnce(&Programs, &RunFolder) -> Environment) -> Self {
        let run = RunFolder::new().unwrap();
        let environment = make(&Programs::find().unwrap(), &run);
        let program = program::build("symmetric", run.path()).unwrap();
        Token { run, environment, program }
    }

    fn softhsm() -> Self {
        Token::new(|programs, run| {
            let token = SoftHsm::create(&run.folder("softhsm").unwrap(), TOKEN).unwrap();
            token.environment(programs).unwrap()
        })
        .offering(OPERATIONS)
    }

    fn kryoptic() -> Self {
        Token::new(|programs, run| {
            let token = Kryoptic::create(&run.folder("kryoptic").unwrap(), TOKEN).unwrap();
            token.environment(programs).unwrap()
        })
        .offering(OPERATIONS)
    }

    /// With this `strongroom-operations`.
    fn offering(self, operations: &str) -> Self {
        offer(&self.environment, operations).unwrap();
        self
    }

    fn openssl(&self, arguments: &str, values: &[&str]) -> Result<String, String> {
        run_openssl(&self.environment, arguments, values).map_err(|error| format!("{error:#}"))
    }

    /// What tests/programs/symmetric.c prints.
    fn program(&self, arguments: &[&str]) -> String {
        let command = program::command(&self.program, &self.environment, arguments);
        command::succeed(command, LIMIT).unwrap()
    }

    fn digest(&self, name: &str, provider: &str, size: &str) -> String {
        self.program(&["digest", name, &format!("provider={provider}"), size])
    }

    /// `openssl kdf` in the token.
    fn derive(&self, arguments: &str) -> Result<String, String> {
        self.openssl(&format!("kdf -propquery provider=strongroom {arguments}"), &[])
    }
}

/// Digests as OpenSSL makes them, whatever the size of the data. Those of long data have a session of their own.
fn digests(token: &Token, names: &[&str]) {
    for name in names {
        for size in ["0", "5000", "65536"] {
            assert_eq!(
                token.digest(name, "strongroom", size),
                token.digest(name, "default", size),
                "{name} {size}"
            );
        }
        let (ours, theirs) = (token.digest(name, "strongroom", LONG), token.digest(name, "default", LONG));
        for line in ["sizes ", "once ", "parts ", "again "] {
            let of = |text: &str| text.lines().find(|found| found.starts_with(line)).map(str::to_owned);
            assert!(of(&ours).is_some() && of(&ours) == of(&theirs), "{name}: {ours}{theirs}");
        }
    }
    // The session is the parent's, and neither token hands out an operation's state.
    let ours = token.digest("SHA256", "strongroom", LONG);
    assert!(
        ours.contains("child C_DigestUpdate on token \"tls\": CKR_SESSION_CLOSED; the process forked"),
        "{ours}"
    );
    assert!(ours.contains("copy C_GetOperationState on token \"tls\""), "{ours}");
}

#[test]
fn softhsm_makes_digests() {
    let token = Token::softhsm();
    digests(&token, &["SHA1", "SHA224", "SHA256", "SHA384", "SHA512"]);
    let error =
        token.openssl("dgst -sha3-256 -propquery provider=strongroom {}", &["/dev/null"]).unwrap_err();
    assert!(error.contains("SHA3-256 in a token: no token has mechanism 0x2b0"), "{error}");
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn kryoptic_makes_digests() {
    let names = [
        "SHA1",
        "SHA256",
        "SHA512",
        "SHA512-224",
        "SHA512-256",
        "SHA3-224",
        "SHA3-256",
        "SHA3-384",
        "SHA3-512",
    ];
    digests(&Token::kryoptic(), &names);
}

/// The token makes a digest where our property is asked for, and only there; even where all of the program asks for it, the module's own
/// digests included.
#[test]
fn who_does_not_ask_gets_openssls_own() {
    let token = Token::softhsm();
    let log = token.run.path().join("debug.log");
    let environment = |text: &Environment| {
        text.clone().with("PKCS11_PROVIDER_DEBUG", format!("file:{},level:2", log.display()))
    };
    let asked = |environment: &Environment, property: &str| {
        fs::write(&log, "").unwrap();
        let arguments = format!("dgst -sha256 {property} {{}}");
        let printed = run_openssl(environment, &arguments, &["/etc/passwd"]).unwrap();
        assert_eq!(printed, run_openssl(&Environment::plain(), "dgst -sha256 {}", &["/etc/passwd"]).unwrap());
        fs::read_to_string(&log).unwrap().contains("C_Digest")
    };
    let logged = environment(&token.environment);
    assert!(asked(&logged, "-propquery provider=strongroom"));
    // What all operations share is told by the name of the one that it was done for.
    let told = fs::read_to_string(&log).unwrap();
    for function in ["newctx", "update", "free"] {
        assert!(told.contains(&format!(" digest::{function} ")), "{function}: {told}");
    }
    assert!(asked(&logged, "-propquery ?provider=strongroom"));
    assert!(!asked(&logged, ""));
    // Without the setting there is nothing to ask for.
    let file = text(&PathBuf::from(token.environment.value("OPENSSL_CONF").unwrap()));
    let offered = fs::read_to_string(&file).unwrap();
    fs::write(&file, offered.replace(OPERATIONS, "kdf")).unwrap();
    assert!(!asked(&logged, "-propquery ?provider=strongroom"));
    assert!(token.openssl("dgst -sha256 -propquery provider=strongroom {}", &["/dev/null"]).is_err());
    // SoftHSM2 hashes with the same libcrypto.
    let everywhere =
        offered.replace("providers = provider_sect", "providers = provider_sect\nalg_section = evp");
    assert_ne!(everywhere, offered);
    fs::write(&file, format!("{everywhere}\n[evp]\ndefault_properties = ?provider=strongroom\n")).unwrap();
    assert!(asked(&logged, ""));
}

const RFC_5869: &str = "-keylen 42 -kdfopt digest:SHA256 -kdfopt hexkey:0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b \
    -kdfopt hexsalt:000102030405060708090a0b0c -kdfopt hexinfo:f0f1f2f3f4f5f6f7f8f9 HKDF";

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn kryoptic_derives_keys() {
    let token = Token::kryoptic();
    // RFC 5869, A.1.
    let okm = "3CB25F25FAACD57A90434F64D0362F2A2D2D0A90CF1A5A4C5DB02D56ECC4C5BF34007208D5B887185865";
    assert_eq!(token.derive(RFC_5869).unwrap().trim().replace(':', ""), okm);
    let key = "key:01234567890123456789012345678901234567890123456789012345678901234";
    for options in [
        format!("-keylen 48 -kdfopt digest:SHA384 -kdfopt {key} -kdfopt mode:EXTRACT_ONLY HKDF"),
        format!(
            "-keylen 500 -kdfopt digest:SHA512 -kdfopt {key} -kdfopt mode:EXPAND_ONLY -kdfopt info:a HKDF"
        ),
        format!("-keylen 20 -kdfopt digest:SHA1 -kdfopt {key} -kdfopt mode:EXTRACT_ONLY -kdfopt salt:s HKDF"),
        format!("-keylen 32 -kdfopt digest:SHA256 -kdfopt mode:EXTRACT_ONLY -kdfopt {key} TLS13-KDF"),
        "-keylen 32 -kdfopt digest:SHA256 -kdfopt mode:EXTRACT_ONLY TLS13-KDF".into(),
        format!(
            "-keylen 48 -kdfopt digest:SHA384 -kdfopt mode:EXTRACT_ONLY -kdfopt {key} -kdfopt salt:{} \
             -kdfopt prefix:tls13 -kdfopt label:derived TLS13-KDF",
            &key[4..52]
        ),
        format!(
            "-keylen 16 -kdfopt digest:SHA256 -kdfopt mode:EXPAND_ONLY -kdfopt {key} -kdfopt prefix:tls13 \
             -kdfopt label:traffic -kdfopt hexdata:010203 TLS13-KDF"
        ),
    ] {
        let theirs = run_openssl(&Environment::plain(), &format!("kdf {options}"), &[]).unwrap();
        assert_eq!(token.derive(&options).unwrap(), theirs, "{options}");
    }
    for wrong in [
        "-keylen 10 -kdfopt digest:SHA256 -kdfopt key:a -kdfopt mode:EXTRACT_ONLY HKDF",
        "-keylen 10 -kdfopt key:a HKDF",
        "-keylen 10 -kdfopt digest:SHA256 HKDF",
        "-keylen 10 -kdfopt digest:SHA256 -kdfopt key:a TLS13-KDF",
    ] {
        assert!(token.derive(wrong).is_err(), "{wrong}");
    }
}

/// TLS 1.2's function as OpenSSL computes it, with the labels of a handshake and others.
fn tls_functions(token: &Token, hashes: &[&str]) {
    // The vector for SHA-256 of the IETF's TLS list (2008).
    let known = "-keylen 100 -kdfopt digest:SHA256 -kdfopt hexsecret:9bbe436ba940f017b17652849a71db35 \
        -kdfopt hexseed:74657374206c6162656c -kdfopt hexseed:a0ba9f936cda311827a6f796ffd5198c TLS1-PRF";
    let derived = token.derive(known).unwrap().trim().replace(':', "");
    assert!(
        derived.starts_with("E3F229BA727BE17B8D122620557CD453C2AAB21D07C3D495329B52D4E61EDB5A"),
        "{derived}"
    );
    for hash in hashes {
        for (secret, seed, size) in
            [("00", "6b", 1), (&*"a1".repeat(48), &*"7365".repeat(39), 48), (&*"0b".repeat(200), "01", 333)]
        {
            let options = format!(
                "-keylen {size} -kdfopt digest:{hash} -kdfopt hexsecret:{secret} -kdfopt hexseed:{seed} TLS1-PRF"
            );
            let theirs = run_openssl(&Environment::plain(), &format!("kdf {options}"), &[]).unwrap();
            assert_eq!(token.derive(&options).unwrap(), theirs, "{options}");
        }
    }
    let long = "00".repeat(1025);
    for wrong in [
        "-kdfopt digest:SHA256 -kdfopt seed:a",
        "-kdfopt digest:SHA256 -kdfopt secret:a",
        "-kdfopt secret:a -kdfopt seed:a",
        "-kdfopt digest:MD5-SHA1 -kdfopt secret:a -kdfopt seed:a",
        &format!("-kdfopt digest:SHA256 -kdfopt secret:a -kdfopt hexseed:{long}"),
    ] {
        assert!(token.derive(&format!("-keylen 10 {wrong} TLS1-PRF")).is_err(), "{wrong}");
    }
}

#[test]
fn softhsm_computes_tls_functions() {
    tls_functions(&Token::softhsm(), &["SHA1", "SHA256", "SHA384"]);
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn kryoptic_computes_tls_functions() {
    tls_functions(&Token::kryoptic(), &["SHA512", "SHA3-256"]);
}

#[test]
fn a_token_without_hkdf_says_so() {
    let token = Token::softhsm();
    let error = token.derive(RFC_5869).unwrap_err();
    assert!(error.contains("HKDF in a token: no token has mechanism 0x402a"), "{error}");
}

/// Codes as OpenSSL makes them, with short and long keys and data.
fn codes(token: &Token, hashes: &[&str]) {
    let long = token.run.path().join("long");
    fs::write(&long, vec![7; 300_000]).unwrap();
    let mut options: Vec<String> = Vec::new();
    for hash in hashes {
        for key in ["00".to_owned(), "0b".repeat(20), "aa".repeat(131)] {
            options.push(format!("-digest {hash} -macopt hexkey:{key} HMAC"));
        }
        let of = |provider: &str, size: &str| {
            token.program(&["hmac", hash, &format!("provider={provider}"), size])
        };
        assert_eq!(of("strongroom", "5000"), of("default", "5000"), "{hash}");
    }
    for (cipher, size) in [("AES-128-CBC", 16), ("AES-192-CBC", 24), ("AES-256-CBC", 32)] {
        options.push(format!("-cipher {cipher} -macopt hexkey:{} CMAC", "2b".repeat(size)));
    }
    for options in options {
        for file in ["/dev/null", "/etc/passwd", &text(&long)] {
            let theirs =
                run_openssl(&Environment::plain(), &format!("mac -in {{}} {options}"), &[file]).unwrap();
            let ours = format!("mac -propquery provider=strongroom -in {{}} {options}");
            assert_eq!(token.openssl(&ours, &[file]).unwrap(), theirs, "{options} {file}");
        }
    }
    let ours = token.program(&["hmac", "SHA256", "provider=strongroom", LONG]);
    assert!(
        ours.contains("child C_SignUpdate on token \"tls\": CKR_SESSION_CLOSED; the process forked"),
        "{ours}"
    );
    assert!(ours.contains("copy a copy of a MAC that has begun in the token"), "{ours}");
    let theirs = token.program(&["hmac", "SHA256", "provider=default", LONG]);
    for line in ["parts ", "again "] {
        let of = |text: &str| text.lines().find(|found| found.starts_with(line)).map(str::to_owned);
        assert!(of(&ours).is_some() && of(&ours) == of(&theirs), "{ours}{theirs}");
    }
    for wrong in [
        "-macopt hexkey:00 HMAC",
        "-digest SHA256 HMAC",
        "-cipher AES-128-CBC -macopt hexkey:00 CMAC",
        "-cipher AES-128-CTR -macopt hexkey:00112233445566778899aabbccddeeff CMAC",
    ] {
        let ours = format!("mac -propquery provider=strongroom -in /dev/null {wrong}");
        assert!(token.openssl(&ours, &[]).is_err(), "{wrong}");
    }
}

#[test]
fn softhsm_makes_codes() {
    codes(&Token::softhsm(), &["SHA1", "SHA256", "SHA512"]);
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn kryoptic_makes_codes() {
    codes(&Token::kryoptic(), &["SHA1", "SHA224", "SHA384", "SHA512-256", "SHA3-256"]);
}

/// AES as OpenSSL does it, in pieces, copied and forked.
fn ciphers(token: &Token, modes: &[&str]) {
    for mode in modes {
        for (key, sizes) in
            [("128", &["0", "5", "48"][..]), ("192", &["1001", "2002"]), ("256", &["16", "100003"])]
        {
            let name = format!("AES-{key}-{mode}");
            for size in sizes {
                let of =
                    |provider: &str| token.program(&["cipher", &name, &format!("provider={provider}"), size]);
                let (ours, theirs) = (of("strongroom"), of("default"));
                assert_eq!(ours, theirs, "{name} {size}");
                assert!(ours.contains(&format!("back {size} 1\n")), "{ours}");
            }
        }
    }
}

#[test]
fn softhsm_encrypts() {
    let token = Token::softhsm();
    ciphers(&token, &["ECB", "CBC", "CTR"]);
    let key = "00".repeat(16);
    let error = token
        .openssl(
            "enc -aes-128-cfb -K {} -iv {} -propquery provider=strongroom -in /etc/passwd",
            &[&key, &key],
        )
        .unwrap_err();
    assert!(error.contains("AES in mode Cfb in a token: no token has mechanism 0x2107"), "{error}");
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn kryoptic_encrypts() {
    ciphers(&Token::kryoptic(), &["ECB", "CBC", "CTR", "CFB", "CFB8", "CFB1", "OFB"]);
}

/// GCM as OpenSSL does it, with vectors of several sizes, in pieces, copied and forked; a tag that is wrong is seen.
fn authenticated(token: &Token) {
    for (key, sizes) in [("128", &["0", "5000"][..]), ("192", &["1"]), ("256", &["16", "65536"])] {
        let name = format!("AES-{key}-GCM");
        for size in sizes {
            let of = |provider: &str| token.program(&["gcm", &name, &format!("provider={provider}"), size]);
            let (ours, theirs) = (of("strongroom"), of("default"));
            assert_eq!(ours, theirs, "{name} {size}");
            for line in [format!("back {size} 1\n"), format!("short {size} 1\n"), "wrong -1 0\n".into()] {
                assert_eq!(ours.matches(&line).count(), 4, "{line} {ours}");
            }
            // The second case of GCM's specification.
            assert!(key != "128" || ours.contains("known 0388dace60b6a392f328c2b971b2fe78\n"), "{ours}");
            assert!(key != "128" || ours.contains("known tag ab6e47d42cec13bdf53a67b21257bddf\n"), "{ours}");
        }
    }
    // What is long has a session, which is the parent's, and is not copied.
    let name = "AES-256-GCM";
    let ours = token.program(&["gcm", name, "provider=strongroom", LONG]);
    let theirs = token.program(&["gcm", name, "provider=default", LONG]);
    assert!(
        ours.contains("child C_EncryptUpdate on token \"tls\": CKR_SESSION_CLOSED; the process forked"),
        "{ours}"
    );
    assert!(ours.contains("copy a copy of GCM that has begun in the token"), "{ours}");
    for line in ["parts ", "back ", "short ", "wrong ", "changed ", "twice "] {
        let of = |text: &str| {
            text.lines().filter(|found| found.starts_with(line)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(of(&ours).len() == 4 && of(&ours) == of(&theirs), "{ours}{theirs}");
    }
}

#[test]
fn softhsm_authenticates() {
    authenticated(&Token::softhsm());
}

#[test]
#[ignore = "needs tests/kryoptic, which takes minutes to build"]
fn kryoptic_authenticates() {
    authenticated(&Token::kryoptic());
}

/// Stolen ciphertext is made of CBC, which every token has.
#[test]
fn softhsm_steals_ciphertext() {
    let token = Token::softhsm();
    for (key, sizes) in
        [("128", &["15", "16", "17", "31", "32"][..]), ("192", &["33"]), ("256", &["48", "1001"])]
    {
        let name = format!("AES-{key}-CBC-CTS");
        for size in sizes {
            let of = |provider: &str| token.program(&["cts", &name, &format!("provider={provider}"), size]);
            let (ours, theirs) = (of("strongroom"), of("default"));
            // Before OpenSSL 3.0.? what is too short has no text.
            let without_text =
                |text: &str| text.replace("less than 16 bytes for ciphertext stealing", "failed");
            assert_eq!(without_text(&ours), without_text(&theirs), "{name} {size}");
            assert!(*size == "15" || ours.matches("back 0 1 1\n").count() == 3, "{ours}");
        }
    }
}
