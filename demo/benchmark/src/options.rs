//! What a user can ask for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use strongroom_demo::pki::KeyKind;

const EXAMPLES: &str = "\
Examples:
  Everything, five rounds, Markdown on the terminal, JSON and pictures in a folder:
    ./demo/bench
  The same in under four minutes, to see that it works and roughly how fast it is:
    ./demo/bench --quick
  While tuning: one server, two keys, the file against the partition:
    ./demo/bench --servers nginx --keys rsa2048,p256 --sources file,partition \\
        --tls 1.3 --rounds 3 --seconds 2 --workers 16
  Operations through PKCS#11, and a lone request:
    ./demo/bench --parts tokens,lone
  What docs/performance.md shows, made anew:
    ./demo/bench --document docs/performance
  System calls and allocations of an nginx worker:
    ./demo/bench --profile

What is measured, and how, is in docs/performance.md. Nothing else should run meanwhile: client,
servers and daemon share the processors. Ctrl-C stops everything that was started.

Exit code:
  0  measured, no operation failed
  1  not measured, or operations with the file or the partition failed
  2  wrong options";

/// Measures TLS servers and PKCS#11 tokens side by side: the key in a file, in the partition, in SoftHSM2
/// through the provider, and through libp11's engine.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo/bench", bin_name = "./demo/bench", version, after_long_help = EXAMPLES, max_term_width = 100)]
pub struct Options {
    /// Three short rounds, of one key of each type and TLS 1.3 if you say nothing else: for a look, not for figures
    #[arg(long)]
    pub quick: bool,

    /// Write the results, with every round, to FILE [default: in a folder that is printed at the end]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Write results.md, results.json and the pictures (or profile.md) into FOLDER, for the documentation
    #[arg(long, value_name = "FOLDER", help_heading = "Output")]
    pub document: Option<PathBuf>,

    /// Measure nothing: make tables and pictures from results that were written earlier
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "parts", "profile"], help_heading = "Output")]
    pub from: Option<PathBuf>,

    /// Only these parts [default: all; handshakes where servers, keys, sources or TLS versions are chosen]
    #[arg(long, value_name = "PARTS", value_delimiter = ',', help_heading = "What")]
    pub parts: Vec<Part>,

    /// Instead of speed: what a worker of nginx does for each handshake, in system calls and allocations
    #[arg(long, conflicts_with_all = ["quick", "parts", "json"], help_heading = "What")]
    pub profile: bool,

    /// Web servers
    #[arg(long, value_name = "SERVERS", value_delimiter = ',', help_heading = "What")]
    pub servers: Vec<Program>,

    /// Types of key
    #[arg(long, value_name = "KEYS", value_delimiter = ',', help_heading = "What")]
    pub keys: Vec<Key>,

    /// Where the key is
    #[arg(long, value_name = "SOURCES", value_delimiter = ',', help_heading = "What")]
    pub sources: Vec<Source>,

    /// Versions of TLS
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',', help_heading = "What")]
    pub tls: Vec<Tls>,

    /// Rounds, of which the median counts [default: 5, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "How")]
    pub rounds: Option<u32>,

    /// Seconds of load in each round, as in 0.5 [default: 2, with --quick 0.25]
    #[arg(long, value_name = "S", value_parser = seconds, help_heading = "How")]
    pub seconds: Option<Duration>,

    /// Connections of the TLS client at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "How")]
    pub connections: u32,

    /// Client processes over which the sessions of PKCS#11 loads are spread; else they are threads of one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "How")]
    pub processes: u32,

    /// Other workers (nginx) or threads (Apache, HAProxy) than the files in nginx-conf/ and its siblings say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "How")]
    pub workers: Option<u32>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// TLS handshakes: servers, keys and sources
    Handshakes,
    /// Operations through PKCS#11: sessions, keys, percentiles
    Tokens,
    /// One request at a time, against the same in process
    Lone,
    /// A daemon that is 1 ms and 5 ms away
    Distance,
    /// Cost against the number of keys, sessions and partitions
    Scale,
}

/// A web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// nginx
    Nginx,
    /// Apache
    Apache,
    /// HAProxy
    Haproxy,
}

/// Where a private key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In a PEM file
    File,
    /// In the partition, through the provider
    Partition,
    /// In SoftHSM2, through the provider
    Softhsm,
    /// In SoftHSM2, through libp11's engine
    Engine,
}

/// A type of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Key {
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    #[serde(rename = "RSA-4096")]
    Rsa4096,
    #[serde(rename = "P-256")]
    P256,
    #[serde(rename = "P-384")]
    P384,
    #[serde(rename = "Ed25519")]
    Ed25519,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Tls {
    #[value(name = "1.3")]
    #[serde(rename = "1.3")]
    V13,
    #[value(name = "1.2")]
    #[serde(rename = "1.2")]
    V12,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 3] = [Program::Nginx, Program::Apache, Program::Haproxy];

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Program::Nginx => "nginx",
            Program::Apache => "Apache",
            Program::Haproxy => "HAProxy",
        }
    }
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 4] = [Source::File, Source::Partition, Source::Softhsm, Source::Engine];

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Source::File => "file",
            Source::Partition => "partition",
            Source::Softhsm => "SoftHSM2",
            Source::Engine => "SoftHSM2, engine",
        }
    }
}

impl Key {
    /// All of them.
    pub const ALL: [Key; 6] = [Key::Rsa2048, Key::Rsa3072, Key::Rsa4096, Key::P256, Key::P384, Key::Ed25519];

    /// What the demo calls it.
    pub fn kind(self) -> KeyKind {
        match self {
            Key::Rsa2048 => KeyKind::Rsa2048,
            Key::Rsa3072 => KeyKind::Rsa3072,
            Key::Rsa4096 => KeyKind::Rsa4096,
            Key::P256 => KeyKind::P256,
            Key::P384 => KeyKind::P384,
            Key::Ed25519 => KeyKind::Ed25519,
        }
    }
}

impl Tls {
    /// The number.
    pub fn number(self) -> &'static str {
        match self {
            Tls::V13 => "1.3",
            Tls::V12 => "1.2",
        }
    }
}

/// What is measured, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Less of everything, for a look.
    pub quick: bool,
    /// Parts.
    pub parts: Vec<Part>,
    /// Web servers.
    pub servers: Vec<Program>,
    /// Types of key.
    pub keys: Vec<Key>,
    /// Where the key is.
    pub sources: Vec<Source>,
    /// Versions of TLS.
    pub tls: Vec<Tls>,
    /// Rounds.
    pub rounds: u32,
    /// Length of each round's load.
    pub load: Duration,
    /// Length of the load before the first round.
    pub warm_up: Duration,
    /// Connections of the TLS client.
    pub connections: u32,
    /// Client processes of PKCS#11 loads.
    pub processes: u32,
    /// Workers or threads, where not those of the configuration files.
    pub workers: Option<u32>,
}

impl Options {
    fn chooses_handshakes(&self) -> bool {
        !(self.servers.is_empty() && self.keys.is_empty() && self.sources.is_empty() && self.tls.is_empty())
    }

    /// What these options ask for: what was not said is everything.
    pub fn effort(&self) -> Effort {
        let load = self.seconds.unwrap_or(Duration::from_millis(if self.quick { 250 } else { 2000 }));
        Effort {
            quick: self.quick,
            parts: if self.parts.is_empty() && self.chooses_handshakes() {
                vec![Part::Handshakes]
            } else {
                all_or(&self.parts)
            },
            servers: all_or(&self.servers),
            keys: if self.quick && self.keys.is_empty() {
                vec![Key::Rsa2048, Key::P256, Key::Ed25519]
            } else {
                all_or(&self.keys)
            },
            sources: all_or(&self.sources),
            tls: if self.quick && self.tls.is_empty() { vec![Tls::V13] } else { all_or(&self.tls) },
            rounds: self.rounds.unwrap_or(if self.quick { 3 } else { 5 }),
            load,
            warm_up: (load / 2).min(Duration::from_secs(1)),
            connections: self.connections,
            processes: self.processes,
            workers: self.workers,
        }
    }
}

/// What was chosen, in the order in which it stands in the type; everything if nothing was.
fn all_or<T: ValueEnum + Clone + PartialEq>(chosen: &[T]) -> Vec<T> {
    let wanted = |value: &&T| chosen.is_empty() || chosen.contains(value);
    T::value_variants().iter().filter(wanted).cloned().collect()
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be a number of seconds between 0.05 and 600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn effort(line: &[&str]) -> Effort {
        Options::try_parse_from(["demo/bench"].iter().chain(line)).unwrap().effort()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn nothing_chosen_is_everything() {
        let effort = effort(&[]);
        assert_eq!((effort.rounds, effort.keys.len(), effort.sources.len()), (5, 6, 4));
        assert_eq!(effort.parts.len(), 5);
        assert_eq!(effort.load, Duration::from_secs(2));
    }

    #[test]
    fn choices_keep_the_order_of_the_tables() {
        let effort = effort(&["--keys", "p256,rsa2048", "--sources", "partition,file", "--tls", "1.3"]);
        assert_eq!(effort.keys, [Key::Rsa2048, Key::P256]);
        assert_eq!(effort.sources, [Source::File, Source::Partition]);
        assert_eq!(effort.tls, [Tls::V13]);
        assert_eq!(effort.parts, [Part::Handshakes]);
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in
            [&["--seconds", "0"][..], &["--rounds", "0"], &["--keys", "dsa"], &["--profile", "--quick"]]
        {
            assert!(Options::try_parse_from(["demo/bench"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
