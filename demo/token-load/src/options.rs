//! What a user can ask for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

const EXAMPLES: &str = "\
Examples, with a partition `tls` that admits you:
  Ten P-256 keys, then 64 threads that sign with them for two seconds:
    strongroom-token-load -m libstrongroom_pkcs11.so -t tls generate p256 --count 10
    strongroom-token-load -m libstrongroom_pkcs11.so -t tls run p256 --keys 10 --sessions 64

  One request every millisecond, and the same signatures made in this process:
    strongroom-token-load -m libstrongroom_pkcs11.so -t tls run p256 --pause 1ms
    strongroom-token-load in-process p256 --pause 1ms

The report is JSON on standard output. Exit code 0: all operations succeeded; 1: some failed, or the load
could not start; 2: wrong options.";

/// Loads a PKCS#11 token and reports operations a second and latency percentiles.
#[derive(Clone, Debug, Parser)]
#[command(name = "strongroom-token-load", version, after_long_help = EXAMPLES, max_term_width = 110)]
pub struct Options {
    /// Where the token is.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A module and the tokens to use in it.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The PKCS#11 module, a shared library
    #[arg(short, long, value_name = "FILE", global = true)]
    pub module: Option<PathBuf>,

    /// Label of the token; given more than once, the sessions are spread over the tokens
    #[arg(short, long, value_name = "LABEL", global = true)]
    pub token: Vec<String>,

    /// The first line of FILE is the user's PIN, where the token wants one
    #[arg(long, value_name = "FILE", global = true)]
    pub pin_file: Option<PathBuf>,

    /// Labels of the keys begin with this; a number follows
    #[arg(long, value_name = "TEXT", default_value = "load", global = true)]
    pub label: String,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make keys (RSA: one, taken in many times under different names)
    Generate {
        /// For which operation
        operation: Operation,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
    },
    /// Repeat an operation in the token
    Run {
        /// Which one
        operation: Operation,
        /// With how many keys, in turn
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        keys: u32,
        /// How much, and how
        #[command(flatten)]
        load: Load,
    },
    /// Repeat an operation in this process, without a token
    InProcess {
        /// Which one
        operation: Operation,
        /// How much, and how
        #[command(flatten)]
        load: Load,
    },
    /// Find a key by its label, again and again, and tell how long it takes
    Find {
        /// Made for which operation
        operation: Operation,
        /// One of how many, in turn
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        keys: u32,
        /// How much, and how
        #[command(flatten)]
        load: Load,
    },
}

/// How much load, and how.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Threads, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub sessions: u32,

    /// Processes over which the sessions are spread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub processes: u32,

    /// How long
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// Rest so long after each operation
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub pause: Duration,

    /// Report the processor time of this process and its children meanwhile; may be repeated
    #[arg(long, value_name = "PID")]
    pub cpu_of: Vec<u32>,

    /// Report the whole distribution of latencies
    #[arg(long)]
    pub distribution: bool,
}

/// An operation with a private or secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Operation {
    /// RSA-2048, PKCS#1 v1.5 over a SHA-256 digest
    #[value(name = "rsa2048")]
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    /// ECDSA on P-256 over a SHA-256 digest
    #[value(name = "p256")]
    #[serde(rename = "P-256")]
    P256,
    /// Ed25519 over 32 bytes
    #[value(name = "ed25519")]
    #[serde(rename = "Ed25519")]
    Ed25519,
    /// AES-256-GCM encryption of 4 KiB
    #[value(name = "aes-gcm")]
    #[serde(rename = "AES-GCM 4 KiB")]
    AesGcm,
}

impl Operation {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Rsa2048 => "rsa2048",
            Operation::P256 => "p256",
            Operation::Ed25519 => "ed25519",
            Operation::AesGcm => "aes-gcm",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Operation::Rsa2048 => "RSA-2048",
            Operation::P256 => "P-256",
            Operation::Ed25519 => "Ed25519",
            Operation::AesGcm => "AES-GCM 4 KiB",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
