//! TLS handshakes: every server with every type of key, from every source.
//!
//! The servers of one cell (a server program and a type of key, from all sources) run side by side. In every
//! round each gets its load, one after the other, and who goes first changes from round to round. A server
//! that has no load uses no processor time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command;
use strongroom_demo::cpu;
use strongroom_demo::load::{self, Amount};
use strongroom_demo::server::Server;

use crate::options::{Effort, Key, Program, Source, Tls};
use crate::order::order;
use crate::progress::Progress;
use crate::results::{Absent, HandshakeRound, Handshakes, Ratio, Results};
use crate::stage::Stage;

/// What a round takes besides its load: the client's start and its last connections.
const AROUND: Duration = Duration::from_millis(150);
/// What the servers of a cell take to start and to stop.
pub const START: Duration = Duration::from_millis(900);
/// How long a client may take beyond its load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server, as one of several that are compared.
pub struct Running {
    /// What tells it from the others.
    pub name: String,
    /// Where its key is.
    pub source: Source,
    /// How far away the daemon is, if it is behind the proxy.
    pub distance_ms: Option<u32>,
    /// The server.
    pub server: Server,
}

/// What the servers of a contest have in common.
#[derive(Clone, Copy)]
pub struct Contest {
    /// The server program.
    pub program: Program,
    /// The type of key.
    pub key: Key,
    /// The version of TLS.
    pub tls: Tls,
    /// Connections of the client at once.
    pub connections: u32,
}

/// How long this part is expected to take.
pub fn expected(effort: &Effort) -> Duration {
    let servers = count(effort.sources.len());
    let cells = count(effort.servers.len()) * count(effort.keys.len());
    let loads = count(effort.tls.len()) * servers;
    cells * (START * servers + loads * (warm_up(effort) + effort.rounds * round(effort)))
}

/// How long one round of one server is expected to take.
pub fn round(effort: &Effort) -> Duration {
    effort.load + AROUND
}

/// How long the load before the first round is expected to take.
pub fn warm_up(effort: &Effort) -> Duration {
    effort.warm_up + AROUND
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Measures all cells.
///
/// # Errors
///
/// When a server with the file or the partition does not start, or a client cannot run. What is not possible
/// with the other sources is among the results.
pub fn measure(stage: &Stage, effort: &Effort, progress: &mut Progress, results: &mut Results) -> Result<()> {
    for program in &effort.servers {
        for key in &effort.keys {
            cell(stage, effort, (*program, *key), progress, results)?;
        }
    }
    Ok(())
}

fn cell(
    stage: &Stage,
    effort: &Effort,
    (program, key): (Program, Key),
    progress: &mut Progress,
    results: &mut Results,
) -> Result<()> {
    let name = format!("{} {}", program.title(), key.kind().title());
    let mut running = Vec::new();
    for source in &effort.sources {
        progress.step(&format!("{name}: start with {}", source.title()), START);
        match start(stage, effort, program, key, *source) {
            Ok(server) => {
                let name = source.title().to_owned();
                running.push(Running { name, source: *source, distance_ms: None, server });
            }
            Err(error) if matches!(source, Source::Softhsm | Source::Engine) => {
                let absent = absent(program, key, *source, &error);
                progress.warn(&format!("{name} with {}: {}", source.title(), absent.why));
                results.absent.push(absent);
            }
            Err(error) => return Err(error.context(format!("{name} with {}", source.title()))),
        }
    }
    for tls in &effort.tls {
        let contest = Contest { program, key, tls: *tls, connections: effort.connections };
        let mut cells = contest.run(stage, effort, &running, progress)?;
        compare(&mut cells, |cell| cell.source == Source::File);
        results.handshakes.extend(cells);
    }
    Ok(())
}

impl Contest {
    /// Loads the servers in turns.
    ///
    /// # Errors
    ///
    /// When a client cannot run or none of its handshakes succeeds.
    pub fn run(
        &self,
        stage: &Stage,
        effort: &Effort,
        running: &[Running],
        progress: &mut Progress,
    ) -> Result<Vec<Handshakes>> {
        let name = format!("{} {} TLS {}", self.program.title(), self.key.kind().title(), self.tls.number());
        let mut rounds: Vec<Vec<HandshakeRound>> = running.iter().map(|_| Vec::new()).collect();
        for one in running {
            progress.step(&format!("{name}: warm up {}", one.name), warm_up(effort));
            self.load(stage, &one.server, effort.warm_up)?;
        }
        for number in 0..effort.rounds {
            for place in order(running.len(), number) {
                let (Some(one), Some(rounds)) = (running.get(place), rounds.get_mut(place)) else { continue };
                let what = format!("{name}: {}, round {} of {}", one.name, number + 1, effort.rounds);
                progress.step(&what, round(effort));
                let measured = self.load(stage, &one.server, effort.load)?;
                if measured.errors > 0.0 {
                    progress.warn(&format!("{what}: {} handshakes failed", measured.errors));
                }
                rounds.push(measured);
            }
        }
        let cells = running.iter().zip(rounds).map(|(one, rounds)| {
            Ok(Handshakes {
                server: self.program,
                tls: self.tls,
                key: self.key,
                source: one.source,
                distance_ms: one.distance_ms,
                connections: self.connections,
                workers: workers(&one.server)?,
                median: HandshakeRound::median(&rounds),
                ratio: None,
                rounds,
            })
        });
        cells.collect()
    }

    /// Loads a server for a while.
    fn load(&self, stage: &Stage, server: &Server, time: Duration) -> Result<HandshakeRound> {
        let daemon = stage.daemon().id().context("strongroomd has stopped")?;
        let (ca, version) = (stage.ca(), ["--tls", self.tls.number()]);
        let command =
            load::command_at(&stage.programs, server, &ca, Amount::Time(time), self.connections, &version);
        let server_before = cpu::used(&[server.process.id()])?;
        let daemon_before = cpu::used(&[daemon])?;
        let finished = command::run(command, time + PATIENCE)?;
        let server_us = micros(cpu::used(&[server.process.id()])?.saturating_sub(server_before));
        let daemon_us = micros(cpu::used(&[daemon])?.saturating_sub(daemon_before));
        let report: strongroom_load::Report = serde_json::from_slice(&finished.stdout)
            .with_context(|| format!("strongroom-load ({}): {}", finished.status, finished.stderr.trim()))?;
        ensure!(
            report.handshakes > 0,
            "no handshake with {} succeeded: {:?}\n{}",
            server.address(),
            report.error_messages,
            strongroom_demo::daemon::tail(&server.log)
        );
        ensure!(report.resumed == 0, "{} handshakes resumed a session", report.resumed);
        Ok(HandshakeRound::of(&report, server_us, daemon_us))
    }
}

fn start(stage: &Stage, effort: &Effort, program: Program, key: Key, source: Source) -> Result<Server> {
    let site = stage.site(program, key, source)?.with_workers(effort.workers);
    program.start(&site)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Adds the ratio to the one that is the measure.
pub fn compare(cells: &mut [Handshakes], is_measure: impl Fn(&Handshakes) -> bool) {
    let Some(measure) = cells.iter().find(|cell| is_measure(cell)).map(Handshakes::figures) else { return };
    for cell in cells {
        cell.ratio = Ratio::of(&cell.figures(), &measure);
    }
}

/// How many processes and threads a server has: what its configuration came to.
fn workers(server: &Server) -> Result<String> {
    let processes = server.processes()?;
    let threads: usize = processes
        .iter()
        .filter_map(|id| Some(std::fs::read_dir(format!("/proc/{id}/task")).ok()?.count()))
        .sum();
    Ok(format!("{} processes, {threads} threads", processes.len()))
}

/// Says why a combination is not possible: known reasons in a sentence, others in the program's words.
fn absent(program: Program, key: Key, source: Source, error: &anyhow::Error) -> Absent {
    let said = format!("{error:#}");
    let why = match (source, key) {
        (Source::Engine, _)
            if program == Program::Haproxy && said.contains("unknown keyword 'ssl-engine'") =>
        {
            "Debian's HAProxy is built without engines".to_owned()
        }
        (Source::Engine, Key::Ed25519) => "libp11's engine knows RSA and ECDSA only".to_owned(),
        _ => said.lines().take(2).collect::<Vec<_>>().join(" "),
    };
    Absent { server: program, key, source, why, said }
}
