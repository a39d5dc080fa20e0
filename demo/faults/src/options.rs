//! What a user can ask for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::fault::Fault;

const EXAMPLES: &str = "\
Examples:
  Each fault 20 times, as root, in an hour or so:
    strongroom-faults --out target/faults

  Two faults, twice each, at the moments of another seed:
    strongroom-faults --faults kill,cut --times 2 --seed 7 --out target/faults

What it makes: hosts in network namespaces of its own, three with strongroomd and a member of etcd each, one with nginx and
the provider, one for the visitors and for a client that makes keys. Nothing of it is left when it ends, and nothing outside
is touched. It writes faults.json, faults.md, faults.svg and, in logs/, what the programs said.

It needs root, /dev/net/tun, and the packages of 'demo/install tests'.

Exit code:
  0  all promises were kept
  1  one was broken, and the last lines say which
  2  the wrong options, or the hosts could not be made";

/// Lets faults befall a cluster under load, and counts what they cost: failed handshakes, stalls, keys.
#[derive(Clone, Debug, Parser)]
#[command(name = "strongroom-faults", version, after_long_help = EXAMPLES, max_term_width = 110, subcommand_negates_reqs = true)]
pub struct Options {
    /// What else this program does.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Which faults, between commas [default: all]
    #[arg(long, value_name = "FAULT,…", value_delimiter = ',')]
    pub faults: Vec<Fault>,

    /// How often each
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub times: u32,

    /// When and to which node; the same number gives the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// How long each lasts [default: 30s for stop, 10s for most]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub hold: Option<Duration>,

    /// Handshakes in flight at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub connections: u32,

    /// Workers of nginx [default: 16, as in nginx-conf]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,

    /// Type of the web server's key
    #[arg(long, value_name = "TYPE", default_value = "p256")]
    pub key_type: String,

    /// The longest stall that 99 of 100 faults may cause. On a machine with other work, a run says more of that work
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub stall: Duration,

    /// Where the results go
    #[arg(long, value_name = "FOLDER", required = true)]
    pub out: Option<PathBuf>,
}

/// What this program does on one of its hosts.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Makes keys until SIGTERM
    #[command(hide = true)]
    MakeKeys(MakeKeys),
}

/// Which keys are made, and how.
#[derive(Clone, Debug, Args)]
pub struct MakeKeys {
    /// What their labels begin with
    #[arg(long)]
    pub name: String,
    /// The PKCS#11 module
    #[arg(long)]
    pub module: PathBuf,
    /// The crypto user's password
    #[arg(long)]
    pub pin_file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
