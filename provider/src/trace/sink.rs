//! The file that the log goes to.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The descriptor, or -1.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
/// Which file it is: programs that become daemons close all descriptors, and their numbers are given again.
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

/// Opens the file for all providers in the process; the first one wins. False if it cannot be opened.
pub fn open(path: &str) -> bool {
    if DESCRIPTOR.load(Ordering::Acquire) >= 0 {
        return true;
    }
    let Ok(name) = CString::new(path) else { return false };
    // Not blocking: a pipe that nobody reads must not stop the program.
    let flags =
        libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    // SAFETY: a NUL-terminated path; the mode is read because of O_CREAT.
    let mut descriptor = unsafe { libc::open(name.as_ptr(), flags, 0o600 as libc::c_uint) };
    if let Some(named) = named_descriptor(path).filter(|_| descriptor < 0) {
        // A socket, as systemd gives its services, cannot be opened by its name; nor can the terminal of another user.
        // SAFETY: a number, which need not be a descriptor's. The copy is ours.
        descriptor = unsafe { libc::fcntl(named, libc::F_DUPFD_CLOEXEC, 3) };
    }
    let Some((device, inode)) = (descriptor >= 0).then(|| identity(descriptor)).flatten() else {
        return false;
    };
    DEVICE.store(device, Ordering::Relaxed);
    INODE.store(inode, Ordering::Relaxed);
    if DESCRIPTOR.compare_exchange(-1, descriptor, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: opened above, and given to nobody.
        unsafe { libc::close(descriptor) };
    }
    true
}

/// The descriptor that a path is a name of.
fn named_descriptor(path: &str) -> Option<i32> {
    match path {
        "/dev/stdout" => Some(libc::STDOUT_FILENO),
        "/dev/stderr" => Some(libc::STDERR_FILENO),
        _ => ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|folder| path.strip_prefix(folder)?.parse().ok()),
    }
}

/// Writes a line. One that cannot be written is lost.
pub fn write(line: &[u8]) {
    let descriptor = DESCRIPTOR.load(Ordering::Acquire);
    if identity(descriptor) == Some((DEVICE.load(Ordering::Relaxed), INODE.load(Ordering::Relaxed))) {
        // SAFETY: the line's bytes. The caller of the provider finds its own errno, not ours.
        unsafe {
            let errno = *libc::__errno_location();
            // Nor must a socket that nobody reads stop the program. Elsewhere this is no function.
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let sent = libc::send(descriptor, line.as_ptr().cast(), line.len(), flags);
            if sent < 0 && *libc::__errno_location() == libc::ENOTSOCK {
                libc::write(descriptor, line.as_ptr().cast(), line.len());
            }
            *libc::__errno_location() = errno;
        }
    }
}

/// The device and inode of what is open there.
fn identity(descriptor: i32) -> Option<(u64, u64)> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: writes one structure, of which zeros are a valid value.
    let (result, status) = unsafe { (libc::fstat(descriptor, status.as_mut_ptr()), status.assume_init()) };
    (result == 0).then_some((status.st_dev, status.st_ino))
}
