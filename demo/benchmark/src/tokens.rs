//! Operations through PKCS#11, in the partition, in SoftHSM2, and without a token in the client's own process.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::partition::Partition;
use strongroom_demo::pki::text;
use strongroom_demo::softhsm::{PIN, SoftHsm};
use strongroom_token_load::options::Operation;
use strongroom_token_load::report::Report;

use crate::options::Effort;
use crate::order::order;
use crate::progress::Progress;
use crate::results::{Subject, Token, TokenLoad, TokenRound};
use crate::stage::Stage;

/// What a round takes besides its load.
pub const AROUND: Duration = Duration::from_millis(250);
/// How long a load may take beyond its time: SoftHSM2 reads its keys first.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to make keys.
const MAKING: Duration = Duration::from_secs(600);
/// The operations of all tables.
pub const OPERATIONS: [Operation; 4] =
    [Operation::Rsa2048, Operation::P256, Operation::Ed25519, Operation::AesGcm];
/// The token with a key of each kind and many of each kind.
const LABEL: &str = "tokens";

/// The tokens of these parts, with their keys.
#[derive(Debug)]
pub struct Tokens<'a> {
    stage: &'a Stage,
    /// Holds SoftHSM2's token and its PIN.
    softhsm: SoftHsm,
    pin: PathBuf,
    made: Cell<u32>,
}

/// How many keys "many" are.
pub fn many(effort: &Effort) -> u32 {
    if effort.quick { 100 } else { 1000 }
}

/// The length of one load of these parts.
pub fn length(effort: &Effort) -> Duration {
    effort.load.min(Duration::from_secs(1))
}

impl<'a> Tokens<'a> {
    /// Makes the tokens, without keys.
    ///
    /// # Errors
    ///
    /// When a token refuses.
    pub fn prepare(stage: &'a Stage) -> Result<Self> {
        let folder = stage.folder("softhsm-tokens")?;
        let softhsm = SoftHsm::create(&folder, LABEL)?;
        let pin = folder.join("pin");
        fs::write(&pin, format!("{PIN}\n"))?;
        let tokens = Tokens { stage, softhsm, pin, made: Cell::new(0) };
        tokens.partition(LABEL)?;
        Ok(tokens)
    }

    /// Makes a partition.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn partition(&self, label: &str) -> Result<()> {
        let folder = self.stage.folder(&format!("partition-{label}"))?;
        let init = Partition::init_command(label, &folder);
        self.stage.daemon().manage(&init.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    /// Makes `count` keys in the partition `label`.
    ///
    /// # Errors
    ///
    /// When the daemon refuses.
    pub fn generate(&self, label: &str, operation: Operation, count: u32) -> Result<()> {
        let place = self.place_in_partition(None);
        self.make(&place, &[label.to_owned()], operation, count)
    }

    /// Makes many keys of each kind in both tokens, unless they are there.
    ///
    /// # Errors
    ///
    /// When a token refuses.
    pub fn fill(&self, count: u32, progress: &mut Progress) -> Result<()> {
        if self.made.get() >= count {
            return Ok(());
        }
        for operation in OPERATIONS {
            let what = format!("make {count} keys: {}", operation.title());
            progress.step(&what, expected_to_make(count) / 4);
            self.generate(LABEL, operation, count)?;
            self.make(&self.place_in_softhsm(), &[LABEL.to_owned()], operation, count)?;
        }
        self.made.set(count);
        Ok(())
    }

    fn place_in_partition(&self, socket: Option<&Path>) -> Place {
        let mut environment = self.stage.daemon().client_environment();
        if let Some(socket) = socket {
            environment = environment.with("STRONGROOM_SOCKET", socket);
        }
        Place { module: self.stage.programs.module(), environment, pin: None }
    }

    fn place_in_softhsm(&self) -> Place {
        Place {
            module: self.softhsm.module().to_owned(),
            environment: self.softhsm.plain_environment(),
            pin: Some(self.pin.clone()),
        }
    }

    fn make(&self, place: &Place, tokens: &[String], operation: Operation, count: u32) -> Result<()> {
        let mut command = self.command(place, tokens);
        command.args(["generate", operation.name(), "--count", &count.to_string()]);
        command::succeed(command, MAKING).map(drop)
    }

    fn command(&self, place: &Place, tokens: &[String]) -> std::process::Command {
        let mut command = command::new(self.stage.programs.token_load());
        place.environment.apply(&mut command);
        command.args(["--module", &text(&place.module)]);
        for token in tokens {
            command.args(["--token", token]);
        }
        if let Some(pin) = &place.pin {
            command.args(["--pin-file", &text(pin)]);
        }
        command
    }

    /// Measures subjects side by side, in turns.
    ///
    /// # Errors
    ///
    /// When a load cannot run. Operations that fail are in the results.
    pub fn contest(
        &self,
        effort: &Effort,
        subjects: &[(Subject, Target)],
        progress: &mut Progress,
    ) -> Result<Vec<TokenLoad>> {
        let mut rounds: Vec<Vec<TokenRound>> = subjects.iter().map(|_| Vec::new()).collect();
        for round in 0..effort.rounds {
            for place in order(subjects.len(), round) {
                let (Some((subject, target)), Some(rounds)) = (subjects.get(place), rounds.get_mut(place))
                else {
                    continue;
                };
                let what = format!("{}, round {} of {}", title(subject), round + 1, effort.rounds);
                progress.step(&what, length(effort) + AROUND);
                let report = self.load(subject, target, length(effort)).with_context(|| title(subject))?;
                if report.errors > 0 {
                    let said = report.error.clone().unwrap_or_default();
                    progress.warn(&format!("{what}: {} operations failed: {said}", report.errors));
                }
                rounds.push(TokenRound::of(&report));
            }
        }
        Ok(subjects
            .iter()
            .zip(rounds)
            .map(|((subject, _), rounds)| TokenLoad {
                subject: subject.clone(),
                median: TokenRound::median(&rounds),
                rounds,
            })
            .collect())
    }

    fn load(&self, subject: &Subject, target: &Target, time: Duration) -> Result<Report> {
        let place = match subject.token {
            Token::Softhsm => self.place_in_softhsm(),
            Token::Partition | Token::InProcess => self.place_in_partition(target.socket.as_deref()),
        };
        let keys = subject.keys.to_string();
        let mut command = self.command(&place, &target.labels);
        match (subject.token, target.find) {
            (Token::InProcess, _) => command.args(["in-process", subject.operation.name()]),
            (_, true) => command.args(["find", subject.operation.name(), "--keys", &keys]),
            (_, false) => command.args(["run", subject.operation.name(), "--keys", &keys]),
        };
        command.args(["--sessions", &subject.sessions.to_string()]);
        command.args(["--processes", &subject.processes.to_string()]);
        command.args(["--duration", &format!("{}ms", time.as_millis())]);
        command.args(["--pause", &format!("{}ms", subject.pause_ms)]);
        if subject.token == Token::Partition {
            let daemon = self.stage.daemon().id().context("strongroomd has stopped")?;
            command.args(["--cpu-of", &daemon.to_string()]);
        }
        let finished = command::run(command, time + PATIENCE)?;
        let report: Report = serde_json::from_slice(&finished.stdout).with_context(|| {
            format!("strongroom-token-load ({}): {}", finished.status, finished.stderr.trim())
        })?;
        ensure!(report.operations > 0, "no operation succeeded: {}", report.error.unwrap_or_default());
        Ok(report)
    }
}

/// A module, and what it needs.
struct Place {
    module: PathBuf,
    environment: Environment,
    pin: Option<PathBuf>,
}

/// Where a load finds its tokens, and what it does there.
#[derive(Debug, Clone)]
pub struct Target {
    /// Labels of the tokens.
    pub labels: Vec<String>,
    /// The daemon's socket, where it is another one.
    pub socket: Option<PathBuf>,
    /// Look keys up instead of using them.
    pub find: bool,
}

impl Target {
    /// The token with many keys of each kind.
    pub fn usual() -> Self {
        Target { labels: vec![LABEL.to_owned()], socket: None, find: false }
    }
}

impl Subject {
    /// One session with one key in one partition, as fast as it goes.
    pub fn new(token: Token, operation: Operation) -> Self {
        Subject {
            token,
            operation,
            sessions: 1,
            processes: 1,
            keys: 1,
            partitions: 1,
            pause_ms: 0,
            distance_ms: None,
        }
    }
}

impl Token {
    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Token::Partition => "partition",
            Token::Softhsm => "SoftHSM2",
            Token::InProcess => "in process",
        }
    }
}

fn title(subject: &Subject) -> String {
    format!(
        "{} in {}, {} sessions, {} keys",
        subject.operation.title(),
        subject.token.title(),
        subject.sessions,
        subject.keys
    )
}

/// How long it is expected to take to make `count` keys of each kind in both tokens.
pub fn expected_to_make(count: u32) -> Duration {
    Duration::from_millis(12) * count
}

/// How long `subjects` side by side are expected to take.
pub fn expected(effort: &Effort, subjects: usize) -> Duration {
    effort.rounds * u32::try_from(subjects).unwrap_or(u32::MAX) * (length(effort) + AROUND)
}
