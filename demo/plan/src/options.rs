//! What a user can ask for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use humantime::parse_duration;

use crate::client::Rule;
use crate::times::Times;

const EXAMPLES: &str = "\
Examples:
  A thousand web servers with 50 handshakes a second each, nodes with 8 cores, RSA-2048:
    strongroom-plan grid --rate 50 --cores 8

  The same with P-256:
    strongroom-plan grid --rate 50 --cores 8 --single 16us --batch 31us

  Two thousand workers that connect within a second after a power cut, and log in by password:
    strongroom-plan storm --log-in 20ms

  What the model says about a load that was measured (see --help of `compare`):
    strongroom-plan compare --alone alone.json --measured busy.json --sessions 32 --pause 5ms

Exit code 0: done; 1: it could not be; 2: wrong options.";

/// Simulates many web servers against the nodes of a partition.
#[derive(Clone, Debug, Parser)]
#[command(name = "strongroom-plan", version, after_long_help = EXAMPLES, max_term_width = 110)]
pub struct Options {
    /// What to find out
    #[command(subcommand)]
    pub command: Command,
    /// JSON in place of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// For the random numbers: the same number gives the same result
    #[arg(long, value_name = "N", default_value_t = 1, global = true)]
    pub seed: u64,
}

/// What to find out.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Latency, utilisation and cost for some numbers of nodes and regions
    Grid(Grid),
    /// How long it takes until all workers are connected and logged in after a power cut
    Storm(Storm),
    /// The model beside a measurement of strongroom-token-load
    Compare(Compare),
}

/// Web servers and nodes.
#[derive(Clone, Debug, Args)]
pub struct Grid {
    /// Web servers
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub servers: u32,

    /// Worker processes of each
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,

    /// Full handshakes a second of each
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = positive)]
    pub rate: f64,

    /// Numbers of nodes
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [3, 5, 16],
          value_parser = clap::value_parser!(u32).range(1..=16))]
    pub nodes: Vec<u32>,

    /// Numbers of regions over which nodes and servers are spread
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 3],
          value_parser = clap::value_parser!(u32).range(1..=16))]
    pub regions: Vec<u32>,

    /// Cores of a node
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub cores: u32,

    /// The way to a node of the same region and back
    #[arg(long, value_name = "TIME", default_value = "500us", value_parser = parse_duration)]
    pub within: Duration,

    /// The way to another region and back
    #[arg(long, value_name = "TIME", default_value = "30ms", value_parser = parse_duration)]
    pub between: Duration,

    /// How a client chooses its node
    #[arg(long, value_enum, default_value_t = Rule::Near)]
    pub rule: Rule,

    /// Price of a core in a month, in whatever currency
    #[arg(long, value_name = "N", default_value_t = 25.0, value_parser = positive)]
    pub price: f64,

    /// How many seconds are simulated
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = parse_duration)]
    pub duration: Duration,

    /// What a request costs
    #[command(flatten)]
    pub times: Times,
}

/// Workers that come at once.
#[derive(Clone, Debug, Args)]
pub struct Storm {
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub workers: u32,

    /// They begin within this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub within: Duration,

    /// Numbers of nodes
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 3, 5, 16],
          value_parser = clap::value_parser!(u32).range(1..=16))]
    pub nodes: Vec<u32>,

    /// Cores of a node
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub cores: u32,

    /// Processor time of a node for a TLS handshake
    #[arg(long, value_name = "TIME", default_value = "600us", value_parser = parse_duration)]
    pub handshake: Duration,

    /// Processor time of a log-in: 20ms for a password (Argon2id), 0s for a client certificate
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = parse_duration)]
    pub log_in: Duration,

    /// A worker waits so long for a connection, and then tries another node
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub patience: Duration,

    /// A worker waits so long for its log-in, and then begins anew
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub log_in_patience: Duration,

    /// Nodes do the work also for who has gone away meanwhile (strongroomd does not)
    #[arg(long)]
    pub work_for_nobody: bool,
}

/// A measurement.
///
/// The cost of a request is taken from a load that leaves the node idle, and the model then says what a busy one looks like:
///
///   strongroom-token-load -m MODULE -t TOKEN run rsa2048 --sessions 1 --cpu-of PID >alone.json
///   strongroom-token-load -m MODULE -t TOKEN run rsa2048 --sessions 32 --pause 5ms --cpu-of PID >busy.json
///
/// PID is the daemon. On one machine, the load generator uses the same cores: its time is part of the cost.
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Compare {
    /// Report of one session
    #[arg(long, value_name = "FILE")]
    pub alone: PathBuf,

    /// Report of the busy load
    #[arg(long, value_name = "FILE")]
    pub measured: PathBuf,

    /// Its sessions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub sessions: u32,

    /// Its pause after each operation
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub pause: Duration,

    /// Cores of the machine
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub cores: u32,

    /// A signature made alone
    #[arg(long, value_name = "TIME", default_value = "256us", value_parser = parse_duration)]
    pub single: Duration,

    /// Up to eight signatures made together
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = parse_duration)]
    pub batch: Duration,

    /// Processor time of a request besides the signature, client and node together [default: what is left of --alone]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub message: Option<Duration>,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e9 => Ok(number),
        _ => Err("a number above 0, 1000000000 at most".to_owned()),
    }
}
