//! The descriptors that a process has open, for its children: they close their copies without the parent's locks.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::sockopt;

/// Their numbers, readable by a child without a lock.
#[derive(Debug)]
pub struct Descriptors {
    /// Not on the stack: some applications have little of it.
    slots: Box<[Descriptor]>,
}

#[derive(Debug)]
struct Descriptor {
    /// [`FREE`], [`TAKEN`] (its number is not known yet), or the number.
    number: AtomicI32,
    /// See [`identity`].
    identity: AtomicU64,
}

const FREE: RawFd = -1;
const TAKEN: RawFd = -2;

/// An entry of [`Descriptors`]; forgotten when it is dropped.
#[derive(Debug)]
pub struct Registration(&'static Descriptor);

impl Descriptors {
    /// With room for this many.
    pub fn new(limit: usize) -> Self {
        let free = |_| Descriptor { number: AtomicI32::new(FREE), identity: AtomicU64::new(0) };
        Descriptors { slots: (0..limit).map(free).collect() }
    }

    /// Remembers a descriptor. `None` if it cannot be told from others later.
    pub fn register(&'static self, descriptor: BorrowedFd<'_>) -> Option<Registration> {
        let identity = identity(descriptor)?;
        for slot in &*self.slots {
            if slot.number.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                slot.identity.store(identity, Ordering::Release);
                slot.number.store(descriptor.as_raw_fd(), Ordering::Release);
                return Some(Registration(slot));
            }
        }
        None
    }

    /// Closes this process's copies of what another process, which forked this one, had open. Takes no lock: a
    /// thread of the other process may have held it at the fork.
    pub fn close_inherited(&self) {
        for slot in &*self.slots {
            let number = slot.number.swap(FREE, Ordering::AcqRel);
            if number < 0 {
                continue;
            }
            // SAFETY: only asks about the number; if it is no open descriptor, the kernel says so.
            let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
            if identity(borrowed) == Some(slot.identity.load(Ordering::Acquire)) {
                // SAFETY: this process's copy of our socket, whose owner (a Connection in the abandoned state)
                // is never used or dropped in this process.
                unsafe { libc::close(number) };
            }
        }
    }
}

/// Tells whether a number is still the same file: what the kernel calls this socket, uniquely since the machine's
/// start. Some kernels and sandboxes do not say; there it is the socket's inode. All bells (eventfds) have one inode;
/// they have numbers of their own.
fn identity(descriptor: BorrowedFd<'_>) -> Option<u64> {
    match sockopt::socket_cookie(descriptor) {
        Ok(cookie) => Some(cookie),
        Err(Errno::BADF) => None,
        Err(Errno::NOTSOCK) => {
            let told =
                std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
            let number = told.lines().find_map(|line| line.strip_prefix("eventfd-id:"))?;
            number.trim().parse().ok()
        }
        Err(_) => rustix::fs::fstat(descriptor).ok().map(|stat| stat.st_dev.rotate_left(32) ^ stat.st_ino),
    }
}

impl Registration {
    /// Whether the descriptor is the file that was registered.
    pub fn is_still(&self, descriptor: BorrowedFd<'_>) -> bool {
        identity(descriptor) == Some(self.0.identity.load(Ordering::Acquire))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.number.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn only_our_own_sockets_are_closed_in_a_child() {
        let descriptors: &'static Descriptors = Box::leak(Box::new(Descriptors::new(8)));
        let (ours, _peer) = UnixStream::pair().unwrap();
        let (replaced, _peer) = UnixStream::pair().unwrap();
        let (other, _peer) = UnixStream::pair().unwrap();
        std::mem::forget(descriptors.register(ours.as_fd()).unwrap());
        std::mem::forget(descriptors.register(replaced.as_fd()).unwrap());
        // SAFETY: both are open descriptors of this test; the number then belongs to another socket.
        unsafe { assert!(libc::dup2(other.as_raw_fd(), replaced.as_raw_fd()) >= 0) };
        descriptors.close_inherited();
        assert!(sockopt::socket_cookie(&replaced).is_ok(), "another file under the same number stays open");
        // SAFETY: asks about a number.
        let closed = unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_GETFD) } == -1;
        assert!(closed);
        std::mem::forget(ours);
    }

    #[test]
    fn bells_are_told_apart() {
        let descriptors: &'static Descriptors = Box::leak(Box::new(Descriptors::new(8)));
        let bell = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (ours, replaced, other) = (bell(), bell(), bell());
        std::mem::forget(descriptors.register(ours.as_fd()).unwrap());
        std::mem::forget(descriptors.register(replaced.as_fd()).unwrap());
        // SAFETY: both are open descriptors of this test; the number then belongs to another bell.
        unsafe { assert!(libc::dup2(other.as_raw_fd(), replaced.as_raw_fd()) >= 0) };
        descriptors.close_inherited();
        // SAFETY: asks about numbers.
        let is_open = |number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        assert!(is_open(replaced.as_raw_fd()), "another file under the same number stays open");
        assert!(!is_open(ours.as_raw_fd()));
        std::mem::forget(ours);
    }
}
