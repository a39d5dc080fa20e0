//! RSA decryption: of messages, mail and TLS 1.2's key exchange.

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::Environment;
use strongroom_demo::nginx;
use strongroom_demo::pki::{KeyKind, run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::system;
use strongroom_demo::server::Site;
use strongroom_tests::{Bench, Place};

use super::{BOTH, LIMIT, attempt, decrypting_key, plain, reasons, s_server};

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

#[test]
fn s_server_and_nginx_exchange_keys_with_rsa() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let key = decrypting_key(&bench, place);
        let certificate = key.certify(&bench).unwrap();
        for asynchronous in ["", "-async"] {
            let (_server, address) = s_server(&key.environment, asynchronous, &key.uri, &text(&certificate));
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
