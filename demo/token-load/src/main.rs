//! The command `strongroom-token-load`.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser as _;
use strongroom_token_load::operation::Work;
use strongroom_token_load::options::{Command, Load, Operation, Options, Place};
use strongroom_token_load::report::Report;
use strongroom_token_load::{find, in_process, keys, load, processes, token};

fn main() -> ExitCode {
    // Wrong options end the process in here, with code 2.
    let options = Options::parse();
    match start(&options) {
        Ok(report) => {
            let json = serde_json::to_string(&report).unwrap_or_default();
            let written = writeln!(std::io::stdout(), "{json}");
            if written.is_ok() && report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "strongroom-token-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<Report> {
    let place = &options.place;
    match &options.command {
        Command::Generate { operation, count } => {
            let (module, tokens) = token::open(place)?;
            for token in tokens {
                keys::generate(&module, token, *operation, &place.label, *count)?;
            }
            module.finalize();
            Ok(Report::default())
        }
        Command::Run { load, .. } | Command::InProcess { load, .. } | Command::Find { load, .. }
            if load.processes > 1 =>
        {
            processes::run(load)
        }
        Command::Run { operation, keys, load } => run(place, *operation, *keys, load),
        Command::InProcess { operation, load } => in_process::run(*operation, load),
        Command::Find { operation, keys, load } => find::run(place, *operation, *keys, load),
    }
}

fn run(place: &Place, operation: Operation, keys: u32, load: &Load) -> Result<Report> {
    let (module, tokens) = token::open(place)?;
    let mut handles = Vec::new();
    for token in &tokens {
        handles.push((*token, token.keys(&module, operation, &place.label, keys)?));
    }
    let report = load::run(load, |number| {
        let place = number as usize % handles.len();
        let (token, keys) = handles.get(place).context("no token")?;
        let session = token.open_session(&module)?;
        let mut work = Work::new(operation, number);
        // Every thread begins with another key, and the steps are such that all keys have their turn.
        let mut next = number as usize;
        let module = &module;
        Ok(move || {
            next = next.wrapping_add(7919) % keys.len();
            work.once(module, session, *keys.get(next).context("no key")?)
        })
    })?;
    module.finalize();
    Ok(report)
}
