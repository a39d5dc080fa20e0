//! Where a PIN lies, and who can read it. It is not tried: a wrong one would cost a try.

use std::path::{Path, PathBuf};

use super::Findings;
use super::files::{Person, is_open_to_all};

/// Looks at the setting `pkcs11-module-token-pin` of the configuration `conf`.
pub(super) fn look(value: &str, conf: &Path, person: Option<&Person>, findings: &mut Findings) {
    let file = match value.split_once(':') {
        Some(("file", path)) => Some(PathBuf::from(path.trim_start_matches("//"))),
        Some(("credential" | "exec", _)) => return,
        _ if value.starts_with('/') => Some(PathBuf::from(value)),
        _ => None,
    };
    let Some(file) = file else {
        if let Some(mode) = is_open_to_all(conf) {
            findings.problem(
                "pin_readable_by_all",
                conf.display(),
                format!("holds a PIN, and every user can read it (mode {mode:o})"),
                "put the PIN into a file with mode 640 and the server's group, and name it: 'file:/path'; or admit the \
                 server's user id with 'strongroom user admit' and drop the PIN",
            );
        }
        return;
    };
    let subject = file.display();
    if !file.exists() {
        let remedy = "write the PIN into the file (for a partition: NAME:PASSWORD), or drop the setting";
        return findings.problem(
            "pin_file_missing",
            subject,
            "is not there, and should hold the PIN",
            remedy,
        );
    }
    if let Some(mode) = is_open_to_all(&file) {
        findings.problem(
            "pin_readable_by_all",
            subject.to_string(),
            format!("holds a PIN, and every user can read it (mode {mode:o})"),
            format!("chmod 640 {subject}, with the server's group"),
        );
    }
    if let Some((person, place)) = person.and_then(|person| Some((person, person.kept_out_by(&file)?))) {
        findings.problem(
            "pin_file_unreadable",
            subject.to_string(),
            format!("{} may not read it: {} forbids it", person.name, place.display()),
            format!("chgrp {} {subject} && chmod 640 {subject}", person.name),
        );
    }
    let Ok(text) = std::fs::read_to_string(&file).map(zeroize::Zeroizing::new) else { return };
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        findings.problem(
            "pin_file_empty",
            subject,
            "its first line is empty",
            "write the PIN into its first line",
        );
    } else if line.trim() != line {
        let message = "its first line begins or ends with blanks, which belong to the PIN";
        findings.warn("pin_with_blanks", subject, message, "remove them, unless they are meant");
    }
}
