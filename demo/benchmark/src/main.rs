//! The benchmark: `./demo/bench` builds and starts it.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use clap::Parser as _;
use strongroom_bench::machine::Machine;
use strongroom_bench::options::{Effort, Options, Part};
use strongroom_bench::progress::{Progress, rounded};
use strongroom_bench::results::Results;
use strongroom_bench::stage::Stage;
use strongroom_bench::tokens::Tokens;
use strongroom_bench::{distance, handshakes, markdown, picture, profile, signing};
use strongroom_demo::process;
use strongroom_demo::programs::repository;

fn main() -> ExitCode {
    // Wrong options end the process in here, with code 2.
    let options = Options::parse();
    let result = process::stop_on_signals().and_then(|()| run(&options));
    // The thread that received the signal is still cleaning up; it ends the program when all is stopped.
    while process::is_interrupted() {
        std::thread::park();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "demo/bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.profile {
        return profile(options);
    }
    let (results, ended) = match &options.from {
        Some(file) => (read(file)?, Ok(())),
        None => measure(&options.effort()),
    };
    if process::is_interrupted() {
        return ended;
    }
    // What was measured before something failed is not lost.
    write(options, &results)?;
    ended?;
    let failures = results.failures();
    anyhow::ensure!(failures == 0.0, "{failures} operations failed");
    Ok(())
}

fn profile(options: &Options) -> Result<()> {
    let text = profile::measure(&options.effort())?;
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    if let Some(folder) = &options.document {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let head = format!("# Profile\n\nWritten by `{}`; not by hand.\n\n", command());
        fs::write(folder.join("profile.md"), head + &text)?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Results> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} has no results", file.display()))
}

/// Measures all parts: what came out until the end, or until something did not work.
fn measure(effort: &Effort) -> (Results, Result<()>) {
    let expected = expected(effort);
    let started = Instant::now();
    let mut results = Results {
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: command(),
        rounds: effort.rounds,
        round_s: effort.load.as_secs_f64(),
        machine: Machine::look(),
        ..Results::default()
    };
    let mut progress = Progress::start(expected);
    progress.say(&format!("This takes about {}; ctrl-C stops all of it.", rounded(expected)));
    let ended = parts(effort, &mut progress, &mut results);
    progress.finish();
    results.took_s = started.elapsed().as_secs_f64();
    (results, ended)
}

fn parts(effort: &Effort, progress: &mut Progress, results: &mut Results) -> Result<()> {
    let stage = Stage::prepare()?;
    if effort.parts.contains(&Part::Handshakes) {
        handshakes::measure(&stage, effort, progress, results)?;
    }
    if effort.parts.iter().all(|part| *part == Part::Handshakes) {
        return Ok(());
    }
    let tokens = Tokens::prepare(&stage)?;
    for part in &effort.parts {
        match part {
            Part::Handshakes => {}
            Part::Tokens => signing::sessions(&tokens, effort, progress, results)?,
            Part::Lone => signing::lone(&tokens, effort, progress, results)?,
            Part::Distance => distance::measure(&stage, &tokens, effort, progress, results)?,
            Part::Scale => signing::scale(&tokens, effort, progress, results)?,
        }
    }
    Ok(())
}

fn expected(effort: &Effort) -> Duration {
    let mut total = Duration::from_secs(2);
    if effort.parts.contains(&Part::Handshakes) {
        total += handshakes::expected(effort);
    }
    if effort.parts.contains(&Part::Distance) {
        total += distance::expected_time(effort);
    }
    total + signing::expected_time(effort)
}

/// The command as a person typed it.
fn command() -> String {
    let words = std::env::args().skip(1);
    std::iter::once("./demo/bench".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Writes the tables to the terminal, and everything to where the options say.
fn write(options: &Options, results: &Results) -> Result<()> {
    let mut out = std::io::stdout();
    // A reader that has gone away is no error: the files are still to be written.
    let _ = out.write_all(markdown::brief(results).as_bytes());
    let folder = match (&options.document, &options.json) {
        (Some(folder), _) => folder.clone(),
        (None, Some(file)) => return write_json(results, file),
        (None, None) => repository("demo/.run").join("bench"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let pictures = picture::draw(results, &folder)?;
    fs::write(folder.join("results.md"), markdown::document(results, &pictures))?;
    write_json(results, &folder.join("results.json"))?;
    if let Some(file) = &options.json {
        write_json(results, file)?;
    }
    let _ = writeln!(std::io::stderr(), "\nWritten: {}", shown(&folder));
    Ok(())
}

fn write_json(results: &Results, file: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(results)? + "\n";
    fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))
}

fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
