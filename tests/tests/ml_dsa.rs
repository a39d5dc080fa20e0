//! ML-DSA keys of a partition with OpenSSL 3.5, through the provider: certificates, contexts, TLS 1.3; and openssl's own keys brought
//! into the partition. What is made is verified by openssl without the provider.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::server::free_port;
use strongroom_tests::newer::OpenSsl;

const LIMIT: Duration = Duration::from_secs(30);

/// A handshake in which openssl alone verifies what the partition signs; the client's report.
fn handshake(token: &OpenSsl, uri: &str, certificate: &str) -> String {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let arguments = ["s_server", "-quiet", "-www", "-accept", &address, "-key", uri, "-cert", certificate];
    let mut server = token.command(&token.bench.partition.environment(), &arguments);
    server.stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Process::spawn("openssl", server).unwrap();
    wait_for("s_server", Duration::from_secs(10), || Ok(TcpStream::connect(&address)?)).unwrap();
    token.plain(&[
        "s_client",
        "-connect",
        &address,
        "-tls1_3",
        "-CAfile",
        certificate,
        "-verify_return_error",
    ])
}

#[test]
#[ignore = "builds OpenSSL 3.5 once, which takes five minutes"]
fn openssl_3_5_takes_what_a_partition_signs() {
    let token = OpenSsl::new("openssl-3.5").unwrap();
    for (name, group) in [("ml-dsa-44", "mldsa44"), ("ml-dsa-65", "mldsa65"), ("ml-dsa-87", "mldsa87")] {
        let file = |suffix: &str| token.bench.file(&format!("{name}.{suffix}"));
        token.manage(&["key", "generate", name, "--type", name]);
        let uri = token.bench.partition.short_uri(name);
        let (public, certificate) = (file("pub"), file("crt"));
        fs::write(&public, token.manage(&["key", "public", name])).unwrap();
        let request = file("csr");
        token.manage(&["key", "request", name, "--host", "www.example.org", "--out", &request]);
        token.plain(&["req", "-in", &request, "-noout", "-verify"]);

        token.ours(&["req", "-x509", "-new", "-key", &uri, "-subj", "/CN=localhost", "-out", &certificate]);
        token.plain(&["verify", "-CAfile", &certificate, &certificate]);
        assert!(
            token.plain(&["x509", "-in", &certificate, "-noout", "-pubkey"]).contains("BEGIN PUBLIC KEY")
        );
        let report = handshake(&token, &uri, &certificate);
        assert!(report.contains(&format!("Peer signature type: {group}")), "{report}");

        let (message, signature) = (file("message"), file("signature"));
        fs::write(&message, [7; 100_000]).unwrap();
        let context = ["-rawin", "-pkeyopt", "context-string:a context"];
        let sign = ["pkeyutl", "-sign", "-inkey", &uri, "-in", &message, "-out", &signature];
        token.ours(&[&sign[..], &context].concat());
        let verify =
            ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-in", &message, "-sigfile", &signature];
        token.plain(&[&verify[..], &context].concat());
        let another = ["-rawin", "-pkeyopt", "context-string:another"];
        let refused = token.command(&Environment::plain(), &[&verify[..], &another].concat());
        assert!(command::succeed(refused, LIMIT).is_err());

        // openssl's own keys, in each form that it writes.
        for (form, has_seed) in [("seed-priv", true), ("seed-only", true), ("priv-only", false)] {
            let key = file(form);
            let output = format!("ml-dsa.output_formats={form}");
            token.plain(&["genpkey", "-algorithm", name, "-provparam", &output, "-out", &key]);
            let imported = token.bench.partition.manage(&["key", "import", &format!("{name}-{form}"), &key]);
            if !has_seed {
                assert!(imported.unwrap_err().to_string().contains("without its seed"));
                continue;
            }
            let expected = token.plain(&["pkey", "-in", &key, "-pubout"]);
            assert_eq!(token.manage(&["key", "public", &format!("{name}-{form}")]), expected);
        }
    }
}
