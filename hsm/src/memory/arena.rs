//! An allocator over protected pages.
//!
//! Blocks come in sizes of 2^n and 1.5 · 2^n, from 32 bytes to 64 KiB, each size with its list of free blocks
//! behind a lock that is held for a few instructions; larger ones have pages of their own. A block is wiped
//! when it is freed. Before each lies its length, which the crypto library does not tell when it frees.
//!
//! When protected pages run out (RLIMIT_MEMLOCK), less protected ones are taken and the log says so once: a
//! daemon that signs is better than one that stops.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::pages::{self, Protection};

/// Before each block: its length and its class. Also the alignment of blocks, in bytes.
const HEADER: usize = 16;
/// The smallest block with its header, in bytes.
const SMALLEST: usize = 32;
/// The largest block with its header that shares pages with others, in bytes.
const LARGEST: usize = 64 * 1024;
const CLASSES: usize = 23;
/// Pages are taken from the system in this many bytes; the smaller number where a limit is near.
const CHUNKS: [usize; 2] = [1 << 20, 1 << 17];

/// Marks a header, so that freeing what is not a block is found out.
const IN_USE: u32 = 0x5742_0001;
const FREE: u32 = 0x5742_0002;
/// The class of a block with pages of its own.
const LARGE: u32 = u32::MAX;

#[repr(C)]
struct Header {
    length: usize,
    class: u32,
    mark: u32,
}

/// Free blocks of one class; the address of the next lies in the block.
struct FreeList(*mut u8);

/// Pages that no block was cut from yet.
struct Fresh {
    at: *mut u8,
    left: usize,
}

// SAFETY: the pointers are to memory that the arena owns, and the locks around them let one thread in.
unsafe impl Send for FreeList {}
// SAFETY: as above.
unsafe impl Send for Fresh {}

static FREE_LISTS: [Mutex<FreeList>; CLASSES] = [const { Mutex::new(FreeList(ptr::null_mut())) }; CLASSES];
static FRESH: Mutex<Fresh> = Mutex::new(Fresh { at: ptr::null_mut(), left: 0 });
static WORST: AtomicU8 = AtomicU8::new(Protection::MemfdSecret as u8);
static WARNED: AtomicBool = AtomicBool::new(false);

/// How secrets are protected: as the least protected pages in use.
pub fn protection() -> Protection {
    // So that the answer is right before the first secret.
    if let Some(block) = allocate(1) {
        // SAFETY: allocated above, used by nobody.
        unsafe { free(block) };
    }
    match WORST.load(Ordering::Relaxed) {
        0 => Protection::MemfdSecret,
        1 => Protection::Locked,
        _ => Protection::Unlocked,
    }
}

/// Allocates `length` bytes, aligned to 16, with any content; `None` if there is no memory.
pub fn allocate(length: usize) -> Option<NonNull<u8>> {
    let whole = length.checked_add(HEADER)?;
    let (start, class) = match class_of(whole) {
        Some(class) => (from_list(class).or_else(|| from_fresh(class_size(class)))?, class as u32),
        None => (from_pages(whole.checked_next_multiple_of(4096)?)?, LARGE),
    };
    // SAFETY: `start` has at least HEADER + length bytes, is aligned to 16, and is nobody else's.
    unsafe {
        start.cast::<Header>().write(Header { length, class, mark: IN_USE });
        Some(start.add(HEADER))
    }
}

/// Wipes and frees a block.
///
/// # Safety
///
/// `block` comes from [`allocate`], was not freed, and nobody uses it any more.
pub unsafe fn free(block: NonNull<u8>) {
    // SAFETY: by the caller's promise the header lies before the block, and the block has its length.
    unsafe {
        let start = block.sub(HEADER);
        let header = start.cast::<Header>().as_mut();
        if header.mark != IN_USE {
            // Memory is damaged: nothing here can be trusted to sign.
            std::process::abort();
        }
        header.mark = FREE;
        let class = header.class;
        wipe(block, header.length);
        if class == LARGE {
            let whole = (header.length + HEADER).next_multiple_of(4096);
            pages::unmap(start, whole);
        } else if let Some(list) = FREE_LISTS.get(class as usize) {
            let mut list = lock(list);
            block.cast::<*mut u8>().write(list.0);
            list.0 = start.as_ptr();
        }
    }
}

/// The length of a block.
///
/// # Safety
///
/// `block` comes from [`allocate`] and was not freed.
pub unsafe fn length(block: NonNull<u8>) -> usize {
    // SAFETY: by the caller's promise the header lies before the block.
    unsafe { block.sub(HEADER).cast::<Header>().as_ref().length }
}

/// Overwrites memory with zeros in a way that the compiler does not leave out.
///
/// # Safety
///
/// `block` has `length` bytes that may be written.
pub(super) unsafe fn wipe(block: NonNull<u8>, length: usize) {
    // SAFETY: by the caller's promise; the empty assembly says to the compiler that the zeros are read.
    unsafe {
        ptr::write_bytes(block.as_ptr(), 0, length);
        std::arch::asm!("/* {0} */", in(reg) block.as_ptr(), options(nostack, preserves_flags));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The class of the smallest blocks that have `whole` bytes; `None` above [`LARGEST`].
fn class_of(whole: usize) -> Option<usize> {
    if whole <= SMALLEST {
        return Some(0);
    }
    if whole > LARGEST {
        return None;
    }
    // 2^power < whole <= 2^(power + 1)
    let power = (whole - 1).ilog2() as usize;
    let lower_half = whole <= 3 << (power - 1);
    Some((power - 5) * 2 + if lower_half { 1 } else { 2 })
}

/// The size of a class's blocks with their header, in bytes.
fn class_size(class: usize) -> usize {
    match class {
        0 => SMALLEST,
        odd if odd % 2 == 1 => 3 << (4 + (odd - 1) / 2),
        even => 1 << (6 + (even - 2) / 2),
    }
}

fn from_list(class: usize) -> Option<NonNull<u8>> {
    let mut list = lock(FREE_LISTS.get(class)?);
    let start = NonNull::new(list.0)?;
    // SAFETY: `free` put the block there and wrote the next one's address behind the header.
    unsafe {
        let next = start.add(HEADER).cast::<*mut u8>();
        list.0 = next.read();
        next.write(ptr::null_mut());
    }
    Some(start)
}

fn from_fresh(size: usize) -> Option<NonNull<u8>> {
    let mut fresh = lock(&FRESH);
    if fresh.left < size {
        // What is left of the old pages, less than one block, is given up.
        let (pages, length) = CHUNKS
            .iter()
            .find_map(|length| protected(*length).map(|pages| (pages, *length)))
            .or_else(|| {
                let [_, smallest] = CHUNKS;
                map_noted(smallest).map(|pages| (pages, smallest))
            })?;
        *fresh = Fresh { at: pages.as_ptr(), left: length };
    }
    let start = NonNull::new(fresh.at)?;
    fresh.left -= size;
    // SAFETY: `size` bytes were left from `at` on.
    fresh.at = unsafe { fresh.at.add(size) };
    Some(start)
}

fn from_pages(length: usize) -> Option<NonNull<u8>> {
    map_noted(length)
}

/// Pages that are not [`Protection::Unlocked`].
fn protected(length: usize) -> Option<NonNull<u8>> {
    let (pages, protection) = pages::map(length)?;
    if protection == Protection::Unlocked {
        // SAFETY: mapped above, used by nobody.
        unsafe { pages::unmap(pages, length) };
        return None;
    }
    WORST.fetch_max(protection as u8, Ordering::Relaxed);
    Some(pages)
}

/// Pages of whatever protection, noted and said once.
fn map_noted(length: usize) -> Option<NonNull<u8>> {
    let (pages, protection) = pages::map(length)?;
    WORST.fetch_max(protection as u8, Ordering::Relaxed);
    if protection == Protection::Unlocked && !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "keys lie in memory that may be swapped out: no more can be locked; raise the limit \
             (LimitMEMLOCK=infinity in the unit, or 'ulimit -l unlimited')"
        );
    }
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_fit_tightly() {
        for class in 0..CLASSES {
            assert_eq!(class_of(class_size(class)), Some(class));
            assert_eq!(class_size(class) % HEADER, 0);
            if class > 0 {
                assert_eq!(class_of(class_size(class - 1) + 1), Some(class));
            }
        }
        assert_eq!(class_size(CLASSES - 1), LARGEST);
        assert_eq!(class_of(LARGEST + 1), None);
    }

    #[test]
    fn blocks_are_apart_aligned_and_wiped() {
        let lengths = [0, 1, 15, 16, 17, 100, 1000, 48 * 1024, LARGEST, 300_000];
        let blocks: Vec<(NonNull<u8>, usize)> =
            lengths.iter().cycle().take(200).map(|length| (allocate(*length).unwrap(), *length)).collect();
        for (number, (block, length)) in blocks.iter().enumerate() {
            assert_eq!(block.as_ptr() as usize % 16, 0);
            // SAFETY: allocated with this length.
            unsafe {
                assert_eq!(super::length(*block), *length);
                ptr::write_bytes(block.as_ptr(), number as u8, *length);
            }
        }
        for (number, (block, length)) in blocks.into_iter().enumerate() {
            // SAFETY: allocated with this length, and freed here only. Small blocks stay mapped when they
            // are free: only their first 8 bytes (the list) and those after may be looked at.
            unsafe {
                let bytes = std::slice::from_raw_parts(block.as_ptr(), length);
                assert!(bytes.iter().all(|byte| *byte == number as u8));
            }
            // SAFETY: as above.
            unsafe { free(block) };
        }
    }

    #[test]
    fn a_freed_block_is_zero_behind_the_list() {
        let block = allocate(35_000).unwrap();
        // SAFETY: the block has 35,000 bytes. After it is freed its pages stay mapped (it shares them), and no
        // other test takes blocks of this class between the two lines but to write other bytes.
        unsafe {
            ptr::write_bytes(block.as_ptr(), 0xa5, 35_000);
            free(block);
            let tail = std::slice::from_raw_parts(block.as_ptr().add(8), 1000);
            assert!(tail.iter().all(|byte| *byte != 0xa5));
        }
    }

    #[test]
    fn threads_do_not_get_each_others_blocks() {
        let work = |seed: u8| {
            move || {
                for round in 0..2_000usize {
                    let length = 1 + (round * 37) % 700;
                    let block = allocate(length).unwrap();
                    // SAFETY: the block has `length` bytes and is this thread's until it frees it.
                    unsafe {
                        ptr::write_bytes(block.as_ptr(), seed, length);
                        std::thread::yield_now();
                        let bytes = std::slice::from_raw_parts(block.as_ptr(), length);
                        assert!(bytes.iter().all(|byte| *byte == seed));
                        free(block);
                    }
                }
            }
        };
        let threads: Vec<_> = (1..=8).map(|seed| std::thread::spawn(work(seed))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
