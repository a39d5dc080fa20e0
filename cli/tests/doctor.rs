//! `strongroom doctor`: each mistake is made with real files, and is found with its remedy.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's panic is its report"
)]

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Daemon, Run, strongroom};
use serde_json::Value;

/// The configuration that the documentation shows, with files that need not be there.
const CONF: &str = include_str!("../../nginx-conf/openssl.cnf");

/// What the doctor finds, as JSON.
fn findings(run: &Run) -> Vec<Value> {
    serde_json::from_str::<Value>(&run.stdout).unwrap()["findings"].as_array().unwrap().clone()
}

#[track_caller]
fn finds(run: &Run, code: &str, severity: &str) {
    let found = findings(run);
    let finding = found.iter().find(|finding| finding["code"] == code);
    let Some(finding) = finding else { panic!("no {code} among {found:#?}") };
    assert_eq!(finding["severity"], severity, "{finding}");
    let remedy = finding["remedy"].as_str().unwrap();
    assert_eq!(remedy.is_empty(), severity == "ok", "a finding says what to do: {finding}");
}

#[track_caller]
fn finds_not(run: &Run, code: &str) {
    assert!(findings(run).iter().all(|finding| finding["code"] != code), "{}", run.stdout);
}

fn examine(daemon: &Daemon, conf: &str, more: &[&str]) -> Run {
    let path = daemon.path("openssl.cnf");
    fs::write(&path, conf).unwrap();
    let mut arguments = vec!["doctor", "--json", "--openssl-conf", path.to_str().unwrap()];
    arguments.extend(more);
    daemon.run(&arguments)
}

#[test]
fn mistakes_in_openssl_cnf() {
    let daemon = Daemon::start();
    let without = |what: &str| {
        assert!(CONF.contains(what), "{what}");
        CONF.replacen(what, "", 1)
    };
    let with = |what: &str, other: &str| {
        assert!(CONF.contains(what), "{what}");
        CONF.replacen(what, other, 1)
    };
    let text = daemon.path("not-a-library");
    fs::write(&text, "text").unwrap();
    let text = text.to_str().unwrap();
    let module = CONF.lines().find(|line| line.starts_with("module = ")).unwrap();
    let pkcs11 = CONF.lines().find(|line| line.starts_with("pkcs11-module-path = ")).unwrap();
    let both = "default = default_sect\npkcs11 = pkcs11_sect\n";
    let cases = [
        ("no_openssl_init", without("openssl_conf = openssl_init\n")),
        ("no_provider_section", without("providers = provider_sect\n")),
        (
            "provider_not_listed",
            with("strongroom = strongroom_sect\n", "").replace(module, "module = other.so"),
        ),
        ("provider_section_missing", with("strongroom = strongroom_sect\n", "strongroom = misspelt\n")),
        ("provider_not_activated", CONF[..CONF.rfind("activate = 1").unwrap()].to_owned()),
        ("provider_not_activated", {
            let at = CONF.rfind("activate = 1").unwrap();
            format!("{}activate = 0\n", &CONF[..at])
        }),
        ("default_not_activated", with("[default_sect]\nactivate = 1\n", "[default_sect]\n")),
        ("default_not_activated", with("default = default_sect\n", "")),
        (
            "default_after_strongroom",
            with(
                "default = default_sect\nstrongroom = strongroom_sect\n",
                "strongroom = strongroom_sect\ndefault = default_sect\n",
            ),
        ),
        ("two_providers", with("default = default_sect\n", both) + "\n[pkcs11_sect]\nactivate = 1\n"),
        ("provider_file_wrong", with(module, "module = /nowhere/strongroom.so")),
        ("provider_file_wrong", with(module, &format!("module = {text}\n#strongroom"))),
        ("provider_file_wrong", with(module, "module = /bin/ls")),
        ("module_file_wrong", with(pkcs11, "pkcs11-module-path = /nowhere/module.so")),
        ("module_file_wrong", with(pkcs11, "pkcs11-module-path = /bin/ls")),
        ("openssl_does_not_load", with(module, &format!("module = {text}"))),
    ];
    for (code, conf) in cases {
        let run = examine(&daemon, &conf, &[]);
        finds(&run, code, "problem");
        assert_eq!(run.code, 1);
    }
    let missing = daemon.run(&["doctor", "--json", "--openssl-conf", "/nowhere/openssl.cnf"]);
    finds(&missing, "openssl_conf_missing", "problem");
}

#[test]
fn pins_that_others_read_or_that_are_not_there() {
    let daemon = Daemon::start();
    let with_pin = |pin: &str| {
        CONF.replace(
            "#pkcs11-module-token-pin = file:/etc/strongroom/pin",
            &format!("pkcs11-module-token-pin = {pin}"),
        )
    };
    let pin = daemon.path("pin");
    let value = format!("file:{}", pin.display());
    finds(&examine(&daemon, &with_pin(&value), &[]), "pin_file_missing", "problem");
    fs::write(&pin, "user:secret\n").unwrap();
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    finds(&examine(&daemon, &with_pin(&value), &[]), "pin_readable_by_all", "problem");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let run = examine(&daemon, &with_pin(&value), &[]);
    finds_not(&run, "pin_readable_by_all");
    assert!(!run.stdout.contains("secret"), "no PIN is shown");
    if rustix::process::getuid().is_root() {
        finds(
            &examine(&daemon, &with_pin(&value), &["--user", "www-data"]),
            "pin_file_unreadable",
            "problem",
        );
    }
    fs::write(&pin, " user:secret \n").unwrap();
    finds(&examine(&daemon, &with_pin(&value), &[]), "pin_with_blanks", "warning");
    fs::write(&pin, "\n").unwrap();
    finds(&examine(&daemon, &with_pin(&value), &[]), "pin_file_empty", "problem");
    finds(&examine(&daemon, &with_pin("user:secret"), &[]), "pin_readable_by_all", "problem");
    let unknown = daemon.run(&["doctor", "--user", "nobody-of-this-name"]);
    assert_eq!(unknown.code, 2);
}

#[test]
fn a_daemon_that_is_away_and_sockets_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |socket: &Path| {
        let mut command = strongroom();
        command.args(["doctor", "--json", "--openssl-conf", "/nowhere", "--socket"]).arg(socket);
        Run::of(command)
    };
    let path = folder.path().join("socket");
    finds(&doctor(&path), "daemon_not_running", "problem");
    fs::write(&path, "").unwrap();
    finds(&doctor(&path), "not_a_socket", "problem");
    fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    finds(&doctor(&path), "socket_stale", "problem");
    // The folder of a state that others may enter.
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = strongroom();
    command.args(["doctor", "--json", "--openssl-conf", "/nowhere"]).env("STRONGROOM_STATE_DIR", &state);
    finds(&Run::of(command), "state_directory_open", "problem");
}

#[test]
fn locked_users_are_found_without_a_try() {
    let daemon = Daemon::start();
    finds(&examine(&daemon, CONF, &[]), "no_partition", "warning");
    daemon.init("tls", &[]).succeeds();
    finds(&examine(&daemon, CONF, &[]), "partition_sound", "ok");
    let wrong = daemon.secret("wrong.txt", "a wrong password");
    let mut tries = 0;
    while daemon.run(&["key", "list", "--login", "user", "--password-file", &wrong, "--json"]).code != 0 {
        tries += 1;
        finds_or(&daemon, tries);
        if tries > 20 || !findings(&examine(&daemon, CONF, &[])).iter().all(|f| f["code"] != "users_locked") {
            break;
        }
    }
    finds(&examine(&daemon, CONF, &[]), "users_locked", "problem");
}

/// Looking does not count as a try: who looked often can still log in.
fn finds_or(daemon: &Daemon, tries: usize) {
    if tries == 1 {
        for _ in 0..12 {
            finds_not(&examine(daemon, CONF, &[]), "users_locked");
        }
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Makes old.crt, of one.key, which was valid in 2020.
fn expired(folder: &Path) {
    let conf = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
                [p]\ncommonName=supplied\n[req]\ndistinguished_name=n\n[n]\n";
    fs::write(folder.join("ca.cnf"), conf).unwrap();
    fs::write(folder.join("index.txt"), "").unwrap();
    fs::write(folder.join("serial"), "01\n").unwrap();
    openssl(folder, "req -new -config ca.cnf -key one.key -subj /CN=old -out old.csr");
    openssl(
        folder,
        "ca -batch -selfsign -notext -config ca.cnf -keyfile one.key -in old.csr -out old.crt \
         -startdate 20200101000000Z -enddate 20210101000000Z",
    );
}

#[test]
fn certificates_and_keys_of_servers() {
    let daemon = Daemon::with_partition();
    let folder = daemon.directory.path();
    for name in ["one", "two"] {
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -days 30 -keyout {name}.key -out {name}.crt"
            ),
        );
        daemon.run(&["key", "import", name, &format!("{name}.key")]).succeeds();
        daemon.run(&["key", "reference", name, "--out", &format!("{name}.ref")]).succeeds();
    }
    expired(folder);
    let look = |server: &str| {
        fs::write(folder.join("site.conf"), server).unwrap();
        let path = daemon.path("site.conf");
        examine(&daemon, CONF, &[path.to_str().unwrap()])
    };
    let nginx = |certificate: &str, key: &str| {
        look(&format!(
            "user root;\nserver {{\n  ssl_certificate {certificate};\n  ssl_certificate_key {key};\n}}\n"
        ))
    };
    finds(&nginx("one.crt", "one.ref"), "certificate_fits", "ok");
    finds(&nginx("one.crt", "\"store:pkcs11:token=tls;object=one\""), "certificate_fits", "ok");
    finds(&look("SSLCertificateFile one.crt\nSSLCertificateKeyFile one.ref\n"), "certificate_fits", "ok");
    finds(&look("cert = two.crt\nkey = two.ref\n"), "certificate_fits", "ok");
    finds(&nginx("two.crt", "one.ref"), "certificate_mismatch", "problem");
    finds(
        &look("SSLCertificateFile one.crt\nSSLCertificateKeyFile two.ref\n"),
        "certificate_mismatch",
        "problem",
    );
    finds(&nginx("old.crt", "one.ref"), "certificate_not_valid", "problem");
    finds(&nginx("none.crt", "one.ref"), "certificate_unreadable", "problem");
    finds(&nginx("one.ref", "one.ref"), "certificate_unreadable", "problem");
    finds(&nginx("one.crt", "one.key"), "private_key_in_file", "warning");
    finds(&nginx("one.crt", "none.ref"), "reference_missing", "problem");
    finds(&nginx("one.crt", "one.crt"), "reference_damaged", "problem");
    finds(&nginx("one.crt", "pkcs11:token=tls;object=%"), "uri_wrong", "problem");
    finds(&nginx("one.crt", "pkcs11:token=tls;object=three"), "key_not_found", "problem");
    finds(&nginx("one.crt", "pkcs11:token=another;object=one"), "partition_not_found", "problem");
    finds(&look("listen 443;\n"), "server_file_without_keys", "warning");
    let none = examine(&daemon, CONF, &["/nowhere/site.conf"]);
    finds(&none, "server_file_unreadable", "problem");
    if rustix::process::getuid().is_root() {
        fs::set_permissions(folder.join("one.ref"), fs::Permissions::from_mode(0o600)).unwrap();
        let run = look("user www-data;\nssl_certificate one.crt;\nssl_certificate_key one.ref;\n");
        finds(&run, "reference_unreadable", "warning");
        let strict = folder.join("openssl.cnf");
        fs::set_permissions(&strict, fs::Permissions::from_mode(0o600)).unwrap();
        finds(&examine(&daemon, CONF, &["--user", "www-data"]), "openssl_conf_unreadable", "problem");
    }
}

#[test]
fn people_read_what_to_do() {
    let daemon = Daemon::start();
    let path = daemon.path("openssl.cnf");
    fs::write(&path, CONF.replace("default = default_sect\n", "")).unwrap();
    let run = daemon.run(&["doctor", "--openssl-conf", path.to_str().unwrap()]);
    assert_eq!(run.code, 1);
    assert!(
        run.stdout.contains("PROBLEM") && run.stdout.contains("'activate = 1' in [default_sect]"),
        "{}",
        run.stdout
    );
    assert!(run.stderr.contains("problems were found"), "{}", run.stderr);
}

#[test]
fn an_audit_log_that_does_not_get_where_it_is_sent() {
    let mut daemon = Daemon::start();
    finds_not(&examine(&daemon, CONF, &[]), "audit_sink_failing");
    daemon.environment.push(("STRONGROOM_AUDIT_SINK", "journald:/nowhere/socket".to_owned()));
    daemon.restart();
    let until = Instant::now() + Duration::from_secs(60);
    while findings(&examine(&daemon, CONF, &[])).iter().all(|finding| finding["code"] != "audit_sink_failing")
    {
        assert!(Instant::now() < until, "it is not found");
        std::thread::sleep(Duration::from_millis(50));
    }
    let found = examine(&daemon, CONF, &[]);
    finds(&found, "audit_sink_failing", "warning");
    assert!(found.stdout.contains("journald:/nowhere/socket"), "{}", found.stdout);
    // 'strongroom audit status' says so, too.
    let sinks = daemon.run(&["audit", "status", "--json"]).json()["sinks"].take();
    assert!(sinks[0]["connected"] == false && sinks[0]["lag"].as_u64().unwrap() > 0, "{sinks}");
}
