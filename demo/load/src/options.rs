//! What a user can ask for on the command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  Full TLS 1.3 handshakes for ten seconds, 64 at a time:
    strongroom-load --ca ca.pem --server-name www.example.com 127.0.0.1:8443

  Exactly 20,000 handshakes, with TLS 1.2 and the server's RSA key:
    strongroom-load --ca ca.pem -n 20000 --tls 1.2 --key-type rsa \\
        localhost:8443

  What visitors feel at 500 new connections a second, with a picture:
    strongroom-load --ca ca.pem --rate 500 -d 60s --label 'HSM restart' \\
        --json-file run.json --plot run.svg --plot run.png localhost:8443

  Resumed handshakes (the private key is not used), each with a request:
    strongroom-load --ca ca.pem --resume --requests 1 --path /index.html \\
        localhost:8443

Closed and open loop:
  Without --rate, each of the -c connections starts its next handshake when
  the last one is done, so the server is never asked for more than it can
  do. That measures capacity.

  With --rate, handshakes arrive on time whether or not the server keeps
  up, and latency counts from the moment at which the handshake was due: a
  server that stops for a second shows every visitor who would have waited.
  That measures service.

Latency is the time until the TCP connection is made and the handshake is
done. The session's tickets, requests and the close are not part of it.

Exit code:
  0  every handshake (and request) succeeded
  1  some failed; the summary says how many of each kind
  2  the load could not start: wrong options, unreadable CA file, unknown
     host, no session to resume, or its results could not be written";

/// Makes TLS handshakes with a server and reports their rate, latency and errors.
#[derive(Clone, Debug, Parser)]
#[command(name = "strongroom-load", version, after_long_help = EXAMPLES, max_term_width = 110)]
pub struct Options {
    /// Where the server listens. An IPv6 address goes in brackets
    #[arg(value_name = "HOST:PORT")]
    pub target: String,

    /// Handshakes in flight at once; with --rate the most that may be [default: 64, with --rate 1024]
    #[arg(short, long, value_name = "N", help_heading = "Load")]
    pub concurrency: Option<NonZeroU32>,

    /// Stop after so many handshakes, failed ones included
    #[arg(short = 'n', long, value_name = "N", help_heading = "Load")]
    pub count: Option<u64>,

    /// Stop after so long: 500ms, 10s, 2m. Handshakes under way are finished [default: 10s without --count]
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Load")]
    pub duration: Option<Duration>,

    /// Start so many handshakes a second, evenly spaced, whether or not earlier ones are done (open loop)
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, help_heading = "Load")]
    pub rate: Option<f64>,

    /// Give a connection up after so long, counted from when it was due
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Load")]
    pub timeout: Duration,

    /// Stop after so many errors
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub max_errors: Option<u64>,

    /// Worker threads of the client
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub threads: NonZeroU32,

    /// TLS version
    #[arg(long, value_name = "VERSION", default_value = "1.3", help_heading = "TLS")]
    pub tls: TlsVersion,

    /// Resume sessions. Full handshakes before the start, not counted, obtain the first ones
    #[arg(long, help_heading = "TLS")]
    pub resume: bool,

    /// Certificates that may have signed the server's, in PEM
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/ssl/certs/ca-certificates.crt",
        help_heading = "TLS"
    )]
    pub ca: PathBuf,

    /// Accept any certificate. The server's signature is still verified with it
    #[arg(long, conflicts_with = "ca", help_heading = "TLS")]
    pub insecure_chain: bool,

    /// Name to ask for (SNI) and to find in the certificate [default: HOST]
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    pub server_name: Option<String>,

    /// Only let the server authenticate with this type of key, where it has several
    #[arg(long, value_name = "TYPE", help_heading = "TLS")]
    pub key_type: Option<KeyType>,

    /// Key exchange group. TLS 1.3 offers only this one, so there is never a second round trip
    #[arg(long, value_name = "GROUP", default_value = "x25519", help_heading = "TLS")]
    pub group: Group,

    /// Only offer this cipher
    #[arg(long, value_name = "CIPHER", help_heading = "TLS")]
    pub cipher: Option<Cipher>,

    /// HTTP/1.1 requests on each connection
    #[arg(long, value_name = "N", default_value = "0", help_heading = "HTTP")]
    pub requests: u32,

    /// What to GET
    #[arg(long, value_name = "PATH", default_value = "/", help_heading = "HTTP")]
    pub path: String,

    /// Print the report as JSON instead of the summary
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Write the report as JSON to a file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json_file: Option<PathBuf>,

    /// Draw latency and throughput over time; FILE ends in .svg or .png, may be given more than once
    #[arg(long, value_name = "FILE", value_parser = picture_file, help_heading = "Output")]
    pub plot: Vec<PathBuf>,

    /// Title of the report and of the picture
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "Output")]
    pub label: String,

    /// Width of the timeline's slices [default: 125ms, doubling up to 1s in long runs]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Output")]
    pub interval: Option<Duration>,
}

/// Protocol version, exactly one of which is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// TLS 1.2
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3
    #[value(name = "1.3")]
    Tls13,
}

/// Type of the server's private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyType {
    /// RSA, PKCS #1 v1.5 and PSS
    Rsa,
    /// ECDSA on any curve
    Ecdsa,
    /// Ed25519
    Ed25519,
}

/// Key exchange group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// X25519
    X25519,
    /// NIST P-256
    P256,
    /// NIST P-384
    P384,
    /// X25519 with ML-KEM-768
    X25519mlkem768,
}

/// Bulk cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cipher {
    /// AES-128-GCM
    Aes128,
    /// AES-256-GCM
    Aes256,
    /// ChaCha20-Poly1305
    Chacha20,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be longer than nothing".into()) } else { Ok(duration) }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a number above 0".into()),
    }
}

fn picture_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match crate::picture::Format::of(&path) {
        Some(_) => Ok(path),
        None => Err("must end in .svg or .png".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let options = Options::try_parse_from(["strongroom-load", "localhost:443"]).unwrap();
        assert_eq!(options.tls, TlsVersion::Tls13);
        assert_eq!(options.timeout, Duration::from_secs(10));
        assert_eq!(options.threads.get(), 1);
        assert!(options.plot.is_empty());
    }

    #[test]
    fn wrong_values_are_refused() {
        for wrong in [
            &["--rate", "0"][..],
            &["--rate", "-1"],
            &["--rate", "NaN"],
            &["--plot", "run.jpg"],
            &["--duration", "0s"],
            &["-c", "0"],
            &["--tls", "1.1"],
            &["--insecure-chain", "--ca", "x"],
        ] {
            let line = ["strongroom-load", "localhost:443"].iter().chain(wrong);
            assert!(Options::try_parse_from(line).is_err(), "{wrong:?} was accepted");
        }
    }
}
