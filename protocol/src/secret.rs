//! What messages with secrets show of themselves, and how they are wiped.

use std::fmt;

use zeroize::Zeroize;

use crate::v1::{
    AuthenticateUse, BeginRestore, ChangePassword, CreatePartition, CreateUser, DeriveKey, Encapsulated,
    Encrypt, ImportKey, ImportKeyPair, Login, LoginReply, Mac, MacReply, Pbkdf2Parameters, Plaintext,
    RenewSecurityDomain, SealWith, SharedSecret, Unseal, UseTicket, request, response,
};

/// Writes a message's name and its harmless fields, and `..` for the rest.
macro_rules! redacted_debug {
    ($($message:ident { $($field:ident),* })*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        }
    )*};
}

redacted_debug! {
    Login { role, user }
    LoginReply { role, user, must_change_password }
    CreatePartition { label, officer, user }
    CreateUser { name, role, uids, limited }
    ChangePassword { name }
    ImportKeyPair { private_key, public_key }
    ImportKey { key_type, key }
    Encrypt { key, mechanism }
    DeriveKey { key, mechanism, key_type, derived }
    Pbkdf2Parameters { hash, iterations }
    Mac { key, mechanism, more, verify }
    MacReply { }
    AuthenticateUse { key }
    UseTicket { }
    Plaintext { }
    SharedSecret { }
    Encapsulated { }
    Unseal { }
    SealWith { holders, needed }
    BeginRestore { label, replace }
    RenewSecurityDomain { holders, needed }
}

/// Wipes the secrets of a request: passwords, tickets, keys, plaintexts, what a data object holds. Call it when the request is done.
pub fn wipe(op: &mut request::Op) {
    match op {
        request::Op::Login(m) => {
            m.password.zeroize();
            m.ticket.zeroize();
        }
        request::Op::CreatePartition(m) => {
            m.password.zeroize();
            m.user_password.zeroize();
        }
        request::Op::CreateUser(m) => m.password.zeroize(),
        request::Op::ChangePassword(m) => {
            m.old_password.zeroize();
            m.new_password.zeroize();
        }
        request::Op::ImportKeyPair(m) => m.pkcs8.zeroize(),
        request::Op::ImportKey(m) => m.value.zeroize(),
        request::Op::CreateObject(m) => m.object.iter_mut().for_each(|object| object.value.zeroize()),
        request::Op::Sign(m) => m.ticket.zeroize(),
        request::Op::Decrypt(m) => m.ticket.zeroize(),
        request::Op::Encrypt(m) => m.data.zeroize(),
        request::Op::DeriveKey(m) => wipe_derivation(m),
        request::Op::Mac(m) => {
            m.data.zeroize();
            m.mac.zeroize();
        }
        request::Op::AuthenticateUse(m) => m.password.zeroize(),
        request::Op::Unseal(m) => wipe_unseal(m),
        request::Op::ClearTampering(m) => m.unseal.iter_mut().for_each(wipe_unseal),
        request::Op::SealWith(m) => m.passphrase.zeroize(),
        request::Op::BeginRestore(m) => m.shares.zeroize(),
        request::Op::RenewSecurityDomain(m) => m.shares.zeroize(),
        _ => {}
    }
}

/// Wipes the password that a key is made of.
pub fn wipe_derivation(derive: &mut DeriveKey) {
    derive.pbkdf2.iter_mut().for_each(|pbkdf2| pbkdf2.password.zeroize());
}

fn wipe_unseal(unseal: &mut Unseal) {
    unseal.passphrase.zeroize();
    unseal.shares.zeroize();
}

/// Wipes the secrets of a reply: tickets, random bytes, plaintexts, shared secrets. Call it when the reply is sent.
pub fn wipe_reply(result: &mut response::Result) {
    match result {
        response::Result::Login(m) => m.ticket.zeroize(),
        response::Result::Random(m) => m.random.zeroize(),
        response::Result::Plaintext(m) => m.plaintext.zeroize(),
        response::Result::SharedSecret(m) => m.secret.zeroize(),
        response::Result::Encapsulated(m) => m.secret.zeroize(),
        response::Result::Mac(m) => m.mac.zeroize(),
        response::Result::UseTicket(m) => m.ticket.zeroize(),
        _ => {}
    }
}

/// Whether a request carries a secret, so that the buffers it passed through are wiped too.
pub fn is_secret(op: &request::Op) -> bool {
    use request::Op;
    matches!(
        op,
        Op::Login(_)
            | Op::CreatePartition(_)
            | Op::CreateUser(_)
            | Op::ChangePassword(_)
            | Op::ImportKeyPair(_)
            | Op::ImportKey(_)
            | Op::CreateObject(_)
            | Op::DeriveKey(_)
            | Op::Encrypt(_)
            | Op::Mac(_)
            | Op::AuthenticateUse(_)
            | Op::Unseal(_)
            | Op::ClearTampering(_)
            | Op::SealWith(_)
            | Op::BeginRestore(_)
            | Op::RenewSecurityDomain(_)
    )
}

/// Whether the reply to a request carries a secret: a ticket, a plaintext, a shared secret, random bytes that may
/// become one, or what a private data object holds.
pub fn has_secret_reply(op: &request::Op) -> bool {
    use request::Op;
    matches!(
        op,
        Op::Login(_)
            | Op::GenerateRandom(_)
            | Op::FindObjects(_)
            | Op::Decrypt(_)
            | Op::Derive(_)
            | Op::Encapsulate(_)
            | Op::Decapsulate(_)
            | Op::Mac(_)
            | Op::RevealKey(_)
            | Op::AuthenticateUse(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let login = Login { role: 1, user: "co".into(), password: "hunter22".into(), ticket: vec![77; 4] };
        let text = format!("{login:?}");
        assert!(text.contains("co") && !text.contains("hunter22") && !text.contains("77"), "{text}");
        let import = ImportKey { value: vec![77; 32], ..ImportKey::default() };
        let encrypt = Encrypt { data: vec![77; 3], ..Encrypt::default() };
        let text = format!("{import:?} {encrypt:?} {:?}", Plaintext { plaintext: vec![77; 3] });
        assert!(text.contains("ImportKey") && !text.contains("77"), "{text}");
    }

    #[test]
    fn what_is_secret_is_wiped() {
        let mut encrypt = request::Op::Encrypt(Encrypt { data: vec![77; 3], ..Encrypt::default() });
        assert!(is_secret(&encrypt));
        wipe(&mut encrypt);
        assert!(matches!(encrypt, request::Op::Encrypt(m) if m.data.is_empty()));
        let mut reply = response::Result::Plaintext(Plaintext { plaintext: vec![77; 3] });
        wipe_reply(&mut reply);
        assert!(matches!(reply, response::Result::Plaintext(m) if m.plaintext.is_empty()));
    }
}
