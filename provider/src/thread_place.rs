//! Which thread this is, and where it begins in tables that all threads share, so that they do not meet.

/// A number that no other thread of this process has while this one lives; not 0.
pub fn thread_name() -> u64 {
    // The address of the thread's control block, read from a register by pthread_self: no thread-local variable of ours,
    // whose address a compiler might keep while an ASYNC job moves to another thread.
    // SAFETY: takes nothing, and never fails.
    unsafe { libc::pthread_self() as u64 }
}

/// A number below `places` that is this thread's in all likelihood alone, and stays the same for its life.
pub fn thread_place(places: usize) -> usize {
    // Control blocks are large powers of two apart: Fibonacci hashing spreads them.
    let spread = thread_name().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    spread as usize % places
}
