//! The command `strongroom-plan`.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use serde::Serialize;
use strongroom_plan::options::{Command, Options};
use strongroom_plan::{compare, grid, storm};

fn main() -> ExitCode {
    // Wrong options end the process in here, with code 2.
    let options = Options::parse();
    match plan(&options)
        .and_then(|text| std::io::stdout().write_all(text.as_bytes()).context("standard output"))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "strongroom-plan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(options: &Options) -> Result<String> {
    match &options.command {
        Command::Grid(wanted) => {
            let rows = grid::run(wanted, options.seed);
            output(options, &rows, || grid::table(wanted, &rows))
        }
        Command::Storm(wanted) => {
            let rows = storm::run(wanted, options.seed);
            output(options, &rows, || storm::table(wanted, &rows))
        }
        Command::Compare(wanted) => {
            let comparison = compare::run(wanted, options.seed)?;
            output(options, &comparison, || compare::table(&comparison))
        }
    }
}

fn output(options: &Options, result: &impl Serialize, table: impl FnOnce() -> String) -> Result<String> {
    if options.json { Ok(serde_json::to_string_pretty(result)? + "\n") } else { Ok(table()) }
}
