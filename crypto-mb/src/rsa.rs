//! RSA: the private operation with CRT and the public one with exponent 65537.

use std::ffi::c_int;
use std::ptr::{null, null_mut};

use crate::{CryptoMb, LANES, RsaLane, RsaSize, declarations as c};

/// The pointers of eight lanes, null where a lane is not used.
struct Blocks {
    from: [*const u8; LANES],
    to: [*mut u8; LANES],
}

impl CryptoMb {
    /// The bytes of working memory that [`CryptoMb::rsa_private`] and [`CryptoMb::rsa_public`] need.
    pub fn rsa_memory(self, size: RsaSize) -> usize {
        let bits = size.bits() as c_int;
        // SAFETY: the functions return constants, for sizes that the library knows never null.
        let sizes = unsafe {
            [c::mbx_RSA_private_crt_Method(bits), c::mbx_RSA_pub65537_Method(bits)]
                .map(|method| if method.is_null() { 0 } else { c::mbx_RSA_Method_BufSize(method) })
        };
        sizes.into_iter().max().and_then(|size| size.try_into().ok()).unwrap_or_default()
    }

    /// Computes `to = from^d mod n` by CRT in each lane. `memory` has at least [`CryptoMb::rsa_memory`] bytes and
    /// holds secrets afterwards. Lanes whose parts have other lengths than `size` says are not computed.
    pub fn rsa_private(self, size: RsaSize, lanes: &mut [Option<RsaLane<'_>>; LANES], memory: &mut [u8]) {
        if memory.len() < self.rsa_memory(size) {
            return;
        }
        let half = size.words() / 2;
        let mut parts = [[null(); LANES]; 5];
        let mut blocks = Blocks { from: [null(); LANES], to: [null_mut(); LANES] };
        let Blocks { from, to } = &mut blocks;
        let pointers = from.iter_mut().zip(to.iter_mut());
        for (number, (lane, (from, to))) in lanes.iter_mut().zip(pointers).enumerate() {
            let Some(lane) = usable(lane, size, 5 * half) else { continue };
            for (part, words) in parts.iter_mut().zip(lane.key.chunks_exact(half)) {
                if let Some(pointer) = part.get_mut(number) {
                    *pointer = words.as_ptr();
                }
            }
            (*from, *to) = (lane.from.as_ptr(), lane.to.as_mut_ptr());
        }
        let [p, q, dp, dq, iq] = &parts;
        let bits = size.bits() as c_int;
        // SAFETY: each pointer is null or to as many words or bytes as the size says (`usable`), borrowed for this
        // call, the outputs exclusively; the memory is as large as the method wants.
        let status = unsafe {
            c::mbx_rsa_private_crt_mb8(
                blocks.from.as_ptr(),
                blocks.to.as_ptr(),
                p.as_ptr(),
                q.as_ptr(),
                dp.as_ptr(),
                dq.as_ptr(),
                iq.as_ptr(),
                bits,
                c::mbx_RSA_private_crt_Method(bits),
                memory.as_mut_ptr(),
            )
        };
        note(&blocks, status, lanes);
    }

    /// Computes `to = from^65537 mod n` in each lane; otherwise like [`CryptoMb::rsa_private`].
    pub fn rsa_public(self, size: RsaSize, lanes: &mut [Option<RsaLane<'_>>; LANES], memory: &mut [u8]) {
        if memory.len() < self.rsa_memory(size) {
            return;
        }
        let mut moduli = [null(); LANES];
        let mut blocks = Blocks { from: [null(); LANES], to: [null_mut(); LANES] };
        let Blocks { from, to } = &mut blocks;
        let pointers = from.iter_mut().zip(to.iter_mut()).zip(&mut moduli);
        for (lane, ((from, to), modulus)) in lanes.iter_mut().zip(pointers) {
            let Some(lane) = usable(lane, size, size.words()) else { continue };
            (*from, *to, *modulus) = (lane.from.as_ptr(), lane.to.as_mut_ptr(), lane.key.as_ptr());
        }
        let bits = size.bits() as c_int;
        // SAFETY: as for the private operation.
        let status = unsafe {
            c::mbx_rsa_public_mb8(
                blocks.from.as_ptr(),
                blocks.to.as_ptr(),
                moduli.as_ptr(),
                bits,
                c::mbx_RSA_pub65537_Method(bits),
                memory.as_mut_ptr(),
            )
        };
        note(&blocks, status, lanes);
    }
}

/// The lane, if its parts have the right lengths.
fn usable<'l, 'a>(
    lane: &'l mut Option<RsaLane<'a>>,
    size: RsaSize,
    words: usize,
) -> Option<&'l mut RsaLane<'a>> {
    let lane = lane.as_mut()?;
    lane.done = false;
    let right = lane.key.len() == words && lane.from.len() == size.bytes() && lane.to.len() == size.bytes();
    right.then_some(lane)
}

fn note(blocks: &Blocks, status: c::Status, lanes: &mut [Option<RsaLane<'_>>; LANES]) {
    for (number, (lane, from)) in lanes.iter_mut().zip(&blocks.from).enumerate() {
        if let Some(lane) = lane {
            lane.done = !from.is_null() && c::lane_is_done(status, number);
        }
    }
}
