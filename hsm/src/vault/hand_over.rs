//! A new key of the cluster, for the nodes that stay when one goes. It lies in etcd, encrypted to each of them, for who is away too.

use prost::Message;

use super::cluster::Membership;
use super::join::point;
use crate::crypto::KeyKind;
use crate::crypto::aws_lc::PrivateKey;
use crate::failure::{Failure, refuse};
use crate::identity::Identity;
use crate::memory::SecretBytes;
use crate::records::{MemberRecord, hex};
use crate::seal::{SealError, SealingKey};
use crate::store::HAND_OVER;

/// The largest that is looked at, in bytes: etcd takes no larger one.
const MOST: usize = 2 << 20;

/// What lies in etcd, sealed by the key that was the cluster's before: nobody else can have written it.
#[derive(Clone, PartialEq, Message)]
struct HandOver {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    /// The name of the node that made the new key.
    #[prost(string, tag = "2")]
    by: String,
    /// The name of the node that goes.
    #[prost(string, tag = "3")]
    gone: String,
    /// A P-256 key that was made for it, SubjectPublicKeyInfo.
    #[prost(bytes = "vec", tag = "4")]
    ephemeral: Vec<u8>,
    /// Those who stay.
    #[prost(message, repeated, tag = "5")]
    stay: Vec<Copy>,
}

/// The new key for one node.
#[derive(Clone, PartialEq, Message)]
struct Copy {
    /// The node's name.
    #[prost(string, tag = "1")]
    node: String,
    /// The key (32), sealed by what the ephemeral key and the node's agree on.
    #[prost(bytes = "vec", tag = "2")]
    sealed: Vec<u8>,
}

/// What a hand-over says to a node.
#[derive(Debug)]
pub enum HandedOver {
    /// The cluster's key from now on.
    Key(SealingKey),
    /// The node is not of the cluster any more.
    Gone {
        /// The name of the node that has seen to that: its own, if it left.
        by: String,
    },
}

/// The name of the record by which another key takes the place of this one.
pub(super) fn name(key: &SealingKey) -> Result<String, SealError> {
    let mark = key.set_key()?.element("hand-over", &[]).to_bytes();
    Ok(format!("{HAND_OVER}{}", hex(mark.get(..16).unwrap_or_default())))
}

/// What the new key is sealed as, for a node with this public key.
fn name_of_copy(cluster: &[u8], ephemeral: &[u8], to: &[u8]) -> String {
    format!("hand-over/{}/{}/{}", hex(cluster), hex(ephemeral), hex(to))
}

/// The record that hands `new` to those who stay.
pub(super) fn make(
    membership: &Membership,
    by: &str,
    gone: &str,
    stay: &[MemberRecord],
    new: &SealingKey,
) -> Result<Vec<u8>, Failure> {
    let (cluster, key) = (membership.id(), membership.key());
    let pair = PrivateKey::generate(KeyKind::P256)?;
    let ephemeral = pair.public_spki()?;
    let copy = |member: &MemberRecord| {
        let Some(point) = point(&member.public_key) else {
            return refuse!(
                Internal,
                "the node {} has no key to which another one can be encrypted",
                member.name
            );
        };
        let sealing = SealingKey::new(pair.derive(point)?).ok_or(SealError::Library)?;
        let name = name_of_copy(cluster, &ephemeral, &member.public_key);
        Ok(Copy {
            node: member.name.clone(),
            sealed: sealing.seal(&name, 0, SecretBytes::from(new.bytes()))?,
        })
    };
    let stay = stay.iter().map(copy).collect::<Result<_, Failure>>()?;
    let (cluster, by, gone) = (cluster.to_vec(), by.to_owned(), gone.to_owned());
    let plain = HandOver { cluster, by, gone, ephemeral, stay }.encode_to_vec();
    Ok(key.seal(&name(key)?, 0, SecretBytes::from(plain.as_slice()))?)
}

/// What a hand-over says to the node with this identity, which has the key from before.
///
/// # Errors
///
/// What is wrong with it: then no node of the cluster has written it.
pub fn open(
    record: &[u8],
    cluster: &[u8],
    key: &SealingKey,
    identity: &Identity,
) -> Result<HandedOver, String> {
    if record.len() > MOST {
        return Err("it is too large".to_owned());
    }
    let name = name(key).map_err(|error| error.to_string())?;
    let (_, plain) = key.open(&name, record).map_err(|error| error.to_string())?;
    read(&plain, cluster, identity)
}

/// As [`open`], of what was sealed.
///
/// # Errors
///
/// As [`open`].
pub fn read(plain: &[u8], cluster: &[u8], identity: &Identity) -> Result<HandedOver, String> {
    let form = || "it is of a form that this release does not know".to_owned();
    let found = HandOver::decode(plain).map_err(|_| form())?;
    if found.cluster != cluster {
        return Err("it is of another cluster".to_owned());
    }
    let library = |error: crate::crypto::CryptoError| error.to_string();
    let public_key = identity.public_key().map_err(library)?;
    let own = super::join::name_of(&public_key);
    let Some(copy) = found.stay.iter().find(|copy| copy.node == own) else {
        return Ok(HandedOver::Gone { by: found.by });
    };
    let shared = identity.agree(point(&found.ephemeral).ok_or_else(form)?).map_err(library)?;
    let sealing = SealingKey::new(shared).ok_or_else(form)?;
    let name = name_of_copy(cluster, &found.ephemeral, &public_key);
    let (_, key) = sealing.open(&name, &copy.sealed).map_err(|error| error.to_string())?;
    SealingKey::new(key).map(HandedOver::Key).ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::now;

    fn member(identity: &Identity) -> MemberRecord {
        let public_key = identity.public_key().unwrap();
        MemberRecord { name: super::super::join::name_of(&public_key), public_key, since: now() }
    }

    #[test]
    fn those_who_stay_get_the_key_and_nobody_else() {
        let nodes: Vec<_> = (0..3).map(|_| Identity::generate().unwrap()).collect();
        let (old, new) = (SealingKey::generate(), SealingKey::generate());
        let of = |key: &SealingKey, id: u8| Membership::new(vec![id; 16], key.copy().unwrap());
        let membership = of(&old, 1);
        let members: Vec<_> = nodes.iter().map(member).collect();
        let [first, second, gone] = members.as_slice() else { panic!() };
        let stay = [first.clone(), second.clone()];
        let record = make(&membership, &first.name, &gone.name, &stay, &new).unwrap();
        for node in nodes.iter().take(2) {
            let Ok(HandedOver::Key(key)) = open(&record, &[1; 16], &old, node) else { panic!() };
            assert_eq!(key.bytes(), new.bytes());
        }
        let found = open(&record, &[1; 16], &old, &nodes[2]);
        assert!(matches!(&found, Ok(HandedOver::Gone { by }) if *by == first.name), "{found:?}");
        // Of another cluster, by somebody who has not the key, and changed.
        assert!(open(&record, &[2; 16], &old, &nodes[0]).is_err());
        assert!(open(&record, &[1; 16], &new, &nodes[0]).is_err());
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &[1; 16], &old, &nodes[0]).is_err(), "byte {at}");
        }
        // Each has the record of one key under one name, and of no other.
        assert_ne!(name(&old).unwrap(), name(&new).unwrap());
    }
}
