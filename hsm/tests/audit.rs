//! The audit log: every request leaves something in it, what it says is right, and nobody changes it unnoticed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod logs;
mod requests;
mod running;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use logs::{of, outcomes, public_key, read, verified};
use requests::every_request;
use running::{Client, OFFICER, PASSWORD, Running, TLS, USER, WRONG, code};
use strongroom_audit::Entry;
use strongroom_channel::{Client as Channel, Descriptors, Operation, Request as ChannelRequest};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// The names of all requests, from the protocol's document.
fn names_of_requests() -> HashSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/strongroom.proto");
    let document = fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once("oneof op {").unwrap();
    let (requests, _) = rest.split_once('}').unwrap();
    let lines = requests.lines().filter_map(|line| line.trim().split_once(" = "));
    lines.map(|(name, _)| name.rsplit_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn every_request_has_its_entry_whoever_makes_it() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let mut expected = names_of_requests();
    // It would end the others; see the_log_goes_on_while_the_node_is_sealed.
    assert!(expected.remove("seal"));
    let requests = every_request(&pair[0], &pair[1]).into_iter();
    let requests: Vec<_> = requests.filter(|op| !matches!(op, Op::Seal(_))).collect();
    assert!(expected.len() > 20 && expected.len() == requests.len(), "a request is missing in this test");
    for mut client in [running.client(), running.user(), running.officer()] {
        let before = read(&mut running.officer(), TLS).len();
        let before_node = read(&mut running.client(), 0).len();
        for op in requests.clone() {
            let _ = client.call(op.clone());
            let _ = client.connection.call(0, op);
        }
        let entries =
            [&read(&mut running.officer(), TLS)[before..], &read(&mut running.client(), 0)[before_node..]];
        let found: HashSet<String> = entries.concat().into_iter().map(|entry| entry.action).collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        assert!(missing.is_empty(), "{missing:?} left nothing in the log");
    }
    let key = public_key(&mut running.client());
    let directory = running.stop();
    for log in ["node", "partition-1"] {
        let (_, summary) = verified(&directory.path().join("state"), log, Some(&key)).unwrap();
        assert!(summary.unsigned == 0 && summary.checkpoints > 0, "{log}: {summary:?}");
    }
}

#[test]
fn the_log_goes_on_while_the_node_is_sealed() {
    let running = Running::with_partition();
    let key = public_key(&mut running.client());
    running.client().connection.call(0, Op::Seal(Seal {})).unwrap();
    assert_eq!(code(running.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::Sealed);
    assert_eq!(public_key(&mut running.client()), key);
    running.client().connection.call(0, Op::Unseal(Unseal::default())).unwrap();
    running.user().generate(KeyType::P256, "web").unwrap();
    let node = read(&mut running.client(), 0);
    assert_eq!(outcomes(&node, "seal"), ["begun", "success"]);
    assert_eq!(outcomes(&node, "unseal"), ["begun", "success"]);
    assert!(of(&node, "alarm").is_empty());
    let directory = running.stop();
    for log in ["node", "partition-1"] {
        let (_, summary) = verified(&directory.path().join("state"), log, Some(&key)).unwrap();
        assert_eq!(summary.unsigned, 0, "{log}");
    }
}

#[test]
fn an_entry_says_who_did_what_to_which_key() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    assert_eq!(code(user.sign(&pair[0], Mechanism::RsaPkcs, None, &[1; 32])), ErrorCode::MechanismDoesNotFit);
    user.call(Op::DestroyObject(DestroyObject { object: pair[0].object.clone() })).unwrap();
    assert_eq!(code(user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32])), ErrorCode::NoSuchObject);
    assert_eq!(code(running.officer().generate(KeyType::P256, "not his")), ErrorCode::NotPermitted);
    let entries = read(&mut running.officer(), TLS);

    let object = strongroom_audit::chain::hex(&pair[0].object);
    let generated = of(&entries, "generate_key_pair");
    let said: Vec<_> = generated.iter().map(|entry| (entry.outcome.as_str(), entry.user.as_str())).collect();
    assert_eq!(said, [("begun", USER), ("success", USER), ("not_permitted", "admin")]);
    let made = generated[1];
    assert_eq!(
        (made.key.as_str(), made.object.as_str(), made.class.as_str()),
        ("web", object.as_str(), "private_key")
    );
    assert_eq!((made.key_type.as_str(), made.role.as_str()), ("p256", "crypto_user"));
    assert_eq!((made.partition.as_str(), made.program.as_str()), ("tls", "test"));
    assert_eq!(made.uid, Some(rustix::process::getuid().as_raw()));
    assert_eq!(made.pid, Some(rustix::process::getpid().as_raw_nonzero().get()));
    assert_eq!(made.details["may"], "sign");
    assert_eq!((generated[0].request, &generated[0].connection), (made.request, &made.connection));

    let signed = of(&entries, "sign");
    let count = |outcome: &str, key: &str| {
        let fits = signed.iter().filter(|entry| entry.outcome == outcome && entry.key == key);
        assert!(fits.clone().all(|entry| entry.object == object && entry.pid == made.pid));
        fits.map(|entry| entry.count.unwrap()).sum::<u64>()
    };
    assert_eq!((count("success", "web"), count("mechanism_does_not_fit", "web")), (2, 1));
    assert_eq!(count("no_such_object", ""), 1);

    let destroyed = of(&entries, "destroy_object");
    assert!(destroyed.iter().all(|entry| entry.key == "web" && entry.object == object));
    assert_eq!(outcomes(&entries, "destroy_object"), ["begun", "success"]);
}

#[test]
fn log_ins_are_noted_right_wrong_and_locked() {
    let running = Running::with_partition();
    let mut client = running.client();
    for _ in 0..10 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    assert_eq!(code(client.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    // What somebody typed into the wrong field may be a password.
    let _ = client.login(Role::CryptoUser, "my password!", PASSWORD);
    running.officer().call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
    running.user();
    let entries = read(&mut running.officer(), TLS);
    let of_user: Vec<_> = entries.iter().filter(|e| e.action == "login" && e.user == USER).collect();
    let outcomes: Vec<_> = of_user.iter().map(|entry| entry.outcome.as_str()).collect();
    let expected = [&["password_wrong"; 10][..], &["user_locked", "success"]].concat();
    assert_eq!(outcomes, expected);
    assert!(of_user.iter().all(|entry| entry.role == "crypto_user" && entry.uid.is_some()));
    let unlocked = of(&entries, "unlock_user");
    assert!(unlocked.iter().all(|entry| entry.user == OFFICER && entry.details["target"] == USER));
    let text = entries.iter().map(|entry| format!("{entry:?}")).collect::<String>();
    assert!(!text.contains("my password!") && !text.contains(PASSWORD) && !text.contains(WRONG));
}

#[test]
fn uses_through_a_channel_are_counted_each() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    let rsa = user.generate(KeyType::Rsa2048, "shop").unwrap();
    let template = KeyTemplate { label: "aes".into(), ..KeyTemplate::default() };
    let request = GenerateKey { key_type: KeyType::Aes256.into(), key: Some(template) };
    let aes = user.objects(Op::GenerateKey(request)).unwrap();
    let given = user.connection.open_channel().unwrap().unwrap();
    let channel =
        Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap();
    let mut output = [0; 1024];
    let mut exchange = |operation: Operation, key: &ObjectInfo, data: &[u8]| {
        let key = key.object.as_slice().try_into().unwrap();
        let request = ChannelRequest { operation, partition: TLS, key, data };
        channel.exchange(&request, &mut output, &mut || true).is_ok()
    };
    let sign = |mechanism: Mechanism| Operation::Sign {
        mechanism: mechanism as u32,
        hash: 0,
        mgf1_hash: 0,
        salt_length: 0,
    };
    for _ in 0..100 {
        assert!(exchange(sign(Mechanism::Ecdsa), &pair[0], &[1; 32]));
    }
    for _ in 0..5 {
        assert!(exchange(sign(Mechanism::RsaPkcs), &rsa[0], &[1; 32]));
        assert!(!exchange(sign(Mechanism::RsaPkcs), &pair[0], &[1; 32]));
        assert!(!exchange(sign(Mechanism::Ecdsa), &aes[0], &[1; 32]));
    }
    for _ in 0..7 {
        let gcm = Operation::Encrypt { iv: &[7; 12], aad: &[], tag_bits: 128 };
        assert!(exchange(gcm, &aes[0], b"text"));
    }
    let entries = read(&mut running.officer(), TLS);
    let count = |action: &str, key: &str, outcome: &str| {
        let fits = entries.iter().filter(|e| e.action == action && e.key == key && e.outcome == outcome);
        fits.map(|entry| entry.count.unwrap()).sum::<u64>()
    };
    assert_eq!(count("sign", "web", "success"), 100);
    assert_eq!(count("sign", "web", "mechanism_does_not_fit"), 5);
    assert_eq!(count("sign", "shop", "success"), 5);
    assert_eq!(count("sign", "aes", "key_may_not"), 5);
    assert_eq!(count("encrypt", "aes", "success"), 7);
}

#[test]
fn a_partition_has_a_log_of_its_own() {
    let running = Running::with_partition();
    let mut other = running.client();
    other.make_partition("other");
    other.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    let number = other.partition;
    running.user().generate(KeyType::P256, "web").unwrap();
    assert!(of(&read(&mut other, number), "generate_key_pair").is_empty());
    assert_eq!(code(other.connection.call(TLS, Op::ReadAudit(ReadAudit::default()))), ErrorCode::NotLoggedIn);
    assert_eq!(code(running.user().call(Op::ReadAudit(ReadAudit::default()))), ErrorCode::NotPermitted);
    // What makes and deletes it is in the node's, too.
    other.call(Op::DeletePartition(DeletePartition { label: "other".into() })).unwrap();
    let node = read(&mut running.client(), 0);
    assert_eq!(outcomes(&node, "create_partition"), ["begun", "success", "begun", "success"]);
    assert_eq!(outcomes(&node, "delete_partition"), ["success"]);
    assert!(of(&node, "generate_key_pair").is_empty() && of(&node, "create_user").is_empty());
    let directory = running.stop();
    let (entries, _) = verified(&directory.path().join("state"), "partition-2", None).unwrap();
    assert_eq!(outcomes(&entries, "create_partition"), ["success"]);
    assert_eq!(outcomes(&entries, "delete_partition"), ["begun", "success"]);
}

#[test]
fn pages_and_the_end_of_a_log_are_whole() {
    let running = Running::with_partition();
    let mut officer = running.officer();
    for number in 0..350 {
        let name = format!("{}{number}", "u".repeat(20));
        officer.call(Op::UnlockUser(UnlockUser { name, signature: vec![] })).unwrap_err();
    }
    let all = read(&mut officer, TLS);
    assert!(all.len() > 700 && all.iter().zip(1..).all(|(entry, number)| entry.seq == number));
    let mut last = |count| {
        let request = ReadAudit { last: count, ..ReadAudit::default() };
        let response::Result::AuditPage(page) = officer.call(Op::ReadAudit(request)).unwrap() else {
            panic!()
        };
        page.lines.len()
    };
    assert_eq!((last(1), last(7)), (1, 7));
    for cursor in [vec![1; 3], vec![0xff; 16], vec![0; 16], [[1u8, 0, 0, 0, 0, 0, 0, 0], [0xff; 8]].concat()]
    {
        let request = ReadAudit { cursor, ..ReadAudit::default() };
        let _ = officer.call(Op::ReadAudit(request));
    }
}

/// The uses of a key in a log.
fn uses<'a>(entries: &'a [Entry], action: &str) -> Vec<&'a Entry> {
    entries.iter().filter(|entry| entry.action == action && entry.key == "web").collect()
}

fn set_audit(client: &mut Client, uses: AuditUses) {
    client.call(Op::SetAudit(SetAudit { uses: uses.into() })).unwrap();
}

#[test]
fn each_use_has_an_entry_where_the_partition_wants_it() {
    let running = Running::with_partition();
    let mut user = running.user();
    let pair = user.generate(KeyType::P256, "web").unwrap();
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    assert_eq!(
        code(user.call(Op::SetAudit(SetAudit { uses: AuditUses::Each.into() }))),
        ErrorCode::NotPermitted
    );
    let mut officer = running.officer();
    assert_eq!(code(officer.call(Op::SetAudit(SetAudit::default()))), ErrorCode::AttributeWrong);
    // An appliance user looks after the audit log.
    officer.create_user("auditor", Role::ApplianceUser, PASSWORD).unwrap();
    let mut auditor = running.client();
    auditor.login(Role::ApplianceUser, "auditor", PASSWORD).unwrap();
    set_audit(&mut auditor, AuditUses::Each);
    for _ in 0..20 {
        user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    }
    user.sign(&pair[0], Mechanism::RsaPkcs, None, &[1; 32]).unwrap_err();
    // Through a channel as well.
    let given = user.connection.open_channel().unwrap().unwrap();
    let channel =
        Channel::new(Descriptors { region: given.region, bell: given.bell, state: given.state }).unwrap();
    let mut output = [0; 1024];
    let key = pair[0].object.as_slice().try_into().unwrap();
    let operation =
        Operation::Sign { mechanism: Mechanism::Ecdsa as u32, hash: 0, mgf1_hash: 0, salt_length: 0 };
    for _ in 0..30 {
        let request = ChannelRequest { operation, partition: TLS, key, data: &[1; 32] };
        assert!(channel.exchange(&request, &mut output, &mut || true).is_ok());
    }
    let running = running.restart();
    let entries = read(&mut running.officer(), TLS);
    let set = of(&entries, "set_audit");
    assert_eq!(set.iter().filter(|entry| entry.outcome == "success").count(), 1);
    assert!(set.iter().all(|entry| entry.user != "auditor" || entry.details["uses"] == "each"));
    let signed = uses(&entries, "sign");
    let (sums, each): (Vec<&Entry>, Vec<&Entry>) = signed.iter().partition(|entry| entry.count.is_some());
    assert_eq!(sums.iter().map(|entry| entry.count.unwrap()).sum::<u64>(), 1);
    let outcomes: Vec<_> = each.iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "success").count(), 50);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "mechanism_does_not_fit").count(), 1);
    // Over the connection each names its request.
    let requests: HashSet<u64> = each.iter().filter_map(|entry| entry.request).collect();
    assert_eq!(requests.len(), 21);
    assert!(
        each.iter()
            .all(|e| e.user == USER && !e.connection.is_empty() && e.time <= entries.last().unwrap().time)
    );
    // It is kept over a restart, and can be taken back.
    let mut user = running.user();
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    set_audit(&mut running.officer(), AuditUses::Sums);
    user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    let after = read(&mut running.officer(), TLS);
    let new = uses(&after, "sign")[signed.len()..].iter().map(|entry| entry.count).collect::<Vec<_>>();
    assert_eq!(new, [None, Some(1)]);
}

/// A flood of uses that have an entry each: none is lost, from whatever thread.
#[test]
fn every_use_of_many_at_once_is_noted() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "web").unwrap();
    set_audit(&mut running.officer(), AuditUses::Each);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut user = running.user();
                for _ in 0..250 {
                    user.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
                }
            });
        }
    });
    let entries = read(&mut running.officer(), TLS);
    let signed = uses(&entries, "sign");
    assert_eq!(signed.iter().map(|entry| entry.count.unwrap_or(1)).sum::<u64>(), 1000);
    let requests: HashSet<_> = signed.iter().map(|entry| (&entry.connection, entry.request)).collect();
    assert_eq!(requests.len(), 1000);
}
