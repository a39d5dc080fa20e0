//! Searches the memory of running processes for a private key.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use memchr::memmem;

use crate::environment::Environment;
use crate::pki::{run_openssl, text};
use crate::stat;

/// Memory is read in pieces of this many bytes. Pieces overlap, so that nothing is cut in two.
const PIECE: usize = 1 << 20;

/// Bytes that only somebody who has the private key can know.
#[derive(Clone)]
pub struct Secret {
    /// What it is, as in "prime p".
    pub name: &'static str,
    /// Most significant byte first, as in key files.
    big_endian: Vec<u8>,
    /// Least significant byte first, as in OpenSSL's BIGNUM on a little-endian processor.
    little_endian: Vec<u8>,
}

impl Secret {
    fn new(name: &'static str, big_endian: &[u8]) -> Result<Self> {
        // Leading zeros are written in one form and not in another.
        let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
        let big_endian = big_endian.get(zeros..).unwrap_or_default().to_vec();
        if big_endian.len() < 16 {
            bail!("{name} is too short to be searched for");
        }
        let little_endian = big_endian.iter().rev().copied().collect();
        Ok(Secret { name, big_endian, little_endian })
    }
}

/// The secret numbers of a private key in a PEM file: the primes of RSA, the scalar of an EC key, the seed
/// of Ed25519.
///
/// # Errors
///
/// When openssl cannot read the key, or it is of another type.
pub fn secrets_of(key_file: &Path) -> Result<Vec<Secret>> {
    let listing = run_openssl(&Environment::plain(), "pkey -noout -text -in {}", &[&text(key_file)])?;
    let mut secrets = Vec::new();
    for name in ["prime1", "prime2", "priv"] {
        if let Some(bytes) = hexadecimal_after(&listing, &format!("{name}:")) {
            secrets.push(Secret::new(name, &bytes)?);
        }
    }
    if secrets.is_empty() {
        bail!("{} is no RSA, EC or Ed25519 key", key_file.display());
    }
    Ok(secrets)
}

/// The bytes that `openssl pkey -text` prints below a heading: lines of `00:9f:…`, indented.
fn hexadecimal_after(listing: &str, heading: &str) -> Option<Vec<u8>> {
    let lines = listing.lines().skip_while(|line| line.trim() != heading).skip(1);
    let digits: String = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    let bytes: Option<Vec<u8>> = digits
        .split(':')
        .filter(|byte| !byte.is_empty())
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes.filter(|bytes| !bytes.is_empty())
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// How many bytes of memory were read.
    pub bytes: u64,
    /// How many processes were read.
    pub processes: usize,
    /// Where: process id and name of the secret.
    pub found: Vec<(u32, &'static str)>,
}

/// Searches all readable memory of the processes for each of the secrets, in both byte orders.
///
/// # Errors
///
/// When a process cannot be read. It needs the right to trace it: the same user or root.
pub fn search(processes: &[u32], secrets: &[Secret]) -> Result<Search> {
    let mut result = Search::default();
    for id in processes {
        let memory = match File::open(format!("/proc/{id}/mem")) {
            // A worker may end at any time, after a reload for example.
            Err(_) if stat::of(*id).is_none_or(|stat| stat.ended) => continue,
            // It is ending: the memory is gone already.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => continue,
            opened => {
                opened.with_context(|| format!("cannot read the memory of process {id}; run this as root"))?
            }
        };
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        result.processes += 1;
        for (start, end) in maps.lines().filter_map(readable) {
            let mut names = Vec::new();
            result.bytes += search_region(&memory, start, end, secrets, &mut names)?;
            for name in names {
                if !result.found.contains(&(*id, name)) {
                    result.found.push((*id, name));
                }
            }
        }
    }
    if result.bytes == 0 {
        bail!("no memory could be read");
    }
    Ok(result)
}

/// The bounds of a line of /proc/PID/maps if the region can be read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    // The kernel's own page cannot be read through /proc/PID/mem.
    if !permissions.starts_with('r') || line.ends_with("[vsyscall]") || line.ends_with("[vvar]") {
        return None;
    }
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Returns how many bytes could be read.
fn search_region(
    memory: &File,
    start: u64,
    end: u64,
    secrets: &[Secret],
    names: &mut Vec<&'static str>,
) -> Result<u64> {
    let overlap = secrets.iter().map(|secret| secret.big_endian.len()).max().unwrap_or_default() as u64;
    let mut piece = vec![0; PIECE];
    let mut at = start;
    let mut total = 0;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let Some(buffer) = piece.get_mut(..wanted) else { break };
        let read = match memory.read_at(buffer, at) {
            Ok(0) => break,
            Ok(read) => read,
            // Pages without memory behind them, and of devices.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => break,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error).context("reading a process's memory"),
        };
        let bytes = piece.get(..read).unwrap_or_default();
        for secret in secrets {
            if [&secret.big_endian, &secret.little_endian]
                .iter()
                .any(|pattern| memmem::find(bytes, pattern).is_some())
            {
                names.push(secret.name);
            }
        }
        total += read as u64;
        let next = at + read as u64;
        at = if next < end { next.saturating_sub(overlap).max(at + 1) } else { next };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use crate::pki::{KeyKind, key_file};
    use crate::process::{Process, wait_for};
    use std::time::Duration;

    #[test]
    fn a_key_is_found_in_a_process_that_loaded_it_and_not_in_another() {
        let folder = tempfile::tempdir().unwrap();
        for kind in KeyKind::TYPES {
            let key = folder.path().join("key.pem");
            key_file(kind, &key).unwrap();
            let secrets = secrets_of(&key).unwrap();
            assert_eq!(secrets.len(), if kind == KeyKind::Rsa2048 { 2 } else { 1 });

            let mut holder = command::new("openssl");
            let certificate = folder.path().join("certificate.pem");
            run_openssl(
                &Environment::plain(),
                "req -x509 -new -key {} -subj /CN=x -out {}",
                &[&text(&key), &text(&certificate)],
            )
            .unwrap();
            let port = crate::server::free_port().unwrap();
            holder.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-quiet"]);
            holder
                .arg("-key")
                .arg(&key)
                .arg("-cert")
                .arg(&certificate)
                .stdin(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let holder = Process::spawn("openssl", holder).unwrap();
            wait_for("s_server", Duration::from_secs(10), || {
                Ok(std::net::TcpStream::connect(("127.0.0.1", port))?)
            })
            .unwrap();
            let search_holder = search(&[holder.id()], &secrets).unwrap();
            assert!(!search_holder.found.is_empty(), "{kind:?} {search_holder:?}");

            let mut other = command::new("sleep");
            other.arg("1000");
            let other = Process::spawn("sleep", other).unwrap();
            // Between fork and exec a process has no memory of its own.
            wait_for("sleep", Duration::from_secs(10), || {
                let name = fs::read_to_string(format!("/proc/{}/comm", other.id()))?;
                anyhow::ensure!(name.trim() == "sleep", "it is {name}");
                Ok(())
            })
            .unwrap();
            let search_other = search(&[other.id()], &secrets).unwrap();
            assert!(search_other.found.is_empty() && search_other.bytes > 0, "{kind:?} {search_other:?}");
        }
    }

    #[test]
    fn a_secret_across_two_pieces_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory");
        let pattern: Vec<u8> = (1..=32).collect();
        let secret = Secret::new("priv", &pattern).unwrap();
        let mut bytes = vec![0; PIECE + 100];
        bytes.splice(PIECE - 10..PIECE + 22, pattern.iter().rev().copied());
        fs::write(&file, &bytes).unwrap();
        let mut names = Vec::new();
        let end = bytes.len() as u64;
        search_region(&File::open(&file).unwrap(), 0, end, &[secret], &mut names).unwrap();
        assert_eq!(names, ["priv"]);
    }

    #[test]
    fn numbers_are_read_from_a_listing() {
        let listing = "prime1:\n    00:ab:\n    cd\nprime2:\n    01\n";
        assert_eq!(hexadecimal_after(listing, "prime1:"), Some(vec![0, 0xab, 0xcd]));
        assert_eq!(hexadecimal_after(listing, "priv:"), None);
    }
}
