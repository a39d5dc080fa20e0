//! What a request found permitted when it came, and what is there when its change is made: a disk that is held shows the
//! difference. And a deletion that takes a while is broken off.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod faults;
mod running;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use faults::Fault;
use running::{Client, OFFICER, PASSWORD, Process, TLS, USER, code};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use strongroom_hsm::records::Names;
use strongroom_hsm::store::{RedbStore, Store};
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

type Answer = Result<response::Result, ClientError>;

fn logged_in(process: &Process, role: Role, name: &str) -> Client {
    let mut client = process.client();
    client.login(role, name, PASSWORD).unwrap();
    client
}

/// Carries out `first` and holds the disk meanwhile; `second` comes while the first is not done, and waits behind it.
fn one_behind_the_other(fault: &Fault, first: (&mut Client, Op), second: (&mut Client, Op)) -> [Answer; 2] {
    fault.hold_after(0);
    thread::scope(|scope| {
        let first = scope.spawn(move || first.0.call(first.1));
        fault.wait_until_held();
        let second = scope.spawn(move || second.0.call(second.1));
        // If it has not come that far, it is refused at once for the same reason: then less is tested, and nothing fails.
        thread::sleep(Duration::from_millis(300));
        fault.clear();
        [first.join().unwrap(), second.join().unwrap()]
    })
}

fn labels(client: &mut Client) -> Vec<String> {
    let all = client.find(FindObjects { all_versions: true, ..FindObjects::default() }).unwrap();
    all.into_iter().map(|object| object.label).collect()
}

fn deletes(name: &str) -> Op {
    Op::DeleteUser(DeleteUser { name: name.into() })
}

/// What is copied is what is there when the copy is made, and who copies is who may then.
#[test]
fn a_copy_is_of_what_is_there_when_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let (process, fault) = Fault::start(directory.path());
    process.client().make_partition("tls");
    let mut user = logged_in(&process, Role::CryptoUser, USER);
    let mut other = logged_in(&process, Role::CryptoUser, USER);
    let leaves = KeyPolicy { extractable: true, encrypt: true, ..KeyPolicy::default() };
    let key = Some(KeyTemplate { label: "data".into(), policy: Some(leaves), ..KeyTemplate::default() });
    let generate = GenerateKey { key_type: KeyType::Aes256.into(), key };
    let key = user.objects(Op::GenerateKey(generate)).unwrap().swap_remove(0);
    let copy = |label: &str| {
        let (object, label) = (key.object.clone(), Some(label.to_owned()));
        Op::CopyObject(CopyObject { object, label, ..CopyObject::default() })
    };

    // From now on it stays in the partition: so does the copy that comes behind.
    let stays =
        SetAttributes { object: key.object.clone(), not_extractable: true, ..SetAttributes::default() };
    let stays = (&mut user, Op::SetAttributes(stays));
    let [changed, copied] = one_behind_the_other(&fault, stays, (&mut other, copy("first")));
    changed.unwrap();
    let response::Result::Objects(list) = copied.unwrap() else { panic!() };
    assert!(!list.objects[0].policy.unwrap().extractable, "the copy is of the key as it was");

    // Who was deleted copies nothing.
    let mut officer = logged_in(&process, Role::CryptoOfficer, OFFICER);
    officer.create_user("shop", Role::CryptoUser, PASSWORD).unwrap();
    let mut shop = logged_in(&process, Role::CryptoUser, "shop");
    let [deleted, copied] =
        one_behind_the_other(&fault, (&mut officer, deletes("shop")), (&mut shop, copy("shop's")));
    deleted.unwrap();
    copied.unwrap_err();

    // What was deleted is not copied.
    let delete = Op::DestroyObject(DestroyObject { object: key.object.clone() });
    let [deleted, copied] = one_behind_the_other(&fault, (&mut user, delete), (&mut other, copy("second")));
    deleted.unwrap();
    assert_eq!(code(copied), ErrorCode::NoSuchObject);
    assert_eq!(labels(&mut user), ["first"]);
}

fn openssl(at: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(at).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An officer who was deleted meanwhile makes neither a security domain nor gives the node its certificate.
#[test]
fn who_was_deleted_meanwhile_decides_nothing_for_the_partition() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    openssl(at, "req -x509 -newkey rsa:2048 -noenc -keyout owner.key -out owner.pem -subj /CN=PO -days 30");
    openssl(at, "x509 -in owner.pem -outform DER -out owner.der");
    openssl(at, "pkey -in owner.key -pubout -outform DER -out holder.der");
    openssl(at, "genpkey -quiet -algorithm RSA -out another.key");
    openssl(at, "pkey -in another.key -pubout -outform DER -out another.der");
    let (process, fault) = Fault::start(at);
    let mut client = process.client();
    let create = CreatePartition {
        label: "tls".into(),
        officer: OFFICER.into(),
        password: PASSWORD.into(),
        owner_certificate: fs::read(at.join("owner.der")).unwrap(),
        ..CreatePartition::default()
    };
    client.connection.call(0, Op::CreatePartition(create)).unwrap();
    let mut officer = logged_in(&process, Role::CryptoOfficer, OFFICER);

    let response::Result::NodeRequest(request) =
        client.call(Op::RequestNodeCertificate(RequestNodeCertificate {})).unwrap()
    else {
        panic!()
    };
    fs::write(at.join("node.csr"), request.request).unwrap();
    openssl(
        at,
        "x509 -req -inform DER -in node.csr -CA owner.pem -CAkey owner.key -days 30 -outform DER -out node.der",
    );
    let certificate = fs::read(at.join("node.der")).unwrap();
    let install = Op::InstallNodeCertificate(InstallNodeCertificate { certificate });
    let holders = ["holder.der", "another.der"].map(|file| fs::read(at.join(file)).unwrap()).to_vec();
    let domain = Op::CreateSecurityDomain(CreateSecurityDomain { holders, needed: 2 });
    let connect = || {
        if !rustix::process::geteuid().is_root() {
            return process.client();
        }
        // Root is the machine's owner, and may more than the officer: so it is somebody else.
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        let socket = process.socket.clone();
        let connect = move || {
            let uid = Uid::from_raw(33);
            set_thread_res_uid(uid, uid, uid).unwrap();
            Client::open(&socket).unwrap()
        };
        thread::spawn(connect).join().unwrap()
    };
    let requests = match rustix::process::geteuid().is_root() {
        true => vec![domain.clone(), install.clone()],
        // The machine's owner gives the node its certificate without a log-in, too.
        false => vec![domain.clone()],
    };
    for (number, request) in requests.into_iter().enumerate() {
        let name = format!("second-{number}");
        officer.create_user(&name, Role::CryptoOfficer, PASSWORD).unwrap();
        let mut second = connect();
        second.login(Role::CryptoOfficer, &name, PASSWORD).unwrap();
        let [deleted, refused] =
            one_behind_the_other(&fault, (&mut officer, deletes(&name)), (&mut second, request));
        deleted.unwrap();
        refused.unwrap_err();
    }
    // Neither was done; the officer who is still there does both.
    let shown = officer.call(Op::ShowSecurityDomain(ShowSecurityDomain {}));
    assert_eq!(code(shown), ErrorCode::NoSuchObject);
    let prove = || Op::ProveNode(ProveNode { nonce: vec![1; 32] });
    assert_eq!(code(officer.call(prove())), ErrorCode::CertificateWrong);
    officer.call(domain).unwrap();
    officer.call(install).unwrap();
    officer.call(prove()).unwrap();
}

/// How many records of partition [`TLS`] the store has.
fn left(state: &Path) -> usize {
    let (names, mut count) = (Names::of(TLS), 0);
    let store = RedbStore::open(&state.join("store.redb")).unwrap();
    store.scan(&mut |name, _| count += usize::from(name.starts_with(names.prefix()))).unwrap();
    count
}

/// A large partition's records are deleted piece by piece. If the daemon dies on the way, the partition is gone nevertheless, and
/// the next start deletes the rest.
#[test]
fn a_partitions_deletion_goes_on_after_a_death() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (process, fault) = Fault::start(at);
    process.client().make_partition("tls");
    let mut user = logged_in(&process, Role::CryptoUser, USER);
    // Ten megabytes.
    for number in 0..330 {
        let (class, label, value) = (ObjectClass::Data.into(), format!("data {number}"), vec![7; 32 * 1024]);
        let object = Some(ObjectInfo { class, label, value, ..ObjectInfo::default() });
        user.objects(Op::CreateObject(CreateObject { object })).unwrap();
    }
    let mut officer = logged_in(&process, Role::CryptoOfficer, OFFICER);
    fault.hold_after(6);
    thread::scope(|scope| {
        let deletion = scope.spawn(|| {
            officer.call(Op::DeletePartition(DeletePartition { label: "tls".into() })).unwrap_err();
        });
        fault.wait_until_held();
        process.kill();
        deletion.join().unwrap();
    });
    fault.clear();
    let state = at.join("state");
    let rest = left(&state);
    assert!((1..330).contains(&rest), "{rest} records are left: it was broken off in the middle");

    let process = Process::start(at);
    let mut client = process.client();
    let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };
    assert_eq!(status.state(), NodeState::Open);
    let response::Result::Partitions(list) = client.call(Op::ListPartitions(ListPartitions {})).unwrap()
    else {
        panic!()
    };
    assert!(list.partitions.is_empty(), "{list:?}");
    client.partition = 0;
    client.call(Op::CheckStore(CheckStore {})).unwrap();
    process.kill();
    assert_eq!(left(&state), 0);
}
