//! The pseudorandom function of TLS 1.2 (RFC 5246, 5) in a token, made of its HMACs: so every token that has those has it, with every label
//! and seed. PKCS#11's own mechanisms take those of a handshake only.

use super::Tokens;
use super::mac::Mac;
use super::secret_key::SecretKey;
use crate::error::{Error, Result};
use crate::openssl::{Hash, MAX_DIGEST};
use zeroize::Zeroizing;

impl Tokens {
    /// Fills `out` with the function of `secret` and `seed`, which begins with the label.
    ///
    /// # Errors
    ///
    /// As [`mac`](Self::mac).
    pub fn tls_prf(&self, hash: Hash, secret: &SecretKey, seed: &[u8], out: &mut [u8]) -> Result<()> {
        let mac = Mac::Hmac(hash);
        let (mechanism, name, secret) = (mac.mechanism()?, mac.name(), mac.padded(secret));
        self.with_secret_key(mechanism, &name, &secret, &mac.purpose(), |module, session, slot, key| {
            let code = |data: &[u8]| -> Result<Zeroizing<Vec<u8>>> {
                let mut code = Zeroizing::new(vec![0; MAX_DIGEST]);
                mac.init(module, session, slot, key)?;
                let made = module
                    .sign(session, data, &mut code)
                    .map_err(|rv| Error::token("C_Sign", slot.name(), rv))?;
                match made == mac.size() {
                    true => code.truncate(made),
                    false => return Err(Error::Key(format!("{}: {made} bytes of HMAC", slot.name()))),
                }
                Ok(code)
            };
            let mut chained = code(seed)?;
            for part in out.chunks_mut(mac.size()) {
                let made = code(&joined(&chained, seed))?;
                part.copy_from_slice(made.get(..part.len()).unwrap_or_default());
                chained = code(&chained)?;
            }
            Ok(())
        })
    }
}

fn joined(first: &[u8], second: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut all = Zeroizing::new(Vec::with_capacity(first.len() + second.len()));
    all.extend_from_slice(first);
    all.extend_from_slice(second);
    all
}
