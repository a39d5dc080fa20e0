//! A network device whose other end is this program: Linux's TAP (Documentation/networking/tuntap.rst). The one place with
//! unsafe code.

use std::ffi::c_short;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// The longest name of a network device.
const NAME: usize = 15;

/// A device that carries whole Ethernet frames, without a header before each.
const IFF_TAP: c_short = 0x0002;
const IFF_NO_PI: c_short = 0x1000;

/// TUNSETIFF: `_IOW('T', 202, int)`.
const SET_DEVICE: Opcode = opcode::write::<i32>(b'T', 202);

/// `struct ifreq`, as far as it is used.
#[repr(C)]
struct Request {
    name: [u8; NAME + 1],
    flags: c_short,
    rest: [u8; 22],
}

/// Makes a device of this name in this network namespace. What is read from the descriptor, which never waits, is what the
/// system sends there; it goes with the descriptor.
///
/// # Errors
///
/// When this process may not make network devices, or the kernel has none of this kind.
pub fn make(name: &str) -> Result<OwnedFd> {
    ensure!(name.len() <= NAME, "{name:?} is too long for a network device");
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = open("/dev/net/tun", flags, Mode::empty()).context("cannot open /dev/net/tun")?;
    let mut request = Request { name: [0; NAME + 1], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: TUNSETIFF reads a struct ifreq (its number says int, for historical reasons), which the request is, and lives
    // for the call.
    unsafe { ioctl(&device, Setter::<SET_DEVICE, Request>::new(request)) }
        .with_context(|| format!("cannot make the network device {name}"))?;
    Ok(device)
}
