//! The thread of a sink.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use strongroom_audit::{Entry, SUCCESS};

use super::State;
use super::carrier::{self, Carrier};
use super::feed::{self, Place};
use super::sent::{Places, Sent};
use crate::audit::writer::{Message, Pending};
use crate::audit::{Must, NODE, Shared};

/// How often is looked whether the receiver is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long a sink that failed is left alone: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A sink is said to work when it has worked for so long: some say no only after they were sent something.
const SETTLED: Duration = Duration::from_secs(1);

/// How often what is confirmed is noted on the disk.
const NOTE: Duration = Duration::from_secs(10);

/// The log says at most so often what has become of a sink.
const TELL: Duration = Duration::from_secs(60);

/// For the last entries when the daemon stops.
const LAST: Duration = Duration::from_secs(2);

/// What a sink's log entries are called.
const ACTION: &str = "audit_sink";
const UNAVAILABLE: &str = "unavailable";

/// Starts a thread for each sink.
pub(in crate::audit) fn start(
    directory: &Path,
    shared: &Arc<Shared>,
    sender: &Sender<Message>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let sinks = shared.sinks.iter();
    let threads = sinks.map(|state| {
        let delivery = Delivery::new(directory, Arc::clone(state), Arc::clone(shared), sender.clone());
        std::thread::Builder::new().name("audit sink".to_owned()).spawn(move || delivery.run())
    });
    threads.collect()
}

struct Delivery {
    directory: PathBuf,
    state: Arc<State>,
    shared: Arc<Shared>,
    sender: Sender<Message>,
    carrier: Option<Box<dyn Carrier>>,
    opened: Instant,
    /// What was sent and is not confirmed.
    flight: VecDeque<(Instant, u32, Place)>,
    /// After a failure: when it is tried again, and how long the next pause is.
    again: Instant,
    pause: Duration,
    sent: Sent,
    noted: Places,
    noted_at: Instant,
    /// Whether the log says that it fails, and since when it says what it says.
    told: (bool, Option<Instant>),
}

impl Delivery {
    fn new(directory: &Path, state: Arc<State>, shared: Arc<Shared>, sender: Sender<Message>) -> Self {
        let sent = Sent::of(directory, &state.sink.target);
        let noted = sent.read();
        let mut progress = state.progress();
        progress.confirmed.clone_from(&noted);
        progress.sent.clone_from(&noted);
        progress.error = Some("not connected yet".to_owned());
        drop(progress);
        Delivery {
            directory: directory.to_owned(),
            state,
            shared,
            sender,
            carrier: None,
            opened: Instant::now(),
            flight: VecDeque::new(),
            again: Instant::now(),
            pause: FIRST_PAUSE,
            sent,
            noted,
            noted_at: Instant::now(),
            told: (false, None),
        }
    }

    fn run(mut self) {
        let (mut heard, mut stop) = (0, false);
        loop {
            let until = stop.then(|| Instant::now() + LAST);
            if self.again <= Instant::now()
                && let Err(error) = self.send(until)
            {
                self.failed(&error);
            }
            if stop {
                return self.end();
            }
            self.confirm();
            self.note(NOTE);
            self.tell();
            let pause = self.again.saturating_duration_since(Instant::now());
            (heard, stop) = self.shared.bell.wait(heard, if pause.is_zero() { LOOK } else { pause });
        }
    }

    /// Sends all that there is, until then.
    fn send(&mut self, until: Option<Instant>) -> io::Result<()> {
        let mut carrier = match self.carrier.take() {
            Some(carrier) => carrier,
            None => {
                self.opened = Instant::now();
                carrier::open(&self.state.sink)?
            }
        };
        carrier.check()?;
        let mut more = true;
        while more && until.is_none_or(|until| Instant::now() < until) {
            more = false;
            for (log, end) in self.shared.ends() {
                let place = self.state.progress().sent.get(&log).copied().unwrap_or_default();
                let Some((lines, place)) = feed::read(&self.directory, log, place, end)? else { continue };
                carrier.send(&lines)?;
                self.flight.push_back((Instant::now(), log, place));
                self.state.progress().sent.insert(log, place);
                more = true;
            }
            // Of a log that never ends, too.
            self.carrier = Some(carrier);
            self.confirm();
            self.note(NOTE);
            let Some(kept) = self.carrier.take() else { return Ok(()) };
            carrier = kept;
        }
        self.carrier = Some(carrier);
        if self.opened.elapsed() < SETTLED {
            return Ok(());
        }
        self.pause = FIRST_PAUSE;
        let mut progress = self.state.progress();
        if progress.error.take().is_some() {
            progress.since = Some(SystemTime::now());
            drop(progress);
            tracing::info!(sink = %self.state.sink.target, "the audit log is sent");
        }
        Ok(())
    }

    /// What is not confirmed is sent again, after a pause.
    fn failed(&mut self, error: &io::Error) {
        self.carrier = None;
        self.flight.clear();
        self.again = Instant::now() + self.pause;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        let mut progress = self.state.progress();
        progress.sent = progress.confirmed.clone();
        progress.failures += 1;
        let is_news = progress.failures == 1 || progress.error.is_none();
        progress.error = Some(error.to_string());
        if is_news {
            progress.since = Some(SystemTime::now());
            drop(progress);
            tracing::warn!(
                sink = %self.state.sink.target,
                "the audit log cannot be sent: {error}; it is kept in its files, and sent when that works again"
            );
        }
    }

    /// Takes as received what was sent long enough ago.
    fn confirm(&mut self) {
        let Some(carrier) = &self.carrier else { return };
        let after = carrier.confirmed_after();
        while let Some((_, log, place)) = self.flight.pop_front_if(|(sent, _, _)| sent.elapsed() >= after) {
            self.state.progress().confirmed.insert(log, place);
        }
    }

    /// Notes on the disk what is confirmed, if the last time is so long ago.
    fn note(&mut self, every: Duration) {
        if self.noted_at.elapsed() < every {
            return;
        }
        let confirmed = self.state.progress().confirmed.clone();
        if confirmed == self.noted {
            return;
        }
        self.noted_at = Instant::now();
        match self.sent.write(&confirmed) {
            Ok(()) => self.noted = confirmed,
            // It is sent again after a restart, then.
            Err(error) => tracing::debug!("what was sent of the audit log is not noted: {error}"),
        }
    }

    /// Has the log say what has become of the sink.
    fn tell(&mut self) {
        let (told, at) = self.told;
        let (error, failures) = {
            let progress = self.state.progress();
            (progress.error.clone(), progress.failures)
        };
        let fails = error.is_some() && failures > 0;
        if fails == told || at.is_some_and(|at| at.elapsed() < TELL) {
            return;
        }
        self.told = (fails, Some(Instant::now()));
        let entry = match error {
            Some(error) => Entry::new(ACTION, UNAVAILABLE).with("why", error),
            None => Entry::new(ACTION, SUCCESS),
        };
        let entry = entry.with("sink", &self.state.name).with("address", &self.state.sink.target);
        let pending = Pending { log: NODE, entry, must: Must::Last, done: None };
        let _ = self.sender.send(Message::Entry(Box::new(pending)));
    }

    fn end(mut self) {
        if let Some(mut carrier) = self.carrier.take()
            && carrier.finish()
        {
            let mut progress = self.state.progress();
            progress.confirmed = progress.sent.clone();
        }
        self.note(Duration::ZERO);
    }
}
