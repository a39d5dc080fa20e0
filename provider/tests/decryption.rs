//! RSA decryption tells nothing of a padding that is wrong: with a token that has the bare operation, and with one that takes the
//! paddings away itself. The ciphertexts are made by OpenSSL with the public key.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use openssl_sys as ffi;

mod libcrypto;
mod softhsm;

use libcrypto::{Context, Key, built, last_error};

unsafe extern "C" {
    fn OSSL_PARAM_construct_utf8_string(
        key: *const c_char,
        text: *const c_char,
        size: usize,
    ) -> ffi::OSSL_PARAM;
    fn EVP_PKEY_CTX_new_from_pkey(
        context: *mut ffi::OSSL_LIB_CTX,
        key: *mut ffi::EVP_PKEY,
        properties: *const c_char,
    ) -> *mut ffi::EVP_PKEY_CTX;
    fn EVP_PKEY_CTX_dup(context: *const ffi::EVP_PKEY_CTX) -> *mut ffi::EVP_PKEY_CTX;
    fn ERR_peek_error() -> std::ffi::c_ulong;
}

/// The size of the modulus in bytes.
const SIZE: usize = 256;

/// RSA_NO_PADDING, RSA_PKCS1_PADDING, RSA_PKCS1_OAEP_PADDING and RSA_PKCS1_WITH_TLS_PADDING.
const NONE: c_int = 3;
const PKCS1: c_int = 1;
const OAEP: c_int = 4;
const TLS: c_int = 7;

/// One test at a time, on SoftHSM2 (false) or on SoftHSM2 without the bare operation (true).
fn contexts() -> (MutexGuard<'static, ()>, [(bool, Context); 2]) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    static FOLDER: OnceLock<std::path::PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| softhsm::token(&[("rsa:2048", "rsa", "01")]));
    let modules = [softhsm::MODULE.to_owned(), built("examples/libpadding_token.so").display().to_string()];
    let contexts = [(false, &modules[0]), (true, &modules[1])].map(|(takes_away, module)| {
        let file = folder.join(format!("{takes_away}.cnf"));
        libcrypto::configuration(&file, module, "");
        (takes_away, Context::load(&file))
    });
    (alone, contexts)
}

/// How to decrypt: the padding, and more parameters.
#[derive(Clone, Copy)]
struct How<'a> {
    padding: c_int,
    numbers: &'a [(&'a CStr, c_uint)],
    texts: &'a [(&'a CStr, &'a CStr)],
}

const fn how(padding: c_int) -> How<'static> {
    How { padding, numbers: &[], texts: &[] }
}

/// As libssl asks for a premaster secret.
const PREMASTER: How<'static> = How { padding: TLS, numbers: &[(c"tls-client-version", 0x0303)], texts: &[] };

/// Runs EVP_PKEY_encrypt or EVP_PKEY_decrypt. A success leaves nothing on the error queue.
fn crypt(context: &Context, key: &Key, how: How, decrypts: bool, data: &[u8]) -> Result<Vec<u8>, String> {
    unsafe {
        ffi::ERR_clear_error();
        let operation = EVP_PKEY_CTX_new_from_pkey(context.0, key.key, ptr::null());
        let mut numbers: Vec<(&CStr, c_uint)> = how.numbers.to_vec();
        numbers.push((c"pad-mode", how.padding as c_uint));
        let mut params: Vec<ffi::OSSL_PARAM> = numbers
            .iter_mut()
            .map(|(name, number)| ffi::OSSL_PARAM_construct_uint(name.as_ptr(), number))
            .collect();
        params.extend(
            how.texts
                .iter()
                .map(|(name, text)| OSSL_PARAM_construct_utf8_string(name.as_ptr(), text.as_ptr(), 0)),
        );
        params.push(ffi::OSSL_PARAM_construct_end());
        let begun = if decrypts {
            ffi::EVP_PKEY_decrypt_init(operation)
        } else {
            ffi::EVP_PKEY_encrypt_init(operation)
        };
        assert_eq!(begun, 1, "{}", last_error());
        let set = ffi::EVP_PKEY_CTX_set_params(operation, params.as_ptr());
        let mut out = vec![0; SIZE];
        let mut size = out.len();
        let function = if decrypts { ffi::EVP_PKEY_decrypt } else { ffi::EVP_PKEY_encrypt };
        let done =
            set == 1 && function(operation, out.as_mut_ptr(), &mut size, data.as_ptr(), data.len()) == 1;
        ffi::EVP_PKEY_CTX_free(operation);
        if !done {
            let error = last_error();
            ffi::ERR_clear_error();
            return Err(error);
        }
        assert_eq!(ERR_peek_error(), 0, "{}", last_error());
        out.truncate(size);
        Ok(out)
    }
}

/// The ciphertext of bytes that are as many as the modulus has, whatever they are.
fn raw(context: &Context, key: &Key, encoded: &[u8]) -> Vec<u8> {
    crypt(context, key, how(NONE), false, encoded).unwrap()
}

/// 0, 2, bytes that are not 0, 0, message.
fn padded(message: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0x61; SIZE];
    encoded[..2].copy_from_slice(&[0, 2]);
    encoded[SIZE - message.len() - 1] = 0;
    encoded[SIZE - message.len()..].copy_from_slice(message);
    encoded
}

fn premaster(version: [u8; 2]) -> Vec<u8> {
    [&version[..], &[0x5a; 46]].concat()
}

/// Everything that can be wrong with a premaster secret's padding, size or version.
fn wrong_premasters() -> Vec<(&'static str, Vec<u8>)> {
    let good = padded(&premaster([3, 3]));
    let with = |at: usize, byte: u8| {
        let mut encoded = good.clone();
        encoded[at] = byte;
        encoded
    };
    vec![
        ("first byte", with(0, 1)),
        ("block type", with(1, 1)),
        ("block type 0", with(1, 0)),
        ("a zero at the beginning", with(2, 0)),
        ("a zero in the middle", with(100, 0)),
        ("no separator", with(SIZE - 49, 7)),
        ("a separator earlier", with(SIZE - 50, 0)),
        ("one byte less", padded(&premaster([3, 3])[..47])),
        ("one byte more", padded(&[&premaster([3, 3])[..], &[1]].concat())),
        ("nothing", padded(&[])),
        ("another version", padded(&premaster([3, 2]))),
        ("a version of 0", padded(&premaster([0, 0]))),
        ("no padding at all", [&[0][..], &[0x77; SIZE - 1]].concat()),
    ]
}

#[test]
fn a_premaster_secret_is_the_clients_or_a_random_one() {
    let (_alone, contexts) = contexts();
    for (takes_away, context) in &contexts {
        let key = context.key(&softhsm::uri("rsa")).unwrap();
        let decrypt = |how, ciphertext: &[u8]| crypt(context, &key, how, true, ciphertext);
        let good = raw(context, &key, &padded(&premaster([3, 3])));
        assert_eq!(decrypt(PREMASTER, &good).unwrap(), premaster([3, 3]), "{takes_away}");
        let mut wrong: Vec<_> = wrong_premasters()
            .into_iter()
            .map(|(what, encoded)| (what, raw(context, &key, &encoded)))
            .collect();
        wrong.push(("a ciphertext that is not smaller than the modulus", vec![0xff; SIZE]));
        wrong.push(("a short ciphertext", good[..SIZE - 1].to_vec()));
        wrong.push(("a long ciphertext", [&good[..], &[0]].concat()));
        wrong.push(("no ciphertext", Vec::new()));
        for (what, ciphertext) in &wrong {
            let made = [(), ()].map(|()| decrypt(PREMASTER, ciphertext).unwrap_or_else(|error| error.into()));
            assert!(made.iter().all(|secret| secret.len() == 48), "{takes_away} {what}: {made:?}");
            assert_ne!(made[0], made[1], "{takes_away} {what}");
            assert!(made[0][2..] != premaster([3, 3])[2..], "{takes_away} {what}");
        }
        // The version that was agreed on counts if the application says so (SSL_OP_TLS_ROLLBACK_BUG).
        let old = raw(context, &key, &padded(&premaster([3, 1])));
        let versions = [(c"tls-client-version", 0x0303), (c"tls-negotiated-version", 0x0301)];
        let tolerant = How { numbers: &versions, ..PREMASTER };
        assert_eq!(decrypt(tolerant, &old).unwrap(), premaster([3, 1]));
        assert_ne!(decrypt(PREMASTER, &old).unwrap(), premaster([3, 1]));
        assert!(decrypt(how(TLS), &good).unwrap_err().contains("without the client's version"));
    }
}

#[test]
fn pkcs1_decryption_rejects_implicitly_or_says_one_thing() {
    let (_alone, contexts) = contexts();
    let mut answers = Vec::new();
    for (_, context) in &contexts {
        let key = context.key(&softhsm::uri("rsa")).unwrap();
        let decrypt = |how, ciphertext: &[u8]| crypt(context, &key, how, true, ciphertext);
        let explicit = How { numbers: &[(c"implicit-rejection", 0)], ..how(PKCS1) };
        let good = raw(context, &key, &padded(b"a message"));
        for how in [how(PKCS1), explicit] {
            assert_eq!(decrypt(how, &good).unwrap(), b"a message");
        }
        let wrong: Vec<Vec<u8>> = wrong_premasters()
            .into_iter()
            .filter(|(what, _)| what.contains("byte") && !what.contains("one") || what.contains("type"))
            .map(|(_, encoded)| raw(context, &key, &encoded))
            .collect();
        assert!(wrong.len() >= 3);
        let said: Vec<String> =
            wrong.iter().map(|ciphertext| decrypt(explicit, ciphertext).unwrap_err()).collect();
        assert!(said.iter().all(|error| *error == said[0]), "{said:?}");
        assert!(said[0].contains("cannot be decrypted"), "{said:?}");
        // The same in another object of the key, which another process would have.
        let again = context.key(&softhsm::uri("rsa")).unwrap();
        for ciphertext in &wrong {
            let made_up = decrypt(how(PKCS1), ciphertext).unwrap();
            assert_eq!(crypt(context, &again, how(PKCS1), true, ciphertext).unwrap(), made_up);
            answers.push(made_up);
        }
    }
    answers.sort();
    answers.dedup();
    assert!(answers.len() >= 3, "each ciphertext has its own answer");
}

#[test]
fn oaep_says_one_thing_whatever_is_wrong() {
    let (_alone, contexts) = contexts();
    for (takes_away, context) in &contexts {
        let key = context.key(&softhsm::uri("rsa")).unwrap();
        for texts in
            [&[][..], &[(c"digest", c"SHA256")], &[(c"digest", c"SHA384"), (c"mgf1-digest", c"SHA1")]]
        {
            let how = How { texts, ..how(OAEP) };
            let ciphertext = crypt(context, &key, how, false, b"a message").unwrap();
            let decrypted = crypt(context, &key, how, true, &ciphertext);
            if *takes_away && !texts.is_empty() {
                // SoftHSM2 has OAEP with SHA-1 only, and there is no other way.
                assert!(decrypted.unwrap_err().contains("C_DecryptInit"));
                continue;
            }
            assert_eq!(decrypted.unwrap(), b"a message");
            let encoded = crypt(context, &key, self::how(NONE), true, &ciphertext).unwrap_or_default();
            let mut wrong = vec![raw(context, &key, &padded(b"a message"))];
            for at in [0, 1, 60, 255].into_iter().filter(|_| !encoded.is_empty()) {
                let mut encoded = encoded.clone();
                encoded[at] ^= 1;
                wrong.push(raw(context, &key, &encoded));
            }
            let said: Vec<String> =
                wrong.iter().map(|wrong| crypt(context, &key, how, true, wrong).unwrap_err()).collect();
            assert!(said.iter().all(|error| *error == said[0]), "{takes_away} {said:?}");
            assert!(said[0].contains("cannot be decrypted"), "{said:?}");
        }
    }
}

/// A wrong padding is an error of SoftHSM2's that elsewhere means that a token is dead. Nobody who sends one makes the provider
/// throw its sessions away, which would show in the time that it takes, and shake those who sign.
#[test]
fn a_wrong_padding_costs_no_session() {
    let (_alone, [_, (takes_away, context)]) = contexts();
    assert!(takes_away);
    let key = context.key(&softhsm::uri("rsa")).unwrap();
    let opened = unsafe {
        let module = std::ffi::CString::new(built("examples/libpadding_token.so").to_str().unwrap()).unwrap();
        let module = libc::dlopen(module.as_ptr(), libc::RTLD_NOW);
        let opened = libc::dlsym(module, c"padding_token_sessions".as_ptr());
        assert!(!opened.is_null());
        std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> u64>(opened)
    };
    key.sign(b"message").unwrap();
    let before = opened();
    for (_, encoded) in wrong_premasters() {
        let wrong = raw(&context, &key, &encoded);
        assert_eq!(crypt(&context, &key, PREMASTER, true, &wrong).unwrap().len(), 48);
        let _ = crypt(&context, &key, how(PKCS1), true, &wrong);
        let _ = crypt(&context, &key, how(OAEP), true, &wrong);
        key.sign(b"message").unwrap();
    }
    assert_eq!(opened(), before);
}

/// Nothing is written past the buffer, and one that is too small is an error before the token is asked.
#[test]
fn small_buffers_are_refused() {
    let (_alone, [(_, context), _]) = contexts();
    let key = context.key(&softhsm::uri("rsa")).unwrap();
    let ciphertext = raw(&context, &key, &padded(b"a message"));
    unsafe {
        let operation = EVP_PKEY_CTX_new_from_pkey(context.0, key.key, ptr::null());
        assert_eq!(ffi::EVP_PKEY_decrypt_init(operation), 1);
        let mut size = 0;
        let asked = ffi::EVP_PKEY_decrypt(
            operation,
            ptr::null_mut(),
            &mut size,
            ciphertext.as_ptr(),
            ciphertext.len(),
        );
        assert_eq!((asked, size), (1, SIZE));
        let mut out = [0xa5u8; SIZE];
        size = SIZE - 1;
        let done = ffi::EVP_PKEY_decrypt(
            operation,
            out.as_mut_ptr(),
            &mut size,
            ciphertext.as_ptr(),
            ciphertext.len(),
        );
        assert!(done != 1 && out == [0xa5; SIZE], "{}", last_error());
        let copy = EVP_PKEY_CTX_dup(operation);
        ffi::EVP_PKEY_CTX_free(operation);
        size = SIZE;
        let done =
            ffi::EVP_PKEY_decrypt(copy, out.as_mut_ptr(), &mut size, ciphertext.as_ptr(), ciphertext.len());
        assert_eq!((done, &out[..size]), (1, &b"a message"[..]), "{}", last_error());
        ffi::EVP_PKEY_CTX_free(copy);
    }
}
