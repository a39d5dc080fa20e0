//! Data for a token, collected up to [`COLLECTED`] bytes so that it goes there in one call: so it needs no session of its own,
//! survives forks and restarts of the token, and can be copied. What is longer is sent part by part, in a session of its own.

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::token::Parts;

/// How much data is collected before it goes to the token part by part, in bytes.
pub const COLLECTED: usize = 64 << 10;

/// How far an operation is whose data comes in parts.
pub enum Collected<P> {
    /// Not begun, finished, or failed.
    Idle,
    /// All data up to now.
    Whole(Zeroizing<Vec<u8>>),
    /// Where the parts go.
    InParts(P),
}

impl<P: Parts> Collected<P> {
    /// Begun, without data.
    pub fn begun() -> Self {
        Collected::Whole(Zeroizing::default())
    }

    /// Adds data; where it becomes too much to be collected, `begin` begins with what there is. What fails is not continued.
    pub fn update(&mut self, data: &[u8], begin: impl FnOnce(&[u8]) -> Result<P>) -> Result<()> {
        *self = match std::mem::replace(self, Collected::Idle) {
            Collected::Idle => return Err(not_begun()),
            Collected::Whole(before) if before.len() + data.len() <= COLLECTED => {
                Collected::Whole(with_added(before, data))
            }
            Collected::Whole(before) => {
                let mut parts = begin(&before)?;
                parts.update(data)?;
                Collected::InParts(parts)
            }
            Collected::InParts(mut parts) => {
                parts.update(data)?;
                Collected::InParts(parts)
            }
        };
        Ok(())
    }

    /// Ends it in `out`: `whole` does all at once with what was collected. Returns the result's size in bytes.
    pub fn finish(
        &mut self,
        out: &mut [u8],
        whole: impl FnOnce(&[u8], &mut [u8]) -> Result<usize>,
    ) -> Result<usize> {
        match std::mem::replace(self, Collected::Idle) {
            Collected::Idle => Err(not_begun()),
            Collected::Whole(data) => whole(&data, out),
            Collected::InParts(parts) => parts.finish(out),
        }
    }

    /// A copy that goes its own way from here.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(match self {
            Collected::Idle => Collected::Idle,
            Collected::Whole(data) => Collected::Whole(data.clone()),
            Collected::InParts(parts) => Collected::InParts(parts.duplicate()?),
        })
    }
}

/// Data with more behind it. What a vector grows out of is not wiped: so it grows here, by copying, to twice its size.
pub fn with_added(mut before: Zeroizing<Vec<u8>>, data: &[u8]) -> Zeroizing<Vec<u8>> {
    let size = before.len() + data.len();
    if size > before.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(size.max(2 * before.capacity())));
        larger.extend_from_slice(&before);
        before = larger;
    }
    before.extend_from_slice(data);
    before
}

fn not_begun() -> Error {
    Error::Unsupported("an operation that was not begun, or failed before".into())
}
