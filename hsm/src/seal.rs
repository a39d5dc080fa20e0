//! Records at rest are sealed: AES-256-GCM, each under a key of its own.
//!
//! A record's key is derived (HKDF-SHA-256) from the sealing key and 32 random bytes that lie beside the
//! record. Every derived key seals one message only, so that no nonce can repeat under it, however often a
//! partition is written; with random nonces under one key the bound would be 2^32 records.
//!
//! Associated data are the record's name (which partition, which object) and the partition's revision that
//! wrote it. Class and policy of an object are inside: sealed with the key as one message, they cannot be
//! combined with another key. A record that was moved, edited or sealed by somebody else does not open. A
//! record that was put back as it was earlier does open: [`SetHash`] tells.
//!
//! ```text
//! format (1) ‖ revision (8, little-endian) ‖ salt (32) ‖ ciphertext ‖ tag (16)
//! ```

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::crypto::aws_lc;
use crate::memory::SecretBytes;

/// The size of a sealing key, in bytes.
pub const KEY_LENGTH: usize = 32;

const FORMAT: u8 = 1;
const SALT: usize = 32;
const HEAD: usize = 1 + 8 + SALT;
const TAG: usize = 16;

/// Why a record does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Written by a later release, or not a record at all.
    #[error("not a record of a format that this release knows")]
    Format,
    /// Damaged, moved from elsewhere, or sealed under another key.
    #[error("damaged, moved, or sealed under another key")]
    Forged,
    /// The crypto library failed.
    #[error("sealing failed")]
    Library,
}

/// A key that seals records: a partition's, or the node's.
pub struct SealingKey {
    now: SecretBytes,
    /// The revision from which records are sealed by it.
    since: u64,
    /// Those that sealed what was written earlier, oldest first: each with the revision at which its time was over.
    earlier: Vec<(u64, SecretBytes)>,
}

/// Keys that one may have had before, at most.
const EARLIER: usize = 500;

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl SealingKey {
    /// A new random key.
    pub fn generate() -> Self {
        let mut bytes = SecretBytes::zeroed(KEY_LENGTH);
        aws_lc::random(&mut bytes);
        Self { now: bytes, since: 0, earlier: Vec::new() }
    }

    /// Takes key bytes; `None` unless there are [`KEY_LENGTH`].
    pub fn new(bytes: SecretBytes) -> Option<Self> {
        aws_lc::prepare();
        (bytes.len() == KEY_LENGTH).then_some(Self { now: bytes, since: 0, earlier: Vec::new() })
    }

    /// The same key once more; `None` never comes of a key that is one.
    pub fn copy(&self) -> Option<Self> {
        Self::with_earlier(&self.with_earlier_bytes())
    }

    /// The key's bytes, to be sealed under another key: of one that never took the place of another.
    pub fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// Another key in the place of this one, for what is written from `revision` on. This one opens what was written before; those
    /// that nothing is left of since revision `oldest` are dropped. `None` if there are too many.
    pub fn renewed(&self, revision: u64, oldest: u64) -> Option<Self> {
        let before = self.earlier.iter().map(|(until, key)| (*until, SecretBytes::from(&**key)));
        let all = before.chain([(revision, SecretBytes::from(self.bytes()))]);
        let earlier: Vec<_> = all.filter(|(until, _)| *until > oldest).collect();
        let Self { now, .. } = Self::generate();
        (earlier.len() <= EARLIER).then_some(Self { now, since: revision, earlier })
    }

    /// The revision from which records are sealed by it.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// The key and the earlier ones as bytes: the key (32), then for each earlier one, oldest first, the revision at which its time
    /// was over (8, little-endian), and it (32).
    pub fn with_earlier_bytes(&self) -> SecretBytes {
        let mut bytes = SecretBytes::zeroed(KEY_LENGTH + self.earlier.len() * (8 + KEY_LENGTH));
        let earlier = self
            .earlier
            .iter()
            .flat_map(|(until, key)| until.to_le_bytes().into_iter().chain(key.iter().copied()));
        bytes.iter_mut().zip(self.now.iter().copied().chain(earlier)).for_each(|(to, from)| *to = from);
        bytes
    }

    /// What [`SealingKey::with_earlier_bytes`] made; `None` if it is not that.
    pub fn with_earlier(bytes: &[u8]) -> Option<Self> {
        let (now, rest) = bytes.split_at_checked(KEY_LENGTH)?;
        let (entries, left) = rest.as_chunks::<{ 8 + KEY_LENGTH }>();
        let mut key = Self::new(SecretBytes::from(now))?;
        for entry in entries {
            let (until, bytes) = entry.split_first_chunk::<8>()?;
            let until = u64::from_le_bytes(*until);
            if until <= key.since {
                return None;
            }
            key.since = until;
            key.earlier.push((until, SecretBytes::from(bytes)));
        }
        (left.is_empty() && key.earlier.len() <= EARLIER).then_some(key)
    }

    /// The one that sealed what this revision has written.
    fn of(&self, revision: u64) -> &SecretBytes {
        let earlier = self.earlier.iter().find(|(until, _)| revision < *until);
        earlier.map_or(&self.now, |(_, key)| key)
    }

    /// Seals `plain` as the record `name` of `revision`. The plaintext is overwritten.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn seal(&self, name: &str, revision: u64, mut plain: SecretBytes) -> Result<Vec<u8>, SealError> {
        let mut record = Vec::with_capacity(HEAD + plain.len() + TAG);
        record.push(FORMAT);
        record.extend_from_slice(&revision.to_le_bytes());
        record.extend_from_slice(&aws_lc::random_array::<SALT>());
        let key = record_key(&self.now, record.get(9..HEAD).unwrap_or_default())?;
        let tag = key
            .seal_in_place_separate_tag(only_nonce(), associated(name, &record), &mut plain)
            .map_err(|_| SealError::Library)?;
        record.extend_from_slice(&plain);
        record.extend_from_slice(tag.as_ref());
        Ok(record)
    }

    /// Opens the record `name`, and says which revision wrote it.
    ///
    /// # Errors
    ///
    /// [`SealError::Format`] and [`SealError::Forged`].
    pub fn open(&self, name: &str, record: &[u8]) -> Result<(u64, SecretBytes), SealError> {
        let (head, sealed) =
            record.split_at_checked(HEAD).filter(|(_, s)| s.len() >= TAG).ok_or(SealError::Format)?;
        let (format, revision) = match head.first_chunk::<9>() {
            Some([format, revision @ ..]) => (*format, u64::from_le_bytes(*revision)),
            None => return Err(SealError::Format),
        };
        if format != FORMAT {
            return Err(SealError::Format);
        }
        let key = record_key(self.of(revision), head.get(9..).unwrap_or_default())?;
        let mut buffer = SecretBytes::from(sealed);
        let length = key
            .open_in_place(only_nonce(), associated(name, head), &mut buffer)
            .map_err(|_| SealError::Forged)?
            .len();
        Ok((revision, SecretBytes::from(buffer.get(..length).unwrap_or_default())))
    }

    /// Derives the key of this partition's [`SetHash`].
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn set_key(&self) -> Result<SetKey, SealError> {
        let bytes = self.derived(b"strongroom set 1")?;
        Ok(SetKey(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Derives the key of this partition's log-in tickets: see [`crate::tickets`].
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn ticket_key(&self) -> Result<SecretBytes, SealError> {
        self.derived(b"strongroom ticket 1")
    }

    fn derived(&self, label: &[u8]) -> Result<SecretBytes, SealError> {
        let mut bytes = SecretBytes::zeroed(KEY_LENGTH);
        Salt::new(HKDF_SHA256, b"")
            .extract(&self.now)
            .expand(&[label], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut bytes))
            .map_err(|_| SealError::Library)?;
        Ok(bytes)
    }
}

/// Each derived key seals one message: one nonce is enough.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn record_key(key: &[u8], salt: &[u8]) -> Result<LessSafeKey, SealError> {
    let mut bytes = Zeroizing::new([0u8; KEY_LENGTH]);
    Salt::new(HKDF_SHA256, salt)
        .extract(key)
        .expand(&[b"strongroom record 1"], HKDF_SHA256)
        .and_then(|okm| okm.fill(bytes.as_mut_slice()))
        .and_then(|()| UnboundKey::new(&AES_256_GCM, bytes.as_slice()))
        .map(LessSafeKey::new)
        .map_err(|_| SealError::Library)
}

fn associated(name: &str, head: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([name.as_bytes(), b"\0", head].concat())
}

/// The revision that wrote a sealed record, as it says itself; `None` if it is none.
pub fn revision_of(record: &[u8]) -> Option<u64> {
    let (_, rest) = record.split_first()?;
    rest.first_chunk().map(|revision| u64::from_le_bytes(*revision))
}

/// The key of a [`SetHash`].
pub struct SetKey(hmac::Key);

impl fmt::Debug for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetKey(..)")
    }
}

impl SetKey {
    /// What one record adds to the hash of the set that it is in.
    pub fn element(&self, name: &str, record: &[u8]) -> Element {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(name.len() as u64).to_le_bytes());
        context.update(name.as_bytes());
        context.update(record);
        let mut element = [0; 32];
        for (to, from) in element.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        Element(element)
    }
}

/// One record's part of a [`SetHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Element([u8; 32]);

impl Element {
    /// The element as bytes, for the ledger.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The element that a ledger holds; `None` if it has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// A hash over the set of a partition's sealed records, changed record by record.
///
/// It is the exclusive or of a keyed hash of each record. The sum is kept sealed in the partition's header
/// and written in the transaction that changes records, so that a record which is missing, is put back to an
/// earlier state, or comes from elsewhere shows when the partition is loaded. Nobody without the key sees an
/// element or the sum, so nobody can look for another set with the same sum. (What it cannot show is that the
/// header was put back too: that shows in the [`crate::store::Ledger`].)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetHash([u8; 32]);

impl SetHash {
    /// Adds a record, or takes one out that is in the set.
    pub fn toggle(&mut self, element: Element) {
        for (sum, byte) in self.0.iter_mut().zip(element.0) {
            *sum ^= byte;
        }
    }

    /// The hash as bytes, for the header.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The hash that a header holds; `None` if it has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(SecretBytes::from([byte; KEY_LENGTH].as_slice())).unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let record = key(1).seal("partition/1/object/2", 7, SecretBytes::from(b"secret".as_slice())).unwrap();
        let (revision, plain) = key(1).open("partition/1/object/2", &record).unwrap();
        assert_eq!((revision, &*plain), (7, b"secret".as_slice()));
        assert_eq!(key(2).open("partition/1/object/2", &record).unwrap_err(), SealError::Forged);
        assert_eq!(key(1).open("partition/1/object/3", &record).unwrap_err(), SealError::Forged);
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert!(key(1).open("partition/1/object/2", &changed).is_err(), "byte {at}");
            assert!(key(1).open("partition/1/object/2", &record[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_plaintext_never_looks_the_same() {
        let seal = || key(1).seal("a", 1, SecretBytes::from(b"same".as_slice())).unwrap();
        assert_ne!(seal()[HEAD..], seal()[HEAD..]);
    }

    /// The format on disk, so that an accidental change shows.
    #[test]
    fn golden_record() {
        let record: Vec<u8> = GOLDEN
            .as_bytes()
            .chunks(2)
            .map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap())
            .collect();
        let (revision, plain) = key(3).open("golden", &record).unwrap();
        assert_eq!((revision, &*plain), (258, b"strongroom".as_slice()));
    }

    const GOLDEN: &str = "010201000000000000d17406e534b41bf80459936195d2671bf05bb6c06f6ec62b\
        ad2c43a9de82c7361f390e49721b39b20611923cb8f6ecb2fa60bc2586269cf5d561";

    #[test]
    fn a_set_hash_tells_sets_apart() {
        let set = key(1).set_key().unwrap();
        let (a, b) = (set.element("a", b"1"), set.element("b", b"1"));
        assert_ne!(a, b);
        assert_ne!(set.element("ab", b"c"), set.element("a", b"bc"));
        assert_ne!(key(2).set_key().unwrap().element("a", b"1"), a);
        let mut hash = SetHash::default();
        hash.toggle(a);
        hash.toggle(b);
        hash.toggle(a);
        let mut only_b = SetHash::default();
        only_b.toggle(b);
        assert_eq!(hash, only_b);
        assert_eq!(SetHash::from_bytes(&hash.to_bytes()), Some(hash));
    }
}
