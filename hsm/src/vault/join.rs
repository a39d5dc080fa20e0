//! A new node of a cluster: one that is of it gives it the cluster's key, encrypted to the new node's own key, whose certificate every
//! partition's owner has signed. The new node takes it only from a node of an owner whom it was told of.

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message;
use strongroom_owner::{Certificate, CertificateError, OwnerCertificate, node};
use strongroom_protocol::v1::ErrorCode;

use super::cluster::Membership;
use super::load::Opened;
use super::{Slot, Source, Vault};
use crate::crypto::KeyKind;
use crate::crypto::aws_lc::PrivateKey;
use crate::failure::{Failure, refuse};
use crate::identity::Identity;
use crate::memory::SecretBytes;
use crate::records::{ClusterRecord, MemberRecord, hex};
use crate::seal::{Element, KEY_LENGTH, SealError, SealingKey};
use crate::service::now;
use crate::store::{Batch, EtcdStore, Mark};

/// What a P-256 public key begins with (DER SubjectPublicKeyInfo); its point follows, 65 bytes.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The largest invitation that is looked at, in bytes: a certificate of each partition's owner, and little else.
const MOST: usize = 1 << 20;

/// What lies in etcd for a node that was admitted.
#[derive(Clone, PartialEq, Message)]
struct Invitation {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    cluster: Vec<u8>,
    /// A P-256 key that was made for it, SubjectPublicKeyInfo.
    #[prost(bytes = "vec", tag = "2")]
    ephemeral: Vec<u8>,
    /// Sealed by what both keys agree on: the cluster's key (32), the number of the last change (8, little-endian), and its ledger's
    /// hash (32): what the new node has to find in etcd at least.
    #[prost(bytes = "vec", tag = "3")]
    sealed: Vec<u8>,
    /// The certificates of the node that admits, DER: one of each owner.
    #[prost(bytes = "vec", repeated, tag = "4")]
    certificates: Vec<Vec<u8>>,
    /// Its signature, ECDSA with SHA-256, DER.
    #[prost(bytes = "vec", tag = "5")]
    signature: Vec<u8>,
    /// The certificates of the new node, DER, for it to keep.
    #[prost(bytes = "vec", repeated, tag = "6")]
    admitted: Vec<Vec<u8>>,
}

impl Invitation {
    /// What is signed: nothing else that a node signs begins like this.
    fn message(&self, to: &[u8]) -> Vec<u8> {
        let hash = |part: &[u8]| digest(&SHA256, part).as_ref().to_vec();
        let admitted: Vec<u8> = self.admitted.iter().flat_map(|certificate| hash(certificate)).collect();
        let parts: [&[u8]; 5] = [&self.cluster, &self.ephemeral, &self.sealed, to, &admitted];
        let parts = parts.map(hash);
        [b"Strongroom: invitation 1\n".as_slice(), &parts.concat()].concat()
    }

    /// The name under which the cluster's key is sealed, to the node with this public key.
    fn name(&self, to: &[u8]) -> String {
        format!("invitation/{}/{}/{}", hex(&self.cluster), hex(&self.ephemeral), hex(to))
    }
}

pub(super) fn point(spki: &[u8]) -> Option<&[u8]> {
    spki.strip_prefix(&P256)
}

/// The name of a node, of its public key: 16 hexadecimal digits.
pub(super) fn name_of(spki: &[u8]) -> String {
    let subject = node::subject(spki);
    subject.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// The node itself, as the cluster's root names it.
pub(super) fn member(identity: &Identity) -> Result<MemberRecord, Failure> {
    let public_key = identity.public_key()?;
    Ok(MemberRecord { name: name_of(&public_key), public_key, since: now() })
}

impl Vault {
    /// The nodes of the cluster; none if the node is of no cluster.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`].
    pub fn members(&self) -> Result<Vec<MemberRecord>, Failure> {
        Ok(self.opened()?.members())
    }

    /// Lets a new node into the cluster: the one that these certificates are of, one of each partition's owner, who agrees by
    /// signing it. It has an hour to join. The answer is its name. Blocks.
    ///
    /// # Errors
    ///
    /// CERTIFICATE_WRONG if an owner's is missing; UNSUPPORTED if this node is of no cluster; STORE, NO_QUORUM.
    pub fn admit(&self, certificates: &[Certificate]) -> Result<String, Failure> {
        let opened = self.opened()?;
        let (Some(store), Some(membership)) = (&opened.etcd, opened.own().membership()) else {
            return refuse!(
                Unsupported,
                "this node is of no cluster: 'strongroom cluster init' makes one of it"
            );
        };
        let Some(public_key) = certificates.first().map(|certificate| certificate.public_key.clone()) else {
            return refuse!(CertificateWrong, "no certificate of the new node was given");
        };
        let identity = opened.own().identity()?;
        let ephemeral = PrivateKey::generate(KeyKind::P256)?;
        let Some(point) = point(&public_key) else {
            return refuse!(
                CertificateWrong,
                "it is not a node's certificate: sign the request that the new node writes"
            );
        };
        let shared = ephemeral.derive(point)?;
        let sealing = SealingKey::new(shared).ok_or(SealError::Library)?;
        let name = name_of(&public_key);
        {
            let _turn = opened.store().turn()?;
            let mut root = opened.root();
            // No partition comes meanwhile, on whichever node.
            self.agreed(&opened, certificates, &public_key, &identity)?;
            let mut changed = root.clone();
            changed.members.retain(|member| member.name != name);
            changed.members.push(MemberRecord {
                name: name.clone(),
                public_key: public_key.clone(),
                since: now(),
            });
            opened.write_root(&mut root, changed, Batch::default())?;
        }
        let mut invitation = Invitation {
            cluster: membership.id().to_vec(),
            ephemeral: ephemeral.public_spki()?,
            certificates: identity.certificates().map(<[u8]>::to_vec).collect(),
            admitted: certificates.iter().map(|certificate| certificate.der().to_vec()).collect(),
            ..Invitation::default()
        };
        let (epoch, element) = opened.ledger.last();
        let mut plain = SecretBytes::zeroed(KEY_LENGTH + 8 + 32);
        let parts =
            membership.key().bytes().iter().copied().chain(epoch.to_le_bytes()).chain(element.to_bytes());
        plain.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        invitation.sealed = sealing.seal(&invitation.name(&public_key), 0, plain)?;
        invitation.signature = identity.sign(&invitation.message(&public_key))?;
        store.leave_for(&name, &invitation.encode_to_vec())?;
        tracing::warn!(target: "audit", event = "node admitted", node = name, "a node was admitted to the cluster");
        Ok(name)
    }

    /// Whether the owners of all partitions agree, and can be told that this node is of theirs. The cluster's key opens all of them.
    fn agreed(
        &self,
        opened: &Opened,
        certificates: &[Certificate],
        public_key: &[u8],
        identity: &Identity,
    ) -> Result<(), Failure> {
        let mut owners = 0;
        for slot in opened.slots().values() {
            let partition = match slot {
                Slot::Sound(partition) => partition,
                Slot::Damaged { record, .. } => {
                    return refuse!(
                        CertificateWrong,
                        "partition \"{}\" is damaged, and it cannot be seen whether its owner agrees: restore it from a backup, or \
                         give it up, first",
                        record.label
                    );
                }
            };
            let Some(owner) = partition.contents().settings.owner.clone() else {
                return refuse!(
                    CertificateWrong,
                    "partition \"{}\" has no owner (it was made without --owner-certificate): nobody can say that the new node may \
                     have its keys; back it up and delete it first",
                    partition.label()
                );
            };
            owners += 1;
            let checked = certificates.iter().map(|certificate| {
                if certificate.public_key != public_key {
                    return Err(CertificateError::NotANode);
                }
                node::check_server(&owner, certificate, SystemTime::now())
            });
            if let Some(error) = checked.reduce(Result::or).and_then(Result::err) {
                return refuse!(
                    CertificateWrong,
                    "the owner of partition \"{}\" has not signed a certificate of the new node ({error}): each partition's owner \
                     signs the request that it writes",
                    partition.label()
                );
            }
            if identity.certificate(partition.number()).is_none() {
                return refuse!(
                    CertificateWrong,
                    "this node has no certificate of the owner of partition \"{}\", by which the new node would know it: \
                     'strongroom node request' says how to make it",
                    partition.label()
                );
            }
        }
        match owners {
            0 => refuse!(
                CertificateWrong,
                "no partition has an owner: nobody can say that the new node may have the keys"
            ),
            _ => Ok(()),
        }
    }

    /// Makes this node, which has no partition, one of the cluster to which it was admitted by a node of one of these owners. The
    /// answer is the cluster's name. Blocks.
    ///
    /// # Errors
    ///
    /// NO_SUCH_OBJECT if it was not admitted; CERTIFICATE_WRONG if it was by somebody else; EXISTS if it has partitions, or is of a
    /// cluster; UNSUPPORTED without etcd's addresses; STORE, NO_QUORUM.
    pub fn join_cluster(&self, owners: &[OwnerCertificate]) -> Result<String, Failure> {
        let _turn = self.turn();
        let opened = self.opened()?;
        let (cluster, files) = self.may_begin(&opened)?;
        // No partition comes meanwhile.
        let root = opened.root();
        if !root.partitions.is_empty() {
            return refuse!(
                Exists,
                "this node has partitions of its own, and would not have them in the cluster: back them up and delete them \
                 ('strongroom backup create', 'strongroom partition delete'), or join with a new state directory (--state-dir)"
            );
        }
        let identity = opened.identity()?;
        let public_key = identity.public_key()?;
        let name = name_of(&public_key);
        let etcd = EtcdStore::new(&cluster.etcd)?;
        let Some(bytes) = etcd.left_for(&name)? else {
            return refuse!(
                NoSuchObject,
                "this node ({name}) was not admitted, or that was more than an hour ago: 'strongroom cluster admit' on a node of \
                 the cluster does it"
            );
        };
        let (invitation, key, (epoch, element)) = open_invitation(&bytes, owners, &identity, &public_key)?;
        if let Source::Files(files) = &self.source {
            let key = Arc::new(key.copy().ok_or(SealError::Library)?);
            let noted = Mark::new(&files.mark(), key, &[]).write((epoch, element));
            noted.map_err(|error| {
                Failure::new(ErrorCode::Store, format!("{}: {error}", files.mark().display()))
            })?;
        }
        let Invitation { cluster: id, admitted, .. } = invitation;
        let record = ClusterRecord { id, ..ClusterRecord::default() };
        opened.ledger.hand_over(|_| {
            Membership::note(&opened.node_key(), &record, &key).map_err(super::VaultError::from)
        })?;
        drop(root);
        self.reopen(opened, files)?;
        let _ = etcd.take_away(&name);
        if let Err(failure) = self.install_all(&public_key, &admitted) {
            tracing::warn!(
                "the node is of the cluster, but not all of its certificates are kept: {failure}; see 'strongroom node certificate \
                 install'"
            );
        }
        let id = hex(&record.id);
        tracing::warn!(target: "audit", event = "cluster joined", cluster = id, "the node is of a cluster now");
        Ok(id)
    }
}

impl Vault {
    /// Keeps the certificates with which this node was admitted: clients over TLS know it by them.
    fn install_all(&self, public_key: &[u8], certificates: &[Vec<u8>]) -> Result<(), Failure> {
        let opened = self.opened()?;
        let parsed: Vec<_> = certificates.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        for slot in self.slots() {
            let Slot::Sound(partition) = slot else { continue };
            let Some(owner) = partition.contents().settings.owner.clone() else { continue };
            let is_its = |certificate: &&Certificate| {
                certificate.public_key == public_key
                    && node::check_certificate(&owner, certificate, SystemTime::now()).is_ok()
            };
            if let Some(certificate) = parsed.iter().find(is_its) {
                opened.set_node_certificate(&partition, |_| Ok(()), certificate.der().to_vec())?;
            }
        }
        Ok(())
    }
}

/// The cluster's key in an invitation, if a node of one of these owners has written it for the node with this identity.
///
/// # Errors
///
/// CERTIFICATE_WRONG, and what does not open.
pub fn invited_key(
    bytes: &[u8],
    owners: &[OwnerCertificate],
    identity: &Identity,
) -> Result<SealingKey, Failure> {
    open_invitation(bytes, owners, identity, &identity.public_key()?).map(|(_, key, _)| key)
}

/// What an invitation says, if a node of one of these owners has written it for this node.
fn open_invitation(
    bytes: &[u8],
    owners: &[OwnerCertificate],
    identity: &Identity,
    public_key: &[u8],
) -> Result<(Invitation, SealingKey, (u64, Element)), Failure> {
    let form = || Failure::new(ErrorCode::CertificateWrong, "what admits this node is not what a node wrote");
    let invitation = Some(bytes).filter(|bytes| bytes.len() <= MOST).and_then(|b| Invitation::decode(b).ok());
    let invitation = invitation.ok_or_else(form)?;
    let message = invitation.message(public_key);
    let is_from_node_of = |owner: &OwnerCertificate| {
        invitation.certificates.iter().any(|certificate| {
            Certificate::parse(certificate).is_ok_and(|certificate| {
                let moment = SystemTime::now();
                node::check_server(owner, &certificate, moment).is_ok()
                    && node::check_proof(owner, &certificate, moment, &message, &invitation.signature).is_ok()
            })
        })
    };
    if !owners.iter().any(is_from_node_of) {
        return refuse!(
            CertificateWrong,
            "this node was not admitted by a node of the owner whose certificate was given: do not join"
        );
    }
    let shared = identity.agree(point(&invitation.ephemeral).ok_or_else(form)?)?;
    let sealing = SealingKey::new(shared).ok_or(SealError::Library)?;
    let (_, plain) = sealing.open(&invitation.name(public_key), &invitation.sealed)?;
    let (key, seen) = plain.split_at_checked(KEY_LENGTH).ok_or_else(form)?;
    let (epoch, element) = seen.split_first_chunk::<8>().ok_or_else(form)?;
    let element = Element::from_bytes(element).ok_or_else(form)?;
    let key = SealingKey::new(SecretBytes::from(key)).ok_or_else(form)?;
    Ok((invitation, key, (u64::from_le_bytes(*epoch), element)))
}
