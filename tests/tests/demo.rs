//! The demo itself, in its quick form: what it shows, and that it leaves nothing behind.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;
use strongroom_demo::command;
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::RunFolder;

const LIMIT: Duration = Duration::from_secs(240);

/// One run of the demo, with a folder of its own for temporary files, by which its processes are known.
struct Run {
    folder: RunFolder,
    /// For what `--stop` needs to know: not the one of a demo that somebody keeps in this repository.
    notes: RunFolder,
}

impl Run {
    fn new() -> Self {
        Run { folder: RunFolder::new().unwrap(), notes: RunFolder::new().unwrap() }
    }

    fn demo(&self, arguments: &[&str]) -> Command {
        let beside = Programs::find().unwrap().strongroomd();
        let mut demo = command::new(beside.with_file_name("strongroom-demo"));
        demo.args(arguments).arg("--note").arg(self.notes.path().join("kept.json"));
        demo.env("TMPDIR", self.folder.path());
        demo
    }

    /// The processes that have a file in the folder open: every server has its log there. (Their environment
    /// would not do: nginx writes its title over it.)
    fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
            let mut files = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
            if files.any(|file| file.starts_with(self.folder.path())) {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push(format!("{} {}", entry.file_name().display(), name.trim()));
            }
        }
        found
    }

    fn left_nothing(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn shows_everything_and_stops_everything() {
    for _ in ["first", "second"] {
        let run = Run::new();
        let said = command::succeed(run.demo(&["--quick"]), LIMIT).unwrap();
        for text in ["A page from nginx.", "A page from Apache.", "RSA-2048", "P-256", "FOUND", "not there"] {
            assert!(said.contains(text), "{text:?} is missing in:\n{said}");
        }
        assert!(!said.contains('\u{1b}'), "colours without a terminal:\n{said}");
        run.left_nothing();
    }
}

#[test]
fn an_interrupt_cleans_up() {
    for signal in [Signal::INT, Signal::TERM] {
        let run = Run::new();
        let mut running = run.demo(&["--rounds", "20"]);
        running.stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Process::spawn("the demo", running).unwrap();
        // In the middle of the measurement, which has the most processes.
        wait_for("the load", Duration::from_secs(60), || {
            ensure!(run.processes().iter().any(|name| name.contains("strongroom-load")), "not yet");
            Ok(())
        })
        .unwrap();
        assert!(run.processes().len() > 8, "{:?}", run.processes());
        running.signal(signal).unwrap();
        let begun = Instant::now();
        let status = running.wait(Duration::from_secs(30)).unwrap();
        assert!(!status.success());
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        run.left_nothing();
    }
}

/// SIGKILL leaves no time to clean up: the kernel stops what the demo has started.
#[test]
fn nothing_survives_a_killed_demo() {
    let run = Run::new();
    let mut running = run.demo(&["--rounds", "20"]);
    running.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Process::spawn("the demo", running).unwrap();
    wait_for("the servers", Duration::from_secs(60), || {
        ensure!(run.processes().iter().any(|name| name.contains("apache2")), "not yet");
        Ok(())
    })
    .unwrap();
    running.signal(Signal::KILL).unwrap();
    running.wait(Duration::from_secs(10)).unwrap();
    wait_for("the end of all servers", Duration::from_secs(20), || {
        let processes = run.processes();
        ensure!(processes.is_empty(), "{processes:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_kept_run_is_stopped_later() {
    let run = Run::new();
    let said = command::succeed(run.demo(&["--quick", "--keep"]), LIMIT).unwrap();
    assert!(run.processes().iter().any(|name| name.contains("nginx")), "{:?}", run.processes());
    let page =
        said.lines().map(str::trim).find(|line| line.starts_with("curl ") && line.contains("--cacert /"));
    let mut shell = command::new("sh");
    shell.arg("-c").arg(page.expect("a command to try"));
    assert!(command::succeed(shell, LIMIT).unwrap().contains("A page from nginx."));
    let second = command::run(run.demo(&["--quick", "--keep"]), LIMIT).unwrap();
    assert!(!second.status.success() && second.stderr.contains("--stop"), "{}", second.stderr);
    command::succeed(run.demo(&["--stop"]), LIMIT).unwrap();
    run.left_nothing();
    assert!(!command::run(run.demo(&["--stop"]), LIMIT).unwrap().status.success());
}
