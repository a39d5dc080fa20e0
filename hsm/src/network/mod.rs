//! Clients on other machines: TLS 1.3 over TCP, with certificates on both sides. Off unless asked for (`--tls`).
//!
//! The node shows the certificate that the owner of one of its partitions has signed; a client says whose it takes. The
//! client shows a certificate of an authority that the daemon was started with: it acts by the keys that name its
//! certificate, or logs in with a password. A local user id it has none, so nobody is the machine's owner over the network.

mod failures;
mod identity;
mod listener;

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::digest::{SHA256, digest};

pub(crate) use listener::serve;
pub use listener::{Clients, Listener, Options, OptionsError};

/// The address of a client as limits and the audit log have it. Who has an IPv6 network has all of its 2^64 addresses.
fn origin(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            match address.is_loopback() {
                true => address.to_string(),
                false => format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)),
            }
        }
    }
}

/// The number that stands for a client where limits and turns are counted by user id: above those that systems give, and
/// made of what the client is known by. Two clients of one number share their limits, and nothing else.
fn account(known_by: &[u8]) -> u32 {
    let hash = digest(&SHA256, known_by);
    let first = hash.as_ref().first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
    0xf000_0000 | (first >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_where_anybody_has_many() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("10.1.2.3"), "10.1.2.3");
        assert_eq!(of("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        assert_eq!(of("::1"), "::1");
        assert!(account(b"a") != account(b"b") && account(b"a") >= 0xf000_0000);
    }
}
