//! The public half of a key, as an EVP_PKEY of OpenSSL's own provider.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};

use openssl_sys as ffi;
use strongroom_ffi::pointer;

use super::{Context, Hash};
use crate::bindings::{self, OSSL_CALLBACK};
use crate::error::{Error, Result};
use crate::params::{self, Answers, END, Params};

/// The selection "public half" (EVP_PKEY_PUBLIC_KEY): domain parameters and public key.
const PUBLIC: c_int = (bindings::OSSL_KEYMGMT_SELECT_PUBLIC_KEY
    | bindings::OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS
    | bindings::OSSL_KEYMGMT_SELECT_OTHER_PARAMETERS) as c_int;

/// A public key. Copies share the same EVP_PKEY by its reference count.
pub struct PublicKey(NonNull<ffi::EVP_PKEY>);

// SAFETY: an EVP_PKEY that nobody changes is thread-safe (openssl-threads(7)).
unsafe impl Send for PublicKey {}
// SAFETY: as above.
unsafe impl Sync for PublicKey {}

/// What a signature is verified over.
pub enum Verification<'a> {
    /// A digest, or other short data, under parameters of EVP_PKEY_verify (padding, digest, salt length).
    Digest(&'a [u8]),
    /// The whole message: Ed25519.
    Message(&'a [u8]),
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it is not one, or of a type that this libcrypto does not know.
    pub fn from_der(context: &Context, der: &[u8]) -> Result<Self> {
        let mut position = der.as_ptr();
        let length = der.len() as std::ffi::c_long;
        // SAFETY: `position` points to `length` bytes; the result is new and ours.
        let key = unsafe {
            bindings::d2i_PUBKEY_ex(ptr::null_mut(), &mut position, length, context.as_ptr(), ptr::null())
        };
        NonNull::new(key)
            .map(PublicKey)
            .ok_or(Error::Libcrypto("d2i_PUBKEY_ex: not a public key that it knows"))
    }

    /// Makes a key of type `name` from parameters as keymgmt's import gets them; what is private in them is not
    /// looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if they are not a public key.
    pub fn from_params(context: &Context, name: &CStr, params: Params) -> Result<Self> {
        let mut key = ptr::null_mut();
        // SAFETY: valid context and strings; the parameters are a terminated list, which EVP_PKEY_fromdata reads
        // only (its argument is not const for historical reasons). The EVP_PKEY_CTX is freed on every way.
        unsafe {
            let ctx = ffi::EVP_PKEY_CTX_new_from_name(context.as_ptr(), name.as_ptr(), ptr::null());
            if ctx.is_null() {
                return Err(Error::Libcrypto("EVP_PKEY_CTX_new_from_name"));
            }
            if ffi::EVP_PKEY_fromdata_init(ctx) == 1 {
                ffi::EVP_PKEY_fromdata(ctx, &mut key, PUBLIC, params.as_ptr().cast_mut().cast());
            }
            ffi::EVP_PKEY_CTX_free(ctx);
        }
        NonNull::new(key).map(PublicKey).ok_or(Error::Libcrypto("EVP_PKEY_fromdata"))
    }

    /// Takes over a reference to an EVP_PKEY; `None` for null.
    ///
    /// # Safety
    ///
    /// `key` is null or a key of OpenSSL's own provider, and the reference is the caller's to give.
    pub unsafe fn from_raw(key: *mut ffi::EVP_PKEY) -> Option<Self> {
        NonNull::new(key).map(PublicKey)
    }

    /// The DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it cannot be encoded.
    pub fn to_der(&self) -> Result<Vec<u8>> {
        let mut der = ptr::null_mut();
        // SAFETY: a valid key; the buffer is allocated by libcrypto with the length that it returns, copied, and freed with
        // its allocator.
        unsafe {
            let length = ffi::i2d_PUBKEY(self.as_ptr(), &mut der);
            let bytes =
                usize::try_from(length).ok().and_then(|length| pointer::slice(der.cast_const(), length));
            let bytes = bytes.filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec);
            ffi::CRYPTO_free(der.cast(), c"public_key.rs".as_ptr(), 0);
            bytes.ok_or(Error::Libcrypto("i2d_PUBKEY"))
        }
    }

    /// The public key as OpenSSL's own encoders write it: `output` is PEM, DER or TEXT, `structure` such as SubjectPublicKeyInfo.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if there is no such encoder for a key of this type.
    pub fn encode(&self, output: &CStr, structure: Option<&CStr>) -> Result<Vec<u8>> {
        let structure = structure.map_or(ptr::null(), CStr::as_ptr);
        let (mut data, mut length) = (ptr::null_mut(), 0);
        // SAFETY: a valid key and C strings; the context is ours and freed; the data is allocated by libcrypto with the length that it tells,
        // copied, and freed with its allocator.
        unsafe {
            let ctx = bindings::OSSL_ENCODER_CTX_new_for_pkey(
                self.as_ptr(),
                PUBLIC,
                output.as_ptr(),
                structure,
                ptr::null(),
            );
            if ctx.is_null() {
                return Err(Error::Libcrypto("OSSL_ENCODER_CTX_new_for_pkey"));
            }
            let done = bindings::OSSL_ENCODER_to_data(ctx, &mut data, &mut length) == 1;
            bindings::OSSL_ENCODER_CTX_free(ctx);
            let bytes = pointer::slice(data.cast_const(), length).filter(|_| done).map(<[u8]>::to_vec);
            ffi::CRYPTO_free(data.cast(), c"public_key.rs".as_ptr(), 0);
            bytes.ok_or(Error::Libcrypto("OSSL_ENCODER_to_data"))
        }
    }

    /// Whether it is a sound public key: its point on its curve, its modulus and exponent in their ranges.
    pub fn is_sound(&self, context: &Context) -> bool {
        // SAFETY: valid objects; the context is ours and freed.
        unsafe {
            let ctx = bindings::EVP_PKEY_CTX_new_from_pkey(context.as_ptr(), self.as_ptr(), ptr::null());
            let sound = !ctx.is_null() && bindings::EVP_PKEY_public_check(ctx) == 1;
            ffi::EVP_PKEY_CTX_free(ctx);
            sound
        }
    }

    /// Whether it is of the type `name`.
    pub fn is_a(&self, name: &CStr) -> bool {
        // SAFETY: a valid key and a C string.
        unsafe { ffi::EVP_PKEY_is_a(self.as_ptr(), name.as_ptr()) == 1 }
    }

    /// Whether both have the same domain parameters: for EC, the same curve.
    pub fn has_parameters_of(&self, other: &Self) -> bool {
        // SAFETY: both are valid and only read.
        unsafe { ffi::EVP_PKEY_parameters_eq(self.as_ptr(), other.as_ptr()) == 1 }
    }

    /// Whether both are the same key.
    pub fn equals(&self, other: &Self) -> bool {
        // SAFETY: both are valid and only read.
        unsafe { ffi::EVP_PKEY_eq(self.as_ptr(), other.as_ptr()) == 1 }
    }

    /// Whether it is a possible public key: a point of its curve, for one.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] without memory.
    pub fn is_valid(&self, context: &Context) -> Result<bool> {
        let operation = PkeyContext::new(context, self)?;
        // SAFETY: valid, and only read.
        Ok(unsafe { bindings::EVP_PKEY_public_check(operation.as_ptr()) } == 1)
    }

    /// The public key as a key agreement sends it: EC's point, uncompressed, or X25519's and X448's bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] for a key of another type.
    pub fn point(&self) -> Result<Vec<u8>> {
        let bad = || Error::Libcrypto("EVP_PKEY_get1_encoded_public_key");
        let mut encoded = ptr::null_mut();
        // SAFETY: a valid key; the buffer is allocated by libcrypto with the length that it returns, copied, and freed with
        // its allocator.
        let point = unsafe {
            let length = bindings::EVP_PKEY_get1_encoded_public_key(self.as_ptr(), &mut encoded);
            let point = pointer::slice(encoded.cast_const(), length).map(<[u8]>::to_vec);
            ffi::CRYPTO_free(encoded.cast(), c"public_key.rs".as_ptr(), 0);
            point.filter(|point| !point.is_empty()).ok_or_else(bad)?
        };
        match point.split_first() {
            // A key that was given compressed: the other coordinate is known too.
            Some((2 | 3, x)) if self.is_a(c"EC") => {
                let mut y = vec![0; x.len()];
                let mut list = [params::unsigned(bindings::OSSL_PKEY_PARAM_EC_PUB_Y, &mut y), END];
                // SAFETY: a terminated list of locals that can be written.
                if !self.answer(&unsafe { Answers::new(list.as_mut_ptr()) }) {
                    return Err(bad());
                }
                if cfg!(target_endian = "little") {
                    y.reverse();
                }
                Ok([&[4], x, &y].concat())
            }
            _ => Ok(point),
        }
    }

    /// Whether the curve's cofactor is 1, as it is with all in TLS. False if that cannot be told.
    pub fn has_cofactor_one(&self) -> bool {
        let mut cofactor = [0; 8];
        let mut list = [params::unsigned(bindings::OSSL_PKEY_PARAM_EC_COFACTOR, &mut cofactor), END];
        // SAFETY: a terminated list of locals that can be written.
        let is_known = self.answer(&unsafe { Answers::new(list.as_mut_ptr()) });
        is_known && u64::from_ne_bytes(cofactor) == 1
    }

    /// The size in bytes of the largest signature.
    pub fn signature_size(&self) -> usize {
        // SAFETY: valid and only read.
        usize::try_from(unsafe { ffi::EVP_PKEY_size(self.as_ptr()) }).unwrap_or(0)
    }

    /// The size in bits: of RSA's modulus, of the curve's order.
    pub fn bits(&self) -> usize {
        // SAFETY: valid and only read.
        usize::try_from(unsafe { ffi::EVP_PKEY_bits(self.as_ptr()) }).unwrap_or(0)
    }

    /// Answers a keymgmt's get_params: OpenSSL's own key knows bits, security bits, group, digest and the rest.
    pub fn answer(&self, answers: &Answers) -> bool {
        // SAFETY: a valid key and a terminated list.
        unsafe { ffi::EVP_PKEY_get_params(self.as_ptr(), answers.as_ptr().cast()) == 1 }
    }

    /// Hands the public half's parameters to `callback`.
    ///
    /// # Safety
    ///
    /// `callback` may be called with `argument` and a list of parameters that lives for the call.
    pub unsafe fn export(&self, callback: OSSL_CALLBACK, argument: *mut c_void) -> bool {
        let Some(callback) = callback else { return false };
        let mut list: *mut ffi::OSSL_PARAM = ptr::null_mut();
        // SAFETY: a valid key; the list is new and ours, freed after the callback, which the caller vouches for.
        unsafe {
            if ffi::EVP_PKEY_todata(self.as_ptr(), PUBLIC, &mut list) != 1 {
                return false;
            }
            let done = callback(list.cast(), argument) == 1;
            ffi::OSSL_PARAM_free(list);
            done
        }
    }

    /// Verifies a signature, under parameters as EVP_PKEY_CTX_set_params(3) takes them.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it is not valid, or could not be verified.
    pub fn verify(
        &self,
        context: &Context,
        params: Params,
        over: Verification,
        signature: &[u8],
    ) -> Result<()> {
        // SAFETY: valid objects, a terminated list, and slices that are read for their length; what is made here
        // is freed on every way.
        let valid = unsafe {
            match over {
                Verification::Digest(digest) => {
                    let operation = PkeyContext::new(context, self)?;
                    bindings::EVP_PKEY_verify_init_ex(operation.as_ptr(), params.as_ptr()) == 1
                        && ffi::EVP_PKEY_verify(
                            operation.as_ptr(),
                            signature.as_ptr(),
                            signature.len(),
                            digest.as_ptr(),
                            digest.len(),
                        ) == 1
                }
                Verification::Message(message) => {
                    let ctx = ffi::EVP_MD_CTX_new();
                    if ctx.is_null() {
                        return Err(Error::Libcrypto("EVP_MD_CTX_new"));
                    }
                    let valid = bindings::EVP_DigestVerifyInit_ex(
                        ctx,
                        ptr::null_mut(),
                        ptr::null(),
                        context.as_ptr(),
                        ptr::null(),
                        self.as_ptr(),
                        params.as_ptr(),
                    ) == 1
                        && ffi::EVP_DigestVerify(
                            ctx,
                            signature.as_ptr(),
                            signature.len(),
                            message.as_ptr(),
                            message.len(),
                        ) == 1;
                    ffi::EVP_MD_CTX_free(ctx);
                    valid
                }
            }
        };
        if valid { Ok(()) } else { Err(Error::Libcrypto("the signature is not valid")) }
    }

    /// What was signed, out of a signature, into `out`; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the signature is not valid.
    pub fn verify_recover(
        &self,
        context: &Context,
        params: Params,
        signature: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let mut size = out.len();
        let operation = PkeyContext::new(context, self)?;
        // SAFETY: valid objects, a terminated list, and slices that are read and written for their length.
        let done = unsafe {
            bindings::EVP_PKEY_verify_recover_init_ex(operation.as_ptr(), params.as_ptr()) == 1
                && bindings::EVP_PKEY_verify_recover(
                    operation.as_ptr(),
                    out.as_mut_ptr(),
                    &mut size,
                    signature.as_ptr(),
                    signature.len(),
                ) == 1
        };
        if done { Ok(size.min(out.len())) } else { Err(Error::Libcrypto("the signature is not valid")) }
    }

    /// This RSA-PSS key, which has no restriction, restricted to a hash, for the mask too, and salts of 20 bytes (RFC 4055's default) or
    /// more, as 'openssl genpkey -pkeyopt rsa_pss_keygen_md:…' restricts one.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if it is not such a key.
    pub fn restricted_to(&self, context: &Context, hash: Hash) -> Result<Self> {
        let changes = [
            params::utf8(bindings::OSSL_PKEY_PARAM_RSA_DIGEST, hash.name()),
            params::utf8(bindings::OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, hash.name()),
            params::int(bindings::OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, &20),
        ];
        self.with(context, c"RSA-PSS", &changes)
    }

    /// This EC key, whose point is written in another form: compressed, uncompressed or hybrid.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if there is no such form, or it is no EC key.
    pub fn in_point_format(&self, context: &Context, form: &str) -> Result<Self> {
        let form = CString::new(form).map_err(|_| Error::Libcrypto("a form of points"))?;
        let change = params::utf8(bindings::OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, &form);
        self.with(context, c"EC", &[change])
    }

    /// A key of type `name` like this one, but for `changes`.
    fn with(&self, context: &Context, name: &CStr, changes: &[bindings::OSSL_PARAM]) -> Result<Self> {
        let mut own: *mut ffi::OSSL_PARAM = ptr::null_mut();
        // SAFETY: a valid key; the list that is made is new and ours, terminated, with keys that are C strings, and freed when what points
        // into it has been read. `changes` and what it points to live for the call.
        unsafe {
            if ffi::EVP_PKEY_todata(self.as_ptr(), PUBLIC, &mut own) != 1 {
                return Err(Error::Libcrypto("EVP_PKEY_todata"));
            }
            let key = |param: &bindings::OSSL_PARAM| CStr::from_ptr(param.key);
            let stays =
                |param: &&bindings::OSSL_PARAM| changes.iter().all(|change| key(change) != key(param));
            let own_params = Params::new(own.cast_const().cast());
            let mut list: Vec<_> = own_params.iter().filter(stays).chain(changes).cloned().collect();
            list.push(END);
            let changed = Self::from_params(context, name, Params::new(list.as_ptr()));
            ffi::OSSL_PARAM_free(own);
            changed
        }
    }

    /// The hash, the mask's hash and the least salt in bytes that an RSA-PSS key is restricted to; `None` if it is not.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if libcrypto does not say.
    pub fn pss_restriction(&self) -> Result<Option<(String, String, usize)>> {
        let (mut hash, mut mgf1) = ([0u8; 32], [0u8; 32]);
        let mut salt: c_int = 0;
        let mut list = [
            params::room_for_text(bindings::OSSL_PKEY_PARAM_RSA_DIGEST, &mut hash),
            params::room_for_text(bindings::OSSL_PKEY_PARAM_RSA_MGF1_DIGEST, &mut mgf1),
            params::room_for_integer(bindings::OSSL_PKEY_PARAM_RSA_PSS_SALTLEN, &mut salt),
            END,
        ];
        // SAFETY: a terminated list of locals that can be written.
        if !self.answer(&unsafe { Answers::new(list.as_mut_ptr()) }) {
            return Err(Error::Libcrypto("EVP_PKEY_get_params: an RSA-PSS key's parameters"));
        }
        let is_answered = |param: &bindings::OSSL_PARAM| param.return_size != usize::MAX;
        if !list.iter().take(3).any(is_answered) {
            return Ok(None);
        }
        // Absent fields are the defaults (RFC 4055, 3.1).
        let name = |bytes: &[u8]| match CStr::from_bytes_until_nul(bytes).map(CStr::to_string_lossy) {
            Ok(name) if !name.is_empty() => name.into_owned(),
            _ => "SHA1".to_owned(),
        };
        let salt = if list.get(2).is_some_and(is_answered) { salt } else { 20 };
        Ok(Some((name(&hash), name(&mgf1), usize::try_from(salt).unwrap_or(0))))
    }

    /// Encrypts, under parameters as EVP_PKEY_CTX_set_params(3) takes them, into `out`, which has room for
    /// [`signature_size`](Self::signature_size) bytes; returns the size of the ciphertext.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the message is too long, or the padding is not one of libcrypto's.
    pub fn encrypt(
        &self,
        context: &Context,
        params: Params,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<usize> {
        let mut size = out.len();
        let operation = PkeyContext::new(context, self)?;
        // SAFETY: valid objects, a terminated list, and slices that are read and written for their length.
        let done = unsafe {
            bindings::EVP_PKEY_encrypt_init_ex(operation.as_ptr(), params.as_ptr()) == 1
                && ffi::EVP_PKEY_encrypt(
                    operation.as_ptr(),
                    out.as_mut_ptr(),
                    &mut size,
                    message.as_ptr(),
                    message.len(),
                ) == 1
        };
        if done { Ok(size) } else { Err(Error::Libcrypto("EVP_PKEY_encrypt")) }
    }

    /// Makes a secret, into `secret`, and the ciphertext from which the owner of the private half gets it. Both have exactly the
    /// sizes of the key's type. `params` as EVP_PKEY_encapsulate_init(3) takes them.
    ///
    /// # Errors
    ///
    /// [`Error::Libcrypto`] if the key's type has no encapsulation, or other sizes.
    pub fn encapsulate(
        &self,
        context: &Context,
        params: Params,
        ciphertext: &mut [u8],
        secret: &mut [u8],
    ) -> Result<()> {
        let (mut written, mut length) = (ciphertext.len(), secret.len());
        let operation = PkeyContext::new(context, self)?;
        // SAFETY: valid objects, a terminated list, and slices that are written for their length at most.
        let done = unsafe {
            bindings::EVP_PKEY_encapsulate_init(operation.as_ptr(), params.as_ptr()) == 1
                && bindings::EVP_PKEY_encapsulate(
                    operation.as_ptr(),
                    ciphertext.as_mut_ptr(),
                    &mut written,
                    secret.as_mut_ptr(),
                    &mut length,
                ) == 1
        };
        let is_whole = (written, length) == (ciphertext.len(), secret.len());
        if done && is_whole { Ok(()) } else { Err(Error::Libcrypto("EVP_PKEY_encapsulate")) }
    }

    fn as_ptr(&self) -> *mut ffi::EVP_PKEY {
        self.0.as_ptr()
    }
}

/// An operation with a public key (EVP_PKEY_CTX).
struct PkeyContext(NonNull<ffi::EVP_PKEY_CTX>);

impl PkeyContext {
    fn new(context: &Context, key: &PublicKey) -> Result<Self> {
        // SAFETY: valid objects; null is checked.
        let ctx =
            unsafe { bindings::EVP_PKEY_CTX_new_from_pkey(context.as_ptr(), key.as_ptr(), ptr::null()) };
        NonNull::new(ctx).map(PkeyContext).ok_or(Error::Libcrypto("EVP_PKEY_CTX_new_from_pkey"))
    }

    fn as_ptr(&self) -> *mut ffi::EVP_PKEY_CTX {
        self.0.as_ptr()
    }
}

impl Drop for PkeyContext {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::EVP_PKEY_CTX_free(self.as_ptr()) };
    }
}

impl Clone for PublicKey {
    fn clone(&self) -> Self {
        // SAFETY: valid; the new reference is freed by the new owner.
        unsafe { ffi::EVP_PKEY_up_ref(self.as_ptr()) };
        PublicKey(self.0)
    }
}

impl Drop for PublicKey {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { ffi::EVP_PKEY_free(self.as_ptr()) };
    }
}
