//! Decides when connections start: when another is done (closed loop), or on time (open loop).

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc};

use crate::connection::Endpoint;
use crate::failure::{Failure, Kind};
use crate::plan::{Limit, Pace, Plan, SetupError};
use crate::record::{Progress, Recorder};
use crate::report::Report;

/// How long a connection of a closed loop rests after a failure. A server that refuses does so in
/// microseconds, and the load would turn into a contest for the processor.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(10);
/// How often progress is told.
const TELL_PROGRESS: Duration = Duration::from_millis(250);
/// Sessions obtained before an open loop starts, at most. It seldom has more connections in flight.
const OPEN_LOOP_SESSIONS: u32 = 256;

/// Runs the load in a runtime of its own: on this thread, or on as many as the plan says.
///
/// # Errors
///
/// See [`run`].
pub fn launch(
    plan: Plan,
    stop: impl Future<Output = ()>,
    watch: impl FnMut(Progress),
) -> Result<Report, SetupError> {
    let mut builder = match plan.threads {
        // Nothing is handed from thread to thread: the cheapest for a client that shares its processor.
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()?.block_on(run(plan, stop, watch))
}

/// Runs the load until its limit is reached, or `stop` resolves, and reports. `watch` hears of the progress a
/// few times a second.
///
/// # Errors
///
/// [`SetupError::NoSession`] if sessions are to be resumed and the server gives none;
/// [`SetupError::Runtime`] if no timer can be made. Connections that fail are no error: the report has them.
pub async fn run(
    plan: Plan,
    stop: impl Future<Output = ()>,
    mut watch: impl FnMut(Progress),
) -> Result<Report, SetupError> {
    let plan = Arc::new(plan);
    let (outstanding, all_done) = Outstanding::new();
    prime(&plan, &outstanding).await?;
    let alarm = Alarm::new()?;
    warm_up(&plan);
    let load = Arc::new(Load {
        recorder: Recorder::start(plan.interval),
        limit: plan.limit,
        claimed: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        stopping: tokio::sync::Notify::new(),
        plan: Arc::clone(&plan),
    });

    {
        let mut tick = tokio::time::interval(TELL_PROGRESS);
        let mut visits = std::pin::pin!(async {
            match plan.pace {
                Pace::Closed { concurrency } => closed(&load, concurrency, &outstanding).await,
                Pace::Open { rate, in_flight } => open(&load, rate, in_flight, &alarm, &outstanding).await,
            }
        });
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut visits => break,
                () = &mut stop, if !load.stopped() => load.stop(),
                _ = tick.tick() => watch(load.recorder.progress()),
            }
        }
    }
    let report = load.recorder.finish(&plan);
    all_done.wait(outstanding).await;
    Ok(report)
}

/// Draws the first random number. aws-lc gathers its entropy then, which takes 30 ms: not a latency of the
/// server's.
fn warm_up(plan: &Plan) {
    // If there is no randomness, the first handshake says so.
    let _ = plan.endpoint.tls.crypto_provider().secure_random.fill(&mut [0; 32]);
}

/// Obtains the sessions that the first connections resume.
async fn prime(plan: &Plan, outstanding: &Outstanding) -> Result<(), SetupError> {
    let Some(sessions) = &plan.endpoint.sessions else { return Ok(()) };
    let wanted = match plan.pace {
        Pace::Closed { concurrency } => concurrency,
        Pace::Open { in_flight, .. } => in_flight.min(OPEN_LOOP_SESSIONS),
    };
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    while sessions.available() < wanted {
        let before = sessions.available();
        // A server that cannot be reached is what the load itself will report.
        if plan.endpoint.prime(outstanding).await.is_err() {
            break;
        }
        if sessions.available() == before {
            return Err(SetupError::NoSession);
        }
    }
    sessions.hand_out();
    Ok(())
}

/// The state that the connections of a run share.
struct Load {
    plan: Arc<Plan>,
    recorder: Recorder,
    limit: Limit,
    claimed: AtomicU64,
    stopped: AtomicBool,
    stopping: tokio::sync::Notify,
}

impl Load {
    fn endpoint(&self) -> &Endpoint {
        &self.plan.endpoint
    }

    /// When no more connections are started.
    fn deadline(&self) -> Option<Instant> {
        self.limit.duration.and_then(|duration| self.recorder.started().checked_add(duration))
    }

    /// Takes one connection off the count. False when the run is over for one due at `due`.
    fn claim(&self, due: Instant) -> bool {
        !self.stopped()
            && self.deadline().is_none_or(|deadline| due < deadline)
            && self.limit.count.is_none_or(|count| self.claimed.fetch_add(1, Ordering::Relaxed) < count)
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Kept for the open loop if that is not waiting just now. Nobody else waits.
        self.stopping.notify_one();
    }

    /// Makes one connection and tells whether it was good.
    async fn visit(&self, due: Instant, outstanding: &Outstanding) -> bool {
        let good = self.endpoint().visit(due, &self.recorder, outstanding).await;
        if !good {
            self.bear();
        }
        good
    }

    /// Stops if there were too many errors.
    fn bear(&self) {
        if self.limit.errors.is_some_and(|most| self.recorder.errors() >= most) {
            self.stop();
        }
    }
}

async fn closed(load: &Arc<Load>, concurrency: u32, outstanding: &Outstanding) {
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let load = Arc::clone(load);
        let outstanding = outstanding.clone();
        workers.spawn(async move {
            loop {
                let now = Instant::now();
                if !load.claim(now) {
                    break;
                }
                if !load.visit(now, &outstanding).await {
                    tokio::time::sleep(REST_AFTER_FAILURE).await;
                }
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

async fn open(load: &Arc<Load>, rate: f64, in_flight: u32, alarm: &Alarm, outstanding: &Outstanding) {
    let permits = usize::try_from(in_flight).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let gate = Arc::new(Semaphore::new(permits));
    let (visits, all_done) = Outstanding::new();
    for arrival in 0_u64.. {
        let due = load.recorder.started() + after(arrival, rate);
        if !load.claim(due) {
            break;
        }
        tokio::select! {
            () = alarm.at(due) => {}
            () = load.stopping.notified() => break,
        }
        let (load, gate, outstanding) = (Arc::clone(load), Arc::clone(&gate), outstanding.clone());
        visits.spawn(async move {
            let deadline = tokio::time::Instant::from_std(due + load.endpoint().timeout);
            // The wait for a free connection is part of the latency, and of the time that it has.
            match tokio::time::timeout_at(deadline, gate.acquire()).await {
                Ok(_permit) => drop(load.visit(due, &outstanding).await),
                Err(_) => {
                    load.recorder.failure(Failure {
                        kind: Kind::Timeout,
                        message: format!("all {in_flight} connections were in use until --timeout"),
                    });
                    load.bear();
                }
            }
        });
    }
    // The rate is that of the whole time asked for, not of the time until the last arrival.
    if let Some(deadline) = load.deadline().filter(|_| !load.stopped() && load.limit.count.is_none()) {
        tokio::select! {
            () = alarm.at(deadline) => {}
            () = load.stopping.notified() => {}
        }
    }
    all_done.wait(visits).await;
}

/// When the arrival with this number is due.
#[allow(clippy::cast_precision_loss)] // off by a microsecond after a century
fn after(arrival: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(arrival as f64 / rate).unwrap_or(Duration::MAX)
}

/// Tasks that must end before the run does.
#[derive(Clone, Debug)]
pub struct Outstanding(mpsc::Sender<()>);

/// Waits for the tasks of an [`Outstanding`].
#[derive(Debug)]
pub struct AllDone(mpsc::Receiver<()>);

impl Outstanding {
    /// No tasks yet.
    pub fn new() -> (Self, AllDone) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), AllDone(receiver))
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alive = self.0.clone();
        tokio::spawn(async move {
            task.await;
            drop(alive);
        });
    }
}

impl AllDone {
    /// Waits until every task has ended. `last` is the handle that would start more.
    pub async fn wait(mut self, last: Outstanding) {
        drop(last);
        // Nothing is ever sent: this ends when the last sender is dropped.
        while self.0.recv().await.is_some() {}
    }
}

/// A timer that is exact to some microseconds. tokio's counts in milliseconds, which would add half a
/// millisecond to the latency of every arrival.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    // Its successor `register` is unsafe, because a caller's type might not own its descriptor. OwnedFd does.
    #[allow(deprecated)]
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    /// Waits until `due`.
    async fn at(&self, due: Instant) {
        loop {
            let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) else {
                // Behind time: start this one now, but let the others run in between.
                return tokio::task::yield_now().await;
            };
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }),
            };
            let set = rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once);
            if set.is_err() {
                return tokio::time::sleep_until(due.into()).await;
            }
            let Ok(mut ready) = self.0.readable().await else { return };
            let mut expirations = [0; 8];
            if rustix::io::read(self.0.get_ref(), &mut expirations).is_err() {
                // Readiness from an alarm that was set again.
                ready.clear_ready();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced() {
        assert_eq!(after(0, 50.0), Duration::ZERO);
        assert_eq!(after(100, 50.0), Duration::from_secs(2));
        assert_eq!(after(1, 0.1), Duration::from_secs(10));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn alarm_is_never_early() {
        let alarm = Alarm::new().unwrap();
        for wait in [0, 100, 3000, 1] {
            let due = Instant::now() + Duration::from_micros(wait);
            alarm.at(due).await;
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_done_waits_for_tasks_of_tasks() {
        let (outstanding, all_done) = Outstanding::new();
        let finished = Arc::new(AtomicU64::new(0));
        for _ in 0..10 {
            let (inner, finished) = (outstanding.clone(), Arc::clone(&finished));
            outstanding.spawn(async move {
                tokio::task::yield_now().await;
                inner.spawn(async move {
                    let _ = finished.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        all_done.wait(outstanding).await;
        assert_eq!(finished.load(Ordering::Relaxed), 10);
    }
}
