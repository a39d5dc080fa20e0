//! A node: cores that take what waits, up to eight requests at once.

use std::collections::VecDeque;

use crate::times::{LANES, Times};

/// Numbers a request in the simulation.
pub type RequestId = usize;

/// A node and what waits there.
#[derive(Debug)]
pub struct Node {
    /// Where it stands.
    pub region: usize,
    /// It answers nothing any more.
    pub is_dead: bool,
    cores: usize,
    busy: usize,
    waiting: VecDeque<RequestId>,
    /// Nanoseconds of work, all cores together.
    pub worked_ns: u64,
    /// Requests served.
    pub served: u64,
    batches: u64,
}

impl Node {
    /// A node with so many cores.
    pub fn new(region: usize, cores: usize) -> Self {
        Node {
            region,
            is_dead: false,
            cores,
            busy: 0,
            waiting: VecDeque::new(),
            worked_ns: 0,
            served: 0,
            batches: 0,
        }
    }

    /// A request has arrived.
    pub fn push(&mut self, request: RequestId) {
        self.waiting.push_back(request);
    }

    /// If a core is idle and something waits, the core takes a batch. Returns it with the nanoseconds that it takes.
    pub fn begin(&mut self, times: &Times) -> Option<(Vec<RequestId>, u64)> {
        if self.busy == self.cores || self.waiting.is_empty() {
            return None;
        }
        // Cores that are idle share what waits, as a second signing thread joins only for a whole batch.
        let count = self.waiting.len().min(LANES);
        let batch: Vec<_> = self.waiting.drain(..count).collect();
        let takes = times.of(count);
        self.busy += 1;
        self.batches += 1;
        self.worked_ns += takes;
        Some((batch, takes))
    }

    /// A core has ended a batch of so many.
    pub fn end(&mut self, requests: usize) {
        self.busy -= 1;
        self.served += requests as u64;
    }

    /// The power is cut: what waited here gets no answer, and is returned.
    pub fn die(&mut self) -> Vec<RequestId> {
        self.is_dead = true;
        self.waiting.drain(..).collect()
    }

    /// Requests in a batch, on the average.
    pub fn mean_batch(&self) -> f64 {
        self.served as f64 / self.batches.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cores_take_batches_until_all_are_busy() {
        let us = Duration::from_micros;
        let times = Times { single: us(10), batch: us(20), message: us(0) };
        let mut node = Node::new(0, 2);
        (0..20).for_each(|request| node.push(request));
        assert_eq!(node.begin(&times), Some(((0..8).collect(), 20_000)));
        assert_eq!(node.begin(&times), Some(((8..16).collect(), 20_000)));
        assert_eq!(node.begin(&times), None);
        node.end(8);
        assert_eq!(node.begin(&times), Some(((16..20).collect(), 20_000)));
        assert_eq!((node.begin(&times), node.worked_ns), (None, 60_000));
        assert!(node.die().is_empty());
    }
}
