//! The trial of a node that was out: a connection that one call begins and later ones look at. None of them waits for it, and a
//! node that hangs or is away costs nobody anything.

use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

use strongroom_protocol::client::{Approach, Connection, Deadlines, Sight};
use strongroom_protocol::node::Node;

use crate::descriptors::Registration;
use crate::pool::Pool;

/// A node that has not answered for so long, in milliseconds, is out for longer.
const PATIENCE: u64 = 10_000;

/// The trial of one node, if one is under way.
#[derive(Debug, Default)]
pub struct Trial {
    under_way: Mutex<Option<UnderWay>>,
    /// How many have begun: each goes to the next of the addresses that the node's name has.
    begun: AtomicUsize,
}

#[derive(Debug)]
struct UnderWay {
    visit: Visit,
    /// When it began, and when it was looked at last, in milliseconds.
    begun: u64,
    looked: u64,
}

/// What a call finds.
#[derive(Debug)]
pub enum Found {
    /// Nothing yet, or another call is looking.
    Nothing,
    /// The node answers.
    There(Visit),
    /// It does not.
    Gone,
    /// This process has no descriptor left to try it.
    Scarce,
}

/// The connection of a trial.
#[derive(Debug)]
pub struct Visit {
    /// Taken by the drop.
    registration: Option<Registration>,
    approach: ManuallyDrop<Approach>,
}

impl Trial {
    /// Looks at the trial, or begins one. `moment` is in milliseconds.
    pub fn look(&self, node: &Node, pool: &'static Pool, client: &str, moment: u64) -> Found {
        let mut place = match self.under_way.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Found::Nothing,
        };
        let Some(under_way) = place.as_mut() else {
            let turn = self.begun.fetch_add(1, Ordering::Relaxed);
            return match Visit::begin(node, turn, pool, client) {
                Ok(visit) => {
                    *place = visit.map(|visit| UnderWay { visit, begun: moment, looked: moment });
                    if place.is_some() { Found::Nothing } else { Found::Scarce }
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    Found::Scarce
                }
                Err(_) => Found::Gone,
            };
        };
        // Once in a millisecond will do.
        if under_way.looked == moment {
            return Found::Nothing;
        }
        under_way.looked = moment;
        match under_way.visit.look() {
            Sight::Nothing if moment.saturating_sub(under_way.begun) <= PATIENCE => Found::Nothing,
            Sight::There => place.take().map_or(Found::Nothing, |under_way| Found::There(under_way.visit)),
            Sight::Nothing | Sight::Gone => {
                *place = None;
                Found::Gone
            }
        }
    }

    /// Ends it: its descriptor is wanted elsewhere, or the application has done.
    pub fn end(&self) {
        let ended = match self.under_way.try_lock() {
            Ok(mut place) => place.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // A call is looking at it, and waits for nothing.
            Err(TryLockError::WouldBlock) => None,
        };
        drop(ended);
    }
}

impl Visit {
    /// `None` if its descriptor cannot be remembered, for children to close.
    fn begin(node: &Node, turn: usize, pool: &'static Pool, client: &str) -> std::io::Result<Option<Self>> {
        let approach = Approach::begin(node, turn, client)?;
        Ok(pool.register(approach.as_fd()).map(|registration| Visit {
            registration: Some(registration),
            approach: ManuallyDrop::new(approach),
        }))
    }

    fn look(&mut self) -> Sight {
        if self.is_ours() { self.approach.look() } else { Sight::Gone }
    }

    /// Not if the application has closed descriptors that are not its own.
    fn is_ours(&self) -> bool {
        // Without a registration the approach was taken.
        self.registration.as_ref().is_some_and(|registration| registration.is_still(self.approach.as_fd()))
    }

    /// Makes it a connection. `None` if there is no good in it: the application has closed it, or the node has, or has ended since
    /// it answered.
    pub fn finish(mut self, node: &Node, client: &str, deadlines: Deadlines) -> Option<Connection> {
        if !self.is_ours() {
            return None;
        }
        drop(self.registration.take());
        // SAFETY: taken once: without a registration the drop leaves it alone, and the value is not used again.
        let approach = unsafe { ManuallyDrop::take(&mut self.approach) };
        approach.finish(node, client, deadlines).ok().filter(Connection::is_open)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let is_ours = self.is_ours();
        let registration = self.registration.take();
        if is_ours {
            // First the number is forgotten, then closed: it may become another file's.
            drop(registration);
            // SAFETY: here only, of one that has not been taken, and the value is not used again.
            unsafe { ManuallyDrop::drop(&mut self.approach) };
        }
    }
}
