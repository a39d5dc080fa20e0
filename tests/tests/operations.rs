//! What a key in a token does beyond TLS signatures: decrypts, agrees on secrets, signs in every way that openssl knows; and what
//! the provider leaves alone. Each result is checked by openssl without our provider.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::Environment;
use strongroom_demo::nginx;
use strongroom_demo::pki::{KeyKind, key_file, openssl, run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::system;
use strongroom_demo::server::{Site, free_port};
use strongroom_tests::place::TOKEN;
use strongroom_tests::{Bench, Keys, Place};

const LIMIT: Duration = Duration::from_secs(30);

const BOTH: [Place; 2] = [Place::Partition, Place::SoftHsm];

fn plain(arguments: &str, values: &[&str]) -> String {
    run_openssl(&Environment::plain(), arguments, values).unwrap()
}

/// Runs openssl, which may fail.
fn attempt(environment: &Environment, arguments: &str, values: &[&str]) -> Finished {
    command::run(openssl(environment, arguments, values).unwrap(), LIMIT).unwrap()
}

/// What openssl said of a failure, without the thread's number.
fn reasons(finished: &Finished) -> Vec<String> {
    assert!(!finished.status.success());
    finished
        .stderr
        .lines()
        .map(|line| line.split_once(':').map_or(line, |(_, rest)| rest).to_owned())
        .collect()
}

/// A key of 2,048 bits that may sign and decrypt.
fn decrypting_key(bench: &Bench, place: Place) -> Keys {
    match place {
        Place::Partition => {
            let name = KeyKind::Rsa2048.name();
            let usage = ["--type", name, "--usage", "sign,decrypt"];
            bench.partition.manage(&[&["key", "generate", name], &usage[..]].concat()).unwrap();
            let uri = bench.partition.short_uri(name);
            Keys::new(bench, place, KeyKind::Rsa2048, uri, bench.partition.environment()).unwrap()
        }
        _ => bench.keys(place, &[KeyKind::Rsa2048]).unwrap().remove(0),
    }
}

#[test]
fn pkeyutl_decrypts_with_every_padding() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let key = decrypting_key(&bench, place);
        let (public, message, cipher) = (text(&key.public), bench.file("message"), bench.file("cipher"));
        fs::write(&message, "a message").unwrap();
        let oaep = "-pkeyopt rsa_padding_mode:oaep";
        for options in [
            String::new(),
            oaep.into(),
            format!("{oaep} -pkeyopt rsa_oaep_md:sha256"),
            format!("{oaep} -pkeyopt rsa_oaep_md:sha512 -pkeyopt rsa_mgf1_md:sha1"),
            format!("{oaep} -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_oaep_label:6c6162656c"),
            // A hash that neither token has for OAEP: its padding is taken away by the provider.
            format!("{oaep} -pkeyopt rsa_oaep_md:sha3-256"),
        ] {
            let encrypt = format!("pkeyutl -encrypt -pubin {options} -inkey {{}} -in {{}} -out {{}}");
            plain(&encrypt, &[&public, &message, &cipher]);
            let decrypt = format!("pkeyutl -decrypt {options} -inkey {{}} -in {{}}");
            let decrypted = run_openssl(&key.environment, &decrypt, &[&key.uri, &cipher]).unwrap();
            assert_eq!(decrypted, "a message", "{place:?} {options}");
        }
        // Another label, another hash, another padding: one answer.
        let encrypt = "pkeyutl -encrypt -pubin -pkeyopt rsa_padding_mode:oaep -inkey {} -in {} -out {}";
        plain(encrypt, &[&public, &message, &cipher]);
        let wrong = |options: &str| {
            let decrypt = format!("pkeyutl -decrypt {oaep} {options} -inkey {{}} -in {{}}");
            reasons(&attempt(&key.environment, &decrypt, &[&key.uri, &cipher]))
        };
        let label = wrong("-pkeyopt rsa_oaep_label:6c");
        assert!(label.iter().any(|line| line.contains("cannot be decrypted")), "{label:?}");
        assert_eq!(label, wrong("-pkeyopt rsa_oaep_md:sha256"));
        // Without padding.
        let block = bench.file("block");
        fs::write(&block, [&[0u8][..], &[0x37; 255]].concat()).unwrap();
        let none = "-pkeyopt rsa_padding_mode:none";
        let encrypt = format!("pkeyutl -encrypt -pubin {none} -inkey {{}} -in {{}} -out {{}}");
        plain(&encrypt, &[&public, &block, &cipher]);
        let (bare, made_up) = (bench.file("bare"), [bench.file("one"), bench.file("two")]);
        let decrypt = format!("pkeyutl -decrypt {none} -inkey {{}} -in {{}} -out {{}}");
        run_openssl(&key.environment, &decrypt, &[&key.uri, &cipher, &bare]).unwrap();
        assert_eq!(fs::read(&bare).unwrap(), fs::read(&block).unwrap());
        // The same has no PKCS#1 padding: every process makes up the same message.
        for file in &made_up {
            let decrypt = "pkeyutl -decrypt -inkey {} -in {} -out {}";
            run_openssl(&key.environment, decrypt, &[&key.uri, &cipher, file]).unwrap();
        }
        let made_up = made_up.map(|file| fs::read(file).unwrap());
        assert!(made_up[0] == made_up[1] && made_up[0] != fs::read(&block).unwrap());
        let explicit = "pkeyutl -decrypt -pkeyopt implicit-rejection:0 -inkey {} -in {}";
        let explicit = reasons(&attempt(&key.environment, explicit, &[&key.uri, &cipher]));
        assert!(explicit.iter().any(|line| line.contains("cannot be decrypted")), "{explicit:?}");
    }
}

#[test]
fn a_key_that_may_only_sign_does_not_decrypt() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::Rsa2048]).unwrap().remove(0);
    let (message, cipher) = (bench.file("message"), bench.file("cipher"));
    fs::write(&message, "a message").unwrap();
    plain("pkeyutl -encrypt -pubin -inkey {} -in {} -out {}", &[&text(&key.public), &message, &cipher]);
    for options in ["", "-pkeyopt rsa_padding_mode:oaep", "-pkeyopt rsa_padding_mode:none"] {
        let decrypt = format!("pkeyutl -decrypt {options} -inkey {{}} -in {{}}");
        let refused = reasons(&attempt(&key.environment, &decrypt, &[&key.uri, &cipher]));
        assert!(refused.iter().any(|line| line.contains("CKA_DECRYPT")), "{options} {refused:?}");
    }
}

#[test]
fn cms_and_smime_decrypt_mail() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let key = decrypting_key(&bench, place);
        let certificate = text(&key.certify(&bench).unwrap());
        let (mail, sealed) = (bench.file("mail"), bench.file("sealed"));
        fs::write(&mail, "a letter\n").unwrap();
        for program in ["smime", "cms", "cms -keyopt rsa_padding_mode:oaep"] {
            let (program, options) = program.split_once(' ').unwrap_or((program, ""));
            let encrypt = format!(
                "{program} -encrypt -aes256 -binary -outform DER -in {{}} -out {{}} -recip {{}} {options}"
            );
            let encrypt = if options.is_empty() { encrypt.replace("-recip ", "") } else { encrypt };
            plain(&encrypt, &[&mail, &sealed, &certificate]);
            let decrypt = format!("{program} -decrypt -binary -inform DER -in {{}} -recip {{}} -inkey {{}}");
            let read = run_openssl(&key.environment, &decrypt, &[&sealed, &certificate, &key.uri]).unwrap();
            assert_eq!(read, "a letter\n", "{place:?} {program}");
        }
    }
}

/// A handshake of TLS 1.2 with RSA key exchange, by OpenSSL's own client.
fn rsa_key_exchange(bench: &Bench, address: &str) -> Finished {
    let client = "s_client -connect {} -tls1_2 -cipher AES128-GCM-SHA256:AES256-SHA -verify_return_error -brief -CAfile {}";
    attempt(&Environment::plain(), client, &[address, &text(&bench.authority.certificate())])
}

/// Every signature scheme that TLS 1.2 and 1.3 have for a key, each asked for alone by OpenSSL's own client.
#[test]
fn s_server_signs_with_every_scheme() {
    const TLS12: &str = "-tls1_2";
    const TLS13: &str = "-tls1_3";
    let rsa_pkcs1 = ["rsa_pkcs1_sha224", "rsa_pkcs1_sha256", "rsa_pkcs1_sha384", "rsa_pkcs1_sha512"];
    let rsa_pss = ["rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512"];
    let pss_pss = ["rsa_pss_pss_sha256", "rsa_pss_pss_sha384", "rsa_pss_pss_sha512"];
    let ecdsa = ["ECDSA+SHA256", "ECDSA+SHA384", "ECDSA+SHA512"];
    let all = [
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            vec![(TLS12, &rsa_pkcs1[..]), (TLS12, &rsa_pss), (TLS13, &rsa_pss)],
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            vec![(TLS12, &ecdsa[..]), (TLS13, &["ecdsa_secp256r1_sha256"])],
        ),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", vec![(TLS13, &["ecdsa_secp521r1_sha512"][..])]),
        ("-algorithm ED25519", vec![(TLS12, &["ed25519"][..]), (TLS13, &["ed25519"])]),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", vec![(TLS12, &pss_pss[..]), (TLS13, &pss_pss)]),
        ("-algorithm ED448", vec![(TLS12, &["ed448"][..]), (TLS13, &["ed448"])]),
    ];
    for (place, kinds) in [(Place::Partition, &all[..4]), (Place::SoftHsm, &all[..])] {
        let bench = Bench::new().unwrap();
        let environment = bench.environment(place).unwrap();
        for (at, (kind, schemes)) in kinds.iter().enumerate() {
            let (name, key) = (format!("key{at}"), bench.file(&format!("key{at}.ref")));
            let uri = format!("pkcs11_uri:pkcs11:token={TOKEN};object={name}");
            let generate =
                format!("genpkey -quiet -propquery ?provider=strongroom {kind} -pkeyopt {{}} -out {{}}");
            run_openssl(&environment, &generate, &[&uri, &key]).unwrap();
            let certificate = text(&bench.authority.certify(&environment, &key, &name).unwrap());
            let address = format!("127.0.0.1:{}", free_port().unwrap());
            let server = "s_server -quiet -www -accept {} -key {} -cert {}";
            let mut server = openssl(&environment, server, &[&address, &key, &certificate]).unwrap();
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _server = Process::spawn("openssl", server).unwrap();
            wait_for("s_server", LIMIT, || Ok(TcpStream::connect(&address)?)).unwrap();
            for (version, algorithms) in schemes {
                for algorithm in *algorithms {
                    // The authority's own signature is ECDSA with SHA-256.
                    let client = format!(
                        "s_client -connect {{}} {version} -sigalgs {algorithm}:ECDSA+SHA256 -verify_return_error -brief -CAfile {{}}"
                    );
                    let client = if ["ECDSA+SHA256", "ecdsa_secp256r1_sha256"].contains(algorithm) {
                        client.replace(":ECDSA+SHA256", "")
                    } else {
                        client
                    };
                    let done = attempt(
                        &Environment::plain(),
                        &client,
                        &[&address, &text(&bench.authority.certificate())],
                    );
                    assert!(done.status.success(), "{place:?} {kind} {version} {algorithm} {}", done.stderr);
                    let hash = algorithm.rsplit(['_', '+']).next().unwrap().to_ascii_uppercase();
                    if hash.starts_with("SHA") {
                        assert!(
                            done.stderr.contains(&format!("Hash used: {hash}")),
                            "{algorithm} {}",
                            done.stderr
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn s_server_and_nginx_exchange_keys_with_rsa() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let key = decrypting_key(&bench, place);
        let certificate = key.certify(&bench).unwrap();
        for asynchronous in ["", "-async"] {
            let address = format!("127.0.0.1:{}", free_port().unwrap());
            let server = format!("s_server -quiet -www {asynchronous} -accept {{}} -key {{}} -cert {{}}");
            let mut server =
                openssl(&key.environment, &server, &[&address, &key.uri, &text(&certificate)]).unwrap();
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _server = Process::spawn("openssl", server).unwrap();
            wait_for("s_server", LIMIT, || Ok(TcpStream::connect(&address)?)).unwrap();
            let done = rsa_key_exchange(&bench, &address);
            assert!(done.status.success(), "{place:?} {asynchronous} {}", done.stderr);
            assert!(done.stderr.contains("AES128-GCM-SHA256"), "{}", done.stderr);
        }
        let named = key.reference(&bench).unwrap();
        let folder = bench.run.folder("nginx").unwrap();
        let site = Site::new(folder, &certificate, &text(&named), &key.environment);
        let (file, port) = nginx::configure(&site).unwrap();
        let configuration = fs::read_to_string(&file).unwrap();
        let ciphers = "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;";
        assert!(configuration.contains(ciphers));
        fs::write(&file, configuration.replace(ciphers, "ssl_ciphers AES128-GCM-SHA256;")).unwrap();
        let mut server = command::new(system("nginx").unwrap());
        key.environment.apply(&mut server);
        server.arg("-c").arg(&file).args(["-g", "daemon off;"]);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Process::spawn("nginx", server).unwrap();
        let address = format!("127.0.0.1:{port}");
        wait_for("nginx", LIMIT, || Ok(TcpStream::connect(&address)?)).unwrap();
        for _ in 0..3 {
            let done = rsa_key_exchange(&bench, &address);
            assert!(done.status.success(), "{place:?} nginx {}", done.stderr);
        }
    }
}

/// A key that agrees on secrets, made in the token: its reference file and its public half.
fn agreeing_key(
    bench: &Bench,
    place: Place,
    environment: &Environment,
    kind: &str,
    label: &str,
) -> [String; 2] {
    let (file, public) = (bench.file(&format!("{label}.ref")), bench.file(&format!("{label}.pub")));
    let uri = format!("pkcs11_uri:pkcs11:token={TOKEN};object={label}");
    let generate = format!(
        "genpkey -quiet -propquery ?provider=strongroom {kind} -pkeyopt {{}} -pkeyopt pkcs11_key_usage:keyAgreement -out {{}}"
    );
    let made = attempt(environment, &generate, &[&uri, &file]);
    assert!(made.status.success(), "{place:?} {kind} {}", made.stderr);
    run_openssl(environment, "pkey -in {} -pubout -out {}", &[&file, &public]).unwrap();
    [file, public]
}

#[test]
fn pkeyutl_derives_what_the_peer_derives() {
    let curve = |name: &str| format!("-algorithm EC -pkeyopt ec_paramgen_curve:{name}");
    let [x25519, x448] = ["-algorithm X25519", "-algorithm X448"].map(str::to_owned);
    for (place, kinds) in [
        (Place::Partition, vec![curve("P-256"), curve("P-384"), curve("P-521"), x25519.clone()]),
        (
            Place::SoftHsm,
            vec![curve("P-256"), curve("P-384"), curve("P-521"), curve("brainpoolP256r1"), x25519, x448],
        ),
    ] {
        let bench = Bench::new().unwrap();
        let environment = bench.environment(place).unwrap();
        let [peer, public, ours, theirs] =
            ["peer.key", "peer.pub", "ours", "theirs"].map(|name| bench.file(name));
        for (at, kind) in kinds.iter().enumerate() {
            let [key, own] = agreeing_key(&bench, place, &environment, kind, &format!("key{at}"));
            plain(&format!("genpkey -quiet {kind} -out {{}}"), &[&peer]);
            let kdf = "-pkeyopt kdf-type:X963KDF -pkeyopt kdf-digest:SHA256 -pkeyopt kdf-outlen:77 -pkeyopt hexkdf-ukm:0102";
            let variants: &[(&str, &str)] = if kind.contains("EC") {
                &[
                    ("", ""),
                    ("-ec_conv_form compressed", ""),
                    ("", kdf),
                    ("", "-pkeyopt ecdh_cofactor_mode:1"),
                ]
            } else {
                &[("", "")]
            };
            for (form, options) in variants {
                plain(&format!("pkey -in {{}} {form} -pubout -out {{}}"), &[&peer, &public]);
                let derive = format!("pkeyutl -derive {options} -inkey {{}} -peerkey {{}} -out {{}}");
                run_openssl(&environment, &derive, &[&key, &public, &ours]).unwrap();
                plain(&derive, &[&peer, &own, &theirs]);
                let (ours, theirs) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
                assert_eq!(ours, theirs, "{place:?} {kind} {form} {options}");
            }
            // More than there is memory for.
            let endless = "pkeyutl -derive -pkeyopt kdf-outlen:1099511627776 -inkey {} -peerkey {}";
            let refused = attempt(&environment, endless, &[&key, &public]);
            if kind.contains("EC") {
                assert!(refused.stderr.contains("a derived key of"), "{}", refused.stderr);
            }
            // A peer on another curve.
            let other = if kind.contains("P-256") { curve("P-384") } else { curve("P-256") };
            plain(&format!("genpkey -quiet {other} -out {{}}"), &[&peer]);
            plain("pkey -in {} -pubout -out {}", &[&peer, &public]);
            let derive = "pkeyutl -derive -inkey {} -peerkey {}";
            assert!(!attempt(&environment, derive, &[&key, &public]).status.success());
        }
        // A point of small order contributes nothing to a secret (RFC 7748, 6.1).
        let zero = bench.file("zero.der");
        fs::write(
            &zero,
            [&[0x30u8, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 3, 0x21, 0][..], &[0; 32]].concat(),
        )
        .unwrap();
        let key = bench.file(&format!("key{}.ref", if place == Place::Partition { 3 } else { 4 }));
        let derive = "pkeyutl -derive -inkey {} -peerkey {} -peerform DER";
        let derived = attempt(&environment, derive, &[&key, &zero]);
        assert!(!derived.status.success(), "{place:?}");
    }
}

/// Ed448 has a parameter in PKCS#11 that Ed25519 has not.
#[test]
fn ed448_signs_a_message() {
    let bench = Bench::new().unwrap();
    let environment = bench.environment(Place::SoftHsm).unwrap();
    let [key, message, signature, public] =
        ["key.ref", "message", "signature", "pub"].map(|name| bench.file(name));
    fs::write(&message, "a message").unwrap();
    let uri = format!("pkcs11_uri:pkcs11:token={TOKEN};object=ed448");
    let generate = "genpkey -quiet -propquery ?provider=strongroom -algorithm ED448 -pkeyopt {} -out {}";
    run_openssl(&environment, generate, &[&uri, &key]).unwrap();
    run_openssl(&environment, "pkey -in {} -pubout -out {}", &[&key, &public]).unwrap();
    run_openssl(&environment, "pkeyutl -sign -rawin -inkey {} -in {} -out {}", &[&key, &message, &signature])
        .unwrap();
    plain("pkeyutl -verify -rawin -pubin -inkey {} -in {} -sigfile {}", &[&public, &message, &signature]);
}

#[test]
fn dgst_signs_with_every_hash() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let (message, signature) = (bench.file("message"), bench.file("signature"));
        fs::write(&message, "a message").unwrap();
        for key in bench.keys(place, &[KeyKind::Rsa2048, KeyKind::P256]).unwrap() {
            let check = |options: &str| {
                let sign = format!("dgst {options} -sign {{}} -out {{}} {{}}");
                run_openssl(&key.environment, &sign, &[&key.uri, &signature, &message]).unwrap();
                let verify = format!("dgst {options} -verify {{}} -signature {{}} {{}}");
                plain(&verify, &[&text(&key.public), &signature, &message]);
                // The provider verifies too, with the key's public half.
                let verify = format!("dgst {options} -prverify {{}} -signature {{}} {{}}");
                run_openssl(&key.environment, &verify, &[&key.uri, &signature, &message]).unwrap();
            };
            for hash in [
                "-sha1",
                "-sha224",
                "-sha256",
                "-sha384",
                "-sha512",
                "-sha512-224",
                "-sha512-256",
                "-sha3-224",
                "-sha3-256",
                "-sha3-384",
                "-sha3-512",
                "-rmd160",
            ] {
                check(hash);
            }
            if key.kind != KeyKind::Rsa2048 {
                continue;
            }
            for salt in ["digest", "max", "auto", "20", "0"] {
                for hash in ["-sha256", "-sha512"] {
                    check(&format!("{hash} -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:{salt}"));
                }
            }
            let refused = "dgst -sha256 -sigopt rsa_padding_mode:x931 -sign {} {}";
            let refused = attempt(&key.environment, refused, &[&key.uri, &message]);
            assert!(
                reasons(&refused).iter().any(|line| line.contains("pss is offered")),
                "{}",
                refused.stderr
            );
            // Without a digest, and what was signed comes out again.
            run_openssl(
                &key.environment,
                "pkeyutl -sign -inkey {} -in {} -out {}",
                &[&key.uri, &message, &signature],
            )
            .unwrap();
            let recover = "pkeyutl -verifyrecover -inkey {} -in {}";
            assert_eq!(
                plain("pkeyutl -verifyrecover -pubin -inkey {} -in {}", &[&text(&key.public), &signature]),
                "a message"
            );
            assert_eq!(run_openssl(&key.environment, recover, &[&key.uri, &signature]).unwrap(), "a message");
        }
    }
}

/// Data of any size is hashed as it comes: in less memory than it has bytes.
#[test]
fn large_files_are_signed_in_little_memory() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let (large, signature) = (bench.file("large"), bench.file("signature"));
    fs::File::create(&large).unwrap().set_len(600 << 20).unwrap();
    let mut limited = command::new("sh");
    key.environment.apply(&mut limited);
    limited.args(["-c", "ulimit -v 300000 && exec openssl dgst -sha256 -sign \"$0\" -out \"$1\" \"$2\""]);
    limited.args([&key.uri, &signature, &large]);
    command::succeed(limited, LIMIT).unwrap();
    plain("dgst -sha256 -verify {} -signature {} {}", &[&text(&key.public), &signature, &large]);
}

/// SoftHSM2 has neither: the padding is made by the provider, and the token signs what came of it.
#[test]
fn pss_with_hashes_that_the_token_lacks() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::SoftHsm, &[KeyKind::Rsa2048]).unwrap().remove(0);
    let (message, signature) = (bench.file("message"), bench.file("signature"));
    fs::write(&message, "a message").unwrap();
    let pss = "-sigopt rsa_padding_mode:pss";
    for options in [
        format!("-sha3-256 {pss}"),
        format!("-sha512-256 {pss} -sigopt rsa_pss_saltlen:17"),
        format!("-sha256 {pss} -sigopt rsa_mgf1_md:sha1 -sigopt rsa_pss_saltlen:digest"),
    ] {
        let sign = format!("dgst {options} -sign {{}} -out {{}} {{}}");
        run_openssl(&key.environment, &sign, &[&key.uri, &signature, &message]).unwrap();
        let verify = format!("dgst {options} -verify {{}} -signature {{}} {{}}");
        plain(&verify, &[&text(&key.public), &signature, &message]);
    }
}

/// ca, ts, ocsp and smime: each signs with the key and is verified without.
#[test]
fn the_other_commands_sign() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        for key in bench.keys(place, &[KeyKind::Rsa2048, KeyKind::P256]).unwrap() {
            let folder = bench.run.folder(&format!("ca-{}", key.kind.name())).unwrap();
            let file = |name: &str| text(&folder.join(name));
            let database = file("index.txt");
            fs::write(&database, "").unwrap();
            let configuration = format!(
                "[ca]\ndefault_ca = own\n[own]\ndatabase = {database}\nnew_certs_dir = {}\nserial = {}\ndefault_md = sha256\n\
                 policy = any\ndefault_days = 7\ndefault_crl_days = 7\nunique_subject = no\nrand_serial = yes\n[any]\ncommonName = supplied\n\
                 [tsa]\ndefault_tsa = stamps\n[stamps]\nserial = {}\ndefault_policy = 1.2.3\ndigests = sha256\nsigner_digest = sha256\n\
                 accuracy = secs:1\ness_cert_id_alg = sha256\n",
                text(&folder),
                file("serial"),
                file("tsserial"),
            );
            let own = file("ca.cnf");
            fs::write(&own, configuration).unwrap();
            let (authority, request, leaf) = (file("ca.pem"), file("leaf.csr"), file("leaf.pem"));
            let extended = "-addext extendedKeyUsage=critical,timeStamping";
            let certify = |extra: &str, out: &str| {
                let req = format!("req -x509 -new -key {{}} -subj /CN=authority -days 7 {extra} -out {{}}");
                run_openssl(&key.environment, &req, &[&key.uri, out]).unwrap();
            };
            certify("", &authority);
            run_openssl(&key.environment, "req -new -key {} -subj /CN=leaf -out {}", &[&key.uri, &request])
                .unwrap();
            run_openssl(
                &key.environment,
                "ca -batch -notext -config {} -cert {} -keyfile {} -in {} -out {}",
                &[&own, &authority, &key.uri, &request, &leaf],
            )
            .unwrap();
            plain("verify -CAfile {} {}", &[&authority, &leaf]);
            let list = file("list.pem");
            run_openssl(
                &key.environment,
                "ca -gencrl -config {} -cert {} -keyfile {} -out {}",
                &[&own, &authority, &key.uri, &list],
            )
            .unwrap();
            plain("crl -noout -verify -CAfile {} -in {}", &[&authority, &list]);
            // A responder's answer.
            let (question, answer) = (file("ocsp.req"), file("ocsp.resp"));
            plain("ocsp -no_nonce -issuer {} -cert {} -reqout {}", &[&authority, &leaf, &question]);
            run_openssl(
                &key.environment,
                "ocsp -index {} -rsigner {} -rkey {} -CA {} -reqin {} -respout {}",
                &[&database, &authority, &key.uri, &authority, &question, &answer],
            )
            .unwrap();
            let status = plain(
                "ocsp -no_nonce -respin {} -issuer {} -cert {} -CAfile {}",
                &[&answer, &authority, &leaf, &authority],
            );
            assert!(status.contains(": good"), "{status}");
            // A time stamp.
            let (stamper, query, stamp) = (file("tsa.pem"), file("ts.req"), file("ts.resp"));
            certify(extended, &stamper);
            plain("ts -query -data {} -sha256 -cert -out {}", &[&own, &query]);
            // This command reads keys from files only: a reference.
            let named = text(&key.reference(&bench).unwrap());
            let reply = "ts -reply -config {} -section stamps -queryfile {} -signer {} -inkey {} -out {}";
            run_openssl(&key.environment, reply, &[&own, &query, &stamper, &named, &stamp]).unwrap();
            let verified = plain("ts -verify -queryfile {} -in {} -CAfile {}", &[&query, &stamp, &stamper]);
            assert!(verified.contains("OK"), "{verified}");
            // Mail.
            let (mail, signed) = (file("mail"), file("signed"));
            fs::write(&mail, "a letter\n").unwrap();
            let sign = "smime -sign -binary -nodetach -signer {} -inkey {} -in {} -out {}";
            run_openssl(&key.environment, sign, &[&authority, &key.uri, &mail, &signed]).unwrap();
            assert_eq!(
                plain("smime -verify -purpose any -CAfile {} -in {}", &[&authority, &signed]),
                "a letter\n"
            );
        }
    }
}

/// With our provider in the process, and even preferred for everything that it can, keys in files are OpenSSL's own: they
/// sign, decrypt, and derive, and the partition is not asked.
#[test]
fn file_keys_stay_with_openssl() {
    let bench = Bench::new().unwrap();
    let environment = bench.partition.environment();
    let preferring = {
        let text = fs::read_to_string(bench.file("openssl.cnf")).unwrap();
        let preferring = text
            .replace("providers = provider_sect\n", "providers = provider_sect\nalg_section = preferred\n")
            + "\n[preferred]\ndefault_properties = ?provider=strongroom\n";
        assert_ne!(preferring.len(), text.len());
        let file = bench.file("preferring.cnf");
        fs::write(&file, preferring).unwrap();
        environment.clone().with("OPENSSL_CONF", file)
    };
    let (message, out) = (bench.file("message"), bench.file("out"));
    fs::write(&message, [7; 32]).unwrap();
    for environment in [&environment, &preferring] {
        for kind in [KeyKind::Rsa2048, KeyKind::P256, KeyKind::Ed25519] {
            let (key, public) = (bench.file("file.key"), bench.file("file.pub"));
            key_file(kind, std::path::Path::new(&key)).unwrap();
            run_openssl(environment, "pkey -in {} -pubout -out {}", &[&key, &public]).unwrap();
            let raw = if kind == KeyKind::Ed25519 { "-rawin" } else { "" };
            let sign = format!("pkeyutl -sign {raw} -inkey {{}} -in {{}} -out {{}}");
            run_openssl(environment, &sign, &[&key, &message, &out]).unwrap();
            let verify = format!("pkeyutl -verify {raw} -pubin -inkey {{}} -in {{}} -sigfile {{}}");
            for environment in [environment, &Environment::plain()] {
                run_openssl(environment, &verify, &[&public, &message, &out]).unwrap();
            }
            match kind {
                KeyKind::Rsa2048 => {
                    plain("pkeyutl -encrypt -pubin -inkey {} -in {} -out {}", &[&public, &message, &out]);
                    let back = bench.file("back");
                    run_openssl(
                        environment,
                        "pkeyutl -decrypt -inkey {} -in {} -out {}",
                        &[&key, &out, &back],
                    )
                    .unwrap();
                    assert_eq!(fs::read(back).unwrap(), [7; 32]);
                }
                KeyKind::P256 => {
                    run_openssl(
                        environment,
                        "pkeyutl -derive -inkey {} -peerkey {} -out {}",
                        &[&key, &public, &out],
                    )
                    .unwrap();
                }
                _ => {}
            }
        }
    }
    let status = bench.partition.daemon.manage(&["status", "--json"]).unwrap();
    assert!(status.replace(' ', "").contains("\"signatures\":0"), "{status}");
}

/// A configuration with more lines in the provider's section.
fn with_settings(bench: &Bench, key: &Keys, lines: &str) -> Environment {
    let own = key.environment.value("OPENSSL_CONF").unwrap();
    let text = fs::read_to_string(own).unwrap();
    let file = bench.file("more.cnf");
    fs::write(&file, text.replace("[strongroom_sect]\n", &format!("[strongroom_sect]\n{lines}\n"))).unwrap();
    key.environment.clone().with("OPENSSL_CONF", file)
}

#[test]
fn blocked_operations_are_left_to_others() {
    let bench = Bench::new().unwrap();
    let key = decrypting_key(&bench, Place::SoftHsm);
    let (message, cipher) = (bench.file("message"), bench.file("cipher"));
    fs::write(&message, "a message").unwrap();
    plain("pkeyutl -encrypt -pubin -inkey {} -in {} -out {}", &[&text(&key.public), &message, &cipher]);
    let decrypt = |environment: &Environment| {
        attempt(environment, "pkeyutl -decrypt -inkey {} -in {}", &[&key.uri, &cipher]).status.success()
    };
    let sign = |environment: &Environment| {
        attempt(environment, "dgst -sha256 -sign {} -out {} {}", &[&key.uri, &bench.file("out"), &message])
            .status
            .success()
    };
    assert!(decrypt(&key.environment) && sign(&key.environment));
    let only_signs = with_settings(&bench, &key, "pkcs11-module-block-operations = asym-cipher keyexch rand");
    assert!(!decrypt(&only_signs) && sign(&only_signs));
    let only_decrypts = with_settings(&bench, &key, "pkcs11-module-block-operations = signature");
    assert!(decrypt(&only_decrypts) && !sign(&only_decrypts));
    // A key in a file is decrypted with as ever.
    let file = bench.file("file.key");
    key_file(KeyKind::Rsa2048, std::path::Path::new(&file)).unwrap();
    run_openssl(&only_decrypts, "dgst -sha256 -sign {} -out {} {}", &[&file, &bench.file("out"), &message])
        .unwrap();
}

#[test]
fn random_bytes_come_from_the_token_only_if_asked_for() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let key = bench.keys(place, &[KeyKind::P256]).unwrap().remove(0);
        let (log, message) = (bench.file("debug.log"), bench.file("message"));
        fs::write(&message, "a message").unwrap();
        let calls = |asked: bool| {
            let environment = with_settings(&bench, &key, &format!("strongroom-debug = file:{log},level:2"));
            let file = environment.value("OPENSSL_CONF").unwrap();
            if asked {
                let text = fs::read_to_string(file).unwrap();
                let text = text.replace(
                    "providers = provider_sect\n",
                    "providers = provider_sect\nrandom = generator\n",
                );
                fs::write(file, text + "\n[generator]\nrandom = PKCS11-RAND\n").unwrap();
            }
            let _ = fs::remove_file(&log);
            let one = run_openssl(&environment, "rand -hex 32", &[]).unwrap();
            let other = run_openssl(&environment, "rand -hex 32", &[]).unwrap();
            assert!(one.trim().len() == 64 && one != other);
            let random = fs::read_to_string(&log).unwrap_or_default().matches("C_GenerateRandom").count();
            // The token's own signature takes random bytes too, of a libcrypto that asks the token (SoftHSM2).
            let sign = "dgst -sha256 -sign {} -out {} {}";
            run_openssl(&environment, sign, &[&key.uri, &bench.file("out"), &message]).unwrap();
            plain(
                "dgst -sha256 -verify {} -signature {} {}",
                &[&text(&key.public), &bench.file("out"), &message],
            );
            random
        };
        assert_eq!(calls(false), 0, "{place:?}");
        assert!(calls(true) >= 2, "{place:?}");
    }
}
