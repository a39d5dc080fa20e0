//! A key that a quorum of people can put together: split by Shamir's scheme, each share encrypted to the RSA
//! key of its holder. The security domain of a partition is one, and what unseals a node may be one.
//!
//! Nothing in a [`Quorum`] is secret. Its shares are decrypted by their holders, with openssl or with
//! `strongroom`. A share that does not belong is told by its commitment, and what comes out by the check.

mod shamir;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use prost::Message;
use strongroom_protocol::v1::{Holder, Quorum};

use crate::crypto::aws_lc;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::seal::{KEY_LENGTH, SealingKey};

/// Holders that there may be.
pub const MAX_HOLDERS: usize = 16;
/// The size of a share, in bytes: its number and what a key has.
pub const SHARE: usize = 1 + KEY_LENGTH;
/// The smallest RSA key of a holder, in bits.
const MIN_BITS: usize = 2048;

/// Makes a new key and splits it among the holders of these RSA public keys (DER SubjectPublicKeyInfo).
///
/// # Errors
///
/// ATTRIBUTE_WRONG: which key, or which number, cannot be.
pub fn create(name: &str, public_keys: &[Vec<u8>], needed: u32) -> Result<(SealingKey, Quorum), Failure> {
    let count = public_keys.len();
    if !(2..=MAX_HOLDERS).contains(&count) || !(2..=count).contains(&(needed as usize)) {
        return refuse!(
            AttributeWrong,
            "a quorum is 2 or more of 2 to {MAX_HOLDERS} holders, not {needed} of {count}: one alone could open it"
        );
    }
    for (at, public_key) in public_keys.iter().enumerate() {
        if public_keys.iter().take(at).any(|other| other == public_key) {
            return refuse!(
                AttributeWrong,
                "holder {} has the same key as one before: each needs an own one",
                at + 1
            );
        }
    }
    let key = SealingKey::generate();
    let id = aws_lc::random_array::<16>().to_vec();
    let shares = shamir::split(key.bytes(), needed as u8, count as u8);
    let holders = (1..).zip(public_keys).zip(&shares);
    let holders = holders.map(|((number, public_key), share)| {
        let encrypted = encrypt(number, public_key, share)?;
        let commitment = commitment(&id, share);
        Ok(Holder { number, public_key: public_key.clone(), share: encrypted, commitment })
    });
    let holders = holders.collect::<Result<_, Failure>>()?;
    let mut quorum = Quorum { id, needed, holders, check: Vec::new(), name: name.to_owned() };
    quorum.check = check(&quorum, &key)?;
    Ok((key, quorum))
}

fn encrypt(number: u32, public_key: &[u8], share: &SecretBytes) -> Result<Vec<u8>, Failure> {
    let unfit = || {
        Failure::new(
            strongroom_protocol::v1::ErrorCode::AttributeWrong,
            format!("the key of holder {number} is no RSA public key of {MIN_BITS} to 8192 bits"),
        )
    };
    let key = PublicEncryptingKey::from_der(public_key).map_err(|_| unfit())?;
    if key.key_size_bits() < MIN_BITS {
        return Err(unfit());
    }
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| unfit())?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, share, &mut encrypted, None)
        .map_err(|_| Failure::new(strongroom_protocol::v1::ErrorCode::Internal, "RSA-OAEP failed"))?
        .len();
    encrypted.truncate(length);
    Ok(encrypted)
}

fn commitment(id: &[u8], share: &[u8]) -> Vec<u8> {
    // The share has 32 random bytes: its hash tells nothing about it.
    let mut message = SecretBytes::zeroed(18 + id.len() + share.len());
    for (to, from) in message.iter_mut().zip(b"strongroom share 1".iter().chain(id).chain(share)) {
        *to = *from;
    }
    digest(&SHA256, &message).as_ref().to_vec()
}

fn check(quorum: &Quorum, key: &SealingKey) -> Result<Vec<u8>, Failure> {
    let message = Quorum { check: Vec::new(), ..quorum.clone() }.encode_to_vec();
    Ok(key.set_key()?.element("quorum", &message).to_bytes().to_vec())
}

/// The holder's number of a share that belongs to a quorum.
///
/// # Errors
///
/// UNSEAL_WRONG, with what is wrong with it.
pub fn belongs(quorum: &Quorum, share: &[u8]) -> Result<u32, Failure> {
    let number = u32::from(share.first().copied().unwrap_or_default());
    if share.len() != SHARE {
        return refuse!(
            UnsealWrong,
            "a share has {SHARE} bytes, not {}: decrypt it with RSA-OAEP and SHA-256 (for the hash and MGF1)",
            share.len()
        );
    }
    match quorum.holders.iter().find(|holder| holder.number == number) {
        Some(holder) if holder.commitment == commitment(&quorum.id, share) => Ok(number),
        _ => refuse!(
            UnsealWrong,
            "a share that says to be number {number} does not belong to this quorum ({}): it was changed, or is of \
             another one",
            crate::records::hex(&quorum.id)
        ),
    }
}

/// Puts the key together from shares that [`belongs`] has found to belong.
///
/// # Errors
///
/// UNSEAL_WRONG if there are too few, or the quorum's description was changed.
pub fn combine(quorum: &Quorum, shares: &[SecretBytes]) -> Result<SealingKey, Failure> {
    let mut different: Vec<&SecretBytes> = Vec::new();
    for share in shares {
        belongs(quorum, share)?;
        if !different.iter().any(|other| other.first() == share.first()) {
            different.push(share);
        }
    }
    let (given, needed) = (different.len(), quorum.needed as usize);
    if given < needed || needed < 2 {
        return refuse!(
            UnsealWrong,
            "{given} of {needed} shares are there: {} more are needed",
            needed.max(2) - given
        );
    }
    different.truncate(needed);
    match SealingKey::new(shamir::combine(&different)) {
        Some(key) if check(quorum, &key)? == quorum.check => Ok(key),
        _ => refuse!(UnsealWrong, "the shares' file was changed: what they give is not what was split"),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use strongroom_protocol::v1::ErrorCode;

    use super::*;

    fn holders(count: usize) -> Vec<PrivateDecryptingKey> {
        (0..count).map(|_| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap()).collect()
    }

    fn public(keys: &[PrivateDecryptingKey]) -> Vec<Vec<u8>> {
        let der = |key: &PrivateDecryptingKey| {
            AsDer::<PublicKeyX509Der<'_>>::as_der(&key.public_key()).unwrap().as_ref().to_vec()
        };
        keys.iter().map(der).collect()
    }

    fn share(key: &PrivateDecryptingKey, holder: &Holder) -> SecretBytes {
        let key = OaepPrivateDecryptingKey::new(key.clone()).unwrap();
        let mut room = vec![0; key.min_output_size()];
        SecretBytes::from(&*key.decrypt(&OAEP_SHA256_MGF1SHA256, &holder.share, &mut room, None).unwrap())
    }

    #[test]
    fn a_quorum_gives_the_key_back_and_what_is_wrong_is_told() {
        let private = holders(3);
        let (key, quorum) = create("tls", &public(&private), 2).unwrap();
        let shares: Vec<_> =
            private.iter().zip(&quorum.holders).map(|(key, holder)| share(key, holder)).collect();
        let copy = |at: usize| SecretBytes::from(&*shares[at]);
        for pair in [[0, 1], [0, 2], [2, 1]] {
            assert_eq!(combine(&quorum, &pair.map(copy)).unwrap().bytes(), key.bytes());
        }
        let refused = combine(&quorum, &[copy(1), copy(1)]).unwrap_err();
        assert!(refused.code == ErrorCode::UnsealWrong && refused.message.contains("1 of 2"), "{refused}");
        let mut wrong = copy(1);
        wrong[7] ^= 1;
        assert!(combine(&quorum, &[copy(0), wrong]).unwrap_err().message.contains("number 2"));
        // A description that asks for fewer, or has another name, is not the one that was made.
        let fewer = Quorum { needed: 1, ..quorum.clone() };
        combine(&fewer, &[copy(0)]).unwrap_err();
        let renamed = Quorum { name: "other".into(), ..quorum.clone() };
        assert!(combine(&renamed, &[copy(0), copy(1)]).unwrap_err().message.contains("file was changed"));
        belongs(&quorum, b"short").unwrap_err();
    }

    #[test]
    fn who_alone_could_open_it_is_no_quorum() {
        let keys = public(&holders(2));
        let twice = vec![keys[0].clone(), keys[0].clone()];
        for (keys, needed) in [(keys.clone(), 1), (keys.clone(), 3), (keys[..1].to_vec(), 1), (twice, 2)] {
            assert_eq!(create("tls", &keys, needed).unwrap_err().code, ErrorCode::AttributeWrong);
        }
        let other = vec![keys[0].clone(), vec![1, 2, 3]];
        assert!(create("tls", &other, 2).unwrap_err().message.contains("holder 2"));
    }
}
