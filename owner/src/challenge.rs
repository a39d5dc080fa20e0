//! What the owner signs to unlock a user: a text, so that the owner can read what it is.

use std::fmt;
use std::time::SystemTime;

/// The size of a nonce, in bytes.
pub const NONCE: usize = 32;

/// A challenge. Its text is what the owner signs.
#[derive(Debug, Clone, Copy)]
pub struct Challenge<'a> {
    /// The partition's label: printable.
    pub partition: &'a str,
    /// The partition's serial number: another partition of the same label has another one.
    pub serial: &'a str,
    /// The user to be unlocked.
    pub user: &'a str,
    /// Different for every challenge.
    pub nonce: [u8; NONCE],
    /// Until when the daemon takes the answer.
    pub expires: SystemTime,
}

impl fmt::Display for Challenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Challenge { partition, serial, user, nonce, expires } = self;
        writeln!(f, "Strongroom: the owner unlocks a user")?;
        writeln!(f, "partition: {partition}")?;
        writeln!(f, "serial: {serial}")?;
        writeln!(f, "user: {user}")?;
        f.write_str("nonce: ")?;
        nonce.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        writeln!(f, "\nexpires: {}", humantime::format_rfc3339_seconds(*expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What owners sign, so that an accidental change shows.
    #[test]
    fn golden_text() {
        let challenge = Challenge {
            partition: "tls",
            serial: "efa3775b3699ad27",
            user: "admin",
            nonce: [0xab; NONCE],
            expires: SystemTime::UNIX_EPOCH,
        };
        let expected = format!(
            "Strongroom: the owner unlocks a user\npartition: tls\nserial: efa3775b3699ad27\nuser: admin\n\
             nonce: {}\nexpires: 1970-01-01T00:00:00Z\n",
            "ab".repeat(32)
        );
        assert_eq!(challenge.to_string(), expected);
    }
}
