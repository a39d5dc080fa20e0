//! Who is at the other end of a connection, and as whom they act in each partition.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use strongroom_protocol::v1::Role;

use crate::access::Named;
use crate::audit::Recent;
use crate::changes;
use crate::partition::Partition;
use crate::tickets::LoginSession;
use crate::transfers::Place;
use crate::users::{ROLES, User, Users};

/// One connection's identity: the kernel's peer credentials, and its log-ins.
#[derive(Debug)]
pub struct Session {
    /// The user id of the process that connected; of a client of the network the number that stands for it where limits
    /// and turns are counted by user id (see [`crate::network`]).
    pub uid: u32,
    /// Whether that is root or the daemon's own user: the owner of the machine. (A partition's owner is another, by certificate.)
    pub root: bool,
    /// The SHA-256 of the client certificate's public key, where the connection has shown one.
    pub certificate: Option<[u8; 32]>,
    /// Where a connection over the network comes from, as the audit log says it.
    address: Option<String>,
    /// Who it is, for the audit log.
    pub peer: Peer,
    /// What it used last, for the audit log.
    pub(crate) recent: Recent,
    /// Explicit log-ins, by partition.
    logins: Mutex<HashMap<u32, Arc<LoginSession>>>,
    /// The backup or restore that the connection has begun.
    pub transfers: Arc<Place>,
}

/// The other end of a connection, as the audit log tells of it.
#[derive(Debug)]
pub struct Peer {
    /// Its number: each connection since the start has another.
    pub connection: u64,
    /// The process that connected, as the kernel says.
    pub pid: Option<i32>,
    program: OnceLock<String>,
}

/// Bytes of what a client calls itself that are kept.
const MAX_PROGRAM: usize = 64;

impl Peer {
    fn new(pid: Option<i32>) -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Peer { connection, pid, program: OnceLock::new() }
    }

    /// What the client calls itself in its Hello; nobody vouches for it.
    pub fn program(&self) -> &str {
        self.program.get().map_or("", String::as_str)
    }

    /// Keeps what the client calls itself, the first time.
    pub fn set_program(&self, name: &str) {
        let name = name.get(..name.floor_char_boundary(MAX_PROGRAM)).unwrap_or_default();
        self.program.get_or_init(|| name.to_owned());
    }
}

/// Those as whom a connection acts in one partition.
#[derive(Debug, Default)]
pub struct Acting {
    /// See [`Session::root`].
    pub root: bool,
    /// The crypto officer.
    pub officer: Option<Arc<User>>,
    /// The crypto user.
    pub crypto_user: Option<Arc<User>>,
    /// The appliance user.
    pub appliance_user: Option<Arc<User>>,
    /// The crypto user who uses only keys that name it.
    pub limited: Option<Arc<User>>,
    /// What a key may call the connection, to let it do something with that key alone.
    pub named: Named,
    /// Who logged in and may do nothing before changing the password, which somebody else has set.
    pub must_change: Option<Arc<User>>,
}

impl Acting {
    /// Whom to show: the crypto user before the officer, and the officer before the appliance user.
    pub fn shown(&self) -> Option<&Arc<User>> {
        let by_key = self.crypto_user.as_ref().or(self.limited.as_ref());
        by_key.or(self.officer.as_ref()).or(self.appliance_user.as_ref())
    }

    /// The place of those who act in this role.
    fn place(&mut self, role: Role) -> Option<&mut Option<Arc<User>>> {
        match role {
            Role::CryptoOfficer => Some(&mut self.officer),
            Role::CryptoUser => Some(&mut self.crypto_user),
            Role::ApplianceUser => Some(&mut self.appliance_user),
            Role::Unspecified => None,
        }
    }

    fn put(&mut self, user: Option<&Arc<User>>) {
        let Some(user) = user else { return };
        if user.limited {
            self.named.user = Some(user.identity);
            self.limited = Some(Arc::clone(user));
        } else if let Some(place) = self.place(user.role) {
            *place = Some(Arc::clone(user));
        }
    }

    /// For messages: `crypto user "web"`.
    pub fn anyone(&self) -> Option<String> {
        self.shown().map(|user| user.title())
    }

    /// How messages and the log call whoever uses a key: `crypto user "web"`, `user id 33`.
    pub fn key_user(&self) -> String {
        let user = self.crypto_user.as_ref().or(self.limited.as_ref());
        match (user, self.named.certificate, self.named.uid) {
            (Some(user), ..) => user.title(),
            (None, Some(hash), _) => format!("client certificate {}", crate::records::hex(&hash)),
            (None, None, Some(uid)) => format!("user id {uid}"),
            (None, None, None) => self.anyone().unwrap_or_default(),
        }
    }
}

impl Session {
    /// A connection from this user id and process that has not logged in.
    pub fn new(uid: u32, root: bool, pid: Option<i32>) -> Self {
        let (recent, transfers) = (Recent::default(), Arc::default());
        Self {
            uid,
            root,
            certificate: None,
            address: None,
            peer: Peer::new(pid),
            recent,
            logins: Mutex::default(),
            transfers,
        }
    }

    /// A connection over the network, from `address`, that has not logged in. `certificate`: the SHA-256 of the public key of
    /// the certificate that it has shown. It has the rights that keys give that certificate, and no user id's.
    pub fn of_network(account: u32, address: String, certificate: Option<[u8; 32]>) -> Self {
        Self { certificate, address: Some(address), ..Self::new(account, false, None) }
    }

    /// The user id of the process that connected, unless it is on another machine.
    pub fn local_uid(&self) -> Option<u32> {
        self.address.is_none().then_some(self.uid)
    }

    /// The address and the certificate of a connection over the network, for the audit log.
    pub(crate) fn names(&self) -> (String, String) {
        let certificate = self.certificate.map(|hash| crate::records::hex(&hash));
        (self.address.clone().unwrap_or_default(), certificate.unwrap_or_default())
    }

    /// As whom the connection acts in a partition now. A log-in replaces what its user id is admitted to.
    pub fn acting(&self, partition: &Partition) -> Acting {
        self.acting_among(partition.number(), &partition.contents().users)
    }

    /// As [`Session::acting`], for who holds the users already.
    pub fn acting_among(&self, partition: u32, users: &Users) -> Acting {
        let login = self.logins().get(&partition).map(Arc::clone);
        let mut acting = Acting { root: self.root, ..Acting::default() };
        let valid = login.and_then(|login| users.get(&login.user).filter(|user| login.is_valid_for(user)));
        match valid {
            Some(user) if user.must_change => acting.must_change = Some(Arc::clone(user)),
            Some(user) => acting.put(Some(user)),
            None => {
                acting.named.certificate = self.certificate;
                acting.named.uid = self.local_uid();
                if let Some(uid) = self.local_uid() {
                    ROLES.iter().for_each(|role| acting.put(users.admitted(uid, *role)));
                }
            }
        }
        acting
    }

    /// Logs in, in place of an earlier log-in.
    pub fn log_in(&self, partition: u32, login: Arc<LoginSession>) {
        self.logins().insert(partition, login);
        changes::announce();
    }

    /// Logs out; the log-in that ends, if there was one.
    pub fn log_out(&self, partition: u32) -> Option<Arc<LoginSession>> {
        let ended = self.logins().remove(&partition);
        changes::announce();
        ended
    }

    fn logins(&self) -> MutexGuard<'_, HashMap<u32, Arc<LoginSession>>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
