//! Log-ins: passwords, wrong ones, those that somebody else has set, and tickets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod requests;
mod running;

use requests::every_request;
use running::{Client, OFFICER, PASSWORD, Process, Running, USER, WRONG, code, partition_info, user_info};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

#[test]
fn ten_wrong_passwords_lock_for_good_until_an_officer_unlocks() {
    let mut running = Running::with_partition();
    let mut client = running.client();
    for _ in 0..9 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    // The right one counts anew.
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    for _ in 0..6 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    drop(client);
    running = running.restart();
    let mut client = running.client();
    for _ in 0..4 {
        assert_eq!(code(client.login(Role::CryptoUser, USER, WRONG)), ErrorCode::PasswordWrong);
    }
    assert_eq!(code(client.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    drop(client);
    running = running.restart();
    assert_eq!(code(running.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    let mut officer = running.officer();
    let response::Result::Users(list) = officer.call(Op::ListUsers(ListUsers {})).unwrap() else { panic!() };
    let user = list.users.iter().find(|user| user.name == USER).unwrap();
    assert!(user.locked && user.failed_attempts == 10);
    officer.call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
    running.user();
}

/// Each wrong password counts, whatever happens to the daemon, and however many connections try.
#[test]
fn kill_and_further_connections_give_no_more_attempts() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = |client: &mut Client| code(client.login(Role::CryptoUser, USER, WRONG));
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    for _ in 0..3 {
        assert_eq!(wrong(&mut process.client()), ErrorCode::PasswordWrong);
    }
    process.kill();
    let process = Process::start(directory.path());
    // Two at the same time, each on connections of its own.
    let tries = || (0..2).map(|_| wrong(&mut process.client())).collect::<Vec<_>>();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let both = [scope.spawn(tries), scope.spawn(tries)];
        both.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers, [ErrorCode::PasswordWrong; 4]);
    process.kill();
    let process = Process::start(directory.path());
    for _ in 0..3 {
        assert_eq!(wrong(&mut process.client()), ErrorCode::PasswordWrong);
    }
    assert_eq!(code(process.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    process.kill();
    let process = Process::start(directory.path());
    assert_eq!(code(process.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
}

fn change_password(name: &str, old: &str, new: &str) -> Op {
    Op::ChangePassword(ChangePassword {
        name: name.into(),
        old_password: old.into(),
        new_password: new.into(),
    })
}

#[test]
fn a_password_that_somebody_else_set_is_good_for_its_change_only() {
    let mut running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    running.officer().create_initial_user("new", Role::CryptoUser, "an initial one").unwrap();
    running = running.restart();
    assert!(user_info(&mut running.officer(), "new").must_change_password);
    assert!(!user_info(&mut running.officer(), USER).must_change_password);
    let mut client = running.client();
    let reply = client.login(Role::CryptoUser, "new", "an initial one").unwrap();
    assert!(reply.must_change_password);
    // The ticket is worth no more.
    let mut second = running.client();
    by_ticket(&mut second, &reply.ticket).unwrap();
    for op in every_request(&pair[0], &pair[1]) {
        // What is not about a partition is not this user's affair.
        let about_the_node = matches!(
            op,
            Op::Hello(_)
                | Op::Status(_)
                | Op::ListPartitions(_)
                | Op::ListRights(_)
                | Op::CreatePartition(_)
                | Op::OpenChannel(_)
                | Op::ShowPage(_)
                | Op::Seal(_)
                | Op::Unseal(_)
                | Op::SealWith(_)
                | Op::Zeroize(_)
                | Op::ShowSeal(_)
                | Op::ShowTampering(_)
                | Op::ClearTampering(_)
                | Op::CheckStore(_)
                | Op::DescribeAudit(_)
                | Op::InitCluster(_)
                | Op::AdmitNode(_)
                | Op::JoinCluster(_)
                | Op::LeaveCluster(_)
                | Op::ExpelNode(_)
                | Op::ShowCluster(_)
                | Op::BeginRestore(_)
                | Op::RestoreChunk(_)
                | Op::FinishRestore(_)
        );
        if about_the_node {
            continue;
        }
        let may = matches!(
            op,
            Op::Login(_)
                | Op::ChangePassword(_)
                | Op::UnlockUser(_)
                | Op::ChallengeUser(_)
                | Op::RequestNodeCertificate(_)
                | Op::ProveNode(_)
                | Op::Logout(_)
        );
        let text = format!("{op:?}");
        let expired = second.call(op).is_err_and(|error| error.code() == Some(ErrorCode::PasswordExpired));
        assert_eq!(expired, !may, "{text}");
    }
    // The initial one again is no new one.
    assert_eq!(
        code(client.call(change_password("new", "an initial one", "an initial one"))),
        ErrorCode::AttributeWrong
    );
    client.call(change_password("new", "an initial one", "my own secret")).unwrap();
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    assert!(!client.login(Role::CryptoUser, "new", "my own secret").unwrap().must_change_password);
    // A user id needs no password, whatever the state of the user's.
    let mut officer = running.officer();
    officer.call(change_password("new", "", "an initial one")).unwrap();
    assert!(user_info(&mut officer, "new").must_change_password);
    let uid = rustix::process::geteuid().as_raw();
    officer.call(Op::AdmitUid(AdmitUid { name: "new".into(), uid, withdraw: false })).unwrap();
    running.client().sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).unwrap();
    // Whose passwords those of a new partition are, its maker says.
    let create = CreatePartition {
        label: "other".into(),
        officer: "co".into(),
        password: "an initial one".into(),
        user: "cu".into(),
        user_password: "an initial one".into(),
        hand_over: true,
        ..CreatePartition::default()
    };
    let mut client = running.client();
    let response::Result::Partition(made) = client.connection.call(0, Op::CreatePartition(create)).unwrap()
    else {
        panic!()
    };
    client.partition = made.number;
    client.login(Role::CryptoOfficer, "co", "an initial one").unwrap();
    assert_eq!(code(client.call(Op::ListUsers(ListUsers {}))), ErrorCode::PasswordExpired);
    client.call(change_password("co", "an initial one", "my own secret")).unwrap();
    assert!(user_info(&mut client, "cu").must_change_password);
    assert!(partition_info(&mut client).user_pin.unwrap().to_be_changed);
}

#[test]
fn unknown_names_and_wrong_roles_look_like_wrong_passwords() {
    let running = Running::with_partition();
    let mut client = running.client();
    assert_eq!(code(client.login(Role::CryptoUser, "nobody", PASSWORD)), ErrorCode::PasswordWrong);
    assert_eq!(code(client.login(Role::CryptoOfficer, USER, PASSWORD)), ErrorCode::PasswordWrong);
    assert_eq!(code(client.login(Role::Unspecified, "", PASSWORD)), ErrorCode::Malformed);
}

#[test]
fn a_password_alone_is_enough_for_the_only_user_of_a_role() {
    let running = Running::with_partition();
    let mut client = running.client();
    assert_eq!(client.login(Role::CryptoUser, "", PASSWORD).unwrap().user, USER);
    assert_eq!(client.login(Role::CryptoOfficer, "", PASSWORD).unwrap().user, OFFICER);
    client.create_user("second", Role::CryptoUser, PASSWORD).unwrap();
    assert_eq!(code(client.login(Role::CryptoUser, "", PASSWORD)), ErrorCode::NoSuchUser);
}

fn by_ticket(client: &mut Client, ticket: &[u8]) -> Result<(), ErrorCode> {
    let login = Login { role: Role::CryptoUser.into(), ticket: ticket.to_vec(), ..Login::default() };
    client.call(Op::Login(login)).map(drop).map_err(|error| error.code().unwrap())
}

#[test]
fn a_ticket_stands_for_the_password_until_it_changes_or_its_user_logs_out() {
    let running = Running::with_partition();
    let pair = running.user().generate(KeyType::P256, "key").unwrap();
    let may_sign = |client: &mut Client| client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).is_ok();

    let mut first = running.client();
    let ticket = first.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    let mut second = running.client();
    by_ticket(&mut second, &ticket).unwrap();
    assert!(may_sign(&mut second));
    let mut forged = ticket.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(by_ticket(&mut running.client(), &forged), Err(ErrorCode::TicketInvalid));

    // A log-out ends it everywhere.
    first.call(Op::Logout(Logout {})).unwrap();
    assert!(!may_sign(&mut first) && !may_sign(&mut second));
    assert_eq!(by_ticket(&mut running.client(), &ticket), Err(ErrorCode::TicketInvalid));

    // A new password ends all but the log-in that set it.
    let ticket = first.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    by_ticket(&mut second, &ticket).unwrap();
    let change = |old: &str, new: &str| {
        Op::ChangePassword(ChangePassword {
            name: USER.into(),
            old_password: old.into(),
            new_password: new.into(),
        })
    };
    assert_eq!(code(first.call(change(WRONG, "new password"))), ErrorCode::PasswordWrong);
    assert_eq!(code(first.call(change(PASSWORD, "short"))), ErrorCode::PasswordTooShort);
    first.call(change(PASSWORD, "new password")).unwrap();
    assert!(may_sign(&mut first) && !may_sign(&mut second));
    assert_eq!(by_ticket(&mut second, &ticket), Err(ErrorCode::TicketInvalid));
    assert_eq!(code(second.login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::PasswordWrong);
    // An officer sets it without knowing the old one, but not another officer's.
    running.officer().call(change("", "chosen by the officer")).unwrap();
    let mut third = running.client();
    assert!(third.login(Role::CryptoUser, USER, "chosen by the officer").unwrap().must_change_password);
    third.call(change("chosen by the officer", PASSWORD)).unwrap();
    assert!(may_sign(&mut third), "the log-in that changed it goes on");
    let ticket = third.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
    let mut officer = running.officer();
    officer.create_user("admin2", Role::CryptoOfficer, PASSWORD).unwrap();
    let other = ChangePassword {
        name: "admin2".into(),
        old_password: String::new(),
        new_password: "new password".into(),
    };
    assert_eq!(code(officer.call(Op::ChangePassword(other))), ErrorCode::PasswordWrong);

    // Nor does it outlive the user.
    officer.call(Op::DeleteUser(DeleteUser { name: USER.into() })).unwrap();
    officer.create_user(USER, Role::CryptoUser, PASSWORD).unwrap();
    assert!(!may_sign(&mut third));
    assert_eq!(by_ticket(&mut running.client(), &ticket), Err(ErrorCode::TicketInvalid));
}

/// A log-out that was answered holds, whatever happens to the daemon; and what others have ended at the same time.
#[test]
fn a_log_out_holds_after_a_restart_of_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    let log_in = || {
        let mut client = process.client();
        let ticket = client.login(Role::CryptoUser, USER, PASSWORD).unwrap().ticket;
        (client, ticket)
    };
    let mut all: Vec<_> = (0..6).map(|_| log_in()).collect();
    let (_, stays) = all.pop().unwrap();
    std::thread::scope(|scope| {
        for (client, _) in &mut all {
            scope.spawn(|| client.call(Op::Logout(Logout {})).unwrap());
        }
    });
    // Once more ends nothing more.
    all[0].0.call(Op::Logout(Logout {})).unwrap();
    let tickets: Vec<_> = all.into_iter().map(|(_, ticket)| ticket).collect();
    process.kill();
    let mut process = Process::start(directory.path());
    for _ in 0..2 {
        for ticket in &tickets {
            assert_eq!(by_ticket(&mut process.client(), ticket), Err(ErrorCode::TicketInvalid));
        }
        by_ticket(&mut process.client(), &stays).unwrap();
        process.kill();
        process = Process::start(directory.path());
    }
    // What is left of a partition that is gone goes, too.
    let mut officer = process.client();
    officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
    officer.call(Op::DeletePartition(DeletePartition { label: "tls".into() })).unwrap();
    process.kill();
    drop(Process::start(directory.path()).client());
}

/// The processes of a web server, which had logged in before a power cut, come back all at once, each with its ticket.
#[test]
fn tickets_hold_after_a_restart_of_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    process.client().make_partition("tls");
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let pair = user.generate(KeyType::P256, "key").unwrap();
    let may_sign = |client: &mut Client| client.sign(&pair[0], Mechanism::Ecdsa, None, &[0; 32]).is_ok();
    let log_in = |role, name: &str| process.client().login(role, name, PASSWORD).unwrap().ticket;
    let tickets: Vec<_> = (0..4).map(|_| log_in(Role::CryptoUser, USER)).collect();
    let (old, locked) = (log_in(Role::CryptoOfficer, OFFICER), tickets[0].clone());
    process.kill();

    let process = Process::start(directory.path());
    let mut clients: Vec<_> = (0..200).map(|_| process.client()).collect();
    for (client, ticket) in clients.iter_mut().zip(tickets.iter().cycle()) {
        by_ticket(client, ticket).unwrap();
        assert!(may_sign(client));
    }

    // A log-out ends the log-in on all connections that have its ticket, and no others.
    clients[0].call(Op::Logout(Logout {})).unwrap();
    assert!(!may_sign(&mut clients[4]) && may_sign(&mut clients[1]));
    assert_eq!(by_ticket(&mut process.client(), &tickets[0]), Err(ErrorCode::TicketInvalid));

    // Nobody stops a web server by guessing: while the user is locked, what was logged in goes on, also on new connections.
    let mut guesser = process.client();
    while code(guesser.login(Role::CryptoUser, USER, WRONG)) == ErrorCode::PasswordWrong {}
    assert_eq!(code(process.client().login(Role::CryptoUser, USER, PASSWORD)), ErrorCode::UserLocked);
    by_ticket(&mut process.client(), &tickets[1]).unwrap();
    assert!(may_sign(&mut clients[1]));
    let mut officer = process.client();
    let login = Login { role: Role::CryptoOfficer.into(), ticket: old, ..Login::default() };
    officer.call(Op::Login(login.clone())).unwrap();
    officer.call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
    by_ticket(&mut process.client(), &tickets[1]).unwrap();
    assert_eq!(by_ticket(&mut process.client(), &locked), Err(ErrorCode::TicketInvalid), "logged out");

    // A new password voids all of them, also after another restart.
    let change = ChangePassword {
        name: USER.into(),
        old_password: PASSWORD.into(),
        new_password: "another one".into(),
    };
    process.client().call(Op::ChangePassword(change)).unwrap();
    assert!(!may_sign(&mut clients[1]));
    process.kill();
    let process = Process::start(directory.path());
    for ticket in &tickets {
        assert_eq!(by_ticket(&mut process.client(), ticket), Err(ErrorCode::TicketInvalid));
    }
    // Sealing the node does so, too.
    let mut officer = process.client();
    officer.call(Op::Login(login.clone())).unwrap();
    let mut owner = process.client();
    owner.partition = 0;
    owner.call(Op::Seal(Seal {})).unwrap();
    owner.call(Op::Unseal(Unseal::default())).unwrap();
    assert_eq!(code(process.client().call(Op::Login(login))), ErrorCode::TicketInvalid);
    assert_eq!(code(officer.call(Op::ListUsers(ListUsers {}))), ErrorCode::NotLoggedIn);
}
