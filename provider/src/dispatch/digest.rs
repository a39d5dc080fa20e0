//! Digests (provider-digest(7)) computed in a token, where `strongroom-operations` in openssl.cnf says `digest`.

use std::ffi::{CStr, c_int, c_uchar, c_void};
use std::ptr;
use std::sync::Arc;

use super::collected::Collected;
use super::operation::{self, Operation, place_for, place_for_length, with};
use super::{Algorithms, LAST, algorithm, input, table};
use crate::bindings::*;
use crate::error::{Error, Result};
use crate::fence::fence;
use crate::openssl::{Digest, Hash};
use crate::params::{Answers, Descriptions, END, describe};
use crate::provider::Provider;
use crate::token::{DigestInParts, Functions, Parts};

/// One digest as OpenSSL knows it.
struct Facts {
    hash: Hash,
    /// OpenSSL's names for it.
    names: &'static CStr,
    /// The size of the blocks in which the function works, in bytes: HMAC needs it.
    block: c_int,
}

const FACTS: [Facts; 11] = [
    facts(Hash::Sha1, c"SHA1:SHA-1:SSL3-SHA1:1.3.14.3.2.26", 64),
    facts(Hash::Sha224, c"SHA2-224:SHA-224:SHA224:2.16.840.1.101.3.4.2.4", 64),
    facts(Hash::Sha256, c"SHA2-256:SHA-256:SHA256:2.16.840.1.101.3.4.2.1", 64),
    facts(Hash::Sha384, c"SHA2-384:SHA-384:SHA384:2.16.840.1.101.3.4.2.2", 128),
    facts(Hash::Sha512, c"SHA2-512:SHA-512:SHA512:2.16.840.1.101.3.4.2.3", 128),
    facts(Hash::Sha512_224, c"SHA2-512/224:SHA-512/224:SHA512-224:2.16.840.1.101.3.4.2.5", 128),
    facts(Hash::Sha512_256, c"SHA2-512/256:SHA-512/256:SHA512-256:2.16.840.1.101.3.4.2.6", 128),
    facts(Hash::Sha3_224, c"SHA3-224:2.16.840.1.101.3.4.2.7", 144),
    facts(Hash::Sha3_256, c"SHA3-256:2.16.840.1.101.3.4.2.8", 136),
    facts(Hash::Sha3_384, c"SHA3-384:2.16.840.1.101.3.4.2.9", 104),
    facts(Hash::Sha3_512, c"SHA3-512:2.16.840.1.101.3.4.2.10", 72),
];

const fn facts(hash: Hash, names: &'static CStr, block: c_int) -> Facts {
    Facts { hash, names, block }
}

/// The size of the blocks of a hash, in bytes.
pub fn block_size(hash: Hash) -> Option<usize> {
    let facts = FACTS.iter().find(|facts| facts.hash == hash)?;
    usize::try_from(facts.block).ok()
}

/// The digests.
pub static ALGORITHMS: Algorithms<12> = Algorithms([
    entry::<0>(),
    entry::<1>(),
    entry::<2>(),
    entry::<3>(),
    entry::<4>(),
    entry::<5>(),
    entry::<6>(),
    entry::<7>(),
    entry::<8>(),
    entry::<9>(),
    entry::<10>(),
    LAST,
]);

const fn entry<const N: usize>() -> OSSL_ALGORITHM {
    algorithm(Of::<N>::FACTS.names, c"provider=strongroom", Of::<N>::TABLE, c"Digest of a PKCS#11 token")
}

/// The functions of the digest in line `N` of [`FACTS`].
struct Of<const N: usize>;

impl<const N: usize> Of<N> {
    // In a constant: out of bounds would not compile.
    #[allow(clippy::indexing_slicing)]
    const FACTS: &'static Facts = &FACTS[N];

    const TABLE: Functions = table![
        OSSL_FUNC_DIGEST_NEWCTX: OSSL_FUNC_digest_newctx_fn = newctx::<N>,
        OSSL_FUNC_DIGEST_FREECTX: OSSL_FUNC_digest_freectx_fn = operation::free::<Context>,
        OSSL_FUNC_DIGEST_DUPCTX: OSSL_FUNC_digest_dupctx_fn = operation::duplicate::<Context>,
        OSSL_FUNC_DIGEST_INIT: OSSL_FUNC_digest_init_fn = init,
        OSSL_FUNC_DIGEST_UPDATE: OSSL_FUNC_digest_update_fn = update,
        OSSL_FUNC_DIGEST_FINAL: OSSL_FUNC_digest_final_fn = finish,
        OSSL_FUNC_DIGEST_DIGEST: OSSL_FUNC_digest_digest_fn = digest::<N>,
        OSSL_FUNC_DIGEST_GET_PARAMS: OSSL_FUNC_digest_get_params_fn = get_params::<N>,
        OSSL_FUNC_DIGEST_GETTABLE_PARAMS: OSSL_FUNC_digest_gettable_params_fn = gettable_params,
    ];
}

/// A digest: what libcrypto's `ctx` points to.
struct Context {
    provider: Arc<Provider>,
    hash: Hash,
    data: Collected<Making>,
}

/// A digest in the making.
enum Making {
    /// By the token.
    InToken(DigestInParts),
    /// By OpenSSL: it is the module itself that asks, in a call of ours.
    Own(Digest),
}

impl Parts for Making {
    fn update(&mut self, data: &[u8]) -> Result<()> {
        match self {
            Making::InToken(parts) => parts.update(data),
            Making::Own(digest) => digest.update(data),
        }
    }

    fn finish(self, out: &mut [u8]) -> Result<usize> {
        match self {
            Making::InToken(parts) => parts.finish(out),
            Making::Own(mut digest) => {
                let (bytes, size) = digest.finish()?;
                let made = bytes.get(..size).unwrap_or_default();
                out.get_mut(..size)
                    .map(|out| out.copy_from_slice(made))
                    .ok_or(Error::Buffer { room: 0, needed: size })?;
                Ok(size)
            }
        }
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(match self {
            Making::InToken(parts) => Making::InToken(parts.duplicate()?),
            Making::Own(digest) => Making::Own(digest.duplicate()?),
        })
    }
}

impl Operation for Context {
    fn provider(&self) -> &Provider {
        &self.provider
    }

    fn duplicate(&self) -> Result<Self> {
        Ok(Context { provider: self.provider.clone(), hash: self.hash, data: self.data.duplicate()? })
    }
}

impl Context {
    fn new(provider: Arc<Provider>, hash: Hash) -> Self {
        Context { provider, hash, data: Collected::Idle }
    }

    fn init(&mut self) -> Result<()> {
        self.data = match self.provider.tokens.are_in_use_here() {
            true => Collected::InParts(Making::Own(Digest::new(&self.provider.openssl, self.hash)?)),
            false => Collected::begun(),
        };
        Ok(())
    }

    fn update(&mut self, data: &[u8]) -> Result<()> {
        let Context { provider, hash, data: collected } = self;
        collected.update(data, |before| provider.tokens.digest_in_parts(*hash, before).map(Making::InToken))
    }

    /// Ends the digest in libcrypto's buffer.
    ///
    /// # Safety
    ///
    /// `out` is null or can be written for `size` bytes, `length` is null or can be written.
    unsafe fn finish_at(&mut self, out: *mut c_uchar, length: *mut usize, size: usize) -> Result<()> {
        let Context { provider, hash, data } = self;
        // SAFETY: by the contract.
        let (out, length) = unsafe { (place_for(hash.size(), out, size)?, place_for_length(length)?) };
        *length = data.finish(out, |data, out| provider.tokens.digest(*hash, data, out))?;
        Ok(())
    }
}

unsafe extern "C" fn newctx<const N: usize>(provider: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto's argument, as provider-digest(7) describes it.
    unsafe { operation::new(provider, |provider| Context::new(provider, Of::<N>::FACTS.hash)) }
}

/// There are no parameters.
unsafe extern "C" fn init(context: *mut c_void, _params: *const OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto's argument, as provider-digest(7) describes it.
    unsafe { with(context, |context: &mut Context| context.init()) }
}

unsafe extern "C" fn update(context: *mut c_void, data: *const c_uchar, length: usize) -> c_int {
    // SAFETY: as above: the data can be read for its length during the call.
    unsafe { with(context, |context: &mut Context| context.update(input(data, length)?)) }
}

unsafe extern "C" fn finish(
    context: *mut c_void,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    // SAFETY: as above: `out` can be written for `size` bytes, and `length`.
    unsafe { with(context, |context: &mut Context| context.finish_at(out, length, size)) }
}

unsafe extern "C" fn digest<const N: usize>(
    provider: *mut c_void,
    data: *const c_uchar,
    data_length: usize,
    out: *mut c_uchar,
    length: *mut usize,
    size: usize,
) -> c_int {
    fence(0, || {
        // SAFETY: libcrypto's pointer to our provider.
        let Some(provider) = (unsafe { Provider::from_context(provider) }) else { return 0 };
        let mut context = Context::new(provider, Of::<N>::FACTS.hash);
        // SAFETY: libcrypto's arguments, as provider-digest(7) describes them.
        let result = unsafe {
            context
                .init()
                .and_then(|()| context.update(input(data, data_length)?))
                .and_then(|()| context.finish_at(out, length, size))
        };
        context.provider.status(result)
    })
}

unsafe extern "C" fn get_params<const N: usize>(params: *mut OSSL_PARAM) -> c_int {
    fence(0, || {
        // SAFETY: a terminated list from libcrypto.
        let answers = unsafe { Answers::new(params) };
        let Facts { hash, block, .. } = Of::<N>::FACTS;
        c_int::from(
            answers.integer(OSSL_DIGEST_PARAM_BLOCK_SIZE, *block)
                && answers.integer(OSSL_DIGEST_PARAM_SIZE, hash.size() as c_int)
                && answers.integer(OSSL_DIGEST_PARAM_XOF, 0)
                // In an AlgorithmIdentifier they have no parameters.
                && answers.integer(OSSL_DIGEST_PARAM_ALGID_ABSENT, 1),
        )
    })
}

unsafe extern "C" fn gettable_params(_provider: *mut c_void) -> *const OSSL_PARAM {
    fence(ptr::null(), || {
        static LIST: Descriptions<5> = Descriptions::new([
            describe(OSSL_DIGEST_PARAM_BLOCK_SIZE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_DIGEST_PARAM_SIZE, OSSL_PARAM_UNSIGNED_INTEGER),
            describe(OSSL_DIGEST_PARAM_XOF, OSSL_PARAM_INTEGER),
            describe(OSSL_DIGEST_PARAM_ALGID_ABSENT, OSSL_PARAM_INTEGER),
            END,
        ]);
        LIST.as_ptr()
    })
}
