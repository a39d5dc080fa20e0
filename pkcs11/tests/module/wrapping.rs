//! Keys that leave and enter wrapped: codes, sizes and policies. pkcs11_tool.rs has others' programs do it.

use std::ptr::null_mut;

use cryptoki_sys::*;
use strongroom_protocol::v1::{DestroyObject, request::Op};

use crate::call;
use crate::support::application::{Application, FALSE, P256, TRUE, attribute, number, plain, with};
use crate::support::{Daemon, OFFICER};
use crate::{logged_in, support};

struct Token {
    application: Application,
    session: CK_SESSION_HANDLE,
}

impl Token {
    fn secret(&self, value: Option<&[u8]>, usage: &[CK_ATTRIBUTE]) -> CK_OBJECT_HANDLE {
        let aes = [attribute(CKA_TOKEN, TRUE), attribute(CKA_KEY_TYPE, number(CKK_AES))];
        let mut template = [&aes[..], usage].concat();
        let mut made = 0;
        let code = match value {
            Some(value) => {
                template.push(attribute(CKA_CLASS, number(CKO_SECRET_KEY)));
                template.push(attribute(CKA_VALUE, value));
                let count = template.len() as CK_ULONG;
                call!(self.application, C_CreateObject, self.session, template.as_mut_ptr(), count, &mut made)
            }
            None => {
                template.push(attribute(CKA_VALUE_LEN, number(32)));
                let (mechanism, count) = (&mut plain(CKM_AES_KEY_GEN), template.len() as CK_ULONG);
                let (session, template) = (self.session, template.as_mut_ptr());
                call!(self.application, C_GenerateKey, session, mechanism, template, count, &mut made)
            }
        };
        assert_eq!(code, CKR_OK);
        made
    }

    fn pair(
        &self,
        kind: &[CK_ATTRIBUTE],
        mechanism: CK_MECHANISM_TYPE,
        usage: &[CK_ATTRIBUTE],
    ) -> (u64, u64) {
        let public = [&[attribute(CKA_TOKEN, TRUE), attribute(CKA_WRAP, TRUE)], kind].concat();
        let public = if mechanism == CKM_EC_KEY_PAIR_GEN {
            [&[attribute(CKA_TOKEN, TRUE)], kind].concat()
        } else {
            public
        };
        let private = [&[attribute(CKA_TOKEN, TRUE)], usage].concat();
        self.application.generate_from(self.session, mechanism, public, private).unwrap()
    }

    fn wrap(&self, mechanism: &mut CK_MECHANISM, with: u64, key: u64) -> Result<Vec<u8>, CK_RV> {
        let (mut length, session) = (0, self.session);
        match call!(self.application, C_WrapKey, session, mechanism, with, key, null_mut(), &mut length) {
            CKR_OK => {}
            code => return Err(code),
        }
        let mut wrapped = vec![0xaa; length as usize];
        let mut short = length - 1;
        let code = call!(
            self.application,
            C_WrapKey,
            session,
            mechanism,
            with,
            key,
            wrapped.as_mut_ptr(),
            &mut short
        );
        assert_eq!((code, short), (CKR_BUFFER_TOO_SMALL, length));
        assert!(wrapped.iter().all(|byte| *byte == 0xaa), "nothing is written");
        let code = call!(
            self.application,
            C_WrapKey,
            session,
            mechanism,
            with,
            key,
            wrapped.as_mut_ptr(),
            &mut length
        );
        assert_eq!((code, length as usize), (CKR_OK, wrapped.len()));
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        mechanism: &mut CK_MECHANISM,
        with: u64,
        wrapped: &[u8],
        class: CK_OBJECT_CLASS,
        kind: CK_KEY_TYPE,
        more: &[CK_ATTRIBUTE],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let common = [
            attribute(CKA_TOKEN, TRUE),
            attribute(CKA_CLASS, number(class)),
            attribute(CKA_KEY_TYPE, number(kind)),
        ];
        let mut template = [&common[..], more].concat();
        let (mut made, count) = (0, template.len() as CK_ULONG);
        let (bytes, length) = (wrapped.as_ptr().cast_mut(), wrapped.len() as CK_ULONG);
        let (session, template) = (self.session, template.as_mut_ptr());
        let application = &self.application;
        match call!(
            application,
            C_UnwrapKey,
            session,
            mechanism,
            with,
            bytes,
            length,
            template,
            count,
            &mut made
        ) {
            CKR_OK => Ok(made),
            code => Err(code),
        }
    }
}

fn oaep(hash: CK_MECHANISM_TYPE, mgf: CK_RSA_PKCS_MGF_TYPE) -> CK_RSA_PKCS_OAEP_PARAMS {
    CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: hash,
        mgf,
        source: CKZ_DATA_SPECIFIED,
        pSourceData: null_mut(),
        ulSourceDataLen: 0,
    }
}

pub fn wrapping(daemon: &Daemon) {
    let (application, slot, session) = logged_in(daemon);
    let token = Token { application, session };
    let wraps = [attribute(CKA_WRAP, TRUE), attribute(CKA_UNWRAP, TRUE)];
    let kek = token.secret(None, &wraps);
    let leaves = [attribute(CKA_EXTRACTABLE, TRUE)];
    let curve = [attribute(CKA_EC_PARAMS, P256)];
    let (key, key_public) = token.pair(&curve, CKM_EC_KEY_PAIR_GEN, &leaves);
    let kwp = || plain(CKM_AES_KEY_WRAP_KWP);

    // Out and in again: the key that comes in signs what the first one's public half verifies.
    let wrapped = token.wrap(&mut kwp(), kek, key).unwrap();
    assert_eq!(wrapped.len() % 8, 0);
    let named =
        [attribute(CKA_LABEL, b"again"), attribute(CKA_SIGN, TRUE), attribute(CKA_EXTRACTABLE, FALSE)];
    for mechanism in [CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD] {
        let again =
            token.unwrap(&mut plain(mechanism), kek, &wrapped, CKO_PRIVATE_KEY, CKK_EC, &named).unwrap();
        let signature = token.application.sign(session, again, b"message").unwrap();
        assert_eq!(token.application.verify(session, key_public, b"message", &signature), CKR_OK);
        for (kind, value) in [(CKA_EXTRACTABLE, FALSE), (CKA_LOCAL, FALSE), (CKA_NEVER_EXTRACTABLE, FALSE)] {
            assert_eq!(token.application.get(session, again, kind), Ok(value.to_vec()));
        }
        assert_eq!(token.wrap(&mut kwp(), kek, again), Err(CKR_KEY_UNEXTRACTABLE));
    }
    // The initial value may be given, if it is the standard's.
    let (mut right, mut wrong) = ([0xa6u8, 0x59, 0x59, 0xa6], [0u8; 4]);
    assert_eq!(token.wrap(&mut with(CKM_AES_KEY_WRAP_KWP, &mut right), kek, key).unwrap(), wrapped);
    let refused = token.wrap(&mut with(CKM_AES_KEY_WRAP_KWP, &mut wrong), kek, key);
    assert_eq!(refused, Err(CKR_MECHANISM_PARAM_INVALID));

    // Secret keys, without padding too; PKCS#8 has no length for that.
    let secret = token.secret(Some(&[9; 16]), &leaves);
    let mut kw = plain(CKM_AES_KEY_WRAP);
    let wrapped_secret = token.wrap(&mut kw, kek, secret).unwrap();
    assert_eq!(wrapped_secret.len(), 24);
    let unwrap_secret = |more: &[CK_ATTRIBUTE]| {
        token.unwrap(&mut plain(CKM_AES_KEY_WRAP), kek, &wrapped_secret, CKO_SECRET_KEY, CKK_AES, more)
    };
    let again = unwrap_secret(&[]).unwrap();
    assert_eq!(token.application.get(session, again, CKA_VALUE_LEN).unwrap(), number(16));
    assert!(unwrap_secret(&[attribute(CKA_VALUE_LEN, number(16))]).is_ok());
    assert_eq!(unwrap_secret(&[attribute(CKA_VALUE_LEN, number(32))]), Err(CKR_WRAPPED_KEY_INVALID));
    assert_eq!(token.wrap(&mut kw, kek, key), Err(CKR_KEY_SIZE_RANGE));

    // RSA with an AES key between.
    let unwraps = [attribute(CKA_UNWRAP, TRUE), attribute(CKA_SIGN, FALSE)];
    let bits = [attribute(CKA_MODULUS_BITS, number(2048))];
    let (rsa, rsa_public) = token.pair(&bits, CKM_RSA_PKCS_KEY_PAIR_GEN, &unwraps);
    let mut parameters = oaep(CKM_SHA256, CKG_MGF1_SHA256);
    let mut rsa_aes = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: 256, pOAEPParams: &raw mut parameters };
    let mut mechanism = with(CKM_RSA_AES_KEY_WRAP, &mut rsa_aes);
    let wrapped_rsa = token.wrap(&mut mechanism, rsa_public, key).unwrap();
    assert_eq!(wrapped_rsa.len(), 256 + wrapped.len());
    token.unwrap(&mut mechanism, rsa, &wrapped_rsa, CKO_PRIVATE_KEY, CKK_EC, &[]).unwrap();
    let mut parameters = oaep(CKM_SHA_1, CKG_MGF1_SHA1);
    let mut alone = with(CKM_RSA_PKCS_OAEP, &mut parameters);
    let wrapped_alone = token.wrap(&mut alone, rsa_public, secret).unwrap();
    token.unwrap(&mut alone, rsa, &wrapped_alone, CKO_SECRET_KEY, CKK_AES, &[]).unwrap();
    assert_eq!(token.wrap(&mut alone, rsa_public, key).err(), None, "138 bytes fit into 214");
    // PKCS#1 v1.5, which Java's Cipher.WRAP takes: a key that comes in this way could be decrypted as well.
    let wrapped_pkcs1 = token.wrap(&mut plain(CKM_RSA_PKCS), rsa_public, secret).unwrap();
    assert_eq!(wrapped_pkcs1.len(), 256);
    let unwrap_pkcs1 = |with, wrapped: &[u8]| {
        token.unwrap(&mut plain(CKM_RSA_PKCS), with, wrapped, CKO_SECRET_KEY, CKK_AES, &leaves)
    };
    assert_eq!(unwrap_pkcs1(rsa, &wrapped_pkcs1), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    let decrypts = [&unwraps[..], &[attribute(CKA_DECRYPT, TRUE)]].concat();
    let (opener, opener_public) = token.pair(&bits, CKM_RSA_PKCS_KEY_PAIR_GEN, &decrypts);
    let wrapped_pkcs1 = token.wrap(&mut plain(CKM_RSA_PKCS), opener_public, secret).unwrap();
    let again = unwrap_pkcs1(opener, &wrapped_pkcs1).unwrap();
    assert_eq!(token.wrap(&mut kw, kek, again).unwrap(), wrapped_secret, "the same key");
    assert_eq!(unwrap_pkcs1(opener, &[1; 256]), Err(CKR_WRAPPED_KEY_INVALID));
    assert_eq!(token.wrap(&mut plain(CKM_RSA_X_509), opener_public, secret), Err(CKR_MECHANISM_INVALID));
    for bits in [0, 64, 255, CK_ULONG::MAX] {
        let mut wrong = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: bits, ..rsa_aes };
        let refused = token.wrap(&mut with(CKM_RSA_AES_KEY_WRAP, &mut wrong), rsa_public, key);
        assert_eq!(refused, Err(CKR_MECHANISM_PARAM_INVALID));
    }
    let mut null = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: 256, pOAEPParams: null_mut() };
    let refused = token.wrap(&mut with(CKM_RSA_AES_KEY_WRAP, &mut null), rsa_public, key);
    assert_eq!(refused, Err(CKR_MECHANISM_PARAM_INVALID));
    assert_eq!(
        token.wrap(&mut plain(CKM_RSA_AES_KEY_WRAP), rsa_public, key),
        Err(CKR_MECHANISM_PARAM_INVALID)
    );

    // What does not belong together.
    assert_eq!(token.wrap(&mut kwp(), rsa_public, key), Err(CKR_WRAPPING_KEY_TYPE_INCONSISTENT));
    assert_eq!(token.wrap(&mut kwp(), 999_999, key), Err(CKR_WRAPPING_KEY_HANDLE_INVALID));
    assert_eq!(token.wrap(&mut kwp(), kek, 999_999), Err(CKR_KEY_HANDLE_INVALID));
    assert_eq!(token.wrap(&mut kwp(), kek, key_public), Err(CKR_KEY_NOT_WRAPPABLE));
    assert_eq!(token.wrap(&mut kwp(), secret, key), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(token.wrap(&mut plain(CKM_AES_GCM), kek, key), Err(CKR_MECHANISM_INVALID));
    let unwrap = |wrapped: &[u8], class, kind, more: &[CK_ATTRIBUTE]| {
        token.unwrap(&mut kwp(), kek, wrapped, class, kind, more)
    };
    let mut changed = wrapped.clone();
    changed[3] ^= 4;
    assert_eq!(unwrap(&changed, CKO_PRIVATE_KEY, CKK_EC, &[]), Err(CKR_WRAPPED_KEY_INVALID));
    assert_eq!(unwrap(&wrapped, CKO_PRIVATE_KEY, CKK_RSA, &[]), Err(CKR_WRAPPED_KEY_INVALID));
    assert_eq!(unwrap(&wrapped, CKO_SECRET_KEY, CKK_AES, &[]), Err(CKR_WRAPPED_KEY_INVALID));
    assert_eq!(unwrap(&wrapped, CKO_SECRET_KEY, CKK_EC, &[]), Err(CKR_TEMPLATE_INCONSISTENT));
    assert_eq!(unwrap(&wrapped, CKO_PUBLIC_KEY, CKK_EC, &[]), Err(CKR_TEMPLATE_INCONSISTENT));
    assert_eq!(unwrap(&[], CKO_PRIVATE_KEY, CKK_EC, &[]), Err(CKR_WRAPPED_KEY_LEN_RANGE));
    assert_eq!(unwrap(&[1; 16 * 1024 + 8], CKO_PRIVATE_KEY, CKK_EC, &[]), Err(CKR_WRAPPED_KEY_LEN_RANGE));
    let value = [attribute(CKA_VALUE, &[1; 32])];
    assert_eq!(unwrap(&wrapped, CKO_PRIVATE_KEY, CKK_EC, &value), Err(CKR_TEMPLATE_INCONSISTENT));
    let read_only = token.application.open(slot, 0).unwrap();
    let reading = Token { application: Application::load(), session: read_only };
    let refused = reading.unwrap(&mut kwp(), kek, &wrapped, CKO_PRIVATE_KEY, CKK_EC, &[]);
    assert_eq!(refused, Err(CKR_SESSION_READ_ONLY));

    in_as_pkcs12_files_have_them(&token, (kek, secret), &wrapped_secret);
    once(&token, daemon, slot);
    trust(&token, slot, rsa_public);
}

/// Who asks for the size has the key taken out once; and which of the two is gone is told.
fn once(token: &Token, daemon: &Daemon, slot: u32) {
    let kek = token.secret(None, &[attribute(CKA_WRAP, TRUE)]);
    let key = token.secret(None, &[attribute(CKA_EXTRACTABLE, TRUE)]);
    let mut kwp = plain(CKM_AES_KEY_WRAP_KWP);
    let before = daemon.requests();
    let first = token.wrap(&mut kwp, kek, key).unwrap();
    assert_eq!(daemon.requests() - before, 1 + Daemon::OWN_REQUESTS);
    // What was asked for another key, or in another way, is not this.
    let other = token.secret(None, &[attribute(CKA_EXTRACTABLE, TRUE)]);
    let (application, session, mut length) = (&token.application, token.session, 0);
    assert_eq!(call!(application, C_WrapKey, session, &mut kwp, kek, other, null_mut(), &mut length), CKR_OK);
    assert_eq!(token.wrap(&mut kwp, kek, key), Ok(first.clone()));
    assert_ne!(token.wrap(&mut kwp, kek, other), Ok(first));
    let destroy = |handle| {
        let text = String::from_utf8(application.get(session, handle, CKA_UNIQUE_ID).unwrap()).unwrap();
        let hex = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let object = (0..text.len()).step_by(2).map(hex).collect();
        daemon.as_user(slot, Op::DestroyObject(DestroyObject { object })).unwrap();
    };
    destroy(other);
    assert_eq!(token.wrap(&mut kwp, kek, other), Err(CKR_KEY_HANDLE_INVALID));
    destroy(kek);
    assert_eq!(token.wrap(&mut kwp, kek, key), Err(CKR_WRAPPING_KEY_HANDLE_INVALID));
    assert_eq!(token.wrap(&mut kwp, kek, key), Err(CKR_WRAPPING_KEY_HANDLE_INVALID));
}

/// AES-CBC with padding: in, with a key that may decrypt anyway, and not out.
fn in_as_pkcs12_files_have_them(token: &Token, (kek, secret): (u64, u64), wrapped_secret: &[u8]) {
    let (application, session) = (&token.application, token.session);
    let unwraps = [attribute(CKA_UNWRAP, TRUE), attribute(CKA_WRAP, TRUE), attribute(CKA_ENCRYPT, TRUE)];
    let careful = [&unwraps[..], &[attribute(CKA_DECRYPT, FALSE)]].concat();
    let opens = [&unwraps[..], &[attribute(CKA_DECRYPT, TRUE)]].concat();
    let [careful, opener] = [&careful, &opens].map(|usage| token.secret(Some(&[5; 32]), usage));
    let mut iv = [7u8; 16];
    let mut mechanism = with(CKM_AES_CBC_PAD, &mut iv);
    let (mut data, mut sealed, mut length) = ([9; 16], vec![0; 32], 32);
    assert_eq!(call!(application, C_EncryptInit, session, &mut mechanism, opener), CKR_OK);
    let (from, to) = (data.as_mut_ptr(), sealed.as_mut_ptr());
    assert_eq!(call!(application, C_Encrypt, session, from, 16, to, &mut length), CKR_OK);
    let leaves = [attribute(CKA_EXTRACTABLE, TRUE)];
    let unwrap = |mechanism: &mut CK_MECHANISM, with, wrapped: &[u8]| {
        token.unwrap(mechanism, with, wrapped, CKO_SECRET_KEY, CKK_AES, &leaves)
    };
    let again = unwrap(&mut mechanism, opener, &sealed).unwrap();
    let again = token.wrap(&mut plain(CKM_AES_KEY_WRAP), kek, again).unwrap();
    assert_eq!(again, wrapped_secret, "the same key");
    assert_eq!(unwrap(&mut mechanism, careful, &sealed), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    for wrong in [&sealed[..16], &sealed[..31]] {
        assert_eq!(unwrap(&mut mechanism, opener, wrong), Err(CKR_WRAPPED_KEY_INVALID));
    }
    let mut short = [7u8; 12];
    let mut short = with(CKM_AES_CBC_PAD, &mut short);
    assert_eq!(unwrap(&mut short, opener, &sealed), Err(CKR_MECHANISM_PARAM_INVALID));
    assert_eq!(unwrap(&mut plain(CKM_AES_CBC), opener, &sealed), Err(CKR_MECHANISM_INVALID));
    assert_eq!(token.wrap(&mut mechanism, opener, secret), Err(CKR_MECHANISM_INVALID));
}

/// Under a trusted key only, and only the officer trusts one.
fn trust(token: &Token, slot: u32, rsa_public: u64) {
    let (application, session) = (&token.application, token.session);
    let wary = [attribute(CKA_EXTRACTABLE, TRUE), attribute(CKA_WRAP_WITH_TRUSTED, TRUE)];
    let (key, _) = token.pair(&[attribute(CKA_EC_PARAMS, P256)], CKM_EC_KEY_PAIR_GEN, &wary);
    assert_eq!(application.get(session, key, CKA_WRAP_WITH_TRUSTED), Ok(TRUE.to_vec()));
    let mut parameters = oaep(CKM_SHA256, CKG_MGF1_SHA256);
    let mut rsa_aes = CK_RSA_AES_KEY_WRAP_PARAMS { ulAESKeyBits: 128, pOAEPParams: &raw mut parameters };
    let mut mechanism = with(CKM_RSA_AES_KEY_WRAP, &mut rsa_aes);
    assert_eq!(token.wrap(&mut mechanism, rsa_public, key), Err(CKR_KEY_NOT_WRAPPABLE));
    let set = |session, object, kind, value: &[u8]| {
        let mut template = [attribute(kind, value)];
        call!(application, C_SetAttributeValue, session, object, template.as_mut_ptr(), 1)
    };
    assert_ne!(set(session, rsa_public, CKA_TRUSTED, TRUE), CKR_OK);
    assert_eq!(application.get(session, rsa_public, CKA_TRUSTED), Ok(FALSE.to_vec()));
    // It cannot be had at its making.
    let (usage, mut made) = ([attribute(CKA_TRUSTED, TRUE), attribute(CKA_WRAP, TRUE)], 0);
    let length = [attribute(CKA_TOKEN, TRUE), attribute(CKA_VALUE_LEN, number(32))];
    let mut template = [&length[..], &usage].concat();
    let (generator, count) = (&mut plain(CKM_AES_KEY_GEN), template.len() as CK_ULONG);
    let code = call!(application, C_GenerateKey, session, generator, template.as_mut_ptr(), count, &mut made);
    assert_eq!(code, CKR_TEMPLATE_INCONSISTENT);

    assert_eq!(call!(application, C_Logout, session), CKR_OK);
    assert_eq!(call!(application, C_CloseAllSessions, slot.into()), CKR_OK);
    let officer = application.open_writable(slot);
    assert_eq!(application.login(officer, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(set(officer, rsa_public, CKA_TRUSTED, TRUE), CKR_OK);
    assert_eq!(call!(application, C_Logout, officer), CKR_OK);
    assert_eq!(application.login(officer, CKU_USER, support::USER.1), CKR_OK);
    let token = Token { application: Application::load(), session: officer };
    assert_eq!(application.get(officer, rsa_public, CKA_TRUSTED), Ok(TRUE.to_vec()));
    let mut by_class =
        [attribute(CKA_CLASS, number(CKO_PRIVATE_KEY)), attribute(CKA_WRAP_WITH_TRUSTED, TRUE)];
    let key = application.find(officer, &mut by_class)[0];
    token.wrap(&mut mechanism, rsa_public, key).unwrap();
    // The permission to leave is given up for good.
    assert_eq!(set(officer, key, CKA_EXTRACTABLE, FALSE), CKR_OK);
    assert_eq!(application.get(officer, key, CKA_EXTRACTABLE), Ok(FALSE.to_vec()));
    assert_eq!(set(officer, key, CKA_EXTRACTABLE, TRUE), CKR_ATTRIBUTE_READ_ONLY);
    assert_eq!(set(officer, key, CKA_WRAP_WITH_TRUSTED, FALSE), CKR_ATTRIBUTE_READ_ONLY);
    assert_eq!(token.wrap(&mut mechanism, rsa_public, key), Err(CKR_KEY_UNEXTRACTABLE));
}
