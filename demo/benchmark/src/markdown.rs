//! The results as tables in Markdown, for people.

mod handshakes;
mod targets;
mod tokens;

pub use handshakes::distance;

use std::fmt::Write as _;

use crate::results::Results;

/// For the terminal: everything in rows, and nothing that only the document needs.
pub fn brief(results: &Results) -> String {
    let mut text = head(results);
    text.push_str(&handshakes::rows(&results.handshakes));
    text.push_str(&handshakes::absent(&results.absent));
    text.push_str(&rest(results));
    text.push_str(&targets::of(results));
    text
}

/// For the document: targets first, servers side by side, then every row. `pictures` are the names of the files
/// beside it.
pub fn document(results: &Results, pictures: &[(String, String)]) -> String {
    let picture = |name: &str| {
        let found = pictures.iter().find(|(file, _)| file.starts_with(name));
        found.map_or(String::new(), |(file, spoken)| format!("\n![{spoken}]({file})\n"))
    };
    let mut text = String::from("# Results of the benchmark\n\nWritten by `./demo/bench`; not by hand.\n\n");
    text.push_str(&head(results));
    text.push_str(&targets::of(results));
    text.push_str(&picture("handshakes"));
    text.push_str(&handshakes::side_by_side(results));
    text.push_str(&handshakes::absent(&results.absent));
    text.push_str(&picture("tokens"));
    text.push_str(&picture("distance"));
    text.push_str(&picture("scale"));
    text.push_str(&rest(results));
    if !results.handshakes.is_empty() {
        text.push_str("\n## All handshakes\n");
        text.push_str(&handshakes::rows(&results.handshakes));
    }
    text
}

fn rest(results: &Results) -> String {
    [
        tokens::sessions(&results.tokens),
        tokens::lone(&results.lone),
        handshakes::far(&results.far_handshakes),
        tokens::far(&results.far_tokens),
        tokens::scale(&results.scale),
        tokens::find(&results.find),
    ]
    .concat()
}

/// What was measured on, when, and how.
fn head(results: &Results) -> String {
    let machine = &results.machine;
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Measured {} in {:.0} min with `{}`: medians of {} rounds of {} s.\n\n{}, {} processors ({}), {} MiB, {}, \
         {}.\n\n{}.",
        results.started,
        (results.took_s / 60.0).ceil(),
        results.command,
        results.rounds,
        results.round_s,
        machine.processor,
        machine.processors,
        machine.extensions.join(", "),
        machine.memory_mib,
        machine.kernel,
        machine.system,
        versions.join(", ")
    );
    text
}

/// A table: its head, its rows. The first `left` columns are text, the others numbers.
pub fn table(head: &[&str], left: usize, rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|", head.join(" | "));
    for column in 0..head.len() {
        text.push_str(if column < left { "---|" } else { "---:|" });
    }
    text.push('\n');
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Thousands with commas; small numbers with digits after the point.
fn number(value: f64) -> String {
    match value {
        _ if !value.is_finite() => "–".to_owned(),
        value if value >= 1000.0 => strongroom_load::summary::rate(value),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_as_many_columns_as_their_head() {
        let text = table(&["a", "b"], 1, &[vec!["1".into(), "2".into()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| 1 | 2 |\n");
    }

    #[test]
    fn numbers_have_three_digits_or_more() {
        assert_eq!(number(12345.6), "12,346");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(1.26), "1.3");
        assert_eq!(number(f64::NAN), "–");
    }

    #[test]
    fn a_run_of_nothing_can_be_written() {
        let results = Results::default();
        assert!(brief(&results).starts_with("Measured"));
        assert!(document(&results, &[]).starts_with("# Results"));
    }
}
