//! What the demo writes on the terminal.

use std::process::Command;
use std::time::Duration;

use console::{Term, style};
use indicatif::{ProgressBar, ProgressStyle};
use strongroom_demo::command::describe;

/// Numbered steps with what happens in them.
#[derive(Debug)]
pub struct Screen {
    terminal: Term,
    step: u32,
}

impl Screen {
    /// Writes the title.
    pub fn new(title: &str) -> Self {
        let screen = Screen { terminal: Term::stdout(), step: 0 };
        screen.line(&format!("\n{}", style(title).bold()));
        screen
    }

    fn line(&self, text: &str) {
        // A reader that has gone away (`| head`) is no reason to leave servers behind: go on.
        let _ = self.terminal.write_line(text);
    }

    /// Begins the next step.
    pub fn step(&mut self, text: &str) {
        self.step += 1;
        self.line(&format!("\n{}  {}", style(self.step).cyan().bold(), style(text).bold()));
    }

    /// Says something within the step.
    pub fn say(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("   {line}"));
        }
    }

    /// Leaves a line free.
    pub fn gap(&self) {
        self.line("");
    }

    /// Says that something is as it should be.
    pub fn good(&self, text: &str) {
        self.line(&format!("   {} {text}", style("✓").green().bold()));
    }

    /// Shows a command as a person would type it, with `folder` left out of its paths.
    pub fn command(&self, command: &Command, folder: &str) {
        let text = describe(command).replace(&format!("{folder}/"), "");
        self.line(&format!("   {} {text}", style("$").dim()));
    }

    /// A bar for what takes longer than two seconds; it is not shown if the output is no terminal.
    pub fn progress(&self, text: &str, length: u64) -> ProgressBar {
        let bar = ProgressBar::new(length);
        if let Ok(template) = ProgressStyle::with_template("   {msg} {wide_bar} {elapsed}/{duration}") {
            bar.set_style(template);
        }
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Writes an error and its causes.
pub fn failure(error: &anyhow::Error) {
    let terminal = Term::stderr();
    let _ =
        terminal.write_line(&format!("\n{} {error:#}", style("The demo failed:").red().bold().for_stderr()));
}
