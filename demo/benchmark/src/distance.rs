//! A daemon that is far away: handshakes and PKCS#11 operations through a proxy that delays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::delay::Proxy;
use crate::handshakes::{Contest, Running, START, compare, round, warm_up};
use crate::options::{Effort, Key, Program, Source, Tls};
use crate::progress::Progress;
use crate::results::{Results, Subject, Token};
use crate::stage::Stage;
use crate::tokens::{OPERATIONS, Target, Tokens, expected};

/// One way, in milliseconds. Through the proxy without delay is what the proxy itself costs.
const DISTANCES: [u32; 3] = [0, 1, 5];
/// Connections of the client: enough that some are always ready while others wait for a signature.
const CONNECTIONS: u32 = 256;
/// nginx's workers: each waits for its signature, so that there must be more than signatures under way.
const NGINX_WORKERS: u32 = 64;
/// Sessions of the PKCS#11 loads.
const SESSIONS: u32 = 64;
/// Types of key.
const KEYS: [Key; 2] = [Key::Rsa2048, Key::P256];
/// Servers: one with many workers, and one whose threads go on meanwhile (OpenSSL ASYNC jobs).
const SERVERS: [Program; 2] = [Program::Nginx, Program::Haproxy];

/// How long this part is expected to take.
pub fn expected_time(effort: &Effort) -> Duration {
    let contestants = 1 + DISTANCES.len() as u32;
    let cells = (servers(effort).len() * keys(effort).len()) as u32;
    let handshakes = cells * contestants * (START + warm_up(effort) + effort.rounds * round(effort));
    handshakes + expected(effort, OPERATIONS.len() * (1 + DISTANCES.len()))
}

fn servers(effort: &Effort) -> Vec<Program> {
    SERVERS.into_iter().filter(|server| effort.servers.contains(server)).collect()
}

fn keys(effort: &Effort) -> Vec<Key> {
    KEYS.into_iter().filter(|key| effort.keys.contains(key)).collect()
}

/// Measures handshakes and operations, near and far, side by side.
///
/// # Errors
///
/// When a server does not start or a load cannot run.
pub fn measure(
    stage: &Stage,
    tokens: &Tokens<'_>,
    effort: &Effort,
    progress: &mut Progress,
    results: &mut Results,
) -> Result<()> {
    tokens.fill(1, progress)?;
    let folder = stage.folder("distance")?;
    let proxies = DISTANCES
        .map(|distance| {
            let delay = Duration::from_millis(u64::from(distance));
            let socket = folder.join(format!("{distance}-ms.sock"));
            Proxy::start(&socket, &stage.daemon().socket(), delay).map(|proxy| (distance, proxy))
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    // None is the daemon itself.
    let mut places: Vec<(Option<u32>, Option<PathBuf>)> = vec![(None, None)];
    places.extend(proxies.iter().map(|(distance, proxy)| (Some(*distance), Some(proxy.socket().to_owned()))));
    for program in servers(effort) {
        for key in keys(effort) {
            let mut running = Vec::new();
            for (distance, socket) in &places {
                running.push(start(stage, effort, (program, key), *distance, socket.as_deref(), progress)?);
            }
            let contest = Contest { program, key, tls: Tls::V13, connections: CONNECTIONS };
            let mut cells = contest.run(stage, effort, &running, progress)?;
            compare(&mut cells, |cell| cell.distance_ms.is_none());
            results.far_handshakes.extend(cells);
        }
    }
    for operation in OPERATIONS {
        let subjects: Vec<(Subject, Target)> = places
            .iter()
            .map(|(distance_ms, socket)| {
                let subject = Subject {
                    sessions: SESSIONS,
                    distance_ms: *distance_ms,
                    ..Subject::new(Token::Partition, operation)
                };
                (subject, Target { socket: socket.clone(), ..Target::usual() })
            })
            .collect();
        results.far_tokens.extend(tokens.contest(effort, &subjects, progress)?);
    }
    Ok(())
}

fn start(
    stage: &Stage,
    effort: &Effort,
    (program, key): (Program, Key),
    distance_ms: Option<u32>,
    socket: Option<&Path>,
    progress: &mut Progress,
) -> Result<Running> {
    let name = distance_ms.map_or("near".to_owned(), |distance| format!("{distance} ms away"));
    progress.step(&format!("{} {}: start, {name}", program.title(), key.kind().title()), START);
    let workers = effort.workers.or((program == Program::Nginx).then_some(NGINX_WORKERS));
    let site = stage.site_at(program, key, Source::Partition, socket)?.with_workers(workers);
    let server =
        program.start(&site).with_context(|| format!("{} with the daemon {name}", program.title()))?;
    Ok(Running { name, source: Source::Partition, distance_ms, server })
}
