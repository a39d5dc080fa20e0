//! The last entries of a log, in memory, for those who look.

use std::collections::VecDeque;

use strongroom_audit::{CHECKPOINT, Entry};

/// So many.
const MOST: usize = 30;

/// The last entries of a log but for checkpoints, the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Last(VecDeque<Entry>);

impl Last {
    pub(super) fn push(&mut self, entry: &Entry) {
        if entry.action == CHECKPOINT {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(entry.clone());
    }

    /// Adds entries that were written at `time`.
    pub(super) fn extend(&mut self, entries: &[Entry], time: &str) {
        for entry in entries.iter().skip(entries.len().saturating_sub(MOST)) {
            self.push(entry);
            if let Some(last) = self.0.back_mut().filter(|last| last.time.is_empty()) {
                time.clone_into(&mut last.time);
            }
        }
    }

    /// The newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().rev()
    }
}
