//! The demo: `./demo/run` builds and starts it.
#![forbid(unsafe_code)]

mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use strongroom_demo::process;
use strongroom_demo::programs::repository;

use crate::story::screen;

/// Shows nginx and Apache serving TLS with a key that they never see: starts a partition and the servers,
/// measures them side by side with a key in a file, and searches the servers' memory for the key.
#[derive(Debug, Parser)]
#[command(name = "demo/run", max_term_width = 100)]
struct Options {
    /// Leave partition, nginx and Apache running at the end, and print commands to try
    #[arg(long)]
    keep: bool,

    /// Stop what an earlier --keep left running
    #[arg(long, conflicts_with_all = ["keep", "quick", "rounds", "seconds", "markdown"])]
    stop: bool,

    /// Measure for a moment only: shows that everything works, not how fast it is
    #[arg(long)]
    quick: bool,

    /// Rounds of measurement; file and partition take turns, and the table shows medians
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,

    /// Seconds of load on each server in each round
    #[arg(long, value_name = "N", default_value_t = 3)]
    seconds: u64,

    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,

    /// Where --keep writes down for --stop what it leaves running
    #[arg(long, value_name = "FILE", default_value_os_t = repository("demo/.run/kept.json"), hide = true)]
    note: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let effort = if options.quick {
        story::Effort { rounds: 1, load: Duration::from_millis(700), warm_up: Duration::from_millis(300) }
    } else {
        story::Effort {
            rounds: options.rounds.max(1),
            load: Duration::from_secs(options.seconds.max(1)),
            warm_up: Duration::from_secs(1),
        }
    };
    let result = process::stop_on_signals().and_then(|()| {
        if options.stop {
            story::kept::stop(&options.note)
        } else {
            story::tell(effort, options.keep.then_some(options.note.as_path()), options.markdown)
        }
    });
    // The thread that received the signal is still cleaning up; it ends the program when all is stopped.
    while process::is_interrupted() {
        std::thread::park();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::failure(&error);
            ExitCode::FAILURE
        }
    }
}
