//! Moves requests between clients and nodes, event by event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hdrhistogram::Histogram;
use strongroom_token_load::report::histogram;

use crate::client::View;
use crate::node::{Node, RequestId};
use crate::outcome::{Outcome, ms};
use crate::times::{exponential, nanos};
use crate::world::{Load, World};

/// A request is sent to so many nodes at most.
const MOST_ATTEMPTS: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Request {
    process: usize,
    /// When the client wanted it.
    since: u64,
    /// When it was sent to the node that has it now.
    sent: u64,
    node: usize,
    attempts: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client begins a request: this process, or one by chance.
    Ask(Option<usize>),
    Arrive(RequestId),
    /// A core of a node has ended a batch.
    Done(usize, Vec<RequestId>),
    Reply(RequestId),
    /// The client has waited for long enough.
    Patience(RequestId),
    Death,
}

struct Simulation<'a> {
    world: &'a World,
    random: fastrand::Rng,
    now: u64,
    /// Ordered by time, then by the order in which they were planned.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    planned: u64,
    nodes: Vec<Node>,
    views: Vec<View>,
    requests: Vec<Request>,
    free: Vec<RequestId>,
    latency: Histogram<u64>,
    answered: u64,
    far: u64,
    repeated: u64,
    failed: u64,
}

/// Runs it. The same world gives the same outcome.
pub fn run(world: &World) -> Outcome {
    let mut simulation = Simulation::new(world);
    simulation.plan_load();
    if let Some(death) = world.death {
        simulation.plan(nanos(death), Event::Death);
    }
    let end = nanos(world.duration);
    while let Some(Reverse((time, _, event))) = simulation.events.pop() {
        if time > end {
            break;
        }
        simulation.now = time;
        simulation.happen(event);
    }
    simulation.outcome(end)
}

impl<'a> Simulation<'a> {
    fn new(world: &'a World) -> Self {
        let regions = world.regions.max(1);
        Simulation {
            world,
            random: fastrand::Rng::with_seed(world.seed),
            now: 0,
            events: BinaryHeap::new(),
            planned: 0,
            nodes: (0..world.nodes).map(|number| Node::new(number % regions, world.cores)).collect(),
            views: vec![View::new(world.nodes); world.load.processes()],
            requests: Vec::new(),
            free: Vec::new(),
            latency: histogram(),
            answered: 0,
            far: 0,
            repeated: 0,
            failed: 0,
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn plan_load(&mut self) {
        match self.world.load {
            Load::Servers { .. } => self.plan_next(),
            Load::Sessions { sessions, .. } => {
                for session in 0..sessions {
                    let begin = self.random.u64(0..1_000_000);
                    self.plan(begin, Event::Ask(Some(session)));
                }
            }
        }
    }

    /// All servers' handshakes together are again a Poisson process, so one event at a time is enough.
    fn plan_next(&mut self) {
        if let Load::Servers { servers, rate, .. } = self.world.load {
            let wait = exponential(&mut self.random, 1e9 / (rate * servers as f64));
            self.plan(self.now + wait, Event::Ask(None));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask(process) => {
                let process = process.unwrap_or_else(|| {
                    self.plan_next();
                    self.random.usize(0..self.views.len())
                });
                self.ask(process);
            }
            Event::Arrive(request) => self.arrive(request),
            Event::Done(node, batch) => self.done(node, batch),
            Event::Reply(request) => self.reply(request),
            Event::Patience(request) => self.give_up(request),
            Event::Death => {
                let lost = self.nodes.first_mut().map(Node::die).unwrap_or_default();
                lost.into_iter().for_each(|request| self.lose(request));
            }
        }
    }

    fn ask(&mut self, process: usize) {
        let request = Request { process, since: self.now, sent: self.now, node: 0, attempts: 0 };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.requests.push(request);
                self.requests.len() - 1
            }
        };
        if let Some(place) = self.requests.get_mut(id) {
            *place = request;
        }
        self.send(id, None);
    }

    fn send(&mut self, id: RequestId, except: Option<usize>) {
        let (now, rule) = (self.now, self.world.rule);
        let Some(request) = self.requests.get_mut(id) else { return };
        let Some(view) = self.views.get_mut(request.process) else { return };
        let nodes = &self.nodes;
        let answers = |number: usize| nodes.get(number).is_some_and(|node| !node.is_dead);
        let node = view.choose(rule, now, except, answers, &mut self.random);
        view.send(node);
        (request.node, request.sent, request.attempts) = (node, now, request.attempts + 1);
        let way = self.way(id);
        self.plan(now + way, Event::Arrive(id));
    }

    /// One way between a request's client and its node, in nanoseconds.
    fn way(&self, id: RequestId) -> u64 {
        if self.is_far(id) { nanos(self.world.between) / 2 } else { nanos(self.world.within) / 2 }
    }

    fn is_far(&self, id: RequestId) -> bool {
        let Some(request) = self.requests.get(id) else { return false };
        let region = request.process % self.world.regions.max(1);
        self.nodes.get(request.node).is_some_and(|node| node.region != region)
    }

    fn arrive(&mut self, id: RequestId) {
        let Some(number) = self.requests.get(id).map(|request| request.node) else { return };
        match self.nodes.get_mut(number) {
            Some(node) if !node.is_dead => {
                node.push(id);
                self.begin(number);
            }
            _ => self.lose(id),
        }
    }

    fn begin(&mut self, number: usize) {
        let times = self.world.times;
        while let Some((batch, takes)) = self.nodes.get_mut(number).and_then(|node| node.begin(&times)) {
            self.plan(self.now + takes, Event::Done(number, batch));
        }
    }

    fn done(&mut self, number: usize, batch: Vec<RequestId>) {
        let Some(node) = self.nodes.get_mut(number) else { return };
        if node.is_dead {
            batch.into_iter().for_each(|id| self.lose(id));
            return;
        }
        node.end(batch.len());
        for id in batch {
            let way = self.way(id);
            self.plan(self.now + way, Event::Reply(id));
        }
        self.begin(number);
    }

    /// The node that has it will not answer: its client waits until its patience ends.
    fn lose(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        let until = (request.sent + nanos(self.world.patience)).max(self.now);
        self.plan(until, Event::Patience(id));
    }

    fn give_up(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id).copied() else { return };
        if let Some(view) = self.views.get_mut(request.process) {
            view.fail(request.node, self.now);
        }
        if request.attempts == MOST_ATTEMPTS {
            self.failed += 1;
            self.end(id);
        } else {
            self.repeated += 1;
            self.send(id, Some(request.node));
        }
    }

    fn reply(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id).copied() else { return };
        if let Some(view) = self.views.get_mut(request.process) {
            view.answer(request.node, self.now, self.now - request.sent);
        }
        if self.now >= nanos(self.world.warm_up) {
            self.latency.saturating_record((self.now - request.since).max(1));
            self.answered += 1;
            self.far += u64::from(self.is_far(id));
        }
        self.end(id);
    }

    fn end(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        if let Load::Sessions { pause, .. } = self.world.load {
            let process = request.process;
            self.plan(self.now + nanos(pause), Event::Ask(Some(process)));
        }
        self.free.push(id);
    }

    fn outcome(&self, end: u64) -> Outcome {
        let counted = end.saturating_sub(nanos(self.world.warm_up)).max(1) as f64 / 1e9;
        let alive: Vec<&Node> = self.nodes.iter().filter(|node| !node.is_dead).collect();
        let work = |node: &Node| node.worked_ns as f64 / (self.world.cores.max(1) as f64 * end.max(1) as f64);
        let mean = alive.iter().map(|node| work(node)).sum::<f64>() / alive.len().max(1) as f64;
        let most = alive.iter().map(|node| work(node)).fold(0.0, f64::max);
        let batches = alive.iter().map(|node| node.mean_batch()).sum::<f64>() / alive.len().max(1) as f64;
        Outcome {
            rate_per_s: self.answered as f64 / counted,
            mean_ms: self.latency.mean() / 1e6,
            p50_ms: ms(&self.latency, 0.5),
            p99_ms: ms(&self.latency, 0.99),
            p999_ms: ms(&self.latency, 0.999),
            utilisation: mean,
            busiest: most / mean.max(1e-9),
            mean_batch: batches,
            far: self.far as f64 / self.answered.max(1) as f64,
            repeated: self.repeated,
            failed: self.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Rule;
    use crate::times::Times;

    const US: fn(u64) -> Duration = Duration::from_micros;

    /// One core, on which a request costs a millisecond, and nothing is cheaper together.
    fn world(rate: f64) -> World {
        World {
            nodes: 1,
            cores: 1,
            regions: 1,
            within: US(200),
            between: US(20_000),
            times: Times { single: US(900), batch: US(7_200), message: US(100) },
            rule: Rule::Near,
            patience: Duration::from_millis(400),
            load: Load::Servers { servers: 10, workers: 2, rate: rate / 10.0 },
            duration: Duration::from_secs(40),
            warm_up: Duration::from_secs(4),
            death: None,
            seed: 7,
        }
    }

    #[test]
    fn an_idle_node_takes_the_way_and_the_work() {
        let outcome = run(&World { cores: 64, ..world(5.0) });
        assert!((1.19..1.21).contains(&outcome.p50_ms) && outcome.p999_ms < 1.21, "{outcome:?}");
    }

    #[test]
    fn waiting_is_what_queueing_theory_says() {
        // M/D/1: the mean wait is rho / (2 (1 - rho)) services.
        let outcome = run(&world(300.0));
        let waits = outcome.mean_ms - 0.2 - 1.0;
        let theory = 0.3 / (2.0 * 0.7);
        assert!((0.75..1.4).contains(&(waits / theory)), "{waits} ms, {theory} ms by theory");
        assert!((0.29..0.31).contains(&outcome.utilisation), "{outcome:?}");
    }

    #[test]
    fn full_batches_are_the_most_that_a_node_serves() {
        let times = Times { single: US(900), batch: US(1_500), message: US(100) };
        let load = Load::Sessions { sessions: 32, pause: Duration::ZERO };
        let outcome = run(&World { times, load, ..world(1.0) });
        let most = times.most_per_core();
        assert!((0.99..1.01).contains(&(outcome.rate_per_s / most)), "{outcome:?}, {most}");
        assert!(outcome.mean_batch > 7.9 && outcome.failed == 0, "{outcome:?}");
    }

    #[test]
    fn the_others_answer_when_one_dies() {
        let world = World { nodes: 3, death: Some(Duration::from_secs(20)), ..world(900.0) };
        let outcome = run(&world);
        assert!(outcome.repeated > 0 && outcome.failed == 0, "{outcome:?}");
        assert!((850.0..950.0).contains(&outcome.rate_per_s), "{outcome:?}");
        assert_eq!(outcome, run(&world), "the same seed");
    }

    #[test]
    fn clients_stay_in_their_region_and_share_its_nodes() {
        let servers = Load::Servers { servers: 100, workers: 2, rate: 10.0 };
        let world = World { nodes: 12, regions: 3, load: servers, between: US(30_000), ..world(1.0) };
        let near = run(&world);
        let soonest = run(&World { rule: Rule::Soonest, ..world });
        assert!(near.far < 0.1 && near.far < soonest.far, "{near:?} {soonest:?}");
        assert!(near.busiest < 1.2 && near.busiest < soonest.busiest, "{near:?} {soonest:?}");
    }
}
