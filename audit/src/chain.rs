//! The chain: each line has the hash of the one before it.

use aws_lc_rs::digest::{SHA256, digest};

use crate::entry::{CHECKPOINT, Entry, FORMAT, MAX_LINE};

/// SHA-256 of a line, in bytes.
pub type LineHash = [u8; 32];

/// The longest text of one field, in bytes: what is longer is cut when a line is written.
const MAX_TEXT: usize = 1024;

/// The end of a log: what the next line continues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// The number of the last line; 0 if there is none.
    pub seq: u64,
    /// Its hash; zeros if there is none.
    pub hash: LineHash,
}

impl Head {
    /// Writes the next line, without line feed, and goes on to it. `sign` signs a checkpoint: it gets what is to be
    /// signed, and gives the signature.
    ///
    /// A line is never longer than [`MAX_LINE`]: texts are cut to a size at which they fit.
    pub fn append(&mut self, mut entry: Entry, sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> String {
        entry.v = FORMAT;
        entry.seq = self.seq + 1;
        entry.prev = hex(&self.hash);
        entry.signature = String::new();
        cut(&mut entry);
        let mut line = serde_json::to_string(&entry).unwrap_or_default();
        if line.len() > MAX_LINE / 2 {
            entry.details.clear();
            entry.details.insert("cut".to_owned(), "the line would have been too long".to_owned());
            line = serde_json::to_string(&entry).unwrap_or_default();
        }
        if entry.action == CHECKPOINT
            && let Some(signature) = sign(line.as_bytes())
        {
            line = signed_line(&line, &signature);
        }
        *self = Head { seq: entry.seq, hash: hash(line.as_bytes()) };
        line
    }
}

/// The hash of a line, without its line feed.
pub fn hash(line: &[u8]) -> LineHash {
    let mut hash = LineHash::default();
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, line).as_ref()) {
        *to = *from;
    }
    hash
}

/// A line with its signature as the last field.
fn signed_line(line: &str, signature: &[u8]) -> String {
    let open = line.strip_suffix('}').unwrap_or(line);
    format!("{open}{FIELD}{}\"}}", hex(signature))
}

const FIELD: &str = ",\"signature\":\"";

/// What is signed of a checkpoint, and its signature: the line without its last field. `None` if its last field is no
/// signature.
pub(crate) fn split_signature(line: &str) -> Option<(String, Vec<u8>)> {
    let (open, rest) = line.rsplit_once(FIELD)?;
    let signature = unhex(rest.strip_suffix("\"}")?)?;
    Some((format!("{open}}}"), signature))
}

fn cut(entry: &mut Entry) {
    let texts = [
        &mut entry.log,
        &mut entry.time,
        &mut entry.action,
        &mut entry.outcome,
        &mut entry.partition,
        &mut entry.role,
        &mut entry.user,
        &mut entry.program,
        &mut entry.connection,
        &mut entry.key,
        &mut entry.object,
        &mut entry.class,
        &mut entry.key_type,
        &mut entry.since,
    ];
    for text in texts.into_iter().chain(entry.details.values_mut()) {
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push('…');
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
        text
    })
}

/// The bytes of lower-case hexadecimal digits; `None` if the text is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}
