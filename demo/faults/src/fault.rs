//! What can befall a cluster.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Node};
use crate::link::Direction;

/// A fault. All befall one node, chosen at random, unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing, for comparison
    None,
    /// strongroomd is killed with SIGKILL, and started again two seconds later
    Kill,
    /// strongroomd hangs (SIGSTOP)
    Stop,
    /// The host's member of etcd hangs
    StopEtcd,
    /// The host's cable is cut
    Cut,
    /// Nothing reaches the host any more; what it sends goes out
    CutIn,
    /// Nothing goes out from the host any more; what is sent to it comes in
    CutOut,
    /// Each frame to and from the host takes 200 ms more, and one in 20 is lost
    Slow,
    /// The host's disk is full
    FullDisk,
    /// All hosts are restarted one by one: strongroomd and etcd
    Rolling,
    /// On two of the three hosts all is killed
    TwoLost,
}

/// How long the network's delay is in each direction, and how many frames of a thousand are lost.
const SLOW: (Duration, u32) = (Duration::from_millis(200), 50);

impl Fault {
    /// All of them.
    pub fn all() -> Vec<Fault> {
        Fault::value_variants().to_vec()
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Fault::None => "none, for comparison",
            Fault::Kill => "`kill -9` of a node",
            Fault::Stop => "a node hangs (SIGSTOP)",
            Fault::StopEtcd => "a member of etcd hangs (SIGSTOP)",
            Fault::Cut => "a host's link is cut",
            Fault::CutIn => "cut, only to the host",
            Fault::CutOut => "cut, only from the host",
            Fault::Slow => "200 ms and 5 % loss on a link, each way",
            Fault::FullDisk => "a host's disk is full",
            Fault::Rolling => "all hosts restarted one by one",
            Fault::TwoLost => "two of three hosts lost",
        }
    }

    /// For how long it lasts unless told otherwise.
    pub fn usual_time(self) -> Duration {
        Duration::from_secs(match self {
            Fault::Kill => 2,
            Fault::Stop => 30,
            Fault::None | Fault::StopEtcd | Fault::Cut | Fault::CutIn | Fault::CutOut => 10,
            Fault::Slow | Fault::FullDisk | Fault::TwoLost => 10,
            // Between one host and the next.
            Fault::Rolling => 1,
        })
    }

    /// Lets it befall the cluster for `time`, and takes it back. What does not come back by itself is started by
    /// [`Cluster::make_whole`].
    ///
    /// # Errors
    ///
    /// When the fault cannot be made: something that should run does not.
    pub fn befall(self, cluster: &mut Cluster, time: Duration, random: &mut fastrand::Rng) -> Result<()> {
        let number = random.usize(0..cluster.nodes.len());
        if self == Fault::Rolling {
            return rolling(cluster, time);
        }
        if self == Fault::TwoLost {
            return two_lost(cluster, number, time);
        }
        let node = cluster.nodes.get_mut(number).context("no node")?;
        match self {
            Fault::None | Fault::Rolling | Fault::TwoLost => thread::sleep(time),
            Fault::Kill => {
                node.daemon.kill();
                thread::sleep(time);
                // If it does not come back at once, it is looked after later.
                let _ = node.daemon.start_again();
            }
            Fault::Stop => {
                node.signal(Signal::STOP)?;
                thread::sleep(time);
                node.signal(Signal::CONT)?;
            }
            Fault::StopEtcd => {
                let member = node.member.process().context("etcd does not run")?;
                member.signal(Signal::STOP)?;
                thread::sleep(time);
                member.signal(Signal::CONT)?;
            }
            Fault::Cut => cut(node, Direction::Both, time),
            Fault::CutIn => cut(node, Direction::In, time),
            Fault::CutOut => cut(node, Direction::Out, time),
            Fault::Slow => {
                node.link.impair(SLOW.0, SLOW.1);
                thread::sleep(time);
                node.link.heal();
            }
            Fault::FullDisk => {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    // What is freed is filled again.
                    node.fill_disk()?;
                    thread::sleep(Duration::from_millis(200));
                }
                node.empty_disk()?;
            }
        }
        Ok(())
    }
}

fn cut(node: &Node, direction: Direction, time: Duration) {
    node.link.cut(direction);
    thread::sleep(time);
    node.link.heal();
}

fn rolling(cluster: &mut Cluster, pause: Duration) -> Result<()> {
    for number in 0..cluster.nodes.len() {
        if let Some(node) = cluster.nodes.get_mut(number) {
            node.daemon.stop();
            node.member.stop();
        }
        // An administrator goes on when the last one is back.
        cluster.make_whole()?;
        thread::sleep(pause);
    }
    Ok(())
}

/// All but one.
fn two_lost(cluster: &mut Cluster, remains: usize, time: Duration) -> Result<()> {
    for (_, node) in cluster.nodes.iter_mut().enumerate().filter(|(number, _)| *number != remains) {
        node.daemon.kill();
        node.member.kill();
    }
    thread::sleep(time);
    // Both members, before a node asks a majority of them.
    cluster.nodes.iter_mut().try_for_each(|node| node.member.start_again())
}
