//! The report in words.

use std::fmt::Write as _;
use std::time::Duration;

use crate::report::{Latency, Report};

/// Writes the report for a reader.
pub fn of(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, report);
    text
}

/// Says how the load was made: `TLS 1.3, closed loop with 64 connections`.
pub fn load(report: &Report) -> String {
    let version = if report.tls.is_empty() { String::new() } else { format!("TLS {}, ", report.tls) };
    match report.rate_asked_per_s {
        Some(rate) => format!("{version}open loop, {} arrivals/s", trimmed(rate)),
        None => format!("{version}closed loop, {} connections", report.concurrency),
    }
}

/// Writes a latency with three digits: `412 µs`, `1.28 ms`, `2.05 s`.
pub fn latency(us: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let us = us as f64;
    let (value, unit) = match us {
        us if us < 1e3 => return format!("{us:.0} µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Writes the latency at a tick of an axis, which is a round number: `10 ms`.
pub fn tick(us: u64) -> String {
    let text = latency(us);
    match text.split_once(' ') {
        Some((value, unit)) if value.contains('.') => {
            format!("{} {unit}", value.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// Writes a number with groups of three: `12,345`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a rate: grouped, with a decimal where it is small.
pub fn rate(per_s: f64) -> String {
    if per_s < 100.0 {
        return format!("{per_s:.1}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, far below 2^64
    grouped(per_s.round() as u64)
}

fn trimmed(value: f64) -> String {
    if value >= 1000.0 {
        return rate(value);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn write(text: &mut String, report: &Report) -> std::fmt::Result {
    if !report.label.is_empty() {
        writeln!(text, "{}", report.label)?;
    }
    writeln!(text, "{}: {}", report.target, load(report))?;
    if !report.cipher.is_empty() {
        // A resumed TLS 1.2 session exchanges no keys.
        let comma = if report.group.is_empty() { "" } else { ", " };
        writeln!(text, "{}{comma}{}", report.cipher, report.group)?;
    }
    writeln!(text)?;
    let seconds = Duration::from_secs_f64(report.duration_s);
    writeln!(
        text,
        "handshakes   {} in {:.2} s, {}/s{}",
        grouped(report.handshakes),
        seconds.as_secs_f64(),
        rate(report.rate_per_s),
        match report.resumed {
            0 => String::new(),
            resumed if resumed == report.handshakes => ", all resumed".into(),
            resumed => format!(", {} resumed", grouped(resumed)),
        }
    )?;
    if let Some(handshakes) = &report.latency_us {
        writeln!(text, "latency      {}", percentiles(handshakes))?;
    }
    if report.requests > 0 {
        writeln!(text, "requests     {}", grouped(report.requests))?;
    }
    if let Some(requests) = &report.request_latency_us {
        writeln!(text, "latency      {}", percentiles(requests))?;
    }
    writeln!(text, "longest gap  {}", latency(whole(report.longest_gap_ms * 1e3)))?;
    if let Some(cpu) = report.client_cpu_us_per_handshake {
        writeln!(text, "client CPU   {} per handshake", latency(whole(cpu)))?;
    }
    if report.errors.is_empty() {
        return writeln!(text, "errors       none");
    }
    writeln!(text, "errors       {}", grouped(report.error_count()))?;
    let width = report.errors.keys().map(String::len).max().unwrap_or_default();
    for (kind, count) in &report.errors {
        let message = report.error_messages.get(kind).map_or("", String::as_str);
        writeln!(text, "  {kind:width$}  {:>9}  {message}", grouped(*count))?;
    }
    Ok(())
}

fn percentiles(of: &Latency) -> String {
    format!(
        "p50 {}   p90 {}   p99 {}   p99.9 {}   max {}",
        latency(of.p50),
        latency(of.p90),
        latency(of.p99),
        latency(of.p999),
        latency(of.max)
    )
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, far below 2^64
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(latency(412), "412 µs");
        assert_eq!(latency(1280), "1.28 ms");
        assert_eq!(latency(31_240), "31.2 ms");
        assert_eq!(latency(312_400), "312 ms");
        assert_eq!(latency(2_050_000), "2.05 s");
        assert_eq!(tick(10_000), "10 ms");
        assert_eq!(tick(2_500), "2.5 ms");
        assert_eq!(tick(100), "100 µs");
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
        assert_eq!(rate(49.96), "50.0");
        assert_eq!(rate(4321.2), "4,321");
        assert_eq!(trimmed(50.0), "50");
        assert_eq!(trimmed(0.5), "0.5");
        assert_eq!(trimmed(20_000.0), "20,000");
    }

    #[test]
    fn errors_are_named_and_counted() {
        let mut report = Report { target: "localhost:1".into(), concurrency: 4, ..Report::default() };
        report.errors.insert("refused".into(), 1200);
        report.error_messages.insert("refused".into(), "Connection refused (os error 111)".into());
        let text = of(&report);
        assert!(text.contains("localhost:1: closed loop, 4 connections"), "{text}");
        assert!(text.contains("refused      1,200  Connection refused"), "{text}");
        assert!(!text.contains("p50"), "{text}");
    }
}
