//! What a command says: text for people or JSON for programs, on standard output; failures and warnings
//! on standard error.

use std::env;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Color, ContentArrangement, Table, TableStyle};
use serde::Serialize;

use crate::failure::Failure;

/// What a command has found out or done. Its JSON is its serialization; its fields are stable.
pub trait Report: Serialize {
    /// Writes the report for people.
    fn text(&self, page: &mut Page);
}

/// Where and how a command writes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Writes JSON if `json`, otherwise text.
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// Writes `report` to standard output. A reader that has gone away (`| head`) is no failure.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written: a full disk behind a redirection.
    pub fn print(&self, report: &impl Report) -> Result<(), Failure> {
        let text = if self.json {
            json(report)?
        } else {
            let mut page = Page::new(colours(io::stdout().is_terminal()));
            report.text(&mut page);
            page.text
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::file("write", "standard output".as_ref(), &error))
            }
            _ => Ok(()),
        }
    }

    /// Tells of something that does not stop the command.
    pub fn warn(&self, message: &str) {
        let line = if self.json {
            serde_json::json!({ "warning": { "message": message } }).to_string()
        } else {
            format!("strongroom: warning: {}", printable(message))
        };
        complain(&line);
    }

    /// Writes why the command failed.
    pub fn fail(&self, failure: &Failure) {
        let message = failure.to_string();
        let line = if self.json {
            let body = serde_json::json!({
                "error": { "code": failure.code(), "exit": failure.exit() as u8, "message": message }
            });
            body.to_string()
        } else {
            format!("strongroom: {}", printable(&message))
        };
        complain(&line);
    }
}

fn json(report: &impl Report) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(report)
        .map_err(|e| Failure::new(crate::failure::Exit::Failed, "json", e.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// Writes a line to standard error; there is nowhere to complain if that fails.
fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether to colour what goes to a stream (<https://no-color.org>).
fn colours(terminal: bool) -> bool {
    terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Shows control characters as escapes: labels come from other programs and must not steer the terminal.
/// Line feeds in messages are kept.
pub fn printable(text: &str) -> String {
    let shown = |c: char| c == '\n' || !c.is_control();
    if text.chars().all(shown) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut line, c| {
        if shown(c) {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
        line
    })
}

/// How a value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Green.
    Good,
    /// Yellow.
    Doubtful,
    /// Red.
    Bad,
}

/// A text with its tone.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Makes a cell of a table or field.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Cell { text: text.into(), tone }
    }
}

impl Cell {
    /// The text, without its tone.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::toned(text, Tone::Plain)
    }
}

/// Text for people, put together from lines, fields and tables.
#[derive(Debug)]
pub struct Page {
    text: String,
    colours: bool,
}

impl Page {
    fn new(colours: bool) -> Self {
        Page { text: String::new(), colours }
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(&printable(line.as_ref()));
        self.text.push('\n');
    }

    /// Adds text that ends with its own line feed, as a PEM block does.
    pub fn block(&mut self, text: &str) {
        self.text.push_str(&printable(text));
    }

    /// Adds names with their values, aligned.
    pub fn fields<'a>(&mut self, fields: impl IntoIterator<Item = (&'a str, Cell)>) {
        let rows = fields.into_iter().map(|(name, value)| vec![Cell::from(name), value]).collect();
        self.rows(None, rows);
    }

    /// Adds a table with a heading for each column.
    pub fn table(&mut self, headings: &[&str], rows: Vec<Vec<Cell>>) {
        self.rows(Some(headings), rows);
    }

    fn rows(&mut self, headings: Option<&[&str]>, rows: Vec<Vec<Cell>>) {
        let mut table = Table::new();
        // Never wrapped: URIs are copied, columns are cut by other programs.
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if let Some(headings) = headings {
            table.set_header(
                headings.iter().map(|h| comfy_table::Cell::new(h).add_attribute(Attribute::Bold)),
            );
        }
        for row in rows {
            table.add_row(row.into_iter().map(drawn));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }
}

fn drawn(cell: Cell) -> comfy_table::Cell {
    let text = printable(&cell.text).replace('\n', "\\n");
    let drawn = comfy_table::Cell::new(text);
    match cell.tone {
        Tone::Plain => drawn,
        Tone::Good => drawn.fg(Color::Green),
        Tone::Doubtful => drawn.fg(Color::Yellow),
        Tone::Bad => drawn.fg(Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_steer_the_terminal() {
        let mut page = Page::new(false);
        page.line("key \x1b[2J\"web\"\r");
        page.table(&["NAME", "ID"], vec![vec!["a\x07\nb".into(), "1".into()]]);
        assert_eq!(page.text, "key \\u{1b}[2J\"web\"\\r\nNAME       ID\na\\u{7}\\nb  1\n");
    }

    #[test]
    fn colours_appear_only_when_asked_for() {
        for colours in [false, true] {
            let mut page = Page::new(colours);
            page.fields([("state", Cell::toned("running", Tone::Good))]);
            assert_eq!(page.text.contains('\x1b'), colours, "{:?}", page.text);
            assert!(page.text.contains("running"));
        }
    }
}
