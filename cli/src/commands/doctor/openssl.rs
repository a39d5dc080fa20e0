//! What OpenSSL's own command says with the configuration.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Findings;

/// For OpenSSL's answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `openssl` which providers it has with this configuration.
pub(super) fn look(conf: &Path, findings: &mut Findings) {
    let Some((_, version, _)) = run(&["version"], None) else {
        let remedy = "install the package openssl, to try the configuration with it";
        return findings.warn("no_openssl", "openssl", "is not installed, or does not answer", remedy);
    };
    let number = version.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let major: u32 = number.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    if major < 3 {
        let message = format!("is of version {number}, which has no providers");
        return findings.problem("openssl_too_old", "openssl", message, "OpenSSL 3.0 or newer");
    }
    if !conf.exists() {
        return;
    }
    let Some((success, listed, errors)) = run(&["list", "-providers"], Some(conf)) else {
        let remedy = "try 'openssl list -providers' with OPENSSL_CONF set";
        return findings.problem("openssl_silent", conf.display(), "OpenSSL does not answer with it", remedy);
    };
    // "  strongroom", and below it, further in, its name, version and status.
    let mut lines = listed.lines().skip_while(|line| line.trim() != "strongroom").skip(1);
    let own: Vec<&str> = lines.by_ref().take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    let said = |name: &str| own.iter().find_map(|line| line.strip_prefix(name));
    if !success || said("status: ") != Some("active") {
        let error = errors.lines().next().unwrap_or("it is not among the providers that are active");
        return findings.problem(
            "openssl_does_not_load",
            conf.display(),
            format!("OpenSSL {number} does not load the provider: {error}"),
            "the findings above say why; else 'openssl list -providers' with OPENSSL_CONF set",
        );
    }
    let (found, wanted) = (said("version: ").unwrap_or_default(), env!("CARGO_PKG_VERSION"));
    if found != wanted {
        findings.warn(
            "provider_version_differs",
            conf.display(),
            format!("the provider is of release {found}, this command of {wanted}"),
            "install one release of all parts, and restart the servers",
        );
    }
    findings.ok(
        "openssl_loads",
        conf.display(),
        format!("OpenSSL {number} loads the provider, release {found}"),
    );
}

/// Whether it succeeded, and what it wrote to standard output and standard error.
fn run(arguments: &[&str], conf: Option<&Path>) -> Option<(bool, String, String)> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match conf {
        Some(conf) => command.env("OPENSSL_CONF", conf),
        None => command.env("OPENSSL_CONF", "/dev/null"),
    };
    let mut child = command.spawn().ok()?;
    let until = Instant::now() + DEADLINE;
    // A few lines, which fit the pipes.
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((output.status.success(), text(&output.stdout), text(&output.stderr)))
}
