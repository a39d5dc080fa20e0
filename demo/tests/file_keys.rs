//! nginx and Apache with keys in files: what the demo compares with, and the configuration files themselves.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{Authority, KeyKind, key_file, text};
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{apache, memory, nginx, stat};

const LIMIT: Duration = Duration::from_secs(20);

fn fetch(server: &Server, authority: &Authority) -> Result<String> {
    let mut curl = command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(authority.certificate());
    // A worker of nginx that a reload ends closes a connection on which the client has not yet said anything.
    curl.args(["--retry", "3", "--retry-all-errors"]);
    curl.arg(format!("https://{}/", server.address()));
    command::succeed(curl, LIMIT)
}

/// Starts the server in both ways, fetches a page, reloads, finds the key in its memory, and sees that
/// nothing is left of it.
fn serves(start: fn(&Site) -> Result<Server>, reload: &[&str], page: &str) {
    let run = RunFolder::new().unwrap();
    let authority = Authority::in_file(run.path()).unwrap();
    let key = run.path().join("web.key");
    key_file(KeyKind::P256, &key).unwrap();
    let certificate = authority.certify(&Environment::plain(), &text(&key), "web").unwrap();
    let foreground =
        Site::new(run.folder("foreground").unwrap(), &certificate, &text(&key), &Environment::plain());
    let daemon = Site { folder: run.folder("daemon").unwrap(), ..foreground.clone() }.as_daemon();
    for site in [foreground, daemon] {
        let server = start(&site).unwrap();
        assert!(fetch(&server, &authority).unwrap().contains(page));
        server.tell(reload).unwrap();
        assert!(fetch(&server, &authority).unwrap().contains(page));
        let processes = server.processes().unwrap();
        assert!(processes.len() > 1, "{processes:?}");
        let found = memory::search(&processes, &memory::secrets_of(&key).unwrap()).unwrap();
        assert!(!found.found.is_empty(), "{found:?}");
        drop(server);
        for id in processes {
            assert!(stat::of(id).is_none_or(|stat| stat.ended), "process {id} of {page} is still there");
        }
    }
}

#[test]
fn nginx_serves_with_the_documented_configuration() {
    serves(nginx::start, &["-s", "reload"], "A page from nginx");
}

#[test]
fn apache_serves_with_the_documented_configuration() {
    serves(apache::start, &["-k", "graceful"], "A page from Apache");
}

#[test]
fn a_server_that_cannot_start_tells_why() {
    let run = RunFolder::new().unwrap();
    for (start, name) in [(nginx::start as fn(&Site) -> Result<Server>, "nginx"), (apache::start, "apache")] {
        let nothing = run.path().join("missing.pem");
        let site = Site::new(run.folder(name).unwrap(), &nothing, &text(&nothing), &Environment::plain());
        let error = format!("{:#}", start(&site).unwrap_err());
        assert!(error.contains("does not start") && error.contains("missing.pem"), "{error}");
    }
}
