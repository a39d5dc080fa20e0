//! Least privilege: the web server's user id signs with its key and does nothing else. nginx serves, and pkcs11-tool, the
//! openssl and the strongroom command try the rest, all as www-data.

// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::ffi::OsStr;
use std::fs;
use std::process::Output;
use std::time::Duration;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, run_openssl, text};
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::system;
use strongroom_demo::run_folder::is_root;
use strongroom_demo::server::Site;
use strongroom_demo::{command, nginx};
use strongroom_tests::{Bench, Place, traffic};

/// Runs a program as www-data.
fn as_www_data<A: AsRef<OsStr>>(bench: &Bench, program: impl AsRef<OsStr>, arguments: &[A]) -> Output {
    let mut run = command::new(system("setpriv").unwrap());
    bench.partition.environment().apply(&mut run);
    run.args(["--reuid=www-data", "--regid=www-data", "--clear-groups", "--"]);
    run.arg(program).args(arguments).output().unwrap()
}

/// Runs pkcs11-tool on our module as www-data: whether it succeeded, and all that it said.
fn tool(bench: &Bench, arguments: &[&str]) -> (bool, String) {
    let module = text(&bench.programs.module());
    let arguments = [&["--module", &module, "--token-label", "tls"], arguments].concat();
    let output = as_www_data(bench, system("pkcs11-tool").unwrap(), &arguments);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_web_servers_user_id_signs_with_its_key_and_does_nothing_else() {
    if !is_root() {
        eprintln!("not run: only root can become www-data");
        return;
    }
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let certificate = key.certify(&bench).unwrap();
    bench.partition.manage(&["cert", "put", key.kind.name(), &text(&certificate)]).unwrap();
    bench.partition.manage(&["key", "generate", "other", "--type", "p256", "--id", "0b0b"]).unwrap();
    bench.partition.manage(&["key", "generate", "secret", "--type", "aes-256"]).unwrap();

    // nginx: loaded as root, signed as www-data.
    let reference = text(&bench.partition.reference(key.kind.name()).unwrap());
    let site =
        Site::new(bench.run.folder("nginx").unwrap(), &certificate, &reference, &key.environment).as_daemon();
    let server = nginx::start(&site).unwrap();
    let handshake = || traffic::handshake(server.port, "-tls1_3", &bench.authority.certificate()).unwrap();
    let done = handshake();
    assert!(done.status.success(), "{}\n{}", done.stderr, server.errors());

    // All that www-data sees is the key, its public half and its certificate.
    let (listed, said) = tool(&bench, &["--list-objects"]);
    assert!(listed && said.contains("label:      p256") && said.contains("Certificate Object"), "{said}");
    assert_eq!(said.matches("Private Key Object").count(), 1, "{said}");
    assert_eq!(said.matches("Public Key Object").count(), 1, "{said}");
    assert!(!said.contains("other") && !said.contains("secret"), "{said}");

    // It signs.
    fs::write(bench.run.path().join("digest"), [7; 32]).unwrap();
    let spare = bench.run.folder("www").unwrap();
    let mut give = command::new(system("chown").unwrap());
    assert!(give.arg("www-data:").arg(&spare).status().unwrap().success());
    let (digest, signature) = (bench.file("digest"), text(&spare.join("signature")));
    let sign = |label| {
        ["--sign", "--mechanism", "ECDSA", "--label", label, "--signature-format", "openssl"]
            .into_iter()
            .chain(["--input-file", &digest, "--output-file", &signature])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = |arguments: &[String]| tool(&bench, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (signed, said) = run(&sign("p256"));
    assert!(signed, "{said}");
    let verify = "pkeyutl -verify -pubin -inkey {} -in {} -sigfile {}";
    run_openssl(&Environment::plain(), verify, &[&text(&key.public), &digest, &signature]).unwrap();

    // And nothing else.
    let (derived, new) = (text(&spare.join("derived")), ["--key-type", "EC:prime256v1", "--label", "new"]);
    let refused: [&[&str]; 8] = [
        &["--sign", "--mechanism", "ECDSA", "--id", "0b0b", "--input-file", &digest],
        &[&["--keypairgen"], &new[..]].concat(),
        &["--keygen", "--key-type", "AES:32", "--label", "new"],
        &["--delete-object", "--type", "privkey", "--label", "p256"],
        &["--delete-object", "--type", "pubkey", "--label", "p256"],
        &["--delete-object", "--type", "privkey", "--id", "0b0b"],
        &["--write-object", &digest, "--type", "data", "--label", "new"],
        &[
            "--derive",
            "--mechanism",
            "ECDH1-DERIVE",
            "--label",
            "p256",
            "--input-file",
            &digest,
            "-o",
            &derived,
        ],
    ];
    for arguments in refused {
        let (succeeded, said) = tool(&bench, arguments);
        assert!(!succeeded, "{arguments:?}: {said}");
    }
    let strongroom = bench.programs.strongroom();
    for arguments in [
        &["key", "delete", "p256", "--yes"][..],
        &["key", "generate", "new", "--type", "p256"],
        &["key", "grant", "p256", "--uid", "www-data", "--role", "crypto-user"],
        &["key", "access", "p256"],
        &["key", "show", "other"],
        &["user", "list"],
        &["user", "create", "new", "--admit", "www-data"],
        &["role", "create", "new", "--may", "sign"],
        &["partition", "delete", "tls", "--yes"],
    ] {
        let output = as_www_data(&bench, &strongroom, arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let listed = as_www_data(&bench, &strongroom, &["key", "list", "--json"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("\"p256\"") && !listed.contains("\"other\""), "{listed}");
    let still = bench.partition.manage(&["key", "list"]).unwrap();
    assert!(["p256", "other", "secret"].iter().all(|name| still.contains(name)), "{still}");
    assert!(!still.contains("new"), "{still}");

    // Somebody whom no key names sees nothing at all.
    let module = text(&bench.programs.module());
    let mut nobody = command::new(system("setpriv").unwrap());
    bench.partition.environment().apply(&mut nobody);
    nobody
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"])
        .arg(system("pkcs11-tool").unwrap());
    let output =
        nobody.args(["--module", &module, "--token-label", "tls", "--list-objects"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("Key Object") && !said.contains("Certificate Object"), "{said}");

    // Revoked: nginx's workers, whose sessions and channel are open, sign no more, and do again as soon as they may.
    assert!(handshake().status.success());
    bench.partition.manage(&["key", "revoke", "p256", "--uid", "www-data"]).unwrap();
    assert!(!handshake().status.success());
    assert!(!run(&sign("p256")).0);
    bench.partition.grant("p256", "tls-server").unwrap();
    wait_for("a handshake", Duration::from_secs(60), || {
        anyhow::ensure!(handshake().status.success(), "{}", server.errors());
        Ok(())
    })
    .unwrap();
}
