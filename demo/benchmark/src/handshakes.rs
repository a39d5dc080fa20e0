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
use crate::progress::Progress;
use crate::results::{Absent, HandshakeRound, Handshakes, Ratio, Results};
use crate::stage::Stage;

/// What a round takes besides its load: the client's start and its last connections.
const AROUND: Duration = Duration::from_millis(150);
/// What the servers of a cell take to start and to stop.
const START: Duration = Duration::from_millis(1500);
/// How long a client may take beyond its load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server with the key from one source.
struct Running {
    source: Source,
    server: Server,
}

/// How long this part is expected to take.
pub fn expected(effort: &Effort) -> Duration {
    let servers = count(effort.sources.len());
    let cells = count(effort.servers.len()) * count(effort.keys.len());
    let loads = count(effort.tls.len()) * servers;
    cells * (START * servers + loads * (warm_up(effort) + effort.rounds * round(effort)))
}

fn round(effort: &Effort) -> Duration {
    effort.load + AROUND
}

fn warm_up(effort: &Effort) -> Duration {
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
            Ok(server) => running.push(Running { source: *source, server }),
            Err(error) if matches!(source, Source::Softhsm | Source::Engine) => {
                let absent = absent(program, key, *source, &error);
                progress.warn(&format!("{name} with {}: {}", source.title(), absent.why));
                results.absent.push(absent);
            }
            Err(error) => return Err(error.context(format!("{name} with {}", source.title()))),
        }
    }
    for tls in &effort.tls {
        let mut rounds: Vec<Vec<HandshakeRound>> = running.iter().map(|_| Vec::new()).collect();
        for one in &running {
            progress.step(
                &format!("{name} TLS {}: warm up {}", tls.number(), one.source.title()),
                warm_up(effort),
            );
            load(stage, effort, &one.server, *tls, effort.warm_up)?;
        }
        for round_number in 0..effort.rounds {
            for place in order(running.len(), round_number) {
                let (Some(one), Some(rounds)) = (running.get(place), rounds.get_mut(place)) else { continue };
                let what = format!(
                    "{name} TLS {}: {}, round {} of {}",
                    tls.number(),
                    one.source.title(),
                    round_number + 1,
                    effort.rounds
                );
                progress.step(&what, round(effort));
                let measured = load(stage, effort, &one.server, *tls, effort.load)?;
                if measured.errors > 0.0 {
                    progress.warn(&format!("{what}: {} handshakes failed", measured.errors));
                }
                rounds.push(measured);
            }
        }
        for (one, rounds) in running.iter().zip(rounds) {
            results.handshakes.push(Handshakes {
                server: program,
                tls: *tls,
                key,
                source: one.source,
                connections: effort.connections,
                workers: workers(&one.server)?,
                median: HandshakeRound::median(&rounds),
                ratio: None,
                rounds,
            });
        }
        compare(&mut results.handshakes, program, key, *tls);
    }
    Ok(())
}

/// The places of `length` servers in the order of a round: each round begins with the next one, and when all
/// have been first the direction changes, so that none always follows the same one.
fn order(length: usize, round: u32) -> Vec<usize> {
    let round = round as usize;
    let mut order: Vec<usize> = (0..length).map(|place| (place + round) % length).collect();
    if round.checked_div(length).unwrap_or_default() % 2 == 1 {
        order.reverse();
    }
    order
}

fn start(stage: &Stage, effort: &Effort, program: Program, key: Key, source: Source) -> Result<Server> {
    let site = stage.site(program, key, source)?.with_workers(effort.workers);
    program.start(&site)
}

/// Loads a server for a while.
///
/// # Errors
///
/// When the client cannot run or no handshake succeeded.
fn load(stage: &Stage, effort: &Effort, server: &Server, tls: Tls, time: Duration) -> Result<HandshakeRound> {
    let daemon = stage.daemon().id().context("strongroomd has stopped")?;
    let (ca, version) = (stage.ca(), ["--tls", tls.number()]);
    let command =
        load::command_at(&stage.programs, server, &ca, Amount::Time(time), effort.connections, &version);
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

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Adds the ratio to the key in the file.
fn compare(cells: &mut [Handshakes], program: Program, key: Key, tls: Tls) {
    let of_this = |cell: &&mut Handshakes| cell.server == program && cell.key == key && cell.tls == tls;
    let mut these: Vec<&mut Handshakes> = cells.iter_mut().filter(of_this).collect();
    let Some(file) = these.iter().find(|cell| cell.source == Source::File).map(|cell| cell.figures()) else {
        return;
    };
    for cell in &mut these {
        cell.ratio = Ratio::of(&cell.figures(), &file);
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
        _ => said.lines().next().unwrap_or_default().to_owned(),
    };
    Absent { server: program, key, source, why, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_goes_first_in_turn() {
        let firsts: Vec<usize> = (0..4).map(|round| order(4, round)[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 3]);
        assert_eq!((order(2, 0), order(2, 1), order(2, 2)), (vec![0, 1], vec![1, 0], vec![1, 0]));
        for round in 0..6 {
            let mut all = order(3, round);
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        }
        assert!(order(0, 3).is_empty());
    }
}
