//! The audit log is sent to journald, and to syslog over UDP and TLS: the real journald and rsyslogd get every entry as it
//! stands in the files, also what was written while they, or the daemon, were not there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod receiving;
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use receiving::{Certificates, Journal, Rsyslog};
use running::*;
use strongroom_audit::{Entry, Verifier};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Waits until something is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "after a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The lines of all logs, as the files have them.
fn written(directory: &Path) -> BTreeMap<(String, u64), String> {
    let files = fs::read_dir(directory.join("state/audit")).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    entries(&logs.map(|path| fs::read_to_string(path).unwrap()).collect::<String>())
}

/// Whole lines by log and number. What came twice is the same.
fn entries(text: &str) -> BTreeMap<(String, u64), String> {
    let mut entries = BTreeMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let entry: Entry = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let before = entries.insert((entry.log, entry.seq), line.to_owned());
        assert!(before.is_none_or(|before| before == line));
    }
    entries
}

/// What was received is chained without a gap, and signed.
fn verify(text: &str) {
    let mut verifiers: BTreeMap<String, Verifier> = BTreeMap::new();
    for ((log, _), line) in entries(text) {
        verifiers.entry(log).or_insert_with(|| Verifier::new(None)).line(line.as_bytes()).unwrap();
    }
    assert_eq!(verifiers.len(), 2);
    for verifier in verifiers.into_values() {
        assert_eq!(verifier.finish().unwrap().unsigned, 0);
    }
}

/// Waits until a receiver has got what the files have.
fn arrives(directory: &Path, received: impl Fn() -> String) {
    let mut missing = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (there, here) = (entries(&received()), written(directory));
        for (place, line) in &there {
            // Nothing is sent that is not in the files.
            assert_eq!(here.get(place), Some(line));
        }
        missing.clear();
        missing.extend(here.into_iter().filter(|(place, _)| !there.contains_key(place)));
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "after a minute these are missing: {missing:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn sinks(process: &Process) -> Vec<AuditSink> {
    match process.client().connection.call(0, Op::DescribeAudit(DescribeAudit {})).unwrap() {
        response::Result::AuditDescription(said) => {
            assert!(said.healthy && said.logs[0].log == "node");
            said.sinks
        }
        other => panic!("{other:?}"),
    }
}

fn start(directory: &Path, arguments: &[String]) -> Process {
    let mut command = Process::command(directory);
    command.args(arguments);
    Process::spawn(command, directory)
}

fn user(process: &Process) -> Client {
    let mut user = process.client();
    user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    user
}

/// The receiver is away, comes, is killed, and comes again; the daemon is killed, and comes again.
fn is_never_missed(
    directory: &Path,
    arguments: &[String],
    mut receive: impl FnMut() -> Box<dyn std::any::Any>,
    received: impl Fn() -> String,
) {
    let process = start(directory, arguments);
    process.client().make_partition("tls");
    let mut client = user(&process);
    // Nobody receives: changes and signatures go on, and the owner can see it.
    let pair = client.generate(KeyType::P256, "web é \u{7f}").unwrap();
    client.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    wait_for("the sink is said to fail", || {
        let sink = &sinks(&process)[0];
        !sink.connected
            && sink.failures > 0
            && sink.lag > 0
            && !sink.error.is_empty()
            && !sink.address.is_empty()
    });
    let receiver = receive();
    arrives(directory, &received);
    wait_for("the sink is said to work", || sinks(&process)[0].connected && sinks(&process)[0].lag == 0);
    drop(receiver);
    for _ in 0..3 {
        client.generate(KeyType::P256, "web").unwrap();
        client.sign(&pair[0], Mechanism::Ecdsa, None, &[1; 32]).unwrap();
    }
    let _receiver = receive();
    arrives(directory, &received);
    process.kill();
    let process = start(directory, arguments);
    user(&process).generate(KeyType::P256, "web").unwrap();
    arrives(directory, &received);
    // The node's log says that the sink had failed.
    let text = received();
    let mut told = entries(&text).into_values().filter(|line| line.contains("\"action\":\"audit_sink\""));
    assert!(told.any(|line| line.contains("\"outcome\":\"unavailable\"")), "{text}");
    // The last words arrive as well.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&process.child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    wait_for("the end is received", || received().contains("daemon_stop"));
    arrives(directory, &received);
    verify(&received());
}

#[test]
fn rsyslog_gets_every_entry_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(directory.path());
    let mut rsyslog = Rsyslog::tls(directory.path(), &certificates);
    let arguments = [
        // A name: the confined daemon can look it up.
        format!("--audit-sink=syslog+tls://localhost:{}", rsyslog.port),
        format!("--audit-ca={}", certificates.authority.display()),
        format!("--audit-certificate={}", certificates.client.0.display()),
        format!("--audit-key={}", certificates.client.1.display()),
    ];
    let received = rsyslog.received.clone();
    let receive = || Box::new(rsyslog.start()) as Box<dyn std::any::Any>;
    is_never_missed(directory.path(), &arguments, receive, || {
        fs::read_to_string(&received).unwrap_or_default()
    });
}

/// The receiver's system has taken entries that its program never reads. Nobody says so: they are sent again. `false`: this
/// machine took so long that they count as received.
fn what_was_sent_in_vain_is_sent_again() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(directory.path());
    let mut rsyslog = Rsyslog::tls(directory.path(), &certificates);
    let arguments = [
        format!("--audit-sink=syslog+tls://localhost:{}", rsyslog.port),
        format!("--audit-ca={}", certificates.authority.display()),
        format!("--audit-certificate={}", certificates.client.0.display()),
        format!("--audit-key={}", certificates.client.1.display()),
    ];
    let received = rsyslog.received.clone();
    let received = || fs::read_to_string(&received).unwrap_or_default();
    let receiver = rsyslog.start();
    let process = start(directory.path(), &arguments);
    process.client().make_partition("tls");
    arrives(directory.path(), received);
    let frozen = Instant::now();
    receiver.freeze();
    let before = sinks(&process)[0].failures;
    user(&process).generate(KeyType::P256, "in vain").unwrap();
    wait_for("the entries are sent", || sinks(&process)[0].lag == 0);
    assert_eq!(sinks(&process)[0].failures, before);
    drop(receiver);
    if frozen.elapsed() > Duration::from_secs(20) {
        return false;
    }
    assert!(!received().contains("in vain"));
    let _receiver = rsyslog.start();
    arrives(directory.path(), received);
    assert!(received().contains("in vain"));
    true
}

#[test]
fn what_a_receiver_took_and_never_read_is_sent_again() {
    assert!((0..5).any(|_| what_was_sent_in_vain_is_sent_again()));
}

#[test]
fn rsyslog_gets_every_entry_over_udp() {
    let directory = tempfile::tempdir().unwrap();
    let mut rsyslog = Rsyslog::udp(directory.path());
    let arguments = [format!("--audit-sink=syslog+udp://127.0.0.1:{}", rsyslog.port)];
    let received = rsyslog.received.clone();
    let receive = || Box::new(rsyslog.start()) as Box<dyn std::any::Any>;
    is_never_missed(directory.path(), &arguments, receive, || {
        fs::read_to_string(&received).unwrap_or_default()
    });
}

#[test]
fn journald_gets_every_entry() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::new(directory.path());
    let arguments = [format!("--audit-sink=journald:{}", journal.socket.display())];
    let receive = || Box::new(journal.start()) as Box<dyn std::any::Any>;
    is_never_missed(directory.path(), &arguments, receive, || journal.messages());
    // Fields to search by.
    let found = journal.search(&["STRONGROOM_LOG=partition-1", "STRONGROOM_ACTION=sign", "PRIORITY=6"]);
    assert!(found.lines().count() > 0 && found.lines().all(|line| line.contains("\"action\":\"sign\"")));
}

/// A server that an unknown authority vouches for, or that does not know ours, gets nothing.
#[test]
fn only_a_trusted_syslog_server_gets_entries() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(directory.path());
    let mut rsyslog = Rsyslog::tls(directory.path(), &certificates);
    let _running = rsyslog.start();
    let other = tempfile::tempdir().unwrap();
    let stranger = Certificates::make(other.path());
    let sink = format!("--audit-sink=syslog+tls://localhost:{}", rsyslog.port);
    let fails = |arguments: &[String]| {
        let state = tempfile::tempdir().unwrap();
        let process = start(state.path(), arguments);
        let mut errors = Vec::new();
        wait_for("the sink fails", || {
            let sink = sinks(&process).remove(0);
            errors = vec![sink.error];
            sink.failures > 1 && !errors[0].is_empty()
        });
        errors.remove(0)
    };
    let error = fails(&[sink.clone(), format!("--audit-ca={}", stranger.authority.display())]);
    assert!(error.contains("certificate"), "{error}");
    // Without a certificate of ours, the server says no.
    fails(&[sink, format!("--audit-ca={}", certificates.authority.display())]);
    assert_eq!(fs::read_to_string(&rsyslog.received).unwrap_or_default(), "");
}

#[test]
fn what_is_wrong_with_a_sink_is_said_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let mut command = Process::command(directory.path());
        let output = command.args(arguments).stderr(std::process::Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&["--audit-sink=carrier-pigeon"]).contains("syslog+tls://HOST:PORT"));
    assert!(said(&["--audit-sink=journald,journald"]).contains("named twice"));
    assert!(said(&["--audit-facility=nothing"]).contains("local0"));
    assert!(said(&["--audit-certificate=/tmp/x"]).contains("--audit-key"));
    let missing = said(&["--audit-sink=syslog+tls://a", "--audit-ca=/nowhere/ca.pem"]);
    assert!(missing.contains("/nowhere/ca.pem"), "{missing}");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "nothing").unwrap();
    let nobody = said(&["--audit-sink=syslog+tls://a", &format!("--audit-ca={}", empty.display())]);
    assert!(nobody.contains("no certificate of an authority"), "{nobody}");
}

/// Files that are old enough to be deleted stay until a sink has got them.
#[test]
fn what_was_not_sent_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal/run/systemd/journal/socket");
    let sink = strongroom_hsm::audit::sink::Sink {
        target: format!("journald:{}", path.display()).parse().unwrap(),
        tls: None,
        facility: strongroom_hsm::audit::sink::AUDIT_FACILITY,
    };
    let running = Running::try_start_in(directory, |config| {
        config.audit.rotate_bytes = 4096;
        config.audit.keep_days = Some(1);
        config.audit.sinks = vec![sink];
    })
    .unwrap();
    running.client().make_partition("tls");
    let mut officer = running.officer();
    let mut fill = || {
        for _ in 0..20 {
            officer.call(Op::UnlockUser(UnlockUser { name: USER.into(), signature: vec![] })).unwrap();
        }
    };
    fill();
    let first = running.state().join("audit/partition-1-000000000001.jsonl");
    let two_days_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    fs::File::options().write(true).open(&first).unwrap().set_modified(two_days_ago).unwrap();
    fill();
    assert!(first.exists(), "it was deleted, and never sent");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::net::UnixDatagram::bind(&path).map(receiving::drain).unwrap();
    wait_for("it was sent and deleted", || {
        fill();
        !first.exists()
    });
}
