//! The results of a run, as they are written in JSON.

use serde::{Deserialize, Serialize};

use strongroom_token_load::options::Operation;

use crate::machine::Machine;
use crate::options::{Key, Program, Source, Tls};
use strongroom_demo::statistics::{float, median, range};

/// Everything that a run found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub took_s: f64,
    /// The command, as a person would type it.
    pub command: String,
    /// What it ran on.
    pub machine: Machine,
    /// Rounds of every measurement.
    pub rounds: u32,
    /// Length of each round.
    pub round_s: f64,
    /// TLS handshakes.
    pub handshakes: Vec<Handshakes>,
    /// Combinations that are not possible.
    pub absent: Vec<Absent>,
    /// Operations through PKCS#11.
    pub tokens: Vec<TokenLoad>,
    /// One request at a time, compared with the same in process.
    pub lone: Vec<TokenLoad>,
    /// Handshakes with a daemon that is far away; `ratio` compares with the daemon on the same machine.
    pub far_handshakes: Vec<Handshakes>,
    /// Operations with a daemon that is far away.
    pub far_tokens: Vec<TokenLoad>,
    /// Cost against the number of keys, sessions and partitions.
    pub scale: Vec<TokenLoad>,
    /// Look-ups of a key by its label, against the number of keys.
    pub find: Vec<TokenLoad>,
}

/// The handshakes of one server with one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handshakes {
    /// The server.
    pub server: Program,
    /// The version of TLS.
    pub tls: Tls,
    /// The type of key.
    pub key: Key,
    /// Where the key is.
    pub source: Source,
    /// How far away the daemon is, one way, in milliseconds; none if it is not behind the proxy.
    pub distance_ms: Option<u32>,
    /// Connections of the client at once.
    pub connections: u32,
    /// Processes and threads of the server.
    pub workers: String,
    /// Medians of the rounds.
    pub median: HandshakeRound,
    /// Compared with the key in a file, in the same run.
    pub ratio: Option<Ratio>,
    /// Every round.
    pub rounds: Vec<HandshakeRound>,
}

/// Where a PKCS#11 operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Token {
    /// In our partition.
    Partition,
    /// In SoftHSM2.
    Softhsm,
    /// In the load generator's own process, with aws-lc, without PKCS#11.
    InProcess,
}

/// What one load of a token does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Where.
    pub token: Token,
    /// What.
    pub operation: Operation,
    /// Threads with a session each.
    pub sessions: u32,
    /// Client processes over which these are spread.
    pub processes: u32,
    /// Keys that are used in turn.
    pub keys: u32,
    /// Partitions over which the sessions are spread.
    pub partitions: u32,
    /// Rest after each operation, in milliseconds.
    pub pause_ms: u32,
    /// How far away the daemon is, one way, in milliseconds; none if it is not behind the proxy.
    pub distance_ms: Option<u32>,
}

/// The load of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLoad {
    /// What was done.
    #[serde(flatten)]
    pub subject: Subject,
    /// Medians of the rounds.
    pub median: TokenRound,
    /// Every round.
    pub rounds: Vec<TokenRound>,
}

/// One round of a token's load, or the medians of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenRound {
    /// Operations that succeeded.
    pub operations: f64,
    /// Operations that failed.
    pub errors: f64,
    /// Operations a second.
    pub rate_per_s: f64,
    /// Processor time of client and daemon, microseconds an operation.
    pub cpu_us: f64,
    /// The daemon's part of it.
    pub daemon_cpu_us: f64,
    /// Half of the operations took less, microseconds.
    pub p50_us: f64,
    /// 99 % took less.
    pub p99_us: f64,
    /// 99.9 % took less.
    pub p999_us: f64,
    /// The first look-up of the process, microseconds.
    pub first_us: f64,
}

/// One round of handshakes, or the medians of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HandshakeRound {
    /// Handshakes that succeeded.
    pub handshakes: f64,
    /// Handshakes that failed.
    pub errors: f64,
    /// Successful handshakes a second.
    pub rate_per_s: f64,
    /// Processor time of the server and of the daemon, microseconds a handshake.
    pub cpu_us: f64,
    /// The daemon's part of it.
    pub daemon_cpu_us: f64,
    /// Processor time of the client, microseconds a handshake; not part of the above.
    pub client_cpu_us: f64,
    /// Latency: half of the handshakes took less, microseconds.
    pub p50_us: f64,
    /// 99 % took less.
    pub p99_us: f64,
}

/// How something compares with the key in a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Operations a second, median by median: above 1 is faster.
    pub rate: f64,
    /// Processor time, median by median: below 1 is cheaper.
    pub cpu: f64,
    /// The lowest and the highest ratio of the rate in one round.
    pub rate_range: (f64, f64),
    /// The same of processor time.
    pub cpu_range: (f64, f64),
}

/// A combination that is not possible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Absent {
    /// The server.
    pub server: Program,
    /// The type of key.
    pub key: Key,
    /// Where the key is.
    pub source: Source,
    /// Why not, in a sentence.
    pub why: String,
    /// What the programs said.
    pub said: String,
}

impl HandshakeRound {
    /// The median of each figure.
    pub fn median(rounds: &[HandshakeRound]) -> Self {
        let of = |figure: fn(&HandshakeRound) -> f64| {
            median(&rounds.iter().map(figure).collect::<Vec<_>>()).unwrap_or_default()
        };
        HandshakeRound {
            handshakes: of(|round| round.handshakes),
            errors: of(|round| round.errors),
            rate_per_s: of(|round| round.rate_per_s),
            cpu_us: of(|round| round.cpu_us),
            daemon_cpu_us: of(|round| round.daemon_cpu_us),
            client_cpu_us: of(|round| round.client_cpu_us),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
        }
    }

    /// A round from the client's report and the processor time that server and daemon used meanwhile, in
    /// microseconds.
    pub fn of(report: &strongroom_load::Report, server_us: f64, daemon_us: f64) -> Self {
        let each = |us: f64| us / float(report.handshakes.max(1));
        let latency = report.latency_us.clone().unwrap_or_default();
        HandshakeRound {
            handshakes: float(report.handshakes),
            errors: float(report.error_count()),
            rate_per_s: report.rate_per_s,
            cpu_us: each(server_us + daemon_us),
            daemon_cpu_us: each(daemon_us),
            client_cpu_us: report.client_cpu_us_per_handshake.unwrap_or_default(),
            p50_us: float(latency.p50),
            p99_us: float(latency.p99),
        }
    }
}

impl TokenRound {
    /// A round from the load generator's report.
    pub fn of(report: &strongroom_token_load::report::Report) -> Self {
        let each = |seconds: f64| seconds * 1e6 / float(report.operations.max(1));
        TokenRound {
            operations: float(report.operations),
            errors: float(report.errors),
            rate_per_s: report.rate_per_s,
            cpu_us: each(report.client_cpu_s + report.watched_cpu_s),
            daemon_cpu_us: each(report.watched_cpu_s),
            p50_us: report.latency_us.p50,
            p99_us: report.latency_us.p99,
            p999_us: report.latency_us.p999,
            first_us: report.first_us.unwrap_or_default(),
        }
    }

    /// The median of each figure.
    pub fn median(rounds: &[TokenRound]) -> Self {
        let of = |figure: fn(&TokenRound) -> f64| {
            median(&rounds.iter().map(figure).collect::<Vec<_>>()).unwrap_or_default()
        };
        TokenRound {
            operations: of(|round| round.operations),
            errors: of(|round| round.errors),
            rate_per_s: of(|round| round.rate_per_s),
            cpu_us: of(|round| round.cpu_us),
            daemon_cpu_us: of(|round| round.daemon_cpu_us),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            p999_us: of(|round| round.p999_us),
            first_us: of(|round| round.first_us),
        }
    }
}

impl Ratio {
    /// Compares rounds with the rounds of the same numbers that they are measured by: pairs of rates and
    /// processor times.
    pub fn of(these: &[(f64, f64)], those: &[(f64, f64)]) -> Option<Self> {
        let rates = |rounds: &[(f64, f64)]| rounds.iter().map(|round| round.0).collect::<Vec<_>>();
        let times = |rounds: &[(f64, f64)]| rounds.iter().map(|round| round.1).collect::<Vec<_>>();
        let quotients = |these: &[f64], those: &[f64]| {
            these.iter().zip(those).map(|(this, that)| this / that).collect::<Vec<_>>()
        };
        Some(Ratio {
            rate: median(&rates(these))? / median(&rates(those))?,
            cpu: median(&times(these))? / median(&times(those))?,
            rate_range: range(&quotients(&rates(these), &rates(those)))?,
            cpu_range: range(&quotients(&times(these), &times(those)))?,
        })
    }
}

impl Handshakes {
    /// Rates and processor times of the rounds.
    pub fn figures(&self) -> Vec<(f64, f64)> {
        self.rounds.iter().map(|round| (round.rate_per_s, round.cpu_us)).collect()
    }
}

impl Results {
    /// Operations that failed: there must be none.
    pub fn failures(&self) -> f64 {
        let handshakes = self.handshakes.iter().chain(&self.far_handshakes);
        let of_handshakes: f64 = handshakes.flat_map(|cell| &cell.rounds).map(|round| round.errors).sum();
        let parts = [&self.tokens, &self.lone, &self.far_tokens, &self.scale, &self.find];
        let of_tokens: f64 =
            parts.into_iter().flatten().flat_map(|load| &load.rounds).map(|round| round.errors).sum();
        of_handshakes + of_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_ranges_of_rounds() {
        let ratio = Ratio::of(&[(2.0, 8.0), (3.0, 6.0), (9.0, 1.0)], &[(1.0, 10.0), (2.0, 12.0), (3.0, 4.0)]);
        let ratio = ratio.unwrap();
        assert!((ratio.rate - 1.5).abs() < 1e-9 && (ratio.cpu - 0.6).abs() < 1e-9, "{ratio:?}");
        assert_eq!((ratio.rate_range, ratio.cpu_range), ((1.5, 3.0), (0.25, 0.8)));
        assert_eq!(Ratio::of(&[], &[]), None);
    }
}
