//! The audit log: every management action and every use of a key, in files that only grow, chained and signed
//! ([`strongroom_audit`]). There is a log for each partition, and one for the daemon itself (`node`).
//!
//! A request that changes something is noted twice: before it is begun, and when its outcome is known, each on the disk
//! before anything goes on ([`Trail`]). So there is no change without an entry, whenever the power fails; and if the
//! log cannot be written, nothing is changed. Everything else is counted ([`Uses`]) and written in sums, a second each.
//! Signatures go on whatever becomes of the log.

mod actions;
mod files;
mod key;
mod last;
mod options;
mod own;
mod page;
mod ring;
pub mod sink;
mod status;
mod trail;
mod uses;
mod writer;

pub use key::{AuditKey, RECORDS, Records, seal_heads, seal_key};
pub use options::{Network, Options};
pub use page::{Page, Start};
pub use status::{LogStatus, Totals};
pub use trail::{Recent, Trail};
pub use uses::Uses;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strongroom_audit::{Entry, PublicKey, SUCCESS};
use strongroom_protocol::v1::ErrorCode;
use tokio::sync::oneshot;

use self::files::End;
use self::last::Last;
use self::uses::{Registry, Subject};
use self::writer::{Message, Pending, Writer};
use crate::failure::Failure;
use crate::session::Session;
use crate::vault::Vault;

/// The log of what concerns no partition.
pub const NODE: u32 = 0;

/// The action of the daemon's last entry.
const STOP: &str = "daemon_stop";
const START: &str = "daemon_start";
const ALARM: &str = "alarm";

/// The outcome of a change that is about to be made.
const BEGUN: &str = "begun";

/// Log-ins of one user id in a second that have an entry each; of more there are sums.
const EACH_OF_ONE: u32 = 20;

/// What an entry needs of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// Has to be there, with room for another, before a change begins.
    First,
    /// Has to be there before the request is answered.
    Last,
    /// Will be.
    Soon,
}

/// For sinks to take the last entries when the daemon stops.
const LAST: Duration = Duration::from_secs(4);

/// A log, as the writer shows it to others.
#[derive(Debug, Default)]
struct View {
    on_disk: End,
    /// The number of the last entry.
    seq: u64,
    /// Entries since the daemon's start.
    written: u64,
    last: Last,
}

/// What the writer, the sinks, and those who tell them something share.
#[derive(Debug)]
struct Shared {
    uses: Registry,
    is_healthy: AtomicBool,
    /// Writes that failed, and entries that were lost because memory had no room for them, since the start.
    failures: AtomicU64,
    lost: AtomicU64,
    public: Mutex<Option<PublicKey>>,
    instance: [u8; 4],
    /// The number of the next thing that the daemon does by itself.
    own_acts: AtomicU64,
    views: Mutex<BTreeMap<u32, View>>,
    sinks: Vec<Arc<sink::State>>,
    bell: sink::Bell,
}

impl Shared {
    fn views(&self) -> MutexGuard<'_, BTreeMap<u32, View>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where each log is on the disk.
    fn ends(&self) -> Vec<(u32, End)> {
        self.views().iter().map(|(log, view)| (*log, view.on_disk)).collect()
    }
}

/// The audit log, as everybody else in the daemon has it.
#[derive(Debug)]
pub struct Audit {
    directory: PathBuf,
    shared: Arc<Shared>,
    sender: Sender<Message>,
    /// Log-ins by user id: since when, and how many.
    log_ins: Mutex<HashMap<u32, (Instant, u32)>>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<()>,
    sinks: Vec<JoinHandle<()>>,
}

impl Audit {
    /// Opens the logs in a directory, or begins them, and writes that the daemon started. `instance` is different for
    /// every start. Nothing is signed before [`Audit::watch`].
    ///
    /// # Errors
    ///
    /// The system's: of the directory, its files, or the thread.
    pub fn start(directory: &Path, options: &Options, instance: [u8; 16]) -> io::Result<Self> {
        let [a, b, c, d, ..] = instance;
        let instance = [a, b, c, d];
        let shared = Arc::new(Shared {
            uses: Registry::default(),
            is_healthy: AtomicBool::new(true),
            failures: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            public: Mutex::default(),
            instance,
            own_acts: AtomicU64::new(0),
            views: Mutex::default(),
            sinks: sink::State::of(&options.sinks),
            bell: sink::Bell::default(),
        });
        let (sender, receiver) = channel();
        let writer = Writer::open(directory.to_owned(), options.clone(), Arc::clone(&shared), receiver)?;
        let sinks = sink::start(directory, &shared, &sender)?;
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        Ok(Audit {
            directory: directory.to_owned(),
            shared,
            sender,
            log_ins: Mutex::default(),
            threads: Mutex::new(Some(Threads { writer, sinks })),
        })
    }

    /// Follows the node's state from now on: signs while it is open, and compares the logs with what the store knows
    /// of where they ended; an alarm follows if something of them is missing. Returns when that is done for the first
    /// time. Blocks.
    pub fn watch(&self, vault: &Arc<Vault>) {
        let (done, is_done) = channel();
        let _ = self.sender.send(Message::Watch(Arc::clone(vault), done));
        // Without a writer nothing is to be waited for.
        let _ = is_done.recv();
    }

    /// Looks at the node's state now: it may have been sealed or opened.
    fn follow(&self) {
        let _ = self.sender.send(Message::Follow);
    }

    /// The key that verifies the logs; `None` if the node was not open yet.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.shared.public.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether entries get to the disk.
    pub fn is_healthy(&self) -> bool {
        self.shared.is_healthy.load(Ordering::Relaxed)
    }

    /// Says that something is wrong which an owner has to look at, in the node's log, and in the partition's (number
    /// and label) if it is about one. `what` is a name for programs, as `store_tampered`; `why` is for people and
    /// says the remedy. Does not wait for the disk.
    pub fn alarm(&self, partition: Option<(u32, &str)>, what: &str, why: &str) {
        let mut alarm = Entry::new(ALARM, what).with("why", why);
        alarm.partition = partition.map(|(_, label)| label.to_owned()).unwrap_or_default();
        if let Some((number, _)) = partition {
            self.note(number, alarm.clone());
        }
        self.note(NODE, alarm);
    }

    /// Writes an event of the daemon's own: `action` succeeded, with details. Does not wait for the disk.
    pub fn event(&self, action: &str, details: &[(&str, &str)]) {
        let entry =
            details.iter().fold(Entry::new(action, SUCCESS), |entry, (name, value)| entry.with(name, value));
        self.note(NODE, entry);
    }

    /// Counts a connection that was refused, or broke the protocol.
    pub fn refused_connection(&self, session: &Session, code: ErrorCode) {
        let (address, certificate) = session.names();
        let subject = subject_of_uid("connect", session.local_uid());
        self.uses_of(Subject { address, certificate, ..subject }).refused(code, None);
    }

    /// Counts a connection that was refused before it was known whose it is.
    pub fn refused_stranger(&self, uid: Option<u32>, address: String, code: ErrorCode) {
        self.uses_of(Subject { address, ..subject_of_uid("connect", uid) }).refused(code, None);
    }

    fn note(&self, log: u32, entry: Entry) {
        let _ =
            self.sender.send(Message::Entry(Box::new(Pending { log, entry, must: Must::Last, done: None })));
    }

    /// Writes an entry and waits until it is on the disk; `false` if it is not.
    async fn write(&self, log: u32, entry: Entry, must: Must) -> bool {
        let (done, written) = oneshot::channel();
        let _ = self.sender.send(Message::Entry(Box::new(Pending { log, entry, must, done: Some(done) })));
        // Without a writer nothing is written.
        written.await.unwrap_or(false)
    }

    /// Writes that a change begins.
    ///
    /// # Errors
    ///
    /// AUDIT_UNAVAILABLE.
    async fn begin(&self, log: u32, mut entry: Entry) -> Result<(), Failure> {
        entry.outcome = BEGUN.to_owned();
        if self.write(log, entry, Must::First).await {
            return Ok(());
        }
        Err(self.unavailable())
    }

    /// Why a change is not begun.
    fn unavailable(&self) -> Failure {
        let message = format!(
            "the audit log in {} cannot be written: nothing was changed; free space on its disk, or repair it (the \
             daemon's log says why), and try again",
            self.directory.display()
        );
        Failure::new(ErrorCode::AuditUnavailable, message)
    }

    fn uses_of(&self, subject: Subject) -> Arc<Uses> {
        self.shared.uses.of(subject)
    }

    /// Whether a log-in of this user id has an entry of its own.
    fn has_own_entry(&self, uid: u32) -> bool {
        let now = Instant::now();
        let mut log_ins = self.log_ins.lock().unwrap_or_else(PoisonError::into_inner);
        log_ins.retain(|_, (since, _)| now.duration_since(*since) < Duration::from_secs(1));
        let (_, count) = log_ins.entry(uid).or_insert((now, 0));
        *count += 1;
        *count <= EACH_OF_ONE
    }

    /// The name of a connection: unique for ever.
    pub(crate) fn connection_name(&self, number: u64) -> String {
        format!("{}-{number}", strongroom_audit::chain::hex(&self.shared.instance))
    }

    /// Signs what a log has, with the sums so far.
    pub async fn checkpoint(&self, log: u32) {
        let (done, signed) = oneshot::channel();
        let _ = self.sender.send(Message::Checkpoint(log, done));
        let _ = signed.await;
    }

    /// A part of a log as it stands in its files. Blocks.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn page(&self, log: u32, start: &Start) -> io::Result<Page> {
        page::read(&self.directory, log, start)
    }

    /// Writes that the daemon stops, signs, ends the writer, and gives sinks a moment for the last entries: what they do not
    /// take they get after the next start.
    pub fn stop(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { writer, sinks }) = threads else { return };
        let (done, _) = oneshot::channel();
        let _ = self.sender.send(Message::Stop(done));
        let _ = writer.join();
        self.shared.bell.stop();
        let until = Instant::now() + LAST;
        while sinks.iter().any(|sink| !sink.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An error's name in entries: the protocol's, in lower case.
fn error_name(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_CODE_").to_ascii_lowercase()
}

/// What is counted for a user id, whatever its connection.
fn subject_of_uid(action: &'static str, uid: Option<u32>) -> Subject {
    Subject {
        log: NODE,
        action,
        partition: String::new(),
        role: String::new(),
        user: String::new(),
        uid,
        pid: None,
        address: String::new(),
        certificate: String::new(),
        program: String::new(),
        connection: String::new(),
        key: String::new(),
        object: String::new(),
        class: String::new(),
        key_type: String::new(),
        each: false,
    }
}
