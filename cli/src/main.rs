//! `strongroom`: the administrator's command for Strongroom's partitions.
//!
//! [`args`] is the command line, `commands/` has one file for each command, [`session`] the connection, the
//! partition and the log-in, [`output`] what is printed, [`failure`] the exit codes.
#![forbid(unsafe_code)]

mod args;
mod certificate;
mod certificate_request;
mod commands;
mod failure;
mod key_type;
mod objects;
mod output;
mod password;
mod pem_file;
mod pkcs12;
mod private_key;
mod progress;
mod quorum_file;
mod session;
mod transfer_blob;

use std::env;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Libraries that read keys do not wipe them: whatever is freed is wiped.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let output = Output::new(cli.global.json);
    if let Some(message) = args::empty_value(env::args_os()) {
        let failure = Failure::usage(message);
        output.fail(&failure);
        return ExitCode::from(failure.exit() as u8);
    }
    match commands::run(cli.command, &cli.global, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.fail(&failure);
            ExitCode::from(failure.exit() as u8)
        }
    }
}

/// Answers a command line that clap did not take: with help, the version, or what is wrong with it.
fn misused(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let failure = Failure::usage(text.trim_start_matches("error: ").trim_end());
        Output::new(true).fail(&failure);
    } else {
        // Nowhere to complain if this fails.
        let _ = error.print();
    }
    ExitCode::from(error.exit_code().try_into().unwrap_or(2))
}
