//! Requests, as the daemon reads them from its socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use strongroom_protocol::v1::Request;
use strongroom_protocol::{frame, secret};

fuzz_target!(|data: &[u8]| {
    if let Some((header, body)) = data.split_first_chunk::<{ frame::HEADER }>()
        && let Ok(length) = frame::body_length(*header)
        && let Some(body) = body.get(..length)
        && let Ok(mut request) = Request::decode(body)
    {
        let mut again = Vec::new();
        if frame::encode(&request, &mut again).is_ok() {
            assert_eq!(Request::decode(&again[frame::HEADER..]).as_ref(), Ok(&request));
        }
        if let Some(op) = request.op.as_mut() {
            let _ = format!("{op:?}");
            secret::wipe(op);
        }
    }
});
