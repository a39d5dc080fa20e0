//! A panic anywhere in the provider is one call's failure, and the process lives. The panics are put there by a hook that
//! builds with debug assertions have (src/inject.rs).
#![cfg(debug_assertions)]
// What is called is called as C would call it; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod libcrypto;
mod stub;
mod tables;

use libcrypto::built;
use stub::{URI, context, signed_digest, stub};
use tables::Tables;

const MESSAGE: &[u8] = b"message";

/// A panic in the middle of a signature or a search leaves nothing behind that the next one falls over: no lock that is held, no
/// session that is lost, no gate that is counted wrong.
#[test]
fn a_panic_between_token_calls_leaves_the_rest_working() {
    let (stub, _alone) = stub();
    let context = context("");
    let tables = Tables::load(&built("examples/libstub_token.so").display().to_string());
    let inject: extern "C" fn(u64) -> u64 = tables.symbol(c"strongroom_inject_at_token");
    let mut searches = 0;
    let mut signatures = 0;
    for call in 1..60 {
        inject(call);
        let key = context.key(URI);
        let in_search = inject(0) == 0;
        searches += u64::from(in_search);
        assert_eq!(key.is_err(), in_search, "call {call}");
        let key = context.key(URI).unwrap();
        // Everything is looked up again, so that there are many calls.
        stub.restart();
        inject(call);
        let signed = key.sign(MESSAGE);
        let in_signature = inject(0) == 0;
        signatures += u64::from(in_signature);
        match signed {
            Err(error) if in_signature => assert!(error.contains("internal error"), "{error}"),
            other => assert!(other.is_ok() && !in_signature, "call {call}: {other:?}"),
        }
        let signature = key.sign(MESSAGE).unwrap();
        assert_eq!(signed_digest(&signature).len(), 32);
    }
    assert!(searches > 5 && signatures > 5, "{searches} {signatures}");
    // The sessions that were in use went with their panics, closed.
    assert!(stub.sessions() < 10, "{}", stub.sessions());
}
