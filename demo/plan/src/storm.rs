//! After a power cut: all workers connect at once and log in.
//!
//! A node works on handshakes and log-ins in the order in which they came, with all its cores. What nobody waits for any
//! more is dropped when its turn comes, as strongroomd does; a node that works for nobody makes a storm that does not end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

use serde::Serialize;

use crate::options::Storm;
use crate::times::nanos;

/// No storm is watched for longer.
const LONGEST_NS: u64 = 600_000_000_000;

/// One number of nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calm {
    /// Nodes.
    pub nodes: u32,
    /// Until half of the workers were ready, in seconds after the power came back.
    pub half_s: f64,
    /// Until 99 of 100 were.
    pub most_s: f64,
    /// Until all were, if that was within ten minutes.
    pub all_s: Option<f64>,
    /// Attempts that were given up.
    pub given_up: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    LogIn,
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Worker {
    step: Step,
    node: usize,
    /// Counts the attempts: what belongs to an earlier one is void.
    attempt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    worker: usize,
    attempt: u32,
    takes: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin(usize),
    Done(usize, Job),
    GiveUp(Job),
}

#[derive(Debug, Default)]
struct Queue {
    busy: u32,
    waiting: VecDeque<Job>,
}

struct Weather<'a> {
    storm: &'a Storm,
    now: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    queues: Vec<Queue>,
    workers: Vec<Worker>,
    ready: Vec<u64>,
    given_up: u64,
}

/// Simulates the storm on each number of nodes.
pub fn run(storm: &Storm, seed: u64) -> Vec<Calm> {
    storm.nodes.iter().map(|nodes| on(storm, *nodes, seed)).collect()
}

fn on(storm: &Storm, nodes: u32, seed: u64) -> Calm {
    let mut random = fastrand::Rng::with_seed(seed);
    let workers = (0..storm.workers)
        .map(|_| Worker { step: Step::Connect, node: random.usize(0..nodes as usize), attempt: 0 })
        .collect();
    let mut weather = Weather {
        storm,
        now: 0,
        events: BinaryHeap::new(),
        queues: (0..nodes).map(|_| Queue::default()).collect(),
        workers,
        ready: Vec::new(),
        given_up: 0,
    };
    for worker in 0..storm.workers as usize {
        let at = random.u64(0..=nanos(storm.within));
        weather.events.push(Reverse((at, Event::Begin(worker))));
    }
    while let Some(Reverse((time, event))) = weather.events.pop() {
        if time > LONGEST_NS || weather.ready.len() == weather.workers.len() {
            break;
        }
        weather.now = time;
        match event {
            Event::Begin(worker) => weather.enter(worker),
            Event::Done(node, job) => weather.done(node, job),
            Event::GiveUp(job) => weather.give_up(job),
        }
    }
    weather.calm(nodes)
}

impl Weather<'_> {
    /// A worker begins the step at which it is.
    fn enter(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.attempt += 1;
        let (takes, patience) = match worker.step {
            Step::Connect => (nanos(self.storm.handshake), nanos(self.storm.patience)),
            Step::LogIn => (nanos(self.storm.log_in), nanos(self.storm.log_in_patience)),
            Step::Ready => return self.ready.push(self.now),
        };
        let job = Job { worker: number, attempt: worker.attempt, takes };
        let node = worker.node;
        self.events.push(Reverse((self.now + patience, Event::GiveUp(job))));
        if let Some(queue) = self.queues.get_mut(node) {
            queue.waiting.push_back(job);
        }
        self.work(node);
    }

    fn work(&mut self, node: usize) {
        let Some(queue) = self.queues.get_mut(node) else { return };
        while queue.busy < self.storm.cores
            && let Some(job) = queue.waiting.pop_front()
        {
            let is_awaited = self.workers.get(job.worker).is_some_and(|worker| worker.attempt == job.attempt);
            if !is_awaited && !self.storm.work_for_nobody {
                continue;
            }
            queue.busy += 1;
            self.events.push(Reverse((self.now + job.takes, Event::Done(node, job))));
        }
    }

    fn done(&mut self, node: usize, job: Job) {
        if let Some(queue) = self.queues.get_mut(node) {
            queue.busy -= 1;
        }
        if let Some(worker) = self.workers.get_mut(job.worker)
            && worker.attempt == job.attempt
        {
            worker.step = if worker.step == Step::Connect { Step::LogIn } else { Step::Ready };
            self.enter(job.worker);
        }
        self.work(node);
    }

    /// Its worker goes to the next node and begins anew, unless it was served meanwhile.
    fn give_up(&mut self, job: Job) {
        let nodes = self.queues.len();
        let Some(worker) = self.workers.get_mut(job.worker) else { return };
        if worker.attempt != job.attempt || worker.step == Step::Ready {
            return;
        }
        self.given_up += 1;
        (worker.step, worker.node) = (Step::Connect, (worker.node + 1) % nodes.max(1));
        self.enter(job.worker);
    }

    fn calm(&self, nodes: u32) -> Calm {
        let all = self.workers.len();
        let when = |count: usize| self.ready.get(count.saturating_sub(1)).map(|time| *time as f64 / 1e9);
        let never = LONGEST_NS as f64 / 1e9;
        Calm {
            nodes,
            half_s: when(all.div_ceil(2)).unwrap_or(never),
            most_s: when((all * 99).div_ceil(100)).unwrap_or(never),
            all_s: when(all),
            given_up: self.given_up,
        }
    }
}

/// As a table in Markdown.
pub fn table(storm: &Storm, rows: &[Calm]) -> String {
    let mut text = format!(
        "{} workers connect within {}; a handshake takes a node {}, a log-in {}; nodes with {} cores.\n\n\
         | nodes | half ready, s | 99% ready, s | all ready, s | given up |\n|---:|---:|---:|---:|---:|\n",
        storm.workers,
        humantime::format_duration(storm.within),
        humantime::format_duration(storm.handshake),
        humantime::format_duration(storm.log_in),
        storm.cores,
    );
    for row in rows {
        let all = row.all_s.map_or("never".to_owned(), |time| format!("{time:.2}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {all} | {} |",
            row.nodes, row.half_s, row.most_s, row.given_up
        );
    }
    text
}

#[cfg(test)]
mod tests {

    use clap::Parser as _;

    use super::*;
    use crate::options::{Command, Options};

    fn storm(line: &str) -> Storm {
        match Options::try_parse_from(["x", "storm"].into_iter().chain(line.split(' '))).unwrap().command {
            Command::Storm(storm) => storm,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_work_takes_its_time() {
        // 400 log-ins of 20 ms on four cores: two seconds, and nobody has to wait for so long that he gives up.
        let calm = run(&storm("--workers 400 --nodes 1 --cores 4 --handshake 0s --within 0s"), 1);
        let [calm] = &*calm else { panic!("{calm:?}") };
        assert!((1.99..2.01).contains(&calm.all_s.unwrap()) && calm.given_up == 0, "{calm:?}");
        assert!((0.99..1.01).contains(&calm.half_s), "{calm:?}");
    }

    #[test]
    fn a_node_that_works_for_nobody_does_not_get_calm() {
        let storm = storm("--workers 4000 --nodes 1 --cores 2");
        let stubborn = Storm { work_for_nobody: true, ..storm.clone() };
        let (calm, stubborn) = (run(&storm, 1), run(&stubborn, 1));
        // 82 s of work on two cores.
        assert!((41.0..50.0).contains(&calm[0].most_s) && calm[0].given_up > 0, "{calm:?}");
        assert_eq!(stubborn[0].all_s, None);
    }
}
