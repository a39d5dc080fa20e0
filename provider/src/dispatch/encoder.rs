//! Encoders (provider-encoder(7)): the public half as OpenSSL's own encoders write it and, in place of a private key, a reference to
//! it: the key itself stays in its token.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;

use strongroom_uri::reference;

use super::decoder::{freectx, newctx};
use super::{Algorithms, LAST, algorithm, key, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::key::Key;
use crate::provider::Provider;
use crate::token::{Functions, KeyKind};

/// What a key is written as.
trait Format {
    /// What of a key it is for: EVP_PKEY_print_private and i2d_PublicKey, for example, differ in that.
    const SELECTION: u32;

    fn write(key: &Key, selection: c_int) -> Result<Vec<u8>>;
}

/// The formats, each with its properties and whether it is for RSA keys only. The structures' names are those of OpenSSL's own encoders;
/// what asks for a private key in a structure of its type (openssl ec, i2d_PrivateKey) gets the reference too.
const FORMATS: [(&CStr, Functions, bool); 11] = [
    (c"provider=strongroom,output=pem,structure=PrivateKeyInfo", Encoder::<ReferencePem>::TABLE, false),
    (c"provider=strongroom,output=pem,structure=type-specific", Encoder::<ReferencePem>::TABLE, false),
    (c"provider=strongroom,output=pem,structure=pkcs1", Encoder::<ReferencePem>::TABLE, true),
    (c"provider=strongroom,output=der,structure=PrivateKeyInfo", Encoder::<ReferenceDer>::TABLE, false),
    (c"provider=strongroom,output=der,structure=type-specific", Encoder::<ReferenceDer>::TABLE, false),
    (c"provider=strongroom,output=pem,structure=SubjectPublicKeyInfo", Encoder::<SpkiPem>::TABLE, false),
    (c"provider=strongroom,output=der,structure=SubjectPublicKeyInfo", Encoder::<SpkiDer>::TABLE, false),
    (c"provider=strongroom,output=text", Encoder::<Text>::TABLE, false),
    (c"provider=strongroom,output=pem,structure=pkcs1", Encoder::<Pkcs1Pem>::TABLE, true),
    (c"provider=strongroom,output=der,structure=pkcs1", Encoder::<Pkcs1Der>::TABLE, true),
    (c"provider=strongroom,output=der,structure=type-specific", Encoder::<Pkcs1Der>::TABLE, true),
];

/// The encoders.
pub static ALGORITHMS: Algorithms<{ FORMATS.len() * KeyKind::ALL.len() + 1 }> = Algorithms({
    let mut list = [const { LAST }; FORMATS.len() * KeyKind::ALL.len() + 1];
    let (mut kind, mut to) = (0, 0);
    #[allow(clippy::indexing_slicing)] // in a constant: out of bounds would not compile
    while kind < KeyKind::ALL.len() {
        let facts = KeyKind::ALL[kind].facts();
        let mut format = 0;
        while format < FORMATS.len() {
            let (properties, functions, only_rsa) = FORMATS[format];
            if !only_rsa || matches!(KeyKind::ALL[kind], KeyKind::Rsa) {
                list[to] = algorithm(facts.names.all, properties, functions, facts.description);
                to += 1;
            }
            format += 1;
        }
        kind += 1;
    }
    list
});

/// An encoder to a format, for keys of every type: the key itself knows its own.
struct Encoder<F>(PhantomData<F>);

impl<F: Format> Encoder<F> {
    const TABLE: Functions = table![
        OSSL_FUNC_ENCODER_NEWCTX: OSSL_FUNC_encoder_newctx_fn = newctx,
        OSSL_FUNC_ENCODER_FREECTX: OSSL_FUNC_encoder_freectx_fn = freectx,
        OSSL_FUNC_ENCODER_DOES_SELECTION: OSSL_FUNC_encoder_does_selection_fn = does_selection::<F>,
        OSSL_FUNC_ENCODER_ENCODE: OSSL_FUNC_encoder_encode_fn = encode::<F>,
    ];
}

/// Whether the format has the most secret part of what is wanted, as with OpenSSL's own encoders. Nothing wanted is anything.
unsafe extern "C" fn does_selection<F: Format>(_context: *mut c_void, selection: c_int) -> c_int {
    let parts =
        [OSSL_KEYMGMT_SELECT_PRIVATE_KEY, OSSL_KEYMGMT_SELECT_PUBLIC_KEY, OSSL_KEYMGMT_SELECT_ALL_PARAMETERS];
    fence(0, || {
        let most = parts.into_iter().find(|part| selection as u32 & part != 0);
        c_int::from(most.is_none_or(|part| F::SELECTION & part != 0))
    })
}

unsafe extern "C" fn encode<F: Format>(
    context: *mut c_void,
    output: *mut OSSL_CORE_BIO,
    keydata: *const c_void,
    parameters: *const OSSL_PARAM,
    selection: c_int,
    _passphrase: OSSL_PASSPHRASE_CALLBACK,
    _argument: *mut c_void,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointers to the provider (newctx) and to a key of ours.
        let (Some(provider), Some(key)) = (unsafe { (Provider::from_context(context), key(keydata)) }) else {
            return 0;
        };
        if !parameters.is_null() {
            // A key as parameters is another provider's.
            return 0;
        }
        let written = F::write(key, selection).and_then(|data| {
            let done = provider.core.write_all(output, &data);
            if done { Ok(()) } else { Err(Error::Libcrypto("BIO_write_ex: the output cannot be written")) }
        });
        provider.status(written)
    })
}

/// A private key's reference, PEM.
struct ReferencePem;
/// A private key's reference, DER.
struct ReferenceDer;
/// For people.
struct Text;
/// SubjectPublicKeyInfo (RFC 5280), PEM
struct SpkiPem;
/// SubjectPublicKeyInfo (RFC 5280), DER
struct SpkiDer;
/// RSAPublicKey (RFC 8017), PEM
struct Pkcs1Pem;
/// RSAPublicKey (RFC 8017), DER
struct Pkcs1Der;

impl Format for ReferencePem {
    const SELECTION: u32 = OSSL_KEYMGMT_SELECT_PRIVATE_KEY;

    fn write(key: &Key, _selection: c_int) -> Result<Vec<u8>> {
        Ok(reference::pem_from_uri(&uri(key)?)?.into_bytes())
    }
}

impl Format for ReferenceDer {
    const SELECTION: u32 = OSSL_KEYMGMT_SELECT_PRIVATE_KEY;

    fn write(key: &Key, _selection: c_int) -> Result<Vec<u8>> {
        Ok(reference::der_from_uri(&uri(key)?)?)
    }
}

/// What a reference says.
fn uri(key: &Key) -> Result<String> {
    if !key.provider.tokens.settings.encode_references {
        return Err(Error::Unsupported(
            "a private key is not written, and pkcs11-module-encode-provider-uri-to-pem forbids its reference".into(),
        ));
    }
    Ok(key.private()?.uri().to_string())
}

impl Format for Text {
    const SELECTION: u32 = OSSL_KEYMGMT_SELECT_ALL;

    fn write(key: &Key, selection: c_int) -> Result<Vec<u8>> {
        let public = key.written()?;
        let mut text = Vec::new();
        if selection as u32 & OSSL_KEYMGMT_SELECT_PRIVATE_KEY != 0 {
            let title =
                format!("PKCS#11 {} Private-Key: ({} bit)", key.kind.name().to_string_lossy(), public.bits());
            let uri = key.private()?.uri();
            text = format!("{title}\nURI: {uri}\nThe private key is in its token and cannot be shown.\n")
                .into_bytes();
        }
        text.extend(public.encode(c"TEXT", None)?);
        Ok(text)
    }
}

/// A format of the public half that OpenSSL's own encoder writes.
macro_rules! public_format {
    ($($format:ident: $output:literal, $structure:literal;)*) => {
        $(impl Format for $format {
            const SELECTION: u32 = OSSL_KEYMGMT_SELECT_PUBLIC_KEY;

            fn write(key: &Key, _selection: c_int) -> Result<Vec<u8>> {
                key.written()?.encode($output, Some($structure))
            }
        })*
    };
}

public_format! {
    SpkiPem: c"PEM", c"SubjectPublicKeyInfo";
    SpkiDer: c"DER", c"SubjectPublicKeyInfo";
    Pkcs1Pem: c"PEM", c"pkcs1";
    Pkcs1Der: c"DER", c"pkcs1";
}
