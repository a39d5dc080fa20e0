//! The demo itself, in its quick form: what it shows, and that it leaves nothing behind.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use strongroom_demo::process::{self, Process, command, wait_for};
use strongroom_demo::programs::Programs;

const LIMIT: Duration = Duration::from_secs(240);

fn demo(arguments: &[&str], mark: &str) -> Command {
    let folder = Programs::find().unwrap().strongroomd();
    let mut demo = command(folder.with_file_name("strongroom-demo"));
    demo.args(arguments).env("STRONGROOM_DEMO_TEST", mark);
    demo
}

/// Processes that carry `mark` in their environment: the demo and what it has started.
fn marked(mark: &str) -> Vec<String> {
    let needle = format!("STRONGROOM_DEMO_TEST={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes()) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{} {}", entry.file_name().display(), name.trim()));
        }
    }
    found
}

#[test]
fn shows_everything_and_stops_everything() {
    for round in ["first", "second"] {
        let said = process::succeed(demo(&["--quick"], round), LIMIT).unwrap();
        for text in ["A page from nginx.", "A page from Apache.", "RSA-2048", "P-256", "FOUND", "not there"] {
            assert!(said.contains(text), "{text:?} is missing in:\n{said}");
        }
        assert!(!said.contains('\u{1b}'), "colours without a terminal:\n{said}");
        assert_eq!(marked(round), Vec::<String>::new());
    }
}

#[test]
fn an_interrupt_cleans_up() {
    for signal in [Signal::INT, Signal::TERM] {
        let mark = format!("{signal:?}");
        let mut running = demo(&["--rounds", "20"], &mark);
        running.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut running = Process::spawn("the demo", running).unwrap();
        // In the middle of the measurement, which has the most processes.
        wait_for("the load", Duration::from_secs(60), || {
            anyhow::ensure!(marked(&mark).iter().any(|name| name.contains("strongroom-load")), "not yet");
            Ok(())
        })
        .unwrap();
        assert!(marked(&mark).len() > 8, "{:?}", marked(&mark));
        running.signal(signal).unwrap();
        let begun = Instant::now();
        let status = running.wait(Duration::from_secs(30)).unwrap();
        assert!(!status.success());
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!(marked(&mark), Vec::<String>::new());
    }
}

#[test]
fn a_kept_run_is_stopped_later() {
    let said = process::succeed(demo(&["--quick", "--keep"], "kept"), LIMIT).unwrap();
    assert!(marked("kept").iter().any(|name| name.contains("nginx")), "{:?}", marked("kept"));
    let page =
        said.lines().map(str::trim).find(|line| line.starts_with("curl ") && line.contains("--cacert /"));
    let mut shell = command("sh");
    shell.arg("-c").arg(page.expect("a command to try"));
    assert!(process::succeed(shell, LIMIT).unwrap().contains("A page from nginx."));
    let second = process::run(demo(&["--quick", "--keep"], "kept"), LIMIT).unwrap();
    assert!(!second.status.success() && second.stderr.contains("--stop"), "{}", second.stderr);
    process::succeed(demo(&["--stop"], "stop"), LIMIT).unwrap();
    assert_eq!(marked("kept"), Vec::<String>::new());
    assert!(!process::run(demo(&["--stop"], "stop"), LIMIT).unwrap().status.success());
}
