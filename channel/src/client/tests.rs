use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::*;
use crate::region::{Region, State};

fn descriptors() -> (Region, State, Descriptors) {
    let (region, memory, bell) = Region::create().unwrap();
    let state = State::create().unwrap();
    let given = Descriptors { region: memory, bell, state: state.descriptor().unwrap() };
    (region, state, given)
}

fn request(data: &[u8]) -> Request<'_> {
    let operation = Operation::Sign { mechanism: 1, hash: 0, mgf1_hash: 0, salt_length: 0 };
    Request { operation, partition: 1, key: [7; 16], data }
}

/// Somebody may have been counted just before the end, and look for a slot just after it.
#[test]
fn a_slot_is_not_used_again_after_the_end() {
    let (_region, _state, given) = descriptors();
    let client = Client::new(given).unwrap();
    let abandoned = client.hold().unwrap();
    let other = client.hold().unwrap();
    let number = abandoned.number;
    client.close();
    drop(abandoned);
    assert_ne!(client.take_slot(), Some(number));
    assert!(matches!(client.hold(), Err(ChannelError::Closed)));
    drop(other);
}

#[test]
fn the_bell_stays_until_the_last_exchange_is_over() {
    let (_region, _state, given) = descriptors();
    let client = Client::new(given).unwrap();
    // SAFETY: only asked whether it is there.
    let is_there = || rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(client.bell()) }).is_ok();
    let held = client.hold().unwrap();
    client.close();
    client.close();
    assert!(is_there());
    drop(held);
    // SAFETY: no other thread has the client.
    let parts = unsafe { &*client.parts.get() };
    assert!(client.is_closed() && parts.is_none());
}

#[test]
fn a_full_channel_says_so_and_gets_its_slots_back() {
    let (_region, _state, given) = descriptors();
    let client = Client::new(given).unwrap();
    let held: Vec<_> = (0..SLOTS).map(|_| client.hold().unwrap()).collect();
    assert!(held.iter().enumerate().all(|(at, held)| held.number == at));
    assert!(matches!(client.hold(), Err(ChannelError::Full)));
    drop(held);
    assert_eq!(client.hold().unwrap().number, 0);
}

#[test]
fn nobody_answers_for_ever_but_not_longer_than_the_caller_likes() {
    let (region, state, given) = descriptors();
    state.set_awake(true);
    region.watch(true);
    let client = Client::new(given).unwrap();
    let mut asked = 0;
    let mut patience = || {
        asked += 1;
        asked < 3
    };
    assert_eq!(client.exchange(&request(b"x"), &mut [0; 64], &mut patience), Err(ChannelError::Abandoned));
    assert_eq!(asked, 3);
    assert_eq!(client.exchange(&request(b"x"), &mut [0; 64], &mut || true), Err(ChannelError::Closed));
    // The daemon may answer as late as it likes.
    region.reply(0, b"late");
}

#[test]
fn a_reply_arrives_and_one_that_is_too_long_does_not() {
    let (region, state, given) = descriptors();
    state.set_awake(true);
    region.watch(true);
    let client = Client::new(given).unwrap();
    let answer = |payload: &'static [u8]| {
        let (client, region) = (&client, &region);
        std::thread::scope(move |scope| {
            scope.spawn(move || {
                while region.take_posted() == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(region.read(0).unwrap().key, [7; 16]);
                region.reply(0, payload);
            });
            let mut reply = [0; 8];
            client.exchange(&request(b"x"), &mut reply, &mut || true).map(|length| reply[..length].to_vec())
        })
    };
    assert_eq!(answer(b"yes"), Ok(b"yes".to_vec()));
    assert_eq!(answer(b"more than 8"), Err(ChannelError::Malformed));
    assert!(client.is_closed());
}

#[test]
fn no_plaintext_stays_in_the_slot() {
    let (region, state, given) = descriptors();
    state.set_awake(true);
    region.watch(true);
    let client = Client::new(given).unwrap();
    let (iv, aad, tag_bits) = (&[1; 12][..], &[2; 21][..], 128);
    for operation in [Operation::Encrypt { iv, aad, tag_bits }, Operation::Decrypt { iv, aad, tag_bits }] {
        let request = Request { operation, ..request(&[3; 1001]) };
        let mut reply = [0; 1200];
        let length = std::thread::scope(|scope| {
            scope.spawn(|| {
                while region.take_posted() == 0 {
                    std::thread::yield_now();
                }
                region.reply(0, &[4; 990]);
            });
            client.exchange(&request, &mut reply, &mut || true).unwrap()
        });
        assert_eq!(reply[..length], [4; 990]);
        let mut left = [9; layout::MAX_PAYLOAD];
        assert!(region.read_payload(0, &mut left));
        assert_eq!(left, [0; layout::MAX_PAYLOAD]);
    }
}

#[test]
fn memory_that_could_shrink_is_not_mapped() {
    let (_region, _state, given) = descriptors();
    let unsealed = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&unsealed, layout::REGION as u64).unwrap();
    let refused = Client::new(Descriptors { region: unsealed, ..given }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
    let (_region, _state, given) = descriptors();
    let no_memory: OwnedFd = given.bell.try_clone().unwrap();
    assert!(Client::new(Descriptors { region: no_memory, ..given }).is_err());
}
