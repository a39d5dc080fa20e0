//! A client with a channel: its shared memory, and as whom it asks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use strongroom_channel::{Incoming, Region};
use strongroom_protocol::v1::{KeyType, Mechanism as WireMechanism, PssParameters};

use crate::audit::{Audit, Uses};
use crate::changes;
use crate::crypto::Mechanism;
use crate::crypto::aws_lc::PrivateKey;
use crate::crypto::symmetric::SecretKey;
use crate::failure::{Failure, refuse};
use crate::metrics::{Meter, Operation};
use crate::partition::Partition;
use crate::policy::{self, Needs};
use crate::request::encrypt::{self, Use};
use crate::request::sign;
use crate::restrictions;
use crate::service::Service;
use crate::session::{Acting, Session};
use crate::vault::Vault;

/// Keys that a channel remembers: a web server has few, and looking one up anew takes a microsecond.
const REMEMBERED: usize = 4;

/// A client's side of the engine.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) region: Region,
    pub(super) session: Arc<Session>,
    vault: Arc<Vault>,
    audit: Arc<Audit>,
}

/// Where the uses of a key by a client are counted: for the metrics, and for the audit log.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) meter: Arc<Meter>,
    pub(super) uses: Arc<Uses>,
}

/// What a client asked for before and was permitted: kept until anything changes that could change the answer.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: [Option<KnownKey>; REMEMBERED],
    next: usize,
}

#[derive(Debug)]
struct KnownKey {
    changes: u64,
    partition: u32,
    identity: [u8; 16],
    key: Permitted,
    counters: Arc<Counters>,
}

/// Not held here: a key that is destroyed is wiped, whoever has used it.
#[derive(Debug)]
enum Permitted {
    Sign(Weak<PrivateKey>),
    Cipher(Use, Weak<SecretKey>),
}

impl Seat {
    pub(super) fn new(region: Region, session: &Arc<Session>, service: &Service) -> Self {
        let (vault, audit) = (Arc::clone(&service.vault), Arc::clone(&service.audit));
        Seat { region, session: Arc::clone(session), vault, audit }
    }

    pub(super) fn refuse(&self, number: usize, failure: &Failure) {
        self.region.refuse(number, failure.code as u32, &failure.message);
    }

    /// Counts a request that came to no operation.
    pub(super) fn count_refusal(
        &self,
        incoming: &Incoming,
        operation: Operation,
        failure: &Failure,
        time: Duration,
    ) {
        let place = self.vault.partition(incoming.partition).ok();
        self.audit.refused_use(&self.session, place.as_deref(), operation, &incoming.key, failure.code);
        if let Some(place) = place {
            let none = (KeyType::Unspecified, WireMechanism::Unspecified);
            place.meter().count(operation, none.0, none.1, failure.outcome(), time);
            place.meter().refuse(failure);
        }
    }

    /// The private key that a request names, if it may sign for this client.
    pub(super) fn signing_key(
        &self,
        known: &mut Known,
        partition: u32,
        identity: [u8; 16],
    ) -> Result<(Arc<PrivateKey>, Arc<Counters>), Failure> {
        let usable = |permitted: &Permitted| match permitted {
            Permitted::Sign(key) => key.upgrade(),
            Permitted::Cipher(..) => None,
        };
        self.permitted(known, partition, identity, usable, |acting, place| {
            let object = sign::object_to_sign(acting, place, &identity, WireMechanism::Unspecified)?;
            restrictions::on_channel(&object.info)?;
            let key = place.private_key(&object)?;
            let uses = self.audit.uses_of_key(&self.session, place, acting, Operation::Sign, &object);
            Ok((Permitted::Sign(Arc::downgrade(&key)), key, uses))
        })
    }

    /// The secret key that a request names, if this client may encrypt or decrypt with it.
    pub(super) fn secret_key(
        &self,
        known: &mut Known,
        what: Use,
        partition: u32,
        identity: [u8; 16],
    ) -> Result<(Arc<SecretKey>, Arc<Counters>), Failure> {
        let usable = |permitted: &Permitted| match permitted {
            Permitted::Cipher(use_, key) if *use_ == what => key.upgrade(),
            _ => None,
        };
        self.permitted(known, partition, identity, usable, |acting, place| {
            let (object, key) = encrypt::key_to(what, acting, place, &identity)?;
            restrictions::on_channel(&object.info)?;
            let uses = self.audit.uses_of_key(&self.session, place, acting, what.operation(), &object);
            Ok((Permitted::Cipher(what, Arc::downgrade(&key)), key, uses))
        })
    }

    /// A key that is known to be permitted, or is looked up and remembered; and where its use is counted.
    fn permitted<K>(
        &self,
        known: &mut Known,
        partition: u32,
        identity: [u8; 16],
        usable: impl Fn(&Permitted) -> Option<Arc<K>>,
        look_up: impl FnOnce(&Acting, &Partition) -> Result<(Permitted, Arc<K>, Arc<Uses>), Failure>,
    ) -> Result<(Arc<K>, Arc<Counters>), Failure> {
        if let Some(found) = known.find(partition, identity, usable) {
            return Ok(found);
        }
        // Before anything is looked up: see `changes`.
        let changes = changes::number();
        let place = self.vault.partition(partition)?;
        let acting = self.session.acting(&place);
        policy::permit(Needs::KeyUser, &acting)?;
        let (permitted, key, uses) = look_up(&acting, &place)?;
        let counters = Arc::new(Counters { meter: Arc::clone(place.meter()), uses });
        let known_key =
            KnownKey { changes, partition, identity, key: permitted, counters: Arc::clone(&counters) };
        known.remember(known_key);
        Ok((key, counters))
    }
}

impl Known {
    fn find<T>(
        &self,
        partition: u32,
        identity: [u8; 16],
        usable: impl Fn(&Permitted) -> Option<T>,
    ) -> Option<(T, Arc<Counters>)> {
        let now = changes::number();
        self.keys
            .iter()
            .flatten()
            .filter(|key| key.changes == now && key.partition == partition && key.identity == identity)
            .find_map(|key| Some((usable(&key.key)?, Arc::clone(&key.counters))))
    }

    fn remember(&mut self, key: KnownKey) {
        if let Some(place) = self.keys.get_mut(self.next) {
            *place = Some(key);
        }
        self.next = (self.next + 1) % REMEMBERED;
    }
}

/// The mechanism that a SIGN request names.
pub(super) fn mechanism(incoming: &Incoming) -> Result<Mechanism, Failure> {
    let number = |n: u32| i32::try_from(n).unwrap_or_default();
    let [hash, mgf1_hash, salt_length] = incoming.numbers;
    let pss = PssParameters { hash: number(hash), mgf1_hash: number(mgf1_hash), salt_length };
    match WireMechanism::try_from(number(incoming.mechanism)) {
        Ok(mechanism) => sign::mechanism(mechanism, Some(&pss)),
        Err(_) => refuse!(Unsupported, "this strongroomd does not know the mechanism"),
    }
}
