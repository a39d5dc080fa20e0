//! Verification: line by line, with nothing but the lines and the public key.

use crate::chain::{self, Head, LineHash};
use crate::entry::{CHECKPOINT, Entry, FORMAT, MAX_LINE};
use crate::key::PublicKey;

/// What is wrong with a line, or with the log as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Longer than any line that the daemon writes.
    #[error("the line has {0} bytes: none has more than {MAX_LINE}")]
    Long(usize),
    /// Not an entry.
    #[error("this is no audit entry: {0}")]
    Form(String),
    /// Of a later release.
    #[error("the entry has format {0}; this command knows {FORMAT}: verify with the release that wrote it")]
    Format(u32),
    /// Of another log.
    #[error("the entry belongs to the log {found}, not to {expected}")]
    Log {
        /// What the lines before belong to.
        expected: String,
        /// What this line belongs to.
        found: String,
    },
    /// Lines are not there.
    #[error("entries {first} to {last} are missing before entry {found}")]
    Missing {
        /// The first that is missing.
        first: u64,
        /// The last.
        last: u64,
        /// What follows.
        found: u64,
    },
    /// A line stands where it was not written.
    #[error("entry {found} stands where entry {expected} has to be: entries were moved or repeated")]
    Order {
        /// The number that has to come.
        expected: u64,
        /// The number of this line.
        found: u64,
    },
    /// The line before is not the one that was there when this one was written.
    #[error(
        "entry {0} does not continue the line before it: that line was changed, or this one belongs elsewhere"
    )]
    Chain(u64),
    /// A checkpoint without signature, or one that does not verify.
    #[error(
        "the signature of checkpoint {0} is not right: an entry since the checkpoint before it was changed, or it was made with another key"
    )]
    Signature(u64),
    /// The key that the file names is not the one that was given.
    #[error("entry {seq} names the public key {found}, not the one that was given ({expected})")]
    Key {
        /// The entry.
        seq: u64,
        /// Its key's fingerprint.
        found: String,
        /// The given one's.
        expected: String,
    },
    /// No line is signed.
    #[error("no checkpoint is among the {0} entries: nothing says that they are the daemon's")]
    Unsigned(u64),
    /// Nothing to verify.
    #[error("there are no entries")]
    Empty,
}

/// What was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Which log.
    pub log: String,
    /// The numbers of the first and the last entry. What came before the first was not there to be verified.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// When they were written.
    pub from: String,
    /// See `from`.
    pub to: String,
    /// How many signatures were verified.
    pub checkpoints: u64,
    /// The entries after the last checkpoint: chained, and not signed yet.
    pub unsigned: u64,
    /// Alarms among the entries.
    pub alarms: u64,
    /// The key's fingerprint.
    pub key: String,
    /// Whether the key is only what the file itself says: then somebody who wrote all of it anew chose the key, too.
    pub key_from_file: bool,
}

/// Verifies a log that is shown to it line by line.
#[derive(Debug)]
pub struct Verifier {
    key: Option<PublicKey>,
    head: Option<Head>,
    summary: Summary,
}

impl Verifier {
    /// Verifies signatures with `key`; without one, with the key that the log itself names.
    pub fn new(key: Option<PublicKey>) -> Self {
        let summary = Summary { key_from_file: key.is_none(), ..Summary::default() };
        Verifier { key, head: None, summary }
    }

    /// Verifies the next line, without its line feed, and returns what it says.
    ///
    /// # Errors
    ///
    /// The first [`Fault`] of the line. What follows cannot be trusted.
    pub fn line(&mut self, line: &[u8]) -> Result<Entry, Fault> {
        let entry = parse(line)?;
        match self.head {
            None if self.summary.log.is_empty() => {
                self.summary.log.clone_from(&entry.log);
                self.summary.first = entry.seq;
                self.summary.from.clone_from(&entry.time);
                if entry.seq <= 1 && prev_of(&entry)? != LineHash::default() {
                    return Err(Fault::Chain(entry.seq));
                }
            }
            None => return Err(Fault::Chain(entry.seq)),
            Some(_) if entry.log != self.summary.log => {
                return Err(Fault::Log { expected: self.summary.log.clone(), found: entry.log });
            }
            Some(head) => follows(head, &entry)?,
        }
        if let Some(named) = entry.details.get("public_key") {
            self.names_key(entry.seq, named)?;
        }
        self.summary.unsigned += 1;
        if entry.action == CHECKPOINT || !entry.signature.is_empty() {
            self.check_signature(&entry, line)?;
            self.summary.checkpoints += 1;
            self.summary.unsigned = 0;
        }
        if entry.action == "alarm" {
            self.summary.alarms += 1;
        }
        self.summary.last = entry.seq;
        self.summary.to.clone_from(&entry.time);
        self.head = Some(Head { seq: entry.seq, hash: chain::hash(line) });
        Ok(entry)
    }

    /// What was verified, when all lines were shown.
    ///
    /// # Errors
    ///
    /// [`Fault::Empty`] and [`Fault::Unsigned`].
    pub fn finish(mut self) -> Result<Summary, Fault> {
        let summary = &mut self.summary;
        summary.key = self.key.as_ref().map(PublicKey::fingerprint).unwrap_or_default();
        match (self.head, summary.checkpoints) {
            (None, _) => Err(Fault::Empty),
            (Some(_), 0) => Err(Fault::Unsigned(summary.unsigned)),
            _ => Ok(self.summary),
        }
    }

    fn names_key(&mut self, seq: u64, named: &str) -> Result<(), Fault> {
        let named = PublicKey::from_hex(named).map_err(|error| Fault::Form(error.to_string()))?;
        match &self.key {
            None => self.key = Some(named),
            Some(key) if *key == named => {}
            Some(key) => {
                let (found, expected) = (named.fingerprint(), key.fingerprint());
                return Err(Fault::Key { seq, found, expected });
            }
        }
        Ok(())
    }

    fn check_signature(&self, entry: &Entry, line: &[u8]) -> Result<(), Fault> {
        let wrong = || Fault::Signature(entry.seq);
        let key = self.key.as_ref().ok_or_else(wrong)?;
        let text = std::str::from_utf8(line).map_err(|_| wrong())?;
        let (signed, signature) = chain::split_signature(text).ok_or_else(wrong)?;
        if key.verifies(signed.as_bytes(), &signature) { Ok(()) } else { Err(wrong()) }
    }
}

/// An entry of this format, from one line.
pub(crate) fn parse(line: &[u8]) -> Result<Entry, Fault> {
    if line.len() > MAX_LINE {
        return Err(Fault::Long(line.len()));
    }
    let entry: Entry = serde_json::from_slice(line).map_err(|error| Fault::Form(error.to_string()))?;
    match entry.v {
        FORMAT
            if entry.seq == 0 || [&entry.log, &entry.action, &entry.outcome].iter().any(|t| t.is_empty()) =>
        {
            Err(Fault::Form("it lacks its number, log, action or outcome".to_owned()))
        }
        FORMAT => Ok(entry),
        0 => Err(Fault::Form("it has no format".to_owned())),
        other => Err(Fault::Format(other)),
    }
}

/// Whether an entry is the next one.
fn follows(head: Head, entry: &Entry) -> Result<(), Fault> {
    // A number that nobody can count to ends the log.
    let expected = head.seq.saturating_add(1);
    if entry.seq > expected {
        return Err(Fault::Missing { first: expected, last: entry.seq - 1, found: entry.seq });
    }
    if entry.seq < expected {
        return Err(Fault::Order { expected, found: entry.seq });
    }
    if prev_of(entry)? == head.hash { Ok(()) } else { Err(Fault::Chain(entry.seq)) }
}

fn prev_of(entry: &Entry) -> Result<LineHash, Fault> {
    let bytes = chain::unhex(&entry.prev).and_then(|bytes| LineHash::try_from(bytes).ok());
    bytes.ok_or_else(|| Fault::Form("its field \"prev\" is no SHA-256".to_owned()))
}

#[cfg(test)]
mod tests;
