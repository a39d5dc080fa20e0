//! `strongroom init`, `status`, `partition` and `user`, and log-in.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use harness::{Daemon, OFFICER_PASSWORD, Run, USER_PASSWORD, fields, strongroom};

fn own_uid() -> String {
    rustix::process::getuid().as_raw().to_string()
}

#[test]
fn no_daemon_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    for arguments in [&["status"][..], &["key", "list"], &["init", "tls", "--admit", "0"], &["user", "list"]]
    {
        let mut command = strongroom();
        command.env("STRONGROOM_SOCKET", &socket).args(arguments);
        let error = Run::of(command).fails(3);
        assert!(error.contains("none.sock") && error.contains("start it"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let mut command = strongroom();
    command.env("STRONGROOM_SOCKET", &socket).args(["status", "--json"]);
    assert_eq!(Run::of(command).json_error()["code"], "not_running");
}

#[test]
fn what_is_done_is_shown_by_operation_and_key_type() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    let request = || daemon.run(&["key", "request", "web", "--host", "www.example.org"]).succeeds();
    (0..3).for_each(|_| drop(request()));
    let done = daemon.run(&["status", "--json"]).json()["done"].take();
    let signed =
        done["operations"].as_array().unwrap().iter().find(|row| row["operation"] == "sign").unwrap();
    assert_eq!((&signed["key_type"], &signed["succeeded"]), (&"p256".into(), &3.into()), "{done}");
    let [median, most] = ["median_seconds", "p99_seconds"].map(|name| signed[name].as_f64().unwrap());
    assert!(0.0 < median && median <= most && signed["succeeded_a_second"].as_f64().unwrap() > 0.0, "{done}");
    let text = daemon.run(&["status"]).succeeds();
    let line = text.lines().find(|line| line.starts_with("sign ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("ECDSA P-256  3 "), "{line}");

    // Only what comes while it watches.
    let mut watching =
        daemon.command(&["status", "--watch=100ms", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap()).unwrap();
    assert_eq!(next()["all"]["succeeded"], 0);
    request();
    let line = (0..600).map(|_| next()).find(|line| line["all"]["succeeded"] == 1).unwrap();
    assert_eq!((&line["operations"][0]["operation"], &line["state"]), (&"sign".into(), &"open".into()));
    watching.kill().unwrap();
    watching.wait().unwrap();
    let text = daemon.run(&["status", "--watch=100ms", "--times", "2"]).succeeds();
    assert!(text.starts_with("TIME ") && text.lines().count() == 3, "{text}");
    assert!(daemon.run(&["status", "--times", "2"]).stderr.contains("--watch"));
}

#[test]
fn status() {
    let daemon = Daemon::with_partition();
    let text = daemon.run(&["status"]).succeeds();
    assert!(text.contains("running") && text.contains("tls"), "{text}");
    assert!(!text.contains('\x1b'), "colours in a pipe: {text:?}");
    let json = daemon.run(&["status", "--json"]).json();
    assert_eq!(
        fields(&json),
        [
            "also_opened_by",
            "connections",
            "crypto_module",
            "daemon",
            "done",
            "engines",
            "errors",
            "fips_module",
            "memory",
            "objects",
            "partitions",
            "requests",
            "running",
            "sealed_with",
            "signatures",
            "socket",
            "state",
            "store",
            "tampering",
            "uptime_seconds"
        ]
    );
    assert_eq!(json["running"], true);
    assert_eq!(json["done"]["operations"], serde_json::json!([]));
    assert_eq!(
        fields(&json["partitions"][0]),
        [
            "acting_as",
            "acting_role",
            "damaged",
            "fips_state",
            "keys",
            "label",
            "limited",
            "memory",
            "memory_of_a_key",
            "number",
            "objects",
            "quota",
            "serial"
        ]
    );
    assert_eq!(json["partitions"][0]["acting_as"], "user");
}

#[test]
fn init_tells_the_next_steps() {
    let daemon = Daemon::start();
    let text = daemon.run(&["partition", "list"]).succeeds();
    assert!(text.contains("strongroom init"), "{text}");
    let error = daemon.run(&["key", "list"]).fails(5);
    assert!(error.contains("strongroom init"), "{error}");

    let text = daemon.init("tls", &["--admit", &own_uid()]).succeeds();
    for expected in [
        "\"tls\"",
        "admin",
        "key generate web",
        "ssl_certificate_key",
        "SSLCertificateKeyFile \"pkcs11:token=tls;object=web;type=private\"",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains(OFFICER_PASSWORD) && !text.contains(USER_PASSWORD), "{text}");

    let error = daemon.init("tls", &[]).fails(6);
    assert!(error.contains("tls"), "{error}");
    let json = daemon.init("second", &["--json"]).json();
    assert_eq!(fields(&json), ["label", "number", "officer", "owner", "password_files", "serial", "user"]);
    assert_eq!(
        fields(&json["user"]),
        [
            "failed_attempts",
            "has_password",
            "limited",
            "locked",
            "must_change_password",
            "name",
            "role",
            "uids"
        ]
    );
    assert_eq!(json["user"]["uids"], serde_json::json!([]));
    assert_eq!(json["serial"].as_str().unwrap().len(), 16);

    let json = daemon.run(&["partition", "list", "--json"]).json();
    assert_eq!(json["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(json["partitions"][0]["acting_role"], "crypto_user");
    assert_eq!(json["partitions"][1]["acting_as"], serde_json::Value::Null);
}

#[test]
fn several_partitions_need_a_name() {
    let daemon = Daemon::start();
    for label in ["one", "two"] {
        daemon.init(label, &["--admit", &own_uid()]).succeeds();
    }
    let error = daemon.run(&["key", "list"]).fails(2);
    assert!(error.contains("--partition") && error.contains("\"one\""), "{error}");
    let error = daemon.run(&["key", "list", "-p", "three"]).fails(5);
    assert!(error.contains("\"three\"") && error.contains("\"two\""), "{error}");
    daemon.run(&["key", "list", "-p", "two"]).succeeds();
    daemon.run(&["key", "list", "--partition", "1"]).succeeds();
}

/// What goes wrong after the partition was made must not leave half of it behind.
#[test]
fn a_failed_init_leaves_nothing() {
    let daemon = Daemon::start();
    let short = daemon.secret("short.txt", "short");
    let good = daemon.secret("good.txt", OFFICER_PASSWORD);
    let error = daemon
        .run(&["init", "tls", "--officer-password-file", &good, "--user-password-file", &short])
        .fails(1);
    assert!(error.contains("too short"), "{error}");
    let error = daemon
        .run(&["init", "tls", "--user", "with blank", "--admit", "1", "--generate-passwords", "made"])
        .fails(1);
    assert!(error.contains("a-z"), "{error}");
    assert_eq!(fs::read_dir(daemon.path("made")).unwrap().count(), 0);
    assert_eq!(
        daemon.run(&["partition", "list", "--json"]).json()["partitions"].as_array().unwrap().len(),
        0
    );
    daemon.run(&["init", "tls"]).fails(2);
    daemon.run(&["init", "tls", "--officer", "x", "--user", "x"]).fails(2);
    daemon.run(&["init", "tls", "--officer-password-file", "-", "--user-password-file", "-"]).fails(2);
}

#[test]
fn generated_passwords_work() {
    let daemon = Daemon::start();
    let json = daemon.run(&["init", "tls", "--generate-passwords", "made", "--json"]).json();
    let files: Vec<_> =
        json["password_files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    assert_eq!(files, ["made/tls-admin.password", "made/tls-user.password"]);
    for file in files {
        assert_eq!(fs::metadata(daemon.path(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    daemon.run(&["user", "list", "-l", "admin", "--password-file", "made/tls-admin.password"]).succeeds();
    daemon.run(&["key", "list", "-l", "user", "--password-file", "made/tls-user.password"]).succeeds();
    // The only user of the role needs no name.
    daemon.run(&["key", "list", "--password-file", "made/tls-user.password"]).succeeds();
    daemon.run(&["init", "tls", "--generate-passwords", "made"]).fails(6);
    daemon.run(&["key", "list", "--password-file", "made/tls-user.password"]).succeeds();
}

#[test]
fn without_a_log_in_the_error_says_what_to_do() {
    let daemon = Daemon::start();
    daemon.init("tls", &[]).succeeds();
    for arguments in [&["key", "list"][..], &["key", "generate", "web", "--type", "p256"], &["user", "list"]]
    {
        let error = daemon.run(arguments).fails(4);
        assert!(error.contains("--login NAME --password-file FILE"), "{error}");
        let json = [arguments, &["--json"]].concat();
        assert_eq!(daemon.run(&json).json_error()["code"], "not_logged_in");
    }
    let error = daemon.run(&["key", "list", "--login", "user"]).fails(2);
    assert!(error.contains("--password-file"), "{error}");
}

#[test]
fn passwords_wrong_and_right() {
    let daemon = Daemon::start();
    daemon.init("tls", &[]).succeeds();
    let wrong = daemon.secret("wrong.txt", "not the password");
    let error = daemon.run(&["key", "list", "-l", "user", "--password-file", &wrong]).fails(4);
    assert!(error.contains("wrong") && !error.contains("not the password"), "{error}");
    assert_eq!(
        daemon.run(&["key", "list", "-l", "nobody", "--password-file", &wrong, "--json"]).json_error()["code"],
        "password_wrong"
    );
    daemon.run(&["key", "list", "-l", "user", "--password-file", "user.txt"]).succeeds();
    let input = format!("{USER_PASSWORD}\n");
    daemon.run_with_input(&["key", "list", "-l", "user", "--password-file", "-"], &input).succeeds();
    // The officer's rights do not include keys.
    daemon.run(&["key", "list", "-l", "admin", "--password-file", "officer.txt"]).fails(4);
    daemon.run(&["user", "list", "-l", "user", "--password-file", "user.txt"]).fails(4);

    fs::set_permissions(daemon.path("user.txt"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = daemon.run(&["key", "list", "-l", "user", "--password-file", "user.txt"]);
    assert!(run.code == 0 && run.stderr.contains("warning") && run.stderr.contains("chmod 600"), "{run:?}");
    daemon.run(&["key", "list", "--password-file", "missing.txt"]).fails(1);
}

#[test]
fn users() {
    let daemon = Daemon::with_partition();
    let text = daemon.as_officer(&["user", "list"]).succeeds();
    assert!(text.contains("crypto officer") && text.contains("password"), "{text}");
    let json = daemon.as_officer(&["user", "create", "nginx", "--admit", "65534", "--json"]).json();
    assert_eq!(fields(&json), ["done", "name", "partition", "user"]);
    assert_eq!(json["done"], "created");
    assert_eq!(json["user"]["uids"], serde_json::json!([65534]));
    assert_eq!(json["user"]["has_password"], false);
    assert_eq!(json["user"]["role"], "crypto_user");
    daemon.as_officer(&["user", "create", "nginx", "--admit", "65533"]).fails(6);
    daemon
        .as_officer(&["user", "create", "co2", "--role", "crypto-officer", "--new-password-file", "user.txt"])
        .succeeds();

    let text = daemon.as_officer(&["user", "admit", "nginx", "4001", "4002"]).succeeds();
    assert!(text.contains("4001") && text.contains("4002"), "{text}");
    let json = daemon.as_officer(&["user", "withdraw", "nginx", "4001", "65534", "--json"]).json();
    assert_eq!(json["user"]["uids"], serde_json::json!([4002]));
    let run = daemon.as_officer(&["user", "admit", "nginx", "no-such-user-here"]);
    assert!(run.code == 2 && run.stderr.contains("no-such-user-here"), "{run:?}");
    daemon.as_officer(&["user", "admit", "nobody-there", "4001"]).fails(5);

    daemon.as_officer(&["user", "delete", "nginx"]).fails(2);
    daemon.as_officer(&["user", "delete", "nginx", "--yes"]).succeeds();
    daemon.as_officer(&["user", "delete", "nginx", "--yes"]).fails(5);
    let json = daemon.as_officer(&["user", "list", "--json"]).json();
    let names: Vec<_> =
        json["users"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "co2", "user"]);
}

#[test]
fn an_appliance_user_lists_users_and_no_private_keys() {
    let daemon = Daemon::start();
    daemon.init("tls", &[]).succeeds();
    let password = daemon.secret("backup.txt", "a password for backups");
    let json = daemon
        .as_officer(&["user", "create", "backup", "--role", "au", "--new-password-file", &password, "--json"])
        .json();
    assert_eq!(json["user"]["role"], "appliance_user");
    let own = daemon.secret("own.txt", "another password");
    let change = ["user", "password", "backup", "--password-file", &password, "--new-password-file", &own];
    daemon.run(&change).succeeds();
    let login = ["-l", "backup", "--password-file", &own];
    let text = daemon.run(&[&["user", "list"][..], &login].concat()).succeeds();
    assert!(text.contains("backup  appliance user  password"), "{text}");
    daemon.run(&[&["key", "list"][..], &login].concat()).fails(4);
    let create = ["user", "create", "mine", "--admit", "1"];
    daemon.run(&[&create[..], &login].concat()).fails(4);
}

#[test]
fn roles() {
    let daemon = Daemon::start();
    let text = daemon.run(&["user", "roles"]).succeeds();
    assert!(text.lines().any(|line| line.starts_with("Sign ") && line.contains("sign with a private key")));
    let json = daemon.run(&["user", "roles", "--json"]).json();
    let rows = json["roles"].as_array().unwrap();
    let sign = rows.iter().find(|row| row["request"] == "Sign").unwrap();
    assert_eq!(
        fields(sign),
        [
            "anyone",
            "appliance_user",
            "crypto_officer",
            "crypto_user",
            "partition_owner",
            "request",
            "root",
            "what"
        ]
    );
    assert!(sign["crypto_user"] == "yes" && sign["root"] == "no", "{sign}");
}

#[test]
fn passwords_change() {
    let daemon = Daemon::start();
    daemon.init("tls", &[]).succeeds();
    let new = daemon.secret("new.txt", "a new password");
    let own = |old: &str, new: &str| {
        daemon.run(&["user", "password", "user", "--password-file", old, "--new-password-file", new])
    };
    // The user's own.
    daemon.run(&["user", "password", "user", "--new-password-file", &new]).fails(4);
    daemon
        .run(&[
            "user",
            "password",
            "user",
            "-l",
            "user",
            "--password-file",
            "officer.txt",
            "--new-password-file",
            &new,
        ])
        .fails(4);
    daemon
        .run(&[
            "user",
            "password",
            "user",
            "-l",
            "user",
            "--password-file",
            "user.txt",
            "--new-password-file",
            &new,
        ])
        .succeeds();
    daemon.run(&["key", "list", "--password-file", "user.txt"]).fails(4);
    daemon.run(&["key", "list", "--password-file", &new]).succeeds();
    // By the officer.
    let json =
        daemon.as_officer(&["user", "password", "user", "--new-password-file", "user.txt", "--json"]).json();
    assert_eq!(json["done"], "password_changed");
    assert_eq!(json["user"]["must_change_password"], true);
    let error = daemon.run(&["key", "list", "--password-file", "user.txt", "--json"]).json_error();
    assert_eq!((&error["code"], &error["exit"]), (&"password_expired".into(), &4.into()));
    assert!(error["message"].as_str().unwrap().contains("strongroom user password user"), "{error}");
    own("user.txt", &new).succeeds();
    own(&new, "user.txt").succeeds();
    daemon.run(&["key", "list", "--password-file", "user.txt"]).succeeds();
    daemon.as_officer(&["user", "password", "nobody", "--new-password-file", "user.txt"]).fails(5);
    // The officer's own.
    daemon.as_officer(&["user", "password", "admin", "--new-password-file", &new]).succeeds();
    daemon.as_officer(&["user", "list"]).fails(4);
    daemon.run(&["user", "list", "-l", "admin", "--password-file", &new]).succeeds();
    // By an officer whose user id is admitted: no password is asked for.
    daemon.run(&["user", "admit", "admin", &own_uid(), "-l", "admin", "--password-file", &new]).succeeds();
    daemon.run(&["user", "password", "user", "--new-password-file", &new]).succeeds();
    let initial = [&["user", "password", "user", "-l", "user", "--password-file", &new][..]].concat();
    daemon.run(&[&initial[..], &["--new-password-file", "user.txt"]].concat()).succeeds();
    daemon.run(&["key", "list", "-l", "user", "--password-file", "user.txt"]).succeeds();
    let users = daemon.run(&["user", "list", "--json"]).json();
    assert_eq!(users["users"][1]["failed_attempts"], 0, "an empty password was tried: {users}");
}

/// Who logs in for the first time at a terminal is asked for a password of the own, and the command goes on.
#[test]
fn an_initial_password_is_changed_at_the_first_log_in() {
    let daemon = Daemon::start();
    daemon.init("tls", &["--hand-over"]).succeeds();
    let error = daemon.run(&["user", "list", "-l", "admin", "--password-file", "officer.txt"]).fails(4);
    assert!(error.contains("somebody else"), "{error}");
    let run = daemon.at_terminal(
        &["user", "list", "--login", "admin"],
        &[OFFICER_PASSWORD, "the officer's own", "the officer's own"],
    );
    assert!(run.code == 0 && run.stdout.contains("has to change the password"), "{run:?}");
    let own = daemon.secret("own.txt", "the officer's own");
    let officer = ["-l", "admin", "--password-file", &own];
    let text = daemon.run(&[&["user", "list"][..], &officer].concat()).succeeds();
    let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["admin", "crypto", "officer", "password", "ok"]);
    // A partition may do without.
    let text = daemon.run(&["partition", "policy"]).succeeds();
    assert!(text.contains("10 in a row") && text.contains("must be changed"), "{text}");
    daemon.run(&["partition", "policy", "--max-attempts", "5"]).fails(4);
    let set = ["partition", "policy", "--max-attempts", "5", "--initial-passwords", "keep", "--json"];
    let json = daemon.run(&[&set[..], &officer].concat()).json();
    assert_eq!(fields(&json), ["initial_passwords", "max_attempts", "owner", "partition"]);
    assert!(json["max_attempts"] == 5 && json["initial_passwords"] == "keep", "{json}");
    let create = ["user", "create", "web", "--new-password-file", "user.txt"];
    daemon.run(&[&create[..], &officer].concat()).succeeds();
    daemon.run(&["key", "list", "-l", "web", "--password-file", "user.txt"]).succeeds();
    let wrong = daemon.run(&[&["partition", "policy", "--max-attempts", "1"][..], &officer].concat());
    assert!(wrong.code == 2 && wrong.stderr.contains("3..=100"), "{wrong:?}");
}

#[test]
fn a_locked_user_is_unlocked() {
    let daemon = Daemon::start();
    daemon.init("tls", &[]).succeeds();
    let wrong = daemon.secret("wrong.txt", "not the password");
    let try_with = |file: &str| {
        let run = daemon.run(&["key", "list", "-l", "user", "--password-file", file, "--json"]);
        run.json_error()["code"].as_str().unwrap().to_owned()
    };
    let wrongs = (0..100).take_while(|_| try_with(&wrong) == "password_wrong").count();
    assert!((3..100).contains(&wrongs), "locked after {wrongs} wrong passwords");
    assert_eq!(try_with("user.txt"), "user_locked");
    let text = daemon.as_officer(&["user", "list"]).succeeds();
    assert!(text.contains("locked"), "{text}");
    daemon.as_officer(&["user", "unlock", "user"]).succeeds();
    daemon.run(&["key", "list", "-l", "user", "--password-file", "user.txt"]).succeeds();
}

#[test]
fn partitions_are_deleted_by_their_label() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    daemon.as_officer(&["partition", "delete", "1", "--yes"]).fails(2);
    daemon.as_officer(&["partition", "delete", "tsl", "--yes"]).fails(5);
    let error = daemon.as_officer(&["partition", "delete", "tls"]).fails(2);
    assert!(error.contains("--yes"), "{error}");
    daemon.run(&["partition", "delete", "tls", "--yes"]).fails(4);
    let json = daemon.as_officer(&["partition", "delete", "tls", "--yes", "--json"]).json();
    assert_eq!(json["deleted"]["label"], "tls");
    assert_eq!(daemon.run(&["status", "--json"]).json()["partitions"].as_array().unwrap().len(), 0);
}

#[test]
fn passwords_are_asked_for_at_a_terminal() {
    let daemon = Daemon::start();
    let run = daemon.at_terminal(&["init", "tls"], &["officer 123", "officer 124"]);
    assert!(run.code == 1 && run.stdout.contains("differ"), "{run:?}");
    let run =
        daemon.at_terminal(&["init", "tls"], &["officer 123", "officer 123", "user 12345", "user 12345"]);
    assert!(run.code == 0 && run.stdout.contains("Made partition"), "{run:?}");
    assert!(!run.stdout.contains("officer 123") && !run.stdout.contains("user 12345"), "echoed: {run:?}");
    // A command that needs a log-in asks for it.
    let run = daemon.at_terminal(&["key", "generate", "web", "--type", "p256"], &["user 12345"]);
    assert!(run.code == 0 && run.stdout.contains("Made key \"web\""), "{run:?}");
    let run = daemon.at_terminal(&["user", "list"], &["officer 123"]);
    assert!(run.code == 0 && run.stdout.contains("crypto officer"), "{run:?}");
    let run = daemon.at_terminal(&["user", "list"], &["wrong password"]);
    assert_eq!(run.code, 4, "{run:?}");
    let run = daemon.at_terminal(&["user", "password", "user"], &["user 12345", "user 67890", "user 67890"]);
    assert_eq!(run.code, 0, "{run:?}");
    // What cannot be undone is asked about.
    let run = daemon.at_terminal(&["key", "delete", "web", "-l", "user"], &["user 67890", "n"]);
    assert!(run.code == 1 && run.stdout.contains("nothing was done"), "{run:?}");
    let run = daemon.at_terminal(&["key", "delete", "web", "-l", "user"], &["user 67890", "y"]);
    assert!(run.code == 0 && run.stdout.contains("Deleted key \"web\""), "{run:?}");
}
