//! Every option and argument of every command, with values that are none: each is refused by name, before anything is done.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

mod harness;

use std::collections::BTreeSet;
use std::fs;

use harness::{Daemon, strongroom};

/// A number that fits no counter: 2^63.
const HUGE: &str = "9223372036854775808";

const NO_FILE: &str = "no-such-directory/file";

/// What is no value, by what the help calls the value.
fn wrong(value: &str) -> &'static [&'static str] {
    match value {
        "FILE" | "PATH" | "DIR" | "DIRECTORY" | "FILE|DIRECTORY" | "FILE|HEX" => &["", NO_FILE],
        "NUMBER" => &["", "-1", "some", "1.5", "18446744073709551616", HUGE],
        "NUMBER|none" => &["", "0", "-1", "some", "18446744073709551616"],
        "SIZE|none" => &["", "0", "-1M", "1 furlong", "9223372036854775808G", HUGE],
        "DAYS" => &["", "0", "6", "91", "-7", "a week", HUGE],
        "TIME" => &["", "0", "-1d", "1 fortnight", "23h", HUGE, "9223372036854775808d"],
        "WHEN" => &["", "yesterday", "2026-13-01", "-1d", "9223372036854775808h"],
        "UID|NAME" => &["", "-1", "4294967296", HUGE, "no-such-user"],
        "UID" => &["", "-1", "4294967296", HUGE, "root!"],
        "HEX" => &["", "0", "xy", "-1"],
        "NAME" | "LABEL" | "KEY" | "KID" | "USER" | "LABEL|OBJECT" => &[""],
        _ => &["", "-1", "no-such-thing"],
    }
}

/// Values that are none for one option only, and those of [`wrong`] that are.
const OF_ITS_OWN: [(&str, &str, &[&str]); 25] = [
    ("key request", "--host", &["", "a b", "-a", "x..y"]),
    // Written when there is something to be written.
    ("user challenge", "--out", &[""]),
    ("security-domain renew", "--out", &[""]),
    ("status", "--times", &["", "0", "-1", "some", "18446744073709551616"]),
    ("init", "--generate-passwords", &["", "pair.pem/there"]),
    // Made if it is not there; not where a file is.
    ("backup create", "--directory", &["", "pair.pem/there"]),
    ("man", "", &["", "pair.pem/there"]),
    // Files that are looked at when there is something to be decided.
    ("tamper clear", "--passphrase-file", &[""]),
    ("tamper clear", "--share", &[""]),
    ("tamper clear", "--holder-key", &[""]),
    ("tamper clear", "--use-as-is", &[""]),
    ("tamper clear", "--accept-loss", &[""]),
    ("doctor", "--user", &["", "no-such-user"]),
    ("backup create", "--keep", &["", "0", "-1", "some", "18446744073709551616"]),
    ("seal-with shares", "--quorum", &["", "0", "1", "3", "-1", HUGE]),
    ("security-domain create", "--quorum", &["", "0", "1", "3", "-1", HUGE]),
    ("partition policy", "--max-attempts", &["", "0", "2", "-1", "101", HUGE]),
    // Of a log that is there, any moment and any text is a question.
    ("audit show", "--action", &[]),
    ("audit tail", "--action", &[]),
    ("audit show", "--key", &[]),
    ("audit tail", "--key", &[]),
    ("audit show", "--user", &[]),
    ("audit tail", "--user", &[]),
    ("audit show", "--outcome", &["", "no-such-thing"]),
    ("audit tail", "--outcome", &["", "no-such-thing"]),
];

/// A command line for each command on which everything is right, with as few options as can be.
const RIGHT: &str = "
status
init another --officer-password-file secret --user-password-file secret
doctor pair.pem
partition set AS-OFFICER
partition set-quota tls
partition delete tls --yes AS-OFFICER
partition policy AS-OFFICER
node request --out new
node certificate install cert.pem
node verify --owner cert.pem
cluster admit cert.pem
cluster join --owner cert.pem
cluster expel 0123456789abcdef --yes
user create another --role cu --new-password-file secret AS-OFFICER
user delete user --yes AS-OFFICER
user password user --new-password-file secret AS-OFFICER
user admit user root AS-OFFICER
user withdraw user root AS-OFFICER
user challenge admin --out new
user unlock admin --signature secret
key generate another --type p256
key import another pair.pem
key export pair --wrapping-key kek --mechanism aes-kwp --out new
key trust web AS-OFFICER
key show web
key delete web --yes
key recover web AS-OFFICER
key purge web --yes AS-OFFICER
key rotate web
key activate web
key request web --host www.example.org
key rotation web --every 90d
key grant web --uid 33 --role tls-server
key revoke web --uid 33 --role tls-server
key access web
key public web
key uri web
key reference web
role create another --may sign
role set another --may sign
role delete another
cert put pair cert.pem
cert show web
cert get pair
cert delete web --yes
backup create tls --out new AS-OFFICER
backup show tls.backup
backup verify tls.backup
backup restore tls.backup
security-domain create --holder a.pem --holder b.pem --quorum 2 --out new AS-OFFICER
security-domain renew --holder a.pem --holder b.pem --quorum 2 --out new AS-OFFICER
security-domain show --out new AS-OFFICER
unseal
share node.shares --holder-key pair.pem --out new
seal-with passphrase --passphrase-file secret
seal-with shares --holder a.pem --holder b.pem --quorum 2 --out new
tamper clear
zeroize --confirm here
audit show --node
audit tail --node
audit export --node --out new
audit verify cert.pem
audit key --out new
audit uses each
completions bash
man there
";

/// Options that stand with others than on the command's right line.
const WITH: [(&str, &str, &str); 16] = [
    ("status", "--times", "status --watch=100ms"),
    ("key grant", "--user", "key grant web --role tls-server"),
    ("key grant", "--certificate", "key grant web --role tls-server"),
    ("key revoke", "--user", "key revoke web --role tls-server"),
    ("key revoke", "--certificate", "key revoke web --role tls-server"),
    ("backup create", "--directory", "backup create tls AS-OFFICER"),
    ("key import", "--wrapped", "key import another --unwrapping-key web --mechanism aes-kwp"),
    ("key import", "--unwrapping-key", "key import another --wrapped secret --mechanism aes-kwp"),
    ("key import", "--mechanism", "key import another --wrapped secret --unwrapping-key web"),
    ("key import", "--hash", "key import another --wrapped secret --unwrapping-key web --mechanism rsa-aes"),
    ("key import", "--type", "key import another --wrapped secret --unwrapping-key web --mechanism aes-kwp"),
    ("key export", "--hash", "key export web --wrapping-key web --mechanism rsa-aes --out new"),
    ("key export", "--byok", "key export web --wrapping-key web --mechanism rsa-aes --out new"),
    ("backup create", "--keep", "backup create tls --directory there AS-OFFICER"),
    ("init", "--generate-passwords", "init another"),
    ("key reference", "--out", "key reference web"),
];

/// A value that a command takes: the command's words, where it stands, and what the help calls it.
type Value = (String, Place, String);

/// Where it stands on the command line.
#[derive(Clone, PartialEq)]
enum Place {
    Option(String),
    /// The argument of this number, from 0.
    Argument(usize),
}

impl Place {
    fn option(&self) -> Option<&str> {
        match self {
            Place::Option(option) => Some(option),
            Place::Argument(_) => None,
        }
    }
}

/// All values of all commands, as their help lists them.
fn values(command: &str, found: &mut Vec<Value>) {
    let output = strongroom().args(command.split_whitespace()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let mut section = "";
    for line in help.lines() {
        if let Some(title) = line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
            section = title;
            continue;
        }
        let text = line.trim_start();
        let indent = line.len() - text.len();
        match section {
            "Commands" if indent == 2 => {
                let name = text.split(' ').next().unwrap();
                values(format!("{command} {name}").trim(), found);
            }
            "Arguments" if indent == 2 && text.starts_with(['<', '[']) => {
                let value = text[1..].split(['>', ']']).next().unwrap().to_owned();
                let number =
                    found.iter().filter(|(of, place, _)| of == command && place.option().is_none()).count();
                found.push((command.to_owned(), Place::Argument(number), value));
            }
            "Usage" | "Global options" | "Commands" | "Arguments" | "" => {}
            _ => {
                let text = text
                    .get(4..)
                    .filter(|_| text.starts_with('-') && !text.starts_with("--"))
                    .unwrap_or(text);
                if let Some((option, rest)) =
                    text.split_once(' ').filter(|(option, _)| option.starts_with("--"))
                    && let Some(value) = rest.strip_prefix('<')
                {
                    let value = value.split('>').next().unwrap().to_owned();
                    found.push((command.to_owned(), Place::Option(option.to_owned()), value));
                }
            }
        }
    }
}

/// The words of a right command line with one of its values replaced.
fn replaced(line: &str, command: &str, place: &Place, value: &str) -> Vec<String> {
    let line = line.replace("AS-OFFICER", "--login admin --password-file officer.txt");
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match place {
        Place::Option(option) => {
            if let Some(at) = words.iter().position(|word| word == option) {
                words.drain(at..at + 2);
            }
            words.push(format!("{option}={value}"));
        }
        // Arguments stand before the options.
        Place::Argument(number) => {
            let at = command.split_whitespace().count() + number;
            match words.get_mut(at).filter(|word| !word.starts_with("--")) {
                Some(word) => *word = value.to_owned(),
                None => words.insert(at, value.to_owned()),
            }
        }
    }
    words
}

/// Seals the node, so that it asks for what opens it.
fn seal(daemon: &Daemon, by_passphrase: bool) {
    let _ = fs::remove_file(daemon.path("sealed.shares"));
    let by: &[&str] = match by_passphrase {
        true => &["passphrase", "--passphrase-file", "secret"],
        false => {
            &["shares", "--holder", "a.pem", "--holder", "b.pem", "--quorum", "2", "--out", "sealed.shares"]
        }
    };
    daemon.run(&[&["seal-with"], by].concat()).succeeds();
    daemon.run(&["seal"]).succeeds();
}

fn open(daemon: &Daemon) {
    daemon.run(&["unseal", "--passphrase-file", "secret"]);
    daemon.run(&["unseal", "--holder-key", "pair.pem", "--holder-key", "other.pem"]);
    daemon.run(&["seal-with", "file"]).succeeds();
}

#[test]
fn every_value_is_checked_and_named() {
    let daemon = Daemon::with_partition();
    if !rustix::process::getuid().is_root() {
        return;
    }
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    daemon.secret("secret", "a good secret");
    let directory = daemon.directory.path();
    for (key, public) in [("pair.pem", "a.pem"), ("other.pem", "b.pem")] {
        harness::openssl(directory, &["genpkey", "-quiet", "-algorithm", "RSA", "-out", key]);
        harness::openssl(directory, &["pkey", "-in", key, "-pubout", "-out", public]);
    }
    harness::openssl(directory, &["req", "-x509", "-key", "pair.pem", "-subj", "/CN=a", "-out", "cert.pem"]);
    daemon.as_officer(&["backup", "create", "tls", "--out", "tls.backup"]).succeeds();
    let shares = ["seal-with", "shares", "--holder", "a.pem", "--holder", "b.pem", "--quorum", "2"];
    daemon.run(&[&shares[..], &["--out", "node.shares"]].concat()).succeeds();
    daemon.run(&["seal-with", "file"]).succeeds();
    daemon.run(&["key", "import", "pair", "pair.pem", "--extractable"]).succeeds();
    daemon.run(&["cert", "put", "pair", "cert.pem"]).succeeds();
    daemon.run(&["key", "generate", "kek", "--type", "aes-256", "--usage", "wrap,unwrap"]).succeeds();
    let before = daemon.run(&["status", "--json"]).json()["objects"].clone();
    let mut all = Vec::new();
    values("", &mut all);
    assert!(all.len() > 120, "the help is read: {}", all.len());
    let mut lines = BTreeSet::new();
    let mut bad = String::new();
    for (command, place, name) in all {
        let option = place.option();
        let line = WITH
            .iter()
            .find(|(of, with, _)| *of == command && Some(*with) == option)
            .map(|(.., line)| *line)
            .or_else(|| {
                RIGHT.lines().find(|line| {
                    line.strip_prefix(command.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                })
            });
        let Some(line) = line else {
            bad.push_str(&format!("{command}: no command line for it in this test\n"));
            continue;
        };
        lines.insert(command.clone());
        let its_own =
            OF_ITS_OWN.iter().find(|(of, with, _)| *of == command && *with == option.unwrap_or_default());
        for value in its_own.map_or_else(|| wrong(&name), |(.., values)| values) {
            if command == "unseal" {
                seal(&daemon, option == Some("--passphrase-file"));
            }
            let words = replaced(line, &command, &place, value);
            let run = daemon.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
            if command == "unseal" {
                open(&daemon);
            }
            // Doctor reports what it finds.
            let said = run.stderr + &run.stdout;
            let named = said.contains(" is empty") && value.is_empty()
                || option.is_some_and(|option| said.contains(option))
                || (!value.is_empty() && said.contains(value))
                || said.contains(&format!("<{name}>"))
                || said.contains(&format!("[{name}]"));
            let unmeant =
                ["were not provided", "cannot be used with", "unexpected argument '--", "which partition?"]
                    .iter()
                    .any(|text| said.contains(text));
            if run.code == 0 || !named || unmeant {
                bad.push_str(&format!("{words:?} ends with {}: {said}\n", run.code));
            }
        }
    }
    assert!(bad.is_empty(), "{bad}");
    for line in RIGHT.lines().filter(|line| !line.is_empty()) {
        assert!(lines.iter().any(|command| line.starts_with(command.as_str())), "no command has {line:?}");
    }
    assert_eq!(daemon.run(&["status", "--json"]).json()["objects"], before, "something was done");
    assert!(!daemon.path("new").exists() && !fs::exists(daemon.path("there")).unwrap());
}
