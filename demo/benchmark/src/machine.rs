//! What was measured on, and with which versions.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_demo::command;
use strongroom_demo::programs::system;

/// How long a program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(10);

/// The machine and the programs of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, as it says itself.
    pub processor: String,
    /// Processors that programs can use.
    pub processors: usize,
    /// Of the processor's extensions those that matter here.
    pub extensions: Vec<String>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel name, release and machine type.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// Programs and their versions, in the order of the data flow.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// Looks around. What cannot be found out is left empty.
    pub fn look() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = processor.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let flags = field("flags");
        let telling = ["aes", "avx2", "avx512ifma", "avx512_ifma", "vaes", "vpclmulqdq", "sha_ni"];
        let kernel = rustix::system::uname();
        Machine {
            processor: field("model name"),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            extensions: flags.split(' ').filter(|flag| telling.contains(flag)).map(str::to_owned).collect(),
            memory_mib: memory_mib(),
            kernel: [kernel.sysname(), kernel.release(), kernel.machine()]
                .map(|part| part.to_string_lossy().into_owned())
                .join(" "),
            system: distribution(),
            versions: versions(),
        }
    }
}

fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn distribution() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

fn versions() -> Vec<(String, String)> {
    let mut found = vec![("Strongroom".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    if let Some(commit) = commit() {
        found.push(("commit".to_owned(), commit));
    }
    for (name, program, argument) in [
        ("OpenSSL", "openssl", "version"),
        ("nginx", "nginx", "-v"),
        ("Apache", "apache2", "-v"),
        ("HAProxy", "haproxy", "-v"),
        ("SoftHSM", "softhsm2-util", "--version"),
    ] {
        let Ok(program) = system(program) else { continue };
        let mut command = command::new(program);
        command.arg(argument);
        let Ok(finished) = command::run(command, LIMIT) else { continue };
        let mut text = String::from_utf8_lossy(&finished.stdout).into_owned();
        text.push_str(&finished.stderr);
        found.push((name.to_owned(), number(&text)));
    }
    if let Some(version) = package("libengine-pkcs11-openssl") {
        found.push(("libp11".to_owned(), version));
    }
    found
}

/// The first word that begins with a digit, without what surrounds it: `nginx/1.22.1` says `1.22.1`.
fn number(text: &str) -> String {
    let begins = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    text.split(|c: char| c.is_whitespace() || c == '/').find(|word| begins(word)).unwrap_or("?").to_owned()
}

fn package(name: &str) -> Option<String> {
    let mut command = command::new(system("dpkg-query").ok()?);
    command.args(["--show", "--showformat=${Version}", name]);
    command::succeed(command, LIMIT).ok().filter(|version| !version.is_empty())
}

fn commit() -> Option<String> {
    let mut command = command::new(system("git").ok()?);
    let folder = strongroom_demo::programs::repository("");
    command.arg("-C").arg(folder).args(["describe", "--always", "--dirty", "--abbrev=10"]);
    command::succeed(command, LIMIT).ok().map(|commit| commit.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(number("nginx version: nginx/1.22.1\n"), "1.22.1");
        assert_eq!(number("Server version: Apache/2.4.71 (Debian)\nServer built: 2026"), "2.4.71");
        assert_eq!(number("OpenSSL 3.0.22 25 Aug 2026"), "3.0.22");
        assert_eq!(number("nothing"), "?");
    }
}
