//! What a key on a curve agrees on with another's public key.

use super::sys as c;

use super::keys::Kept;
use super::owned::{EcKey, EcPoint, Pkey, PkeyContext};
use super::{PrivateKey, check, library_error};
use crate::crypto::{CryptoError, KeyKind};
use crate::memory::SecretBytes;

/// X25519's public keys and secrets, in bytes.
const X25519: usize = 32;

impl PrivateKey {
    /// Agrees on a secret (ECDH: NIST SP 800-56A, 5.7.1.2; X25519 and X448: RFC 7748, 6) with the owner of `public`: an
    /// uncompressed point on this key's curve, which is checked, or X25519's 32 or X448's 56 bytes. Blocks for the time of the
    /// computation, up to a millisecond.
    ///
    /// # Errors
    ///
    /// [`CryptoError::MechanismDoesNotFit`] for other keys, [`CryptoError::ParameterWrong`] if `public` is no point of
    /// the curve, or one that would make the secret known to all.
    pub fn derive(&self, public: &[u8]) -> Result<SecretBytes, CryptoError> {
        let size = self.check_peer(public)?;
        if let Kept::Curve448(key) = &self.kept {
            return key.derive(public);
        }
        let peer = if self.kind() == KeyKind::X25519 { x25519(public)? } else { self.point(public)? };
        let context = PkeyContext::of(self.kept.pkey()?)?;
        let mut secret = SecretBytes::zeroed(size);
        let mut length = secret.len();
        // SAFETY: as above; the output has the length passed.
        let done = unsafe {
            check(c::EVP_PKEY_derive_init(context.as_ptr()), "beginning to derive")?;
            check(c::EVP_PKEY_derive_set_peer(context.as_ptr(), peer.as_ptr()), "taking a public key")?;
            c::EVP_PKEY_derive(context.as_ptr(), secret.as_mut_ptr(), &mut length) == 1
        };
        if done && length == size {
            return Ok(secret);
        }
        // SAFETY: clears this thread's error queue; the caller is told what matters of it.
        unsafe { c::ERR_clear_error() };
        Err(CryptoError::ParameterWrong("the public key gives no secret".to_owned()))
    }

    /// Checks the form of another's public key, and returns the size of the secret in bytes. Whether it is on the curve is seen
    /// when it is used.
    ///
    /// # Errors
    ///
    /// As for [`PrivateKey::derive`].
    pub fn check_peer(&self, public: &[u8]) -> Result<usize, CryptoError> {
        if let Kept::Curve448(key) = &self.kept {
            return key.check_peer(public);
        }
        match (self.kind(), self.kind().ec_scalar()) {
            (_, Some(scalar)) if public.len() == 1 + 2 * scalar && public.first() == Some(&4) => Ok(scalar),
            (_, Some(_)) => Err(self.not_a_point()),
            (KeyKind::X25519, None) if public.len() == X25519 => Ok(X25519),
            (KeyKind::X25519, None) => {
                Err(CryptoError::ParameterWrong(format!("X25519's public keys have {X25519} bytes")))
            }
            (kind, None) => Err(CryptoError::MechanismDoesNotFit { mechanism: "ECDH", kind }),
        }
    }

    fn not_a_point(&self) -> CryptoError {
        CryptoError::ParameterWrong(format!("the public key is no uncompressed point on {}", self.kind()))
    }

    /// The public key of a point on this key's curve.
    fn point(&self, point: &[u8]) -> Result<Pkey, CryptoError> {
        let wrong = || {
            // SAFETY: clears this thread's error queue; the caller is told what matters of it.
            unsafe { c::ERR_clear_error() };
            self.not_a_point()
        };
        let pkey = self.kept.pkey()?;
        // SAFETY: this is an EC key (its kind has a scalar), whose group outlives the call; new objects are owned at once;
        // the setters take copies, EVP_PKEY_set1_EC_KEY a reference of its own. EC_POINT_oct2point checks that the
        // point is on the curve, whose cofactor is 1.
        unsafe {
            let group = c::EC_KEY_get0_group(c::EVP_PKEY_get0_EC_KEY(pkey.as_ptr()));
            let made = EcPoint::new(c::EC_POINT_new(group)).ok_or_else(|| library_error("EC_POINT_new"))?;
            let no_context = std::ptr::null_mut();
            if c::EC_POINT_oct2point(group, made.as_ptr(), point.as_ptr(), point.len(), no_context) != 1 {
                return Err(wrong());
            }
            let key = EcKey::new(c::EC_KEY_new()).ok_or_else(|| library_error("EC_KEY_new"))?;
            check(c::EC_KEY_set_group(key.as_ptr(), group), "EC_KEY_set_group")?;
            if c::EC_KEY_set_public_key(key.as_ptr(), made.as_ptr()) != 1 {
                return Err(wrong());
            }
            let pkey = Pkey::new(c::EVP_PKEY_new()).ok_or_else(|| library_error("EVP_PKEY_new"))?;
            check(c::EVP_PKEY_set1_EC_KEY(pkey.as_ptr(), key.as_ptr()), "EVP_PKEY_set1_EC_KEY")?;
            Ok(pkey)
        }
    }
}

fn x25519(public: &[u8]) -> Result<Pkey, CryptoError> {
    // SAFETY: the pointer and length are the slice's; the result is null or owned by the caller.
    unsafe {
        let none = std::ptr::null_mut();
        Pkey::new(c::EVP_PKEY_new_raw_public_key(c::EVP_PKEY_X25519, none, public.as_ptr(), public.len()))
    }
    .ok_or_else(|| library_error("reading an X25519 key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::aws_lc;

    /// The size of a secret in bytes.
    fn size(kind: KeyKind) -> usize {
        if kind == KeyKind::X448 { 56 } else { kind.ec_scalar().unwrap_or(X25519) }
    }

    /// The public half as a partner takes it: the end of a SubjectPublicKeyInfo.
    fn public(key: &PrivateKey) -> Vec<u8> {
        let spki = key.public_spki().unwrap();
        let length = key.kind().ec_scalar().map_or(size(key.kind()), |scalar| 1 + 2 * scalar);
        spki[spki.len() - length..].to_vec()
    }

    #[test]
    fn both_sides_agree() {
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.derives() && aws_lc::has(*kind)) {
            let (one, other) = (PrivateKey::generate(kind).unwrap(), PrivateKey::generate(kind).unwrap());
            let secret = one.derive(&public(&other)).unwrap();
            assert_eq!(&*secret, &*other.derive(&public(&one)).unwrap());
            assert_ne!(&*secret, &*one.derive(&public(&one)).unwrap());
            assert_eq!(secret.len(), size(kind));
        }
    }

    #[test]
    fn points_that_are_none_are_refused() {
        let p256 = PrivateKey::generate(KeyKind::P256).unwrap();
        let sound = public(&p256);
        let mut off_the_curve = sound.clone();
        off_the_curve[64] ^= 1;
        let compressed = [&[2][..], &sound[1..33]].concat();
        for wrong in [&off_the_curve[..], &compressed, &sound[..64], &[0], &[], &[4; 97]] {
            assert!(matches!(p256.derive(wrong), Err(CryptoError::ParameterWrong(_))), "{wrong:?}");
        }
        let x25519 = PrivateKey::generate(KeyKind::X25519).unwrap();
        // Of small order: the secret would be zero, whatever the key (RFC 7748, 6.1).
        let mut one = [0; 32];
        one[0] = 1;
        for wrong in [&[0; 32][..], &one, &[9; 31], &[]] {
            assert!(matches!(x25519.derive(wrong), Err(CryptoError::ParameterWrong(_))), "{wrong:?}");
        }
        let ed25519 = PrivateKey::generate(KeyKind::Ed25519).unwrap();
        assert!(matches!(ed25519.derive(&[9; 32]), Err(CryptoError::MechanismDoesNotFit { .. })));
    }

    /// RFC 7748, 6.1.
    #[test]
    fn x25519_published_vector() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let der =
            [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20][..], &alice].concat();
        let bob = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let secret = PrivateKey::import(&der).unwrap().derive(&bob).unwrap();
        assert_eq!(secret.to_vec(), hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"));
    }
}
