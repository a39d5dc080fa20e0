//! The file of a quorum, decrypted shares, and holders' public keys, from anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use strongroom_hsm::memory::SecretBytes;
use strongroom_hsm::quorum;
use strongroom_protocol::v1::Quorum;

#[path = "../../cli/src/quorum_file/form.rs"]
#[allow(dead_code, reason = "the command shows more of it")]
mod form;

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 3 {
        // What the command reads is what it writes.
        0 => {
            if let Ok(text) = std::str::from_utf8(data)
                && let Ok(read) = form::QuorumFile::parse(text)
            {
                let written = form::QuorumFile::of(&read).text().unwrap();
                assert_eq!(form::QuorumFile::parse(&written).as_ref(), Ok(&read));
            }
        }
        // Shares are tried with what the daemon is given: none of these is a quorum's.
        1 => {
            let (shares, quorum) = data.split_at(data.len().min(99));
            let shares: Vec<_> = shares.chunks(33).map(SecretBytes::from).collect();
            if let Ok(read) = Quorum::decode(quorum) {
                assert!(quorum::combine(&read, &shares).is_err());
            }
        }
        _ => {
            let keys: Vec<_> = data.chunks(data.len() / 2 + 1).map(<[u8]>::to_vec).collect();
            let _ = quorum::create("tls", &keys, 2);
        }
    }
});
