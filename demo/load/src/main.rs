//! The command `strongroom-load`.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use strongroom_load::{Options, Plan, Progress, Report, launch, picture, summary};

fn main() -> ExitCode {
    // Wrong options end the process in here, with code 2.
    let options = Options::parse();
    match load(&options) {
        Ok(report) if report.errors.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "strongroom-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn load(options: &Options) -> anyhow::Result<Report> {
    let plan = Plan::resolve(options)?;
    allow_descriptors();
    let bar = progress_bar(&plan);
    let mut before = (Duration::ZERO, 0);
    let report = launch(plan, interrupted(), |progress| show(&bar, progress, &mut before))?;
    bar.finish_and_clear();
    output(options, &report)?;
    Ok(report)
}

fn output(options: &Options, report: &Report) -> anyhow::Result<()> {
    let json = || serde_json::to_string_pretty(report).context("cannot write the report as JSON");
    if let Some(path) = &options.json_file {
        std::fs::write(path, json()? + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    for path in &options.plot {
        picture::save(report, path).with_context(|| path.display().to_string())?;
    }
    let text = if options.json { json()? + "\n" } else { summary::of(report) };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the report"),
    }
}

/// Resolves at the first Ctrl-C; the second ends the process.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
}

fn progress_bar(plan: &Plan) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match plan.limit.duration.and_then(|limit| u64::try_from(limit.as_millis()).ok()) {
        Some(limit) => (ProgressBar::new(limit), "{bar:24.cyan/dim} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, progress: Progress, before: &mut (Duration, u64)) {
    if bar.is_hidden() {
        return;
    }
    let seconds = progress.elapsed.saturating_sub(before.0).as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // a few thousand
    let rate = if seconds > 0.0 { (progress.handshakes - before.1) as f64 / seconds } else { 0.0 };
    *before = (progress.elapsed, progress.handshakes);
    bar.set_position(u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX));
    bar.set_message(format!(
        "{:.0} s  {}/s  {} handshakes  p50 {}  p99 {}  errors {}",
        progress.elapsed.as_secs_f64(),
        summary::rate(rate),
        summary::grouped(progress.handshakes),
        summary::latency(progress.p50_us),
        summary::latency(progress.p99_us),
        summary::grouped(progress.errors),
    ));
}

/// Allows as many open connections as the system lets this process have.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If this fails, connections above the limit fail with `no_descriptor`, which says what is missing.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
