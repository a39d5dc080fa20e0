//! Session objects: made, found, copied and read; how long they live; the daemon that forgets them and gets them back.

use std::ptr::null_mut;

use cryptoki_sys::*;
use strongroom_protocol::v1::{ErrorCode, Mechanism, Sign, request::Op};

use crate::call;
use crate::logged_in;
use crate::support::application::{
    Application, FALSE, P256, TRUE, attribute, ecdh_with, number, plain, with,
};
use crate::support::{Daemon, USER};

/// An application's calls in one of its sessions; the code is the error.
pub struct Session<'a> {
    pub application: &'a Application,
    pub handle: CK_SESSION_HANDLE,
}

pub type Made = Result<CK_OBJECT_HANDLE, CK_RV>;

fn ok<T>(code: CK_RV, value: T) -> Result<T, CK_RV> {
    if code == CKR_OK { Ok(value) } else { Err(code) }
}

impl Session<'_> {
    pub fn create(&self, class: CK_OBJECT_CLASS, more: &[CK_ATTRIBUTE]) -> Made {
        let mut template = [&[attribute(CKA_CLASS, number(class))], more].concat();
        let (count, mut made) = (template.len() as CK_ULONG, 0);
        let code =
            call!(self.application, C_CreateObject, self.handle, template.as_mut_ptr(), count, &mut made);
        ok(code, made)
    }

    pub fn data(&self, label: &str, more: &[CK_ATTRIBUTE]) -> Made {
        let common = [attribute(CKA_LABEL, label.as_bytes()), attribute(CKA_VALUE, b"content")];
        self.create(CKO_DATA, &[&common[..], more].concat())
    }

    pub fn aes(&self, more: &[CK_ATTRIBUTE]) -> Made {
        let mut template = [&[attribute(CKA_VALUE_LEN, number(32))], more].concat();
        let (count, mut made) = (template.len() as CK_ULONG, 0);
        let (generator, template) = (&mut plain(CKM_AES_KEY_GEN), template.as_mut_ptr());
        let code = call!(self.application, C_GenerateKey, self.handle, generator, template, count, &mut made);
        ok(code, made)
    }

    /// A pair on P-256 of the session; the private key first.
    pub fn pair(&self) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
        let (public, private) = (vec![attribute(CKA_EC_PARAMS, P256)], vec![attribute(CKA_DERIVE, TRUE)]);
        self.application.generate_from(self.handle, CKM_EC_KEY_PAIR_GEN, public, private).unwrap()
    }

    pub fn copy(&self, object: CK_OBJECT_HANDLE, changes: &[CK_ATTRIBUTE]) -> Made {
        let (mut template, mut made) = (changes.to_vec(), 0);
        let (pointer, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        let code = call!(self.application, C_CopyObject, self.handle, object, pointer, count, &mut made);
        ok(code, made)
    }

    pub fn set(&self, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> CK_RV {
        let mut template = attribute(kind, value);
        call!(self.application, C_SetAttributeValue, self.handle, object, &mut template, 1)
    }

    pub fn destroy(&self, object: CK_OBJECT_HANDLE) -> CK_RV {
        call!(self.application, C_DestroyObject, self.handle, object)
    }

    pub fn get(&self, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>, CK_RV> {
        self.application.get(self.handle, object, kind)
    }

    /// What session objects of this label there are.
    pub fn find(&self, label: &str) -> Vec<CK_OBJECT_HANDLE> {
        let mut template = [attribute(CKA_TOKEN, FALSE), attribute(CKA_LABEL, label.as_bytes())];
        self.application.find(self.handle, &mut template)
    }

    /// The code of a message by a secret key.
    pub fn code(&self, mechanism: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE) -> Result<Vec<u8>, CK_RV> {
        ok(self.application.sign_init(self.handle, mechanism, key), ())?;
        let (mut out, mut length) = (vec![0; 64], 64);
        let data = b"message".as_ptr().cast_mut();
        let code = call!(self.application, C_Sign, self.handle, data, 7, out.as_mut_ptr(), &mut length);
        out.truncate(length as usize);
        ok(code, out)
    }

    /// A secret that both sides of a pair have.
    pub fn derive(
        &self,
        (private, public): (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
        more: &[CK_ATTRIBUTE],
    ) -> Made {
        let point = self.get(public, CKA_EC_POINT)?;
        let mut parameters = ecdh_with(&point);
        let mut mechanism = with(CKM_ECDH1_DERIVE, &mut parameters);
        let (mut template, mut made) = (more.to_vec(), 0);
        let (pointer, count) = (template.as_mut_ptr(), template.len() as CK_ULONG);
        let code = call!(
            self.application,
            C_DeriveKey,
            self.handle,
            &mut mechanism,
            private,
            pointer,
            count,
            &mut made
        );
        ok(code, made)
    }

    /// As the daemon knows it.
    pub fn identity(&self, object: CK_OBJECT_HANDLE) -> Vec<u8> {
        let unique = String::from_utf8(self.get(object, CKA_UNIQUE_ID).unwrap()).unwrap();
        (0..32).step_by(2).map(|at| u8::from_str_radix(&unique[at..at + 2], 16).unwrap()).collect()
    }
}

/// Whether the daemon has a key.
fn has(daemon: &Daemon, partition: u32, key: &[u8]) -> bool {
    let (key, mechanism) = (key.to_vec(), Mechanism::Ecdsa.into());
    let sign = Op::Sign(Sign { key, mechanism, pss: None, data: vec![7; 32], ..Sign::default() });
    match daemon.as_user(partition, sign) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Some(ErrorCode::NoSuchObject));
            false
        }
    }
}

pub fn life(daemon: &Daemon) {
    let (application, slot, handle) = logged_in(daemon);
    let application = &application;
    let [main, other] =
        [handle, application.open(slot, 0).unwrap()].map(|handle| Session { application, handle });
    // A read-only session makes session objects, and nothing in the token. All sessions see them.
    let note = other.data("note", &[]).unwrap();
    assert_eq!(other.data("note", &[attribute(CKA_TOKEN, TRUE)]), Err(CKR_SESSION_READ_ONLY));
    let key = other.aes(&[attribute(CKA_LABEL, b"key")]).unwrap();
    assert_eq!(other.aes(&[attribute(CKA_TOKEN, TRUE)]), Err(CKR_SESSION_READ_ONLY));
    let (private, public) = other.pair();
    assert_eq!((main.find("note"), main.find("key")), (vec![note], vec![key]));
    for object in [note, key, private, public] {
        assert_eq!(main.get(object, CKA_TOKEN).unwrap(), FALSE);
    }
    assert_eq!(main.get(note, CKA_VALUE).unwrap(), b"content");
    let of_token = &mut [attribute(CKA_TOKEN, TRUE)];
    assert!(application.find(handle, of_token).is_empty(), "nothing is in the token");
    assert_eq!(application.find(handle, &mut []).len(), 4);
    let signature = application.sign(handle, private, b"data").unwrap();
    assert_eq!(application.verify(handle, public, b"data", &signature), CKR_OK);
    assert!(main.code(CKM_AES_CMAC, key).is_err(), "nobody allowed it to sign");

    // They change like others, also in a read-only session.
    assert_eq!(other.set(note, CKA_LABEL, b"paper"), CKR_OK);
    assert_eq!(other.set(private, CKA_LABEL, b"signer"), CKR_OK);
    assert_eq!(
        (main.find("paper"), main.find("signer"), main.find("note")),
        (vec![note], vec![private], vec![])
    );
    assert!(application.sign(handle, private, b"data").is_ok());

    // They end with their session, at the daemon too.
    let kept = main.pair();
    let identities = [private, kept.0].map(|key| main.identity(key));
    assert!(identities.iter().all(|identity| has(daemon, slot, identity)));
    assert_eq!(call!(application, C_CloseSession, other.handle), CKR_OK);
    for object in [note, key, private, public] {
        assert_eq!(main.get(object, CKA_LABEL), Err(CKR_OBJECT_HANDLE_INVALID));
        assert_eq!(main.destroy(object), CKR_OBJECT_HANDLE_INVALID);
    }
    assert_eq!(application.sign(handle, private, b"data"), Err(CKR_KEY_HANDLE_INVALID));
    assert!(!has(daemon, slot, &identities[0]) && has(daemon, slot, &identities[1]));
    assert_eq!(main.destroy(kept.0), CKR_OK);
    assert!(!has(daemon, slot, &identities[1]));
    assert_eq!(main.destroy(kept.0), CKR_OBJECT_HANDLE_INVALID);
    let fixed = main.data("fixed", &[attribute(CKA_DESTROYABLE, FALSE), attribute(CKA_MODIFIABLE, FALSE)]);
    assert_eq!(main.destroy(fixed.unwrap()), CKR_ACTION_PROHIBITED);
    assert_eq!(main.set(fixed.unwrap(), CKA_LABEL, b"other"), CKR_ACTION_PROHIBITED);

    // The private ones end with the log-in.
    let (signer, _) = main.pair();
    let identity = main.identity(signer);
    let secret = main.data("secret", &[attribute(CKA_PRIVATE, TRUE)]).unwrap();
    let open = main.data("open", &[]).unwrap();
    assert_eq!(call!(application, C_Logout, handle), CKR_OK);
    assert_eq!(main.get(secret, CKA_VALUE), Err(CKR_OBJECT_HANDLE_INVALID));
    assert_eq!(main.get(open, CKA_VALUE).unwrap(), b"content");
    assert!(!has(daemon, slot, &identity));
    assert_eq!(main.data("secret", &[attribute(CKA_PRIVATE, TRUE)]), Err(CKR_USER_NOT_LOGGED_IN));
    assert!(main.data("more", &[]).is_ok());
    assert_eq!(main.aes(&[]), Err(CKR_USER_NOT_LOGGED_IN));
    // A public key comes in without a log-in, and is known to the daemon when it is used.
    let (token_key, token_public) = {
        assert_eq!(application.login(handle, CKU_USER, USER.1), CKR_OK);
        application.generate(handle, "web").unwrap()
    };
    let signature = application.sign(handle, token_key, b"data").unwrap();
    let point = main.get(token_public, CKA_EC_POINT).unwrap();
    assert_eq!(call!(application, C_Logout, handle), CKR_OK);
    let given = [
        attribute(CKA_KEY_TYPE, number(CKK_EC)),
        attribute(CKA_EC_PARAMS, P256),
        attribute(CKA_EC_POINT, &point),
    ];
    let imported = main.create(CKO_PUBLIC_KEY, &given).unwrap();
    assert_eq!(application.login(handle, CKU_USER, USER.1), CKR_OK);
    assert_eq!(application.verify(handle, imported, b"data", &signature), CKR_OK);
    assert_eq!(application.verify(handle, imported, b"else", &signature), CKR_SIGNATURE_INVALID);
    // So it is for whoever logs in later: what the daemon has of it is another user's.
    assert_eq!(call!(application, C_Logout, handle), CKR_OK);
    daemon.create_user(slot, ("other", "others-secret"));
    assert_eq!(application.login(handle, CKU_USER, "other:others-secret"), CKR_OK);
    assert_eq!(application.verify(handle, imported, b"data", &signature), CKR_OK);
    assert_eq!(call!(application, C_Logout, handle), CKR_OK);
    assert_eq!(application.login(handle, CKU_USER, &format!("{}:{}", USER.0, USER.1)), CKR_OK);
    assert_eq!(application.verify(handle, imported, b"data", &signature), CKR_OK);
    // The last session takes all with it.
    assert_eq!(call!(application, C_CloseAllSessions, slot.into()), CKR_OK);
    let again = Session { application, handle: application.open_writable(slot) };
    assert_eq!(again.get(open, CKA_LABEL), Err(CKR_OBJECT_HANDLE_INVALID));
    assert!(again.find("more").is_empty());
}

/// The daemon keeps them in memory only. It gets them back when they are used.
pub fn restart(mut daemon: Daemon) {
    let (application, slot, handle) = logged_in(&daemon);
    let session = Session { application: &application, handle };
    let (private, public) = session.pair();
    let key = session.aes(&[attribute(CKA_SIGN, TRUE), attribute(CKA_VERIFY, TRUE)]).unwrap();
    let (peer, peer_public) = session.pair();
    let shared = session.derive((private, peer_public), &[]).unwrap();
    let same = session.derive((peer, public), &[]).unwrap();
    assert_eq!(session.get(shared, CKA_VALUE), session.get(same, CKA_VALUE));
    let code = session.code(CKM_AES_CMAC, key).unwrap();
    // This process alone has the secret, until it is used.
    let authenticated = session.code(CKM_SHA256_HMAC, shared).unwrap();
    for _ in 0..2 {
        daemon.kill();
        daemon.run();
        let signature = application.sign(handle, private, b"data").unwrap();
        daemon.kill();
        daemon.run();
        assert_eq!(application.verify(handle, public, b"data", &signature), CKR_OK);
        daemon.kill();
        daemon.run();
        assert_eq!(session.code(CKM_AES_CMAC, key).as_ref(), Ok(&code));
        assert_eq!(session.code(CKM_SHA256_HMAC, shared).as_ref(), Ok(&authenticated));
        assert_eq!(session.code(CKM_SHA256_HMAC, same).as_ref(), Ok(&authenticated));
        assert!(application.sign(handle, private, b"data").is_ok());
    }
    // What is destroyed does not come back, whatever the daemon knew of it.
    daemon.kill();
    daemon.run();
    assert_eq!(session.destroy(private), CKR_OK);
    assert_eq!(application.sign(handle, private, b"data"), Err(CKR_KEY_HANDLE_INVALID));
    // Many threads miss one at once.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let handle = application.open(slot, 0).unwrap();
                assert!(application.sign(handle, peer, b"data").is_ok());
            });
        }
    });
}

pub fn copies(daemon: &Daemon) {
    let (application, slot, handle) = logged_in(daemon);
    let session = Session { application: &application, handle };
    let of = |token| attribute(CKA_TOKEN, if token { TRUE } else { FALSE });
    // A key goes into the token, and a copy of it out.
    let (private, public) = session.pair();
    let kept = session.copy(private, &[of(true), attribute(CKA_LABEL, b"kept")]).unwrap();
    let back = session.copy(kept, &[of(false), attribute(CKA_LABEL, b"back")]).unwrap();
    let kept_public = session.copy(public, &[of(true)]).unwrap();
    for (object, in_token, label) in
        [(kept, TRUE, &b"kept"[..]), (back, FALSE, b"back"), (kept_public, TRUE, b"")]
    {
        assert_eq!(session.get(object, CKA_TOKEN).unwrap(), in_token);
        assert_eq!(session.get(object, CKA_LABEL).unwrap(), label);
        assert_eq!(session.get(object, CKA_EC_POINT), session.get(public, CKA_EC_POINT));
    }
    for key in [kept, back] {
        let signature = application.sign(handle, key, b"data").unwrap();
        assert_eq!(application.verify(handle, kept_public, b"data", &signature), CKR_OK);
    }
    assert_eq!(session.get(kept, CKA_ID), session.get(private, CKA_ID));

    // It may do less than the other, and not more.
    let key = session.aes(&[attribute(CKA_EXTRACTABLE, TRUE), attribute(CKA_ENCRYPT, FALSE)]).unwrap();
    let less = [(CKA_SENSITIVE, TRUE), (CKA_EXTRACTABLE, FALSE), (CKA_WRAP_WITH_TRUSTED, TRUE)];
    for (kind, value) in less {
        let copy = session.copy(key, &[attribute(kind, value)]).unwrap();
        assert_eq!(session.get(copy, kind).unwrap(), value);
        assert_eq!(session.get(copy, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
        let opposite = if value == TRUE { FALSE } else { TRUE };
        assert_eq!(session.copy(copy, &[attribute(kind, opposite)]), Err(CKR_ATTRIBUTE_READ_ONLY));
    }
    assert!(session.get(key, CKA_VALUE).is_ok());
    for (kind, value, code) in [
        (CKA_ENCRYPT, TRUE, CKR_ATTRIBUTE_READ_ONLY),
        (CKA_PRIVATE, FALSE, CKR_TEMPLATE_INCONSISTENT),
        (CKA_TOKEN, &[7][..], CKR_ATTRIBUTE_VALUE_INVALID),
        (CKA_MODULUS, &[1], CKR_ATTRIBUTE_TYPE_INVALID),
    ] {
        assert_eq!(session.copy(key, &[attribute(kind, value)]), Err(code), "{kind:#x}");
    }
    let last = session.copy(key, &[attribute(CKA_COPYABLE, FALSE)]).unwrap();
    assert_eq!(session.copy(last, &[]), Err(CKR_ACTION_PROHIBITED));
    assert_eq!(session.get(last, CKA_COPYABLE).unwrap(), FALSE);
    let read_only = Session { application: &application, handle: application.open(slot, 0).unwrap() };
    assert_eq!(read_only.copy(key, &[of(true)]), Err(CKR_SESSION_READ_ONLY));
    assert!(read_only.copy(kept, &[of(false)]).is_ok());

    // A secret that this process alone has, and what holds no key.
    let secret = session.derive((private, public), &[]).unwrap();
    let copy = session.copy(secret, &[of(true), attribute(CKA_LABEL, b"shared")]).unwrap();
    assert_eq!(session.get(copy, CKA_VALUE), session.get(secret, CKA_VALUE));
    assert_eq!(session.code(CKM_SHA256_HMAC, copy), session.code(CKM_SHA256_HMAC, secret));
    let note = session.data("note", &[attribute(CKA_APPLICATION, b"test")]).unwrap();
    let in_token = session.copy(note, &[of(true), attribute(CKA_LABEL, b"filed")]).unwrap();
    let again = session.copy(in_token, &[of(false), attribute(CKA_APPLICATION, b"other")]).unwrap();
    for (object, label, program) in [(in_token, &b"filed"[..], &b"test"[..]), (again, b"filed", b"other")] {
        assert_eq!(session.get(object, CKA_VALUE).unwrap(), b"content");
        assert_eq!(session.get(object, CKA_LABEL).unwrap(), label);
        assert_eq!(session.get(object, CKA_APPLICATION).unwrap(), program);
    }
    assert_eq!(session.copy(9_999, &[]), Err(CKR_OBJECT_HANDLE_INVALID));
    assert_eq!(call!(application, C_CopyObject, handle, key, null_mut(), 0, null_mut()), CKR_ARGUMENTS_BAD);
}

/// Secret keys that their maker wants to read.
pub fn readable(daemon: &Daemon) {
    let (application, _, handle) = logged_in(daemon);
    let session = Session { application: &application, handle };
    let extractable = attribute(CKA_EXTRACTABLE, TRUE);
    let value = [5; 32];
    let given = [attribute(CKA_KEY_TYPE, number(CKK_AES)), attribute(CKA_VALUE, &value), extractable];
    let key = session.create(CKO_SECRET_KEY, &given).unwrap();
    assert_eq!(session.get(key, CKA_SENSITIVE).unwrap(), FALSE);
    assert_eq!(session.get(key, CKA_VALUE).unwrap(), value);
    // The size is known without asking; a buffer that is too small is left as it is.
    let mut size = CK_ATTRIBUTE { type_: CKA_VALUE, pValue: null_mut(), ulValueLen: 0 };
    assert_eq!(call!(application, C_GetAttributeValue, handle, key, &mut size, 1), CKR_OK);
    assert_eq!(size.ulValueLen, 32);
    let mut short = [0; 31];
    size = CK_ATTRIBUTE { type_: CKA_VALUE, pValue: short.as_mut_ptr().cast(), ulValueLen: 31 };
    assert_eq!(call!(application, C_GetAttributeValue, handle, key, &mut size, 1), CKR_BUFFER_TOO_SMALL);
    assert_eq!(short, [0; 31]);
    // One in the token is hidden unless its maker says otherwise; no private key is ever shown.
    let in_token = attribute(CKA_TOKEN, TRUE);
    let hidden = session.aes(&[in_token, extractable]).unwrap();
    assert_eq!(session.get(hidden, CKA_SENSITIVE).unwrap(), TRUE);
    assert_eq!(session.get(hidden, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    let open = session.aes(&[in_token, extractable, attribute(CKA_SENSITIVE, FALSE)]).unwrap();
    assert_eq!(session.get(open, CKA_VALUE).unwrap().len(), 32);
    assert_eq!(session.get(open, CKA_ALWAYS_SENSITIVE).unwrap(), FALSE);
    let (private, _) = session.pair();
    assert_eq!(session.get(private, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
    // There is a way to sensitive, and none back.
    for key in [key, open] {
        assert_eq!(session.set(key, CKA_SENSITIVE, TRUE), CKR_OK);
        assert_eq!(session.get(key, CKA_SENSITIVE).unwrap(), TRUE);
        assert_eq!(session.get(key, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
        assert_eq!(session.set(key, CKA_SENSITIVE, FALSE), CKR_ATTRIBUTE_READ_ONLY);
    }
    let (one, other) = (session.pair(), session.pair());
    let secret = session.derive((one.0, other.1), &[]).unwrap();
    assert_eq!(session.get(secret, CKA_VALUE).unwrap().len(), 32);
    assert_eq!(session.set(secret, CKA_SENSITIVE, TRUE), CKR_OK);
    assert_eq!(session.get(secret, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
}
