//! One line of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The format that this release writes, in each line's `v`.
pub const FORMAT: u32 = 1;

/// The longest line, in bytes, without its line feed.
pub const MAX_LINE: usize = 64 * 1024;

/// The action of a line that is signed.
pub const CHECKPOINT: &str = "audit_checkpoint";

/// The outcome of what was done. Every other outcome but `begun` is the protocol's name of an error, in lower case.
pub const SUCCESS: &str = "success";

/// What happened, who did it, to which key, and what came of it. The fields stand in a line in this order; one that
/// is empty is left out. Readers ignore fields that they do not know: later releases add some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// [`FORMAT`].
    pub v: u32,
    /// Which log: `node`, or `partition-` and its number.
    pub log: String,
    /// Counts the lines of the log, from 1.
    pub seq: u64,
    /// When it was written (UTC, RFC 3339, to the microsecond).
    pub time: String,
    /// What was done: the protocol's name of the request, in lower case, or an event of the daemon's own.
    pub action: String,
    /// [`SUCCESS`], the error's name, or `begun`: a change that is about to be made.
    pub outcome: String,
    /// The partition's label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub partition: String,
    /// The role in which it was done: `crypto_officer`, `crypto_user`, `owner` and others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// The partition's user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The kernel's word for who is at the other end of the connection: the user id…
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// … and the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Of a connection over the network: the address that it comes from (of IPv6 the network, 64 bits)…
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// … and the certificate that it has shown: SHA-256 of its public key, hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// What the client calls itself. Nobody vouches for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// The connection: the daemon's start and a number, unique for ever.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection: String,
    /// The request's number, chosen by the client, in its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// The object's label.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The object's identity, hexadecimal, 16 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// What it is: `private_key`, `certificate` and others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// The type of a key, as the protocol calls it, in lower case.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_type: String,
    /// Of a sum: how many times it was done, between `since` and `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of a sum: from when on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// What else there is to say. Never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// SHA-256 of the line before this one, hexadecimal; 64 zeros in a log's first line.
    pub prev: String,
    /// Of a checkpoint: Ed25519 over the line as it would be without this field, hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature: String,
}

impl Entry {
    /// An entry for this action and outcome.
    pub fn new(action: impl Into<String>, outcome: impl Into<String>) -> Self {
        Entry { v: FORMAT, action: action.into(), outcome: outcome.into(), ..Entry::default() }
    }

    /// The same entry with something more to say.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }
}
