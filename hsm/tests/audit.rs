//! The audit log: every request leaves something in it, what it says is right, and nobody changes it unnoticed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod running;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use running::{Client, OFFICER, PASSWORD, Process, Running, TLS, USER, WRONG, code};
use strongroom_audit::{CHECKPOINT, Entry, Fault, PublicKey, Summary, Verifier};
use strongroom_channel::{Client as Channel, Descriptors, Operation, Request as ChannelRequest};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// The files of a log, in order.
fn files(state: &Path, log: &str) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(state.join("audit")).unwrap().map(|file| file.unwrap().path());
    let is_of = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap().0 == log
    };
    let mut files: Vec<_> = all.filter(is_of).collect();
    files.sort();
    files
}

/// A log's entries, verified.
fn verified(state: &Path, log: &str, key: Option<&PublicKey>) -> Result<(Vec<Entry>, Summary), Fault> {
    let mut verifier = Verifier::new(key.cloned());
    let mut entries = Vec::new();
    for file in files(state, log) {
        for line in fs::read_to_string(file).unwrap().lines() {
            entries.push(verifier.line(line.as_bytes())?);
        }
    }
    Ok((entries, verifier.finish()?))
}

fn public_key(client: &mut Client) -> PublicKey {
    match client.connection.call(0, Op::DescribeAudit(DescribeAudit {})).unwrap() {
        response::Result::AuditDescription(said) => PublicKey::from_spki(&said.public_key).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the daemon itself shows of a log, with all that has happened so far.
fn read(client: &mut Client, log: u32) -> Vec<Entry> {
    let mut request = ReadAudit { checkpoint: true, ..ReadAudit::default() };
    let mut entries = Vec::new();
    loop {
        let response::Result::AuditPage(page) = client.connection.call(log, Op::ReadAudit(request)).unwrap()
        else {
            panic!()
        };
        entries.extend(page.lines.iter().map(|line| serde_json::from_str::<Entry>(line).unwrap()));
        if !page.more {
            return entries;
        }
        request = ReadAudit { cursor: page.cursor, ..ReadAudit::default() };
    }
}

fn of<'a>(entries: &'a [Entry], action: &str) -> Vec<&'a Entry> {
    entries.iter().filter(|entry| entry.action == action).collect()
}

fn outcomes(entries: &[Entry], action: &str) -> Vec<String> {
    of(entries, action).iter().map(|entry| entry.outcome.clone()).collect()
}

/// One of each request, on a key pair.
fn every_request(private: &ObjectInfo, public: &ObjectInfo) -> Vec<Op> {
    let key = private.object.clone();
    let name = || "new".to_owned();
    vec![
        Op::Hello(Hello { versions: vec![1], client: String::new() }),
        Op::Status(Status {}),
        Op::ListPartitions(ListPartitions {}),
        Op::ListRights(ListRights {}),
        Op::ShowPage(ShowPage {}),
        Op::CreatePartition(CreatePartition::default()),
        Op::OpenChannel(OpenChannel {}),
        Op::FindObjects(FindObjects::default()),
        Op::GenerateRandom(GenerateRandom { length: 1 }),
        Op::Verify(Verify { key: public.object.clone(), ..Verify::default() }),
        Op::ListUsers(ListUsers {}),
        Op::CreateUser(CreateUser { name: name(), role: 2, ..CreateUser::default() }),
        Op::AdmitUid(AdmitUid { name: name(), uid: 77, withdraw: false }),
        Op::UnlockUser(UnlockUser { name: name(), signature: vec![] }),
        Op::SetPolicy(SetPolicy { max_attempts: Some(7), ..SetPolicy::default() }),
        Op::SetQuota(SetQuota { keys: Some(90_000), ..SetQuota::default() }),
        Op::ChallengeUser(ChallengeUser { name: name() }),
        Op::RequestNodeCertificate(RequestNodeCertificate {}),
        Op::InstallNodeCertificate(InstallNodeCertificate::default()),
        Op::ProveNode(ProveNode::default()),
        Op::DeleteUser(DeleteUser { name: name() }),
        Op::ChangePassword(ChangePassword { name: name(), ..ChangePassword::default() }),
        Op::GenerateKeyPair(GenerateKeyPair { key_type: KeyType::P256.into(), ..Default::default() }),
        Op::ImportKeyPair(ImportKeyPair::default()),
        Op::GenerateKey(GenerateKey { key_type: KeyType::Aes256.into(), key: None }),
        Op::ImportKey(ImportKey::default()),
        Op::DeriveKey(DeriveKey { key: key.clone(), ..DeriveKey::default() }),
        Op::Recover(Recover { key: public.object.clone(), ..Recover::default() }),
        Op::AuthenticateUse(AuthenticateUse { key: key.clone(), ..AuthenticateUse::default() }),
        Op::Mac(Mac { key: key.clone(), ..Mac::default() }),
        Op::Encrypt(Encrypt { key: key.clone(), ..Encrypt::default() }),
        Op::Decrypt(Decrypt { key: key.clone(), ..Decrypt::default() }),
        Op::Decapsulate(Decapsulate { key: key.clone(), ..Decapsulate::default() }),
        Op::Encapsulate(Encapsulate { key: public.object.clone(), ..Encapsulate::default() }),
        Op::Derive(Derive { key: key.clone(), ..Derive::default() }),
        Op::CreateObject(CreateObject::default()),
        Op::SetAttributes(SetAttributes { object: key.clone(), ..SetAttributes::default() }),
        Op::Sign(Sign {
            key,
            mechanism: Mechanism::Ecdsa.into(),
            pss: None,
            data: vec![0; 32],
            ..Sign::default()
        }),
        Op::CopyObject(CopyObject { object: private.object.clone(), ..CopyObject::default() }),
        Op::RevealKey(RevealKey { key: private.object.clone() }),
        Op::RestoreSessionObjects(RestoreSessionObjects::default()),
        Op::ForgetSessionObjects(ForgetSessionObjects::default()),
        Op::DestroyObject(DestroyObject { object: public.object.clone() }),
        Op::WrapKey(WrapKey::default()),
        Op::UnwrapKey(UnwrapKey::default()),
        Op::TrustKey(TrustKey::default()),
        Op::DeleteKey(DeleteKey::default()),
        Op::ListDeleted(ListDeleted::default()),
        Op::RecoverKey(RecoverKey::default()),
        Op::PurgeKey(PurgeKey::default()),
        Op::SetLife(SetLife::default()),
        Op::RotateKey(RotateKey::default()),
        Op::ActivateKey(ActivateKey::default()),
        Op::SetRotation(SetRotation::default()),
        Op::GrantAccess(GrantAccess::default()),
        Op::RevokeAccess(RevokeAccess::default()),
        Op::ListAccess(ListAccess::default()),
        Op::PutAccessRole(PutAccessRole::default()),
        Op::DeleteAccessRole(DeleteAccessRole::default()),
        Op::ListAccessRoles(ListAccessRoles {}),
        // The node stays open: who may not, may not, and to the owner the test says what is refused.
        Op::Unseal(Unseal::default()),
        Op::SealWith(SealWith { passphrase: "p".into(), holders: vec![vec![1]], needed: 1 }),
        Op::ShowSeal(ShowSeal {}),
        Op::ShowTampering(ShowTampering {}),
        Op::ClearTampering(ClearTampering::default()),
        Op::CheckStore(CheckStore {}),
        Op::Zeroize(Zeroize { store_path: "elsewhere".into() }),
        Op::CreateSecurityDomain(CreateSecurityDomain::default()),
        Op::RenewSecurityDomain(RenewSecurityDomain::default()),
        Op::ShowSecurityDomain(ShowSecurityDomain {}),
        Op::BeginBackup(BeginBackup::default()),
        Op::ReadBackup(ReadBackup {}),
        Op::BeginRestore(BeginRestore::default()),
        Op::RestoreChunk(RestoreChunk::default()),
        Op::FinishRestore(FinishRestore {}),
        Op::ReadAudit(ReadAudit::default()),
        Op::DescribeAudit(DescribeAudit {}),
        Op::SetAudit(SetAudit { uses: AuditUses::Sums.into() }),
        Op::DeletePartition(DeletePartition { label: "another".into() }),
        Op::Login(Login { role: 2, user: USER.into(), ..Login::default() }),
        Op::Logout(Logout {}),
    ]
}

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
    let requests = every_request(&pair[0], &pair[1]);
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

/// Killed at any moment: what was acknowledged is in the log, and the log is sound.
#[test]
fn what_was_acknowledged_is_in_the_log_after_kill_minus_nine() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    let key = public_key(&mut process.client());
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let id = rustix::process::Pid::from_child(&process.child);
    let mut made = Vec::new();
    // Somewhere in the fourth.
    let killer = std::thread::spawn({
        let file = files(&directory.path().join("state"), "partition-1").pop().unwrap();
        move || {
            while fs::read_to_string(&file).unwrap().matches("generate_key_pair").count() < 7 {
                std::thread::yield_now();
            }
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        }
    });
    while let Ok(pair) = user.generate(KeyType::P256, "web") {
        made.push(strongroom_audit::chain::hex(&pair[0].object));
    }
    killer.join().unwrap();
    drop(process);
    let process = Process::start(directory.path());
    let mut officer = process.client();
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    let entries = read(&mut officer, TLS);
    let noted: HashSet<_> = of(&entries, "generate_key_pair").iter().map(|e| e.object.clone()).collect();
    assert!(made.len() >= 3 && made.iter().all(|object| noted.contains(object)));
    // What the kill interrupted is told of, if something was begun.
    let outcomes = outcomes(&entries, "generate_key_pair");
    let count = |outcome: &str| outcomes.iter().filter(|found| *found == outcome).count();
    assert_eq!(count("begun"), count("success") + count("unknown"));
    let node = read(&mut process.client(), 0);
    let starts = of(&node, "daemon_start");
    assert!(
        !starts[0].details.contains_key("last_end") && starts[1].details["last_end"].starts_with("unclean")
    );
    for log in ["node", "partition-1"] {
        verified(&directory.path().join("state"), log, Some(&key)).unwrap();
    }
}

#[test]
fn an_end_that_was_cut_off_is_missed_at_the_next_start() {
    let mut running = Running::with_partition();
    running.user().generate(KeyType::P256, "web").unwrap();
    let directory = running.stop();
    let state = directory.path().join("state");
    let path = files(&state, "partition-1").pop().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    // Back to the checkpoint before: what is left is sound by itself.
    let lines: Vec<_> = whole.lines().collect();
    let cut = lines.len() - 5;
    fs::write(&path, lines[..cut].join("\n") + "\n").unwrap();
    running = Running::start_in(directory);
    let node = read(&mut running.client(), 0);
    let alarms = of(&node, "alarm");
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].outcome, "audit_log_changed");
    let why = format!("entries {} to {} were there and are missing", cut + 1, lines.len());
    assert_eq!(alarms[0].details["why"], why);
    let state = running.state();
    drop(running.officer());
    let directory = running.stop();
    let missing =
        Fault::Missing { first: cut as u64 + 1, last: lines.len() as u64, found: lines.len() as u64 + 1 };
    assert_eq!(verified(&state, "partition-1", None).unwrap_err(), missing);
    // Only once.
    let running = Running::start_in(directory);
    assert_eq!(of(&read(&mut running.client(), 0), "alarm").len(), 1);
}

#[test]
fn an_entry_that_was_changed_is_found() {
    let running = Running::with_partition();
    let key = public_key(&mut running.client());
    let directory = running.stop();
    let state = directory.path().join("state");
    let path = files(&state, "partition-1").pop().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("\"user\":\"admin\"", "\"user\":\"other\"", 1)).unwrap();
    assert!(matches!(verified(&state, "partition-1", Some(&key)), Err(Fault::Chain(_))));
    fs::write(&path, &whole).unwrap();
    let (entries, summary) = verified(&state, "partition-1", Some(&key)).unwrap();
    assert_eq!(summary.unsigned, 0);
    assert_eq!(entries.last().unwrap().action, CHECKPOINT);
}

#[test]
fn half_a_line_is_taken_away_and_told_of() {
    let running = Running::with_partition();
    let directory = running.stop();
    let state = directory.path().join("state");
    let path = files(&state, "partition-1").pop().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"v\":1,\"log\":\"part")).unwrap();
    let running = Running::start_in(directory);
    let entries = read(&mut running.officer(), TLS);
    assert_eq!(of(&entries, "audit_torn")[0].details["bytes"], "18");
    assert!(fs::read_to_string(&path).unwrap().starts_with(&whole));
    let state = running.state();
    let _directory = running.stop();
    verified(&state, "partition-1", None).unwrap();
}

#[test]
fn files_follow_each_other_and_the_old_ones_go() {
    let small = |config: &mut strongroom_hsm::Config| {
        config.audit.rotate_bytes = 4096;
        config.audit.keep_days = Some(1);
    };
    let running = Running::try_start_in(tempfile::tempdir().unwrap(), small).unwrap();
    running.client().make_partition("tls");
    let mut officer = running.officer();
    let mut fill = || {
        for _ in 0..20 {
            officer.call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
        }
    };
    fill();
    let before = files(&running.state(), "partition-1");
    assert!(before.len() > 2);
    let (entries, summary) = verified(&running.state(), "partition-1", None).unwrap();
    assert_eq!(of(&entries, "audit_file").len(), before.len());
    assert!(summary.first == 1 && summary.checkpoints >= before.len() as u64 - 1);
    let two_days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
    fs::File::options().write(true).open(&before[0]).unwrap().set_modified(two_days_ago).unwrap();
    fill();
    assert!(!before[0].exists() && before[1].exists());
    let (entries, summary) = verified(&running.state(), "partition-1", None).unwrap();
    let name = before[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(of(&entries, "audit_file_deleted")[0].details["file"], name);
    assert!(summary.first > 1);
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
