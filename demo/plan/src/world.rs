//! Where nodes and clients stand, and who asks how often.

use std::time::Duration;

use crate::client::Rule;
use crate::times::Times;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct World {
    /// Nodes, spread evenly over the regions.
    pub nodes: usize,
    /// Cores of each node.
    pub cores: usize,
    /// Regions, with as many clients each.
    pub regions: usize,
    /// The way to a node and back, in one region.
    pub within: Duration,
    /// The way to a node and back, in another region.
    pub between: Duration,
    /// What a request costs a node.
    pub times: Times,
    /// How a client chooses its node.
    pub rule: Rule,
    /// A client's request goes to another node when it has waited for so long.
    pub patience: Duration,
    /// Who asks.
    pub load: Load,
    /// How long the simulation runs, and how much of its beginning does not count.
    pub duration: Duration,
    /// Not counted.
    pub warm_up: Duration,
    /// Node 0 dies at this time.
    pub death: Option<Duration>,
    /// For the random numbers.
    pub seed: u64,
}

/// Who asks how often.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Web servers with worker processes. Handshakes come by chance and independently (a Poisson process).
    Servers {
        /// How many
        servers: usize,
        /// Worker processes of each; each has its own view of the nodes
        workers: usize,
        /// Handshakes a second of one server
        rate: f64,
    },
    /// A load generator: sessions that ask, wait for the reply, and rest.
    Sessions {
        /// How many
        sessions: usize,
        /// Rest after each reply
        pause: Duration,
    },
}

impl Load {
    /// Processes that ask.
    pub fn processes(&self) -> usize {
        match *self {
            Load::Servers { servers, workers, .. } => servers * workers,
            Load::Sessions { sessions, .. } => sessions,
        }
    }
}
