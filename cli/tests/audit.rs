//! `strongroom audit`: every command, on the log of a real daemon; and what is found in files that were changed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's panic is its report"
)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::{Daemon, OFFICER_PASSWORD};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An exported log, and the public key.
fn exported(daemon: &Daemon) -> (String, String) {
    daemon.as_officer(&["audit", "export", "--out", "tls.jsonl"]).succeeds();
    daemon.run(&["audit", "key", "--out", "audit.pem"]).succeeds();
    let path = |name| daemon.path(name).to_str().unwrap().to_owned();
    (path("tls.jsonl"), path("audit.pem"))
}

#[test]
fn entries_are_shown_by_what_is_asked_for() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    daemon.run(&["key", "generate", "other", "--type", "ed25519"]).succeeds();
    let shown = |filter: &[&str]| {
        daemon.as_officer(&[&["--json", "audit", "show"], filter].concat()).json()["entries"]
            .as_array()
            .unwrap()
            .clone()
    };
    let of_web = shown(&["--key", "web"]);
    assert!(!of_web.is_empty() && of_web.iter().all(|entry| entry["key"] == "web"));
    let object = of_web[1]["object"].as_str().unwrap();
    assert_eq!(shown(&["--key", object, "--action", "generate_key_pair"]).len(), 1);
    assert!(shown(&["--action", "generate_key_pair"]).len() == 4);
    assert!(shown(&["--user", "nobody"]).is_empty());
    assert_eq!(shown(&["--last", "2"]).len(), 2);
    assert!(shown(&["--until", "2020-01-01"]).is_empty() && !shown(&["--since", "1h"]).is_empty());
    exported(&daemon);
    assert!(!shown(&["--action", "audit_checkpoint"]).is_empty());
    assert!(shown(&["--checkpoints"]).iter().any(|entry| entry["action"] == "audit_checkpoint"));
    assert!(shown(&[]).iter().all(|entry| entry["action"] != "audit_checkpoint"));
    let failures = shown(&["--outcome", "failure"]);
    assert!(failures.iter().all(|entry| entry["outcome"] != "success" && entry["outcome"] != "begun"));
    // As people see it.
    let text = daemon.as_officer(&["audit", "show", "--key", "web"]).succeeds();
    assert!(text.contains("generate_key_pair") && text.contains("begun"), "{text}");
    let node = daemon.run(&["--json", "audit", "show", "--node"]).json();
    assert!(node["entries"].as_array().unwrap().iter().any(|entry| entry["action"] == "daemon_start"));
    // A crypto user reads none.
    let refused = daemon.run(&["--json", "audit", "show"]).json_error();
    assert_eq!(refused["code"], "not_permitted");
}

#[test]
fn the_tail_brings_what_comes() {
    let daemon = Daemon::with_partition();
    let file = daemon.secret("officer.txt", OFFICER_PASSWORD);
    let mut tail = daemon
        .command(&["--json", "audit", "tail", "--login", "admin", "--password-file", &file])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("{\"v\":1,\"log\":\"partition-1\""));
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    let found = lines.map(Result::unwrap).find(|line| line.contains("generate_key_pair"));
    assert_eq!(json(&found.unwrap())["outcome"], "begun");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn exported_files_are_verified_and_changed_ones_found_out() {
    let daemon = Daemon::with_partition();
    daemon.run(&["key", "generate", "web", "--type", "p256"]).succeeds();
    let (log, key) = exported(&daemon);
    // openssl reads the key.
    let openssl =
        Command::new("openssl").args(["pkey", "-pubin", "-noout", "-text", "-in", &key]).output().unwrap();
    assert!(String::from_utf8_lossy(&openssl.stdout).contains("ED25519"));
    let said = daemon.run(&["audit", "verify", &log, "--key", &key]).succeeds();
    assert!(
        said.contains("partition-1: entries 1 to ") && said.contains("are as strongroomd wrote them"),
        "{said}"
    );
    let view = daemon.run(&["--json", "audit", "verify", &log]).json();
    assert!(view["logs"][0]["key_from_file"] == true && view["logs"][0]["unsigned"] == 0);
    let whole = fs::read_to_string(&log).unwrap();
    let changed = daemon.path("changed.jsonl");
    let changed = changed.to_str().unwrap();
    let found = |text: &str, arguments: &[&str]| {
        fs::write(changed, text).unwrap();
        daemon.run(&[&["audit", "verify", changed, "--key", &key], arguments].concat()).fails(1)
    };
    let lines: Vec<&str> = whole.lines().collect();
    assert!(found(&whole.replacen("\"success\"", "\"failure\"", 1), &[]).contains("does not continue"));
    let without = [&lines[..3], &lines[4..]].concat().join("\n") + "\n";
    assert!(found(&without, &[]).contains("entries 4 to 4 are missing before entry 5"));
    assert!(found(&without, &["--collected"]).contains("entries 4 to 4 are missing before entry 5"));
    let cut = whole.rsplit_once("\",\"prev\"").unwrap().0;
    assert!(found(cut, &[]).contains("the line has no end"));
    // What a receiver has: a prefix, and lines that came twice.
    let collected = lines.iter().map(|line| format!("Nov 23 06:00:00 host strongroomd: {line}\n"));
    let collected = collected.clone().take(5).chain(collected.skip(2)).collect::<String>();
    assert!(!found(&collected, &[]).is_empty());
    let run = daemon.run_with_input(&["audit", "verify", "--collected", "-", "--key", &key], &collected);
    assert!(run.succeeds().contains("partition-1: entries 1 to "));
    // Another daemon's key.
    let other = Daemon::with_partition();
    let (_, stranger) = exported(&other);
    let refused = daemon.run(&["audit", "verify", &log, "--key", &stranger]).fails(1);
    assert!(refused.contains("names the public key"), "{refused}");
}

#[test]
fn status_says_where_the_log_is_and_uses_how_much_it_says() {
    let daemon = Daemon::with_partition();
    let status = daemon.run(&["--json", "audit", "status"]).json();
    assert_eq!((&status["healthy"], status["logs"].as_array().unwrap().len()), (&Value::Bool(true), 2));
    assert!(status["sinks"].as_array().unwrap().is_empty());
    let text = daemon.run(&["audit", "status"]).succeeds();
    assert!(text.contains("partition-1") && text.contains("Sent nowhere else"), "{text}");
    // An appliance user looks after it.
    let first = daemon.secret("first.txt", "the first secret");
    let own = daemon.secret("own.txt", "the auditor's own secret");
    let create = ["user", "create", "auditor", "--role", "au", "--new-password-file", &first];
    daemon.as_officer(&create).succeeds();
    daemon
        .run(&["user", "password", "auditor", "--password-file", &first, "--new-password-file", &own])
        .succeeds();
    let as_auditor = |arguments: &[&str]| {
        daemon.run(&[arguments, &["--login", "auditor", "--password-file", &own, "--json"]].concat())
    };
    assert_eq!(daemon.run(&["audit", "uses", "--json"]).json()["uses"], "sums");
    assert_eq!(as_auditor(&["audit", "uses", "each"]).json()["uses"], "each");
    assert_eq!(daemon.run(&["audit", "uses", "--json"]).json()["uses"], "each");
    let entries = as_auditor(&["audit", "show", "--action", "set_audit"]).json();
    let last = entries["entries"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["user"], &last["outcome"]), (&"auditor".into(), &"success".into()));
    // Who may not read the log may not say what is in it.
    assert_eq!(daemon.run(&["audit", "uses", "sums", "--json"]).json_error()["code"], "not_permitted");
}
