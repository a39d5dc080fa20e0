//! Which requests make something that must not be made twice: they carry [`Request::once`](crate::v1::Request::once).

use rustix::rand::{GetRandomFlags, getrandom};

use crate::v1::{KeyTemplate, request::Op};

/// The name of one request: 16 random bytes. `None` if the system has none to give.
pub fn name() -> Option<[u8; 16]> {
    let mut once = [0; 16];
    let filled = getrandom(&mut once, GetRandomFlags::empty()).ok()?;
    (filled == once.len()).then_some(once)
}

/// Whether a request makes objects of the store, and none for a session.
pub fn makes_objects(op: &Op) -> bool {
    let stored = |template: &Option<KeyTemplate>| !template.as_ref().is_some_and(|template| template.session);
    match op {
        Op::GenerateKeyPair(m) => stored(&m.private_key) && stored(&m.public_key),
        Op::ImportKeyPair(m) => stored(&m.private_key) && stored(&m.public_key),
        Op::GenerateKey(m) => stored(&m.key),
        Op::ImportKey(m) => stored(&m.key),
        Op::UnwrapKey(m) => stored(&m.key) && stored(&m.public_key),
        Op::DeriveKey(m) => stored(&m.derived),
        Op::CreateObject(m) => !m.object.as_ref().is_some_and(|object| object.session),
        Op::CopyObject(m) => !m.session,
        Op::RotateKey(_) => true,
        _ => false,
    }
}
