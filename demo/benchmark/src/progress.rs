//! What is measured now, and how long it still takes.

use std::time::{Duration, Instant};

use console::{Term, style};
use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where the output is no terminal.
const LINE: Duration = Duration::from_secs(20);

/// The progress of a run: a bar on a terminal, else a line now and then.
#[derive(Debug)]
pub struct Progress {
    terminal: Term,
    bar: ProgressBar,
    started: Instant,
    told: Option<Instant>,
    /// What the steps so far were expected to take.
    done: Duration,
    /// What all steps are expected to take.
    total: Duration,
}

impl Progress {
    /// Begins a run that is expected to take `total`.
    pub fn start(total: Duration) -> Self {
        let terminal = Term::stderr();
        let bar = if terminal.is_term() { ProgressBar::new(millis(total)) } else { ProgressBar::hidden() };
        if let Ok(template) = ProgressStyle::with_template("{bar:24.cyan/dim} {msg}") {
            bar.set_style(template);
        }
        Progress { terminal, bar, started: Instant::now(), told: None, done: Duration::ZERO, total }
    }

    /// Says what begins now; it is expected to take `expected`.
    pub fn step(&mut self, what: &str, expected: Duration) {
        let left = rounded(self.left());
        self.bar.set_position(millis(self.done));
        self.bar.set_message(format!("{what}, {left} left"));
        self.bar.tick();
        if self.bar.is_hidden() && self.told.is_none_or(|told| told.elapsed() > LINE) {
            let clock = rounded(self.started.elapsed());
            let _ = self.terminal.write_line(&format!("[{clock}] {what}, {left} left"));
            self.told = Some(Instant::now());
        }
        self.done += expected;
    }

    /// Writes a line above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| {
            // A reader that has gone away is no reason to leave servers behind.
            let _ = self.terminal.write_line(text);
        });
    }

    /// Says that something is not as it should be.
    pub fn warn(&self, text: &str) {
        self.say(&format!("{} {text}", style("!").yellow().bold().for_stderr()));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// What is left of the expectation, corrected by how it was missed so far.
    fn left(&self) -> Duration {
        let left = self.total.saturating_sub(self.done);
        let missed = self.started.elapsed().as_secs_f64() / self.done.as_secs_f64();
        if self.done > Duration::from_secs(5) { left.mul_f64(missed.clamp(0.5, 3.0)) } else { left }
    }
}

/// A time as a person says it: `40 s`, `12 min`.
pub fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..100 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded() {
        assert_eq!(rounded(Duration::from_secs(99)), "99 s");
        assert_eq!(rounded(Duration::from_secs(100)), "2 min");
    }

    #[test]
    fn what_is_left_shrinks() {
        let mut progress = Progress::start(Duration::from_secs(4));
        progress.step("one", Duration::from_secs(3));
        assert_eq!(progress.left(), Duration::from_secs(1));
        progress.step("two", Duration::from_secs(3));
        assert_eq!(progress.left(), Duration::ZERO);
    }
}
