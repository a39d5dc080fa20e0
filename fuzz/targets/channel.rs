//! Shared memory: what the daemon reads of a hostile client's region, and what a client takes of a hostile reply.
#![no_main]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::thread::futex;
use strongroom_channel::layout::{
    HEADER, MAX_PAYLOAD, PAYLOAD, REGION, SLOT, SLOTS, STATE_DONE, STATE_SLEEPING,
};
use strongroom_channel::{ChannelError, Client, Descriptors, Operation, Region, Request, State};

/// A region, and all of it as the hostile side sees it.
struct Shared {
    region: Region,
    file: OwnedFd,
    bell: OwnedFd,
    words: &'static [AtomicU64],
}

impl Shared {
    fn create() -> Self {
        let (region, file, bell) = Region::create().expect("memory");
        region.watch(true);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a mapping of the whole file that stays, used as atomics as the other side does.
        let words = unsafe {
            let start = mmap(std::ptr::null_mut(), REGION, protection, flags, &file, 0).expect("memory");
            std::slice::from_raw_parts(start.cast::<AtomicU64>(), REGION / 8)
        };
        Shared { region, file, bell, words }
    }

    /// Writes over a slot from `offset` on, a multiple of 8.
    fn scribble(&self, slot: usize, offset: usize, bytes: &[u8]) {
        for (word, bytes) in
            self.words[(HEADER + slot * SLOT + offset) / 8..].iter().zip(bytes.chunks_exact(8))
        {
            word.store(u64::from_le_bytes(bytes.try_into().expect("8 bytes")), Ordering::Relaxed);
        }
    }

    fn payload(&self, slot: usize, length: usize) -> Vec<u8> {
        let words = &self.words[(HEADER + slot * SLOT + PAYLOAD) / 8..];
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).take(length).collect()
    }

    /// A slot's state, its operation, and the length and status of its reply.
    fn number(&self, slot: usize, offset: usize) -> &AtomicU32 {
        let word = &self.words[(HEADER + slot * SLOT + offset) / 8];
        // SAFETY: one of the two halves of a word that lives for ever.
        unsafe { &*std::ptr::from_ref(word).cast::<AtomicU32>().add(offset / 4 % 2) }
    }
}

static OF_CLIENT: LazyLock<Shared> = LazyLock::new(Shared::create);
static OF_DAEMON: LazyLock<Arc<Shared>> = LazyLock::new(|| Arc::new(Shared::create()));
static AWAKE: LazyLock<State> = LazyLock::new(|| {
    let state = State::create().expect("memory");
    state.set_awake(true);
    state
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first_chunk::<4>() else { return };
    read_hostile_request(*choice, bytes);
    take_hostile_reply(*choice, bytes);
});

fn read_hostile_request(choice: [u8; 4], bytes: &[u8]) {
    let shared = &*OF_CLIENT;
    let region = &shared.region;
    let slot = usize::from(choice[0]) % SLOTS;
    shared.scribble(slot, 0, bytes);
    shared.words[slot / 64].store(1 << (slot % 64), Ordering::SeqCst);
    assert!(region.has_posted());
    assert_eq!(region.take_posted(), 1 << slot);
    assert!(!region.has_posted());
    let before = slot.checked_sub(1).map(|before| shared.payload(before, MAX_PAYLOAD));
    let after = Some(slot + 1).filter(|after| *after < SLOTS).map(|after| shared.payload(after, MAX_PAYLOAD));
    let mut copied = vec![0; MAX_PAYLOAD + 1];
    assert!(!region.read_payload(slot, &mut copied));
    if let Some(incoming) = region.read(slot) {
        assert!(incoming.length <= MAX_PAYLOAD);
        copied.truncate(incoming.length);
        assert!(region.read_payload(slot, &mut copied));
        assert_eq!(copied, shared.payload(slot, incoming.length));
    }
    let length = usize::from(u16::from_le_bytes([choice[1], choice[2]])) % (SLOT + 64);
    match choice[3] {
        0 => region.refuse(slot, 7, &String::from_utf8_lossy(bytes)),
        _ => {
            region.reply(slot, &vec![choice[3]; length]);
            let length = length.min(MAX_PAYLOAD);
            assert_eq!(shared.payload(slot, length), vec![choice[3]; length]);
        }
    }
    assert_eq!(shared.number(slot, 0).load(Ordering::Relaxed), STATE_DONE);
    assert_eq!(before, slot.checked_sub(1).map(|before| shared.payload(before, MAX_PAYLOAD)));
    assert_eq!(after, after.as_ref().map(|_| shared.payload(slot + 1, MAX_PAYLOAD)));
    // Slots that are none.
    region.reply(SLOTS + length, bytes);
    assert!(region.read(SLOTS).is_none() && !region.read_payload(SLOTS, &mut copied));
}

/// The first slot is the one that a client takes. Its reply is written by another thread, before the client sleeps or
/// after.
fn take_hostile_reply(choice: [u8; 4], bytes: &[u8]) {
    let shared = Arc::clone(&OF_DAEMON);
    let descriptors = Descriptors {
        region: shared.file.try_clone().expect("a descriptor"),
        bell: shared.bell.try_clone().expect("a descriptor"),
        state: AWAKE.descriptor().expect("a descriptor"),
    };
    let client = Client::new(descriptors).expect("a client");
    let answer = || {
        while shared.region.take_posted() == 0 {
            std::hint::spin_loop();
        }
        // The state, in the first word, comes last.
        shared.scribble(0, 8, bytes);
        if choice[0].is_multiple_of(4) {
            shared.number(0, 52).store(u32::from_le_bytes(choice) % 9000, Ordering::Relaxed);
            shared.number(0, 48).store(u32::from(choice[3] % 2), Ordering::Relaxed);
        }
        // A state that never changes only makes the client wait.
        let state = match u32::from(choice[2]) {
            STATE_SLEEPING | 4.. => STATE_DONE,
            other => other,
        };
        shared.number(0, 0).store(state, Ordering::Release);
        let _ = futex::wake(shared.number(0, 0), futex::Flags::empty(), 1);
    };
    let mut reply = vec![0xa5; usize::from(choice[1]) * 40];
    let outcome = std::thread::scope(|scope| {
        scope.spawn(answer);
        // What a cipher leaves is wiped and could not be compared.
        let operation = Operation::Sign { mechanism: 1, hash: 0, mgf1_hash: 0, salt_length: 0 };
        let request = Request { operation, partition: 1, key: [0; 16], data: bytes };
        client.exchange(&request, &mut reply, &mut || false)
    });
    match outcome {
        Ok(length) => assert_eq!(reply[..length], shared.payload(0, length)),
        Err(ChannelError::Refused { message, .. }) => assert!(message.len() <= 3 * 512),
        Err(ChannelError::Malformed | ChannelError::Abandoned) => assert!(client.is_closed()),
        Err(other) => panic!("{other}"),
    }
}
