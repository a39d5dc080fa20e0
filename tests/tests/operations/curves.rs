//! TLS with certificates on curves that few servers have.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{openssl, run_openssl};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::server::free_port;
use strongroom_tests::{Bench, Place};

use super::{attempt, plain};

/// For the key exchange, and of certificates in TLS 1.2.
const GROUPS: &str = "-groups brainpoolP256r1:brainpoolP384r1:brainpoolP512r1:X448";

#[test]
fn s_server_shows_certificates_with_brainpools_curves_and_ed448() {
    let bench = Bench::new().unwrap();
    let environment = bench.environment(Place::Partition).unwrap();
    for (name, signature, versions) in [
        // OpenSSL 3.0 has these curves in TLS 1.2 only.
        ("brainpoolP256r1", "ECDSA", &["-tls1_2"][..]),
        ("brainpoolP384r1", "ECDSA", &["-tls1_2"]),
        ("brainpoolP512r1", "ECDSA", &["-tls1_2"]),
        ("ed448", "ed448", &["-tls1_2", "-tls1_3"]),
    ] {
        bench.partition.daemon.manage(&["key", "generate", name, "--type", name]).unwrap();
        let uri = format!("pkcs11:token=tls;object={name};type=private");
        let certificate = bench.file(name);
        let request = "req -x509 -new -key {} -subj /CN=localhost -out {}";
        run_openssl(&environment, request, &[&uri, &certificate]).unwrap();
        assert!(plain("x509 -noout -text -in {}", &[&certificate]).contains(name.trim_start_matches("ed")));

        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let serve = format!("s_server -quiet -www {GROUPS} -accept {{}} -key {{}} -cert {{}}");
        let mut server = openssl(&environment, &serve, &[&address, &uri, &certificate]).unwrap();
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Process::spawn("openssl", server).unwrap();
        wait_for("s_server", Duration::from_secs(60), || Ok(TcpStream::connect(&address)?)).unwrap();
        for version in versions {
            let connect =
                format!("s_client -verify_return_error {GROUPS} {version} -connect {{}} -CAfile {{}}");
            let done = attempt(&Environment::plain(), &connect, &[&address, &certificate]);
            assert!(done.status.success(), "{name} {version} {}", done.stderr);
            let said = String::from_utf8_lossy(&done.stdout);
            let expected = format!("Peer signature type: {signature}");
            assert!(said.contains(&expected) && said.contains("Verification: OK"), "{name} {version} {said}");
        }
    }
}
