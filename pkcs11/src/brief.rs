//! What an operation needs to know of a key, found by the key's handle without a lock and without a count that
//! threads share: they all sign with the same few keys.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cryptoki_sys::CK_OBJECT_HANDLE;
use strongroom_protocol::v1::ObjectClass;

use crate::key::{KEYS, KeyFacts};
use crate::object::{Object, ObjectId};

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its identity.
    pub id: ObjectId,
    /// Its class: of objects that are no keys too.
    pub class: ObjectClass,
    /// Its type.
    pub facts: Option<&'static KeyFacts>,
    /// `CKA_SIGN`.
    pub may_sign: bool,
    /// `CKA_VERIFY`.
    pub may_verify: bool,
    /// `CKA_ENCRYPT`.
    pub may_encrypt: bool,
    /// `CKA_DECRYPT`.
    pub may_decrypt: bool,
    /// `CKA_DERIVE`.
    pub may_derive: bool,
    /// `CKA_ENCAPSULATE`.
    pub may_encapsulate: bool,
    /// `CKA_DECAPSULATE`.
    pub may_decapsulate: bool,
    /// `CKA_SIGN_RECOVER`.
    pub may_sign_recover: bool,
    /// `CKA_VERIFY_RECOVER`.
    pub may_verify_recover: bool,
    /// `CKA_ALWAYS_AUTHENTICATE`.
    pub always_authenticate: bool,
    /// It has `CKA_ALLOWED_MECHANISMS`: see [`crate::restrictions`].
    pub has_allowed_mechanisms: bool,
}

impl Key {
    /// Whether the daemon has something to look at each time that the key is used, which it does not do for what comes through a
    /// channel.
    pub fn is_restricted(&self) -> bool {
        self.always_authenticate || self.has_allowed_mechanisms
    }

    /// Of an object that the daemon has described.
    pub fn of(object: &Object) -> Self {
        let policy = object.policy();
        Key {
            id: object.id,
            class: object.info.class(),
            facts: object.key,
            may_sign: policy.sign,
            may_verify: policy.verify,
            may_encrypt: policy.encrypt,
            may_decrypt: policy.decrypt,
            may_derive: policy.derive,
            may_encapsulate: policy.encapsulate,
            may_decapsulate: policy.decapsulate,
            may_sign_recover: policy.sign_recover,
            may_verify_recover: policy.verify_recover,
            always_authenticate: policy.always_authenticate,
            has_allowed_mechanisms: !object.info.allowed_mechanisms.is_empty(),
        }
    }
}

/// How many places are made at once.
const CHUNK: usize = 2048;

/// The keys by the places of their handles.
#[derive(Debug)]
pub struct Briefs {
    chunks: Box<[OnceLock<Box<[Brief]>>]>,
}

/// One key. Whoever writes it holds the lock of the handles' table; whoever reads it takes no lock, and finds out
/// afterwards whether it was replaced meanwhile.
#[derive(Debug, Default)]
struct Brief {
    /// 0: nothing is known of the handle that belongs here.
    handle: AtomicU64,
    /// The identity's two halves.
    id: [AtomicU64; 2],
    /// See [`pack`].
    rest: AtomicU64,
}

const MAY_SIGN: u64 = 1;
const MAY_VERIFY: u64 = 2;
const MAY_ENCRYPT: u64 = 4;
const MAY_DECRYPT: u64 = 8;
const MAY_DERIVE: u64 = 16;
const MAY_ENCAPSULATE: u64 = 32;
const MAY_DECAPSULATE: u64 = 64;
const MAY_SIGN_RECOVER: u64 = 128;
// Above the class.
const MAY_VERIFY_RECOVER: u64 = 1 << 24;
const ALWAYS_AUTHENTICATE: u64 = 1 << 25;
const HAS_ALLOWED_MECHANISMS: u64 = 1 << 26;

/// The partition, the class, the key type (its place in [`KEYS`] and 1 more) and the permissions.
fn pack(partition: u32, key: &Key) -> u64 {
    let place = key.facts.and_then(|facts| KEYS.iter().position(|other| std::ptr::eq(facts, other)));
    let may = |permitted, bit| if permitted { bit } else { 0 };
    u64::from(partition) << 32
        | (i32::from(key.class) as u64 & 0xff) << 16
        | place.map_or(0, |place| place as u64 + 1) << 8
        | may(key.may_sign, MAY_SIGN)
        | may(key.may_verify, MAY_VERIFY)
        | may(key.may_encrypt, MAY_ENCRYPT)
        | may(key.may_decrypt, MAY_DECRYPT)
        | may(key.may_derive, MAY_DERIVE)
        | may(key.may_encapsulate, MAY_ENCAPSULATE)
        | may(key.may_decapsulate, MAY_DECAPSULATE)
        | may(key.may_sign_recover, MAY_SIGN_RECOVER)
        | may(key.may_verify_recover, MAY_VERIFY_RECOVER)
        | may(key.always_authenticate, ALWAYS_AUTHENTICATE)
        | may(key.has_allowed_mechanisms, HAS_ALLOWED_MECHANISMS)
}

fn unpack(id: [u64; 2], rest: u64) -> Key {
    let [high, low] = id;
    let place = (rest >> 8 & 0xff) as usize;
    Key {
        id: (u128::from(high) << 64 | u128::from(low)).to_be_bytes(),
        class: ObjectClass::try_from((rest >> 16 & 0xff) as i32).unwrap_or_default(),
        facts: place.checked_sub(1).and_then(|place| KEYS.get(place)),
        may_sign: rest & MAY_SIGN != 0,
        may_verify: rest & MAY_VERIFY != 0,
        may_encrypt: rest & MAY_ENCRYPT != 0,
        may_decrypt: rest & MAY_DECRYPT != 0,
        may_derive: rest & MAY_DERIVE != 0,
        may_encapsulate: rest & MAY_ENCAPSULATE != 0,
        may_decapsulate: rest & MAY_DECAPSULATE != 0,
        may_sign_recover: rest & MAY_SIGN_RECOVER != 0,
        may_verify_recover: rest & MAY_VERIFY_RECOVER != 0,
        always_authenticate: rest & ALWAYS_AUTHENTICATE != 0,
        has_allowed_mechanisms: rest & HAS_ALLOWED_MECHANISMS != 0,
    }
}

impl Briefs {
    /// For handles whose places are below `limit`.
    pub fn new(limit: usize) -> Self {
        Briefs { chunks: (0..limit.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect() }
    }

    /// What is known of the handle's key; `place` is the handle's.
    pub fn get(&self, partition: u32, handle: CK_OBJECT_HANDLE, place: usize) -> Option<Key> {
        let brief = self.chunks.get(place / CHUNK)?.get()?.get(place % CHUNK)?;
        if brief.handle.load(Ordering::Acquire) != handle {
            return None;
        }
        // Acquire: if any of these belongs to the next handle, the question after them is answered by "none" or
        // by that handle. The identity of a handle never changes; all else is in one word.
        let id = [brief.id[0].load(Ordering::Acquire), brief.id[1].load(Ordering::Acquire)];
        let rest = brief.rest.load(Ordering::Acquire);
        let is_same = brief.handle.load(Ordering::Relaxed) == handle && (rest >> 32) == u64::from(partition);
        is_same.then(|| unpack(id, rest))
    }

    /// Remembers a key. The caller holds the lock of the handles' table.
    pub fn put(&self, partition: u32, handle: CK_OBJECT_HANDLE, place: usize, key: &Key) {
        let Some(chunk) = self.chunks.get(place / CHUNK) else { return };
        let briefs = chunk.get_or_init(|| (0..CHUNK).map(|_| Brief::default()).collect());
        let Some(brief) = briefs.get(place % CHUNK) else { return };
        brief.handle.store(0, Ordering::Relaxed);
        let id = u128::from_be_bytes(key.id);
        brief.id[0].store((id >> 64) as u64, Ordering::Release);
        brief.id[1].store(id as u64, Ordering::Release);
        brief.rest.store(pack(partition, key), Ordering::Release);
        brief.handle.store(handle, Ordering::Release);
    }

    /// Forgets a key. The caller holds the lock of the handles' table.
    pub fn forget(&self, place: usize) {
        let chunk = self.chunks.get(place / CHUNK).and_then(OnceLock::get);
        if let Some(brief) = chunk.and_then(|briefs| briefs.get(place % CHUNK)) {
            brief.handle.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8, may_sign: bool) -> Key {
        Key {
            id: [number; 16],
            class: ObjectClass::PrivateKey,
            facts: KEYS.get(usize::from(number) % KEYS.len()),
            may_sign,
            may_verify: !may_sign,
            may_encrypt: may_sign,
            may_decrypt: !may_sign,
            may_derive: may_sign,
            may_encapsulate: !may_sign,
            may_decapsulate: may_sign,
            may_sign_recover: !may_sign,
            may_verify_recover: may_sign,
            always_authenticate: !may_sign,
            has_allowed_mechanisms: may_sign,
        }
    }

    #[test]
    fn what_is_put_is_found_under_its_handle_and_partition_only() {
        let briefs = Briefs::new(2 * CHUNK);
        for place in [0, 1, CHUNK, 2 * CHUNK - 1] {
            let wanted = key((place % 251) as u8, place % 2 == 0);
            briefs.put(u32::MAX, 77, place, &wanted);
            let found = briefs.get(u32::MAX, 77, place).unwrap();
            assert_eq!(format!("{found:?}"), format!("{wanted:?}"));
            assert!(briefs.get(7, 77, place).is_none() && briefs.get(u32::MAX, 78, place).is_none());
            briefs.forget(place);
            assert!(briefs.get(u32::MAX, 77, place).is_none());
        }
        assert!(briefs.get(1, 1, 99 * CHUNK).is_none());
    }

    #[test]
    fn a_reader_never_sees_half_of_another_key() {
        // Each reader goes on until it has found as many: how the threads share the processors must not decide.
        const FOUND: u32 = 2_000;
        let briefs = Briefs::new(CHUNK);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut found = 0;
                        for handle in (1..=200u64).cycle() {
                            if let Some(key) = briefs.get(1, handle, 0) {
                                assert_eq!(key.id, [handle as u8; 16]);
                                found += 1;
                                if found == FOUND {
                                    break;
                                }
                            }
                        }
                    })
                })
                .collect();
            let mut handles = (1..=200u64).cycle();
            while !readers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                let handle = handles.next().unwrap();
                briefs.put(1, handle, 0, &key(handle as u8, true));
            }
        });
    }
}
