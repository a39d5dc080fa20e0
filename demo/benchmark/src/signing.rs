//! The parts that load a token: sessions and keys, a lone request, and cost against numbers.

use anyhow::Result;
use strongroom_token_load::options::Operation;

use crate::options::{Effort, Part};
use crate::progress::Progress;
use crate::results::{Results, Subject, Token};
use crate::tokens::{OPERATIONS, Target, Tokens, expected, expected_to_make, many};

/// Sessions of the tables.
fn table_sessions(effort: &Effort) -> &'static [u32] {
    if effort.quick { &[1, 64] } else { &[1, 8, 64] }
}
/// Sessions against which cost is drawn.
const SCALE_SESSIONS: [u32; 5] = [1, 4, 16, 64, 256];
/// Partitions over which fifty sessions are spread.
const SCALE_PARTITIONS: [u32; 3] = [1, 10, 50];
/// Sessions where the number of keys or of partitions is what changes.
const STEADY_SESSIONS: u32 = 50;

fn scale_keys(effort: &Effort) -> [u32; 3] {
    if effort.quick { [1, 100, 1_000] } else { [1, 100, 10_000] }
}

/// How long these parts are expected to take.
pub fn expected_time(effort: &Effort) -> std::time::Duration {
    let mut total = std::time::Duration::ZERO;
    let has = |part| effort.parts.contains(&part);
    if has(Part::Tokens) {
        total += expected_to_make(many(effort))
            + expected(effort, OPERATIONS.len() * table_sessions(effort).len() * 2 * 2);
    } else if has(Part::Lone) || has(Part::Distance) {
        total += expected_to_make(1);
    }
    if has(Part::Lone) {
        total += expected(effort, 3 * 2 * 3);
    }
    if has(Part::Scale) {
        total += expected(effort, 2 * 3 + SCALE_SESSIONS.len() + SCALE_PARTITIONS.len());
        total += making_scale(effort);
    }
    total
}

fn making_scale(effort: &Effort) -> std::time::Duration {
    std::time::Duration::from_millis(2) * scale_keys(effort).iter().sum() + std::time::Duration::from_secs(5)
}

/// Operations a second and percentiles: every operation with few and many sessions, with one key and with many.
///
/// # Errors
///
/// When a token refuses or a load cannot run.
pub fn sessions(
    tokens: &Tokens<'_>,
    effort: &Effort,
    progress: &mut Progress,
    results: &mut Results,
) -> Result<()> {
    tokens.fill(many(effort), progress)?;
    for operation in OPERATIONS {
        for sessions in table_sessions(effort) {
            let processes = effort.processes.min(*sessions);
            for keys in [1, many(effort)] {
                let subjects = [Token::Partition, Token::Softhsm].map(|token| {
                    (
                        Subject { sessions: *sessions, processes, keys, ..Subject::new(token, operation) },
                        Target::usual(),
                    )
                });
                results.tokens.extend(tokens.contest(effort, &subjects, progress)?);
            }
        }
    }
    Ok(())
}

/// One request at a time, back to back and one every millisecond, compared with the same in the client's process.
///
/// # Errors
///
/// When a token refuses or a load cannot run.
pub fn lone(
    tokens: &Tokens<'_>,
    effort: &Effort,
    progress: &mut Progress,
    results: &mut Results,
) -> Result<()> {
    tokens.fill(1, progress)?;
    for operation in [Operation::P256, Operation::Ed25519, Operation::Rsa2048] {
        for pause_ms in [0, 1] {
            let subjects = [Token::Partition, Token::InProcess, Token::Softhsm]
                .map(|token| (Subject { pause_ms, ..Subject::new(token, operation) }, Target::usual()));
            results.lone.extend(tokens.contest(effort, &subjects, progress)?);
        }
    }
    Ok(())
}

/// Cost against the number of keys, of sessions and of partitions: P-256, whose signature costs so little that
/// everything around it shows.
///
/// # Errors
///
/// When a token refuses or a load cannot run.
pub fn scale(
    tokens: &Tokens<'_>,
    effort: &Effort,
    progress: &mut Progress,
    results: &mut Results,
) -> Result<()> {
    let operation = Operation::P256;
    progress.step("make many keys and partitions", making_scale(effort));
    let mut by_keys = Vec::new();
    let mut finds = Vec::new();
    for keys in scale_keys(effort) {
        let label = format!("keys-{keys}");
        tokens.partition(&label)?;
        tokens.generate(&label, operation, keys)?;
        let target = Target { labels: vec![label], ..Target::usual() };
        let subject = Subject { keys, ..Subject::new(Token::Partition, operation) };
        finds.push((subject.clone(), Target { find: true, ..target.clone() }));
        by_keys.push((Subject { sessions: STEADY_SESSIONS, ..subject }, target));
    }
    let most = SCALE_PARTITIONS.into_iter().max().unwrap_or(1);
    let labels: Vec<String> = (1..=most).map(|number| format!("part-{number}")).collect();
    for label in &labels {
        tokens.partition(label)?;
        tokens.generate(label, operation, 1)?;
    }
    let one = labels.first().cloned().into_iter().collect::<Vec<_>>();
    let by_sessions = SCALE_SESSIONS.map(|sessions| {
        let target = Target { labels: one.clone(), ..Target::usual() };
        (Subject { sessions, ..Subject::new(Token::Partition, operation) }, target)
    });
    let by_partitions = SCALE_PARTITIONS.map(|partitions| {
        let labels = labels.iter().take(partitions as usize).cloned().collect();
        let subject =
            Subject { sessions: STEADY_SESSIONS, partitions, ..Subject::new(Token::Partition, operation) };
        (subject, Target { labels, ..Target::usual() })
    });
    results.find = tokens.contest(effort, &finds, progress)?;
    for contest in [&by_keys[..], &by_sessions, &by_partitions] {
        results.scale.extend(tokens.contest(effort, contest, progress)?);
    }
    Ok(())
}
