//! The provider's debug log: what it tells, who can read it, and what it never tells.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use strongroom_demo::environment::Environment;
use strongroom_demo::nginx;
use strongroom_demo::pki::{KeyKind, openssl, run_openssl, text};
use strongroom_demo::server::Site;
use strongroom_tests::{Bench, Place, traffic};

/// The log's lines with this text.
fn lines<'a>(log: &'a str, of: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(of)).collect()
}

#[test]
fn the_log_tells_each_call_and_no_secret() {
    let bench = Bench::new().unwrap();
    let locked = bench.locked().unwrap();
    let uri = locked.generate(KeyKind::P256, "web").unwrap();
    let log = bench.file("debug.log");
    let environment = |pin: &str, file: &str, level: u8| {
        let debug = format!("file:{log},level:{level}");
        locked.environment(pin, file).unwrap().with("PKCS11_PROVIDER_DEBUG", debug)
    };
    let (message, signature) = (bench.file("message"), bench.file("signature"));
    fs::write(&message, "a message that nobody else may read").unwrap();
    let sign = |environment: &Environment| {
        run_openssl(environment, "dgst -sha256 -sign {} -out {} {}", &[&uri, &signature, &message])
    };

    sign(&environment(&locked.pin, "right.cnf", 2)).unwrap();
    let signed = fs::read(&signature).unwrap();
    let told = fs::read_to_string(&log).unwrap();
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    for (call, outcome) in [
        ("C_Initialize", "CKR_OK"),
        ("C_Login", "CKR_OK pkcs11:token=locked;object=web"),
        ("C_SignInit", "CKR_OK pkcs11:token=locked;object=web"),
        ("C_Sign", "CKR_OK pkcs11:token=locked;object=web"),
        ("store::open", "an object"),
        ("store::load", "1 pkcs11:token=locked;object=web"),
        ("keymgmt::load", "an object"),
        ("signature::digest_sign_final", "1 pkcs11:token=locked;object=web"),
    ] {
        let found = lines(&told, &format!(" {call} "));
        assert!(found.iter().any(|line| line.contains(outcome)), "{call} {outcome}:\n{told}");
        // Time, process, thread, function, duration.
        let words: Vec<_> = found.first().unwrap().split(' ').collect();
        assert!(words.first().unwrap().ends_with('Z'), "{words:?}");
        assert!(words.iter().skip(1).take(2).all(|word| word.parse::<u32>().is_ok()), "{words:?}");
        assert!(words.iter().skip(4).step_by(1).next().unwrap().parse::<f64>().is_ok(), "{words:?}");
    }

    // Level 1 leaves libcrypto's calls out. A refused PIN is named by its error.
    fs::remove_file(&log).unwrap();
    sign(&environment("user:not-the-password", "wrong.cnf", 1)).unwrap_err();
    let refused = fs::read_to_string(&log).unwrap();
    assert!(lines(&refused, "store::").is_empty(), "{refused}");
    assert!(!lines(&refused, "C_Login ").iter().any(|line| line.contains("CKR_OK")), "{refused}");
    assert!(
        !lines(&refused, "error: token \"locked\" refused the PIN: C_Login: CKR_PIN_INCORRECT").is_empty(),
        "{refused}"
    );

    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for told in [told, refused] {
        let told = told.to_lowercase();
        let password = locked.pin.strip_prefix("user:").unwrap().to_lowercase();
        for secret in [&password, "not-the-password", "nobody else", &hexadecimal(signed.get(8..16).unwrap())]
        {
            assert!(!told.contains(secret), "{secret}:\n{told}");
        }
    }
}

/// A service of systemd's has a socket for its error output, which cannot be opened by the name /dev/stderr.
#[test]
fn the_error_output_may_be_a_socket() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::SoftHsm, &[KeyKind::P256]).unwrap().remove(0);
    let environment = key.environment.clone().with("PKCS11_PROVIDER_DEBUG", "level:1");
    let (mut journal, output) = UnixStream::pair().unwrap();
    let mut program = openssl(&environment, "pkey -noout -in {}", &[&key.uri]).unwrap();
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(OwnedFd::from(output));
    let status = program.status().unwrap();
    // Its end of the socket, which this process has too.
    drop(program);
    let mut told = String::new();
    journal.read_to_string(&mut told).unwrap();
    assert!(status.success() && !lines(&told, " C_FindObjectsInit ").is_empty(), "{told}");
}

/// The descriptor is opened when the provider is loaded: workers that may not even see the file write to it.
#[test]
fn workers_without_rights_write_to_it() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let folder = bench.run.folder("only-root").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let log = folder.join("debug.log");
    let environment =
        key.environment.clone().with("PKCS11_PROVIDER_DEBUG", format!("file:{}", log.display()));
    let reference = text(&bench.partition.reference(key.kind.name()).unwrap());
    let site = Site::new(
        bench.run.folder("nginx").unwrap(),
        &key.certify(&bench).unwrap(),
        &reference,
        &environment,
    );
    let server = nginx::start(&site.as_daemon()).unwrap();
    let done = traffic::handshake(server.port, "-tls1_3", &bench.authority.certificate()).unwrap();
    assert!(done.status.success(), "{}\n{}", done.stderr, server.errors());
    let told = fs::read_to_string(&log).unwrap();
    let loaded = lines(&told, " C_FindObjectsInit ");
    let signed = lines(&told, " C_Sign ");
    let process = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
    let (loader, signer) = (process(loaded.first().unwrap()), process(signed.last().unwrap()));
    assert_ne!(loader, signer, "{told}");
    let owner = fs::metadata(format!("/proc/{signer}")).unwrap().uid();
    assert_ne!(owner, fs::metadata(&log).unwrap().uid(), "the worker kept its rights");
}
