//! Log-in tickets from anywhere: only what the partition gave is one.
#![no_main]

use std::sync::{Mutex, OnceLock};

use libfuzzer_sys::fuzz_target;
use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::seal::SealingKey;
use strongroom_hsm::tickets::Tickets;
use strongroom_hsm::users::{PasswordHash, User, Users};
use strongroom_protocol::v1::Role;

struct Known {
    tickets: Mutex<Tickets>,
    users: Users,
    given: Vec<u8>,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let key = SealingKey::new(SecretBytes::from([7; 32].as_slice())).unwrap();
        let mut tickets = Tickets::new(key.ticket_key().unwrap());
        let mut users = Users::default();
        for (name, epoch) in [("mail", 1), ("web", 2)] {
            let password = Some(PasswordHash::of_nobody());
            users.put(User::new(name, Role::CryptoUser, password, Vec::new(), epoch).into());
        }
        let (given, _) = tickets.issue(users.get("web").unwrap());
        Known { tickets: Mutex::new(tickets), users, given }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Known { tickets, users, given } = known();
    let mut tickets = tickets.lock().unwrap();
    assert!(tickets.redeem(bytes, users).is_none());
    // The one that was given, changed: each two bytes are a place and what is changed there.
    let mut changed = given.clone();
    for pair in bytes.chunks_exact(2) {
        if let Some(byte) = changed.get_mut(usize::from(pair[0])) {
            *byte ^= pair[1];
        }
    }
    // An hour of fuzzing ends it.
    let redeemed = tickets.redeem(&changed, users);
    assert!(redeemed.is_none() || changed == *given);
});
