//! Responses, as clients read them from the daemon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use strongroom_protocol::v1::Response;
use strongroom_protocol::{frame, secret};

fuzz_target!(|data: &[u8]| {
    if let Some((header, body)) = data.split_first_chunk::<{ frame::HEADER }>()
        && let Ok(length) = frame::body_length(*header)
        && let Some(body) = body.get(..length)
        && let Ok(mut response) = Response::decode(body)
    {
        let mut again = Vec::new();
        if frame::encode(&response, &mut again).is_ok() {
            assert_eq!(Response::decode(&again[frame::HEADER..]).as_ref(), Ok(&response));
        }
        if let Some(result) = response.result.as_mut() {
            let _ = format!("{result:?}");
            secret::wipe_reply(result);
        }
    }
});
