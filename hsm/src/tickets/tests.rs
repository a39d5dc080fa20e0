use super::*;
use crate::seal::SealingKey;
use crate::users::PasswordHash;

const NOW: u64 = 1_800_000_000_000;

fn tickets(key: u8) -> Tickets {
    let key = SealingKey::new(SecretBytes::from([key; 32].as_slice())).unwrap();
    Tickets::new(key.ticket_key().unwrap())
}

fn with_password(name: &str, epoch: u64) -> User {
    User::new(name, Role::CryptoUser, Some(PasswordHash::of_nobody()), Vec::new(), epoch)
}

fn users(all: impl IntoIterator<Item = User>) -> Users {
    let mut users = Users::default();
    all.into_iter().for_each(|user| users.put(Arc::new(user)));
    users
}

#[test]
fn a_ticket_holds_wherever_the_partitions_key_is() {
    let users = users([with_password("mail", 1), with_password("web", 2)]);
    let web = users.get("web").unwrap();
    let (ticket, session) = tickets(1).issue_at(NOW, web);
    assert_eq!((ticket.len(), session.user.as_str()), (LOGIN_TICKET, "web"));
    // Another start, or another node: it has seen nothing of the log-in.
    let mut other = tickets(1);
    let (first, user) = other.redeem_at(NOW, &ticket, &users).unwrap();
    assert!(Arc::ptr_eq(user, web) && first.is_valid_for(web) && first.role == Role::CryptoUser);
    let (second, _) = other.redeem_at(NOW, &ticket, &users).unwrap();
    assert!(Arc::ptr_eq(&first, &second), "one log-in for all its connections");
    // Another partition.
    assert!(tickets(2).redeem_at(NOW, &ticket, &users).is_none());
}

#[test]
fn users_who_were_made_together_have_tickets_of_their_own() {
    let hash = || Some(PasswordHash::new("correct horse").unwrap());
    let user = |name| User::new(name, Role::CryptoUser, hash(), Vec::new(), 1);
    let users = users(["a", "b", "c"].map(user));
    let mut tickets = tickets(1);
    for user in users.iter() {
        let (ticket, _) = tickets.issue_at(NOW, user);
        assert!(Arc::ptr_eq(tickets.redeem_at(NOW, &ticket, &users).unwrap().1, user));
    }
}

#[test]
fn no_other_bytes_are_a_ticket() {
    let users = users([with_password("mail", 1), with_password("web", 2)]);
    let mut tickets = tickets(1);
    let (ticket, _) = tickets.issue_at(NOW, users.get("web").unwrap());
    for at in 0..ticket.len() {
        for bit in 0..8 {
            let mut changed = ticket.clone();
            changed[at] ^= 1 << bit;
            assert!(tickets.redeem_at(NOW, &changed, &users).is_none(), "byte {at}");
        }
        assert!(tickets.redeem_at(NOW, &ticket[..at], &users).is_none(), "cut at {at}");
    }
    assert!(tickets.redeem_at(NOW, &[&ticket[..], &[0]].concat(), &users).is_none());
    assert!(tickets.redeem_at(NOW, &ticket, &users).is_some());
}

#[test]
fn a_ticket_is_good_for_an_hour_and_not_before_it_was_given() {
    let users = users([with_password("web", 2)]);
    let mut tickets = tickets(1);
    let (ticket, _) = tickets.issue_at(NOW, users.get("web").unwrap());
    let mut holds = |now: u64| tickets.redeem_at(now, &ticket, &users).is_some();
    assert!(holds(NOW) && holds(NOW + millis(LIFE) - 1) && !holds(NOW + millis(LIFE)));
    // The clock of another node is a little behind; one that is far behind was put back.
    assert!(holds(NOW - millis(SKEW)) && !holds(NOW - millis(SKEW) - 1) && !holds(0) && !holds(u64::MAX));
}

#[test]
fn what_changes_a_user_voids_the_tickets() {
    let web = with_password("web", 2);
    let mut tickets = tickets(1);
    let (ticket, session) = tickets.issue_at(NOW, &web);
    let mut holds = |user: User| {
        let users = users([user]);
        let login = tickets.redeem_at(NOW, &ticket, &users);
        let open = users.iter().next().is_some_and(|user| session.is_valid_for(user));
        (login.is_some(), open)
    };
    assert_eq!(holds(web.clone()), (true, true));
    assert_eq!(holds(User { epoch: 3, ..web.clone() }), (false, false), "another password");
    assert_eq!(holds(User { role: Role::CryptoOfficer, ..web.clone() }), (false, false));
    assert!(!holds(User { identity: 9, ..web.clone() }).0, "deleted, and made again");
    assert!(!holds(User { password: None, ..web.clone() }).0);
    // A password of the same epoch, in a copy of the partition that went its own way.
    let elsewhere = PasswordHash::new("chosen elsewhere").unwrap();
    assert!(!holds(User { password: Some(elsewhere), ..web.clone() }).0);
    // What does not change who the user is.
    assert!(holds(User { uids: vec![33], limited: true, attempts: 1, ..web }).0);
}

#[test]
fn a_log_out_ends_the_log_in_and_no_other() {
    let users = users([with_password("web", 2)]);
    let web = users.get("web").unwrap();
    let mut tickets = tickets(1);
    let (ticket, session) = tickets.issue_at(NOW, web);
    let (other, _) = tickets.issue_at(NOW, web);
    let (shared, _) = tickets.redeem_at(NOW, &ticket, &users).unwrap();
    tickets.end(&session);
    assert!(!shared.is_valid_for(web) && tickets.redeem_at(NOW, &ticket, &users).is_none());
    assert!(tickets.redeem_at(NOW, &other, &users).is_some());
}

#[test]
fn a_node_that_was_sealed_takes_no_ticket_from_before() {
    let users = users([with_password("web", 2)]);
    let web = users.get("web").unwrap();
    let mut tickets = tickets(1);
    let (before, session) = tickets.issue_at(NOW, web);
    tickets = self::tickets(1);
    assert!(!session.is_valid_for(web), "a connection's log-in");
    tickets.void_before(NOW + 1);
    assert!(tickets.redeem_at(NOW + 2, &before, &users).is_none());
    let (after, _) = tickets.issue_at(NOW + 1, web);
    assert!(tickets.redeem_at(NOW + 2, &after, &users).is_some());
    // While it is sealed there is no key.
    let (none, _) = Tickets::default().issue_at(NOW, web);
    assert!(none.is_empty() && Tickets::default().redeem_at(NOW, &after, &users).is_none());
}

#[test]
fn log_ins_that_nobody_uses_take_no_memory() {
    let users = users([with_password("web", 2)]);
    let web = users.get("web").unwrap();
    let mut tickets = tickets(1);
    let (_, used) = tickets.issue_at(NOW, web);
    for _ in 0..10_000 {
        tickets.issue_at(NOW, web);
    }
    assert!(tickets.used.capacity() < 1_000, "{}", tickets.used.capacity());
    assert!(tickets.used.contains_key(&used.given.login));
}

/// What a ticket looks like, so that an accidental change shows: an old one has to hold after an upgrade.
#[test]
fn golden_ticket() {
    let web = with_password("web", 258);
    let given = Given { login: [7; 16], user: web.identity, epoch: web.epoch, since: NOW };
    let fields = given.to_bytes();
    let mac = tickets(3).mac(&fields, &web).unwrap().sign();
    let ticket = [&fields, mac.as_ref()].concat();
    assert_eq!(crate::records::hex(&ticket), GOLDEN);
    assert_eq!(Given::from_bytes(&fields), Some(given));
}

/// The MAC was computed by Python's hmac and hashlib.
const GOLDEN: &str = "01070707070707070707070707070707070201000000000000020100000000000000505c18a3010000\
    cd675ac51e55cfe70b19cb781d8d3bb991ef661be2699874a2f6e6c5d03b73d3";
