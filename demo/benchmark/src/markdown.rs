//! The results as tables in Markdown, for people.

use std::fmt::Write as _;

use crate::options::{Program, Source, Tls};
use crate::results::{Handshakes, Results};

/// The whole document.
pub fn of(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = head(&mut text, results);
    let _ = handshakes(&mut text, results);
    text
}

fn head(text: &mut String, results: &Results) -> std::fmt::Result {
    let machine = &results.machine;
    writeln!(text, "Measured {} in {:.0} s with `{}`.\n", results.started, results.took_s, results.command)?;
    writeln!(
        text,
        "{}, {} processors ({}), {} MiB, {}, {}.\n",
        machine.processor,
        machine.processors,
        machine.extensions.join(", "),
        machine.memory_mib,
        machine.kernel,
        machine.system
    )?;
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    writeln!(text, "{}.\n", versions.join(", "))?;
    writeln!(text, "{} rounds of {} s each; the figures are medians.", results.rounds, results.round_s)
}

fn handshakes(text: &mut String, results: &Results) -> std::fmt::Result {
    for program in Program::ALL {
        for tls in [Tls::V13, Tls::V12] {
            let cells: Vec<&Handshakes> =
                results.handshakes.iter().filter(|cell| cell.server == program && cell.tls == tls).collect();
            let Some(first) = cells.first() else { continue };
            writeln!(
                text,
                "\n### {}: full TLS {} handshakes\n\n{}, {} connections. CPU: server and daemon together, µs a \
                 handshake; in parentheses the daemon's part.\n",
                program.title(),
                tls.number(),
                first.workers,
                first.connections
            )?;
            writeln!(text, "| key | source | handshakes/s | × file | CPU µs | × file | p50 ms | p99 ms |")?;
            writeln!(text, "|---|---|---:|---:|---:|---:|---:|---:|")?;
            for cell in cells {
                row(text, cell)?;
            }
        }
    }
    for absent in &results.absent {
        writeln!(
            text,
            "\n{}, {}, {}: not possible. {}.",
            absent.server.title(),
            absent.key.kind().title(),
            absent.source.title(),
            absent.why
        )?;
    }
    Ok(())
}

fn row(text: &mut String, cell: &Handshakes) -> std::fmt::Result {
    let median = &cell.median;
    let (rate, cpu) = match (&cell.ratio, cell.source) {
        (Some(ratio), source) if source != Source::File => {
            (format!("{:.2}", ratio.rate), format!("{:.2}", ratio.cpu))
        }
        _ => (String::new(), String::new()),
    };
    let daemon =
        if median.daemon_cpu_us < 0.5 { String::new() } else { format!(" ({:.0})", median.daemon_cpu_us) };
    write!(
        text,
        "| {} | {} | {:.0} | {rate} | {:.0}{daemon} | {cpu} | {:.1} | {:.1} |",
        cell.key.kind().title(),
        cell.source.title(),
        median.rate_per_s,
        median.cpu_us,
        median.p50_us / 1e3,
        median.p99_us / 1e3
    )?;
    let failed: f64 = cell.rounds.iter().map(|round| round.errors).sum();
    if failed > 0.0 {
        write!(text, " {failed:.0} failed")?;
    }
    writeln!(text)
}
