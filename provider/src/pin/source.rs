//! Where a PIN is: a file, a systemd credential, a program that prints it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroize;

use super::{Secret, program};
use crate::error::{Error, Result};

/// How long a source may take until it has said the PIN.
const DEADLINE: Duration = Duration::from_secs(10);

/// For how long a program is not run again: a server loads all its keys one after the other.
const PRINTED: Duration = Duration::from_secs(30);

/// The credential that is looked for where no PIN is given: with the token's label after a dot, or alone.
const CREDENTIAL: &str = "strongroom-pin";

/// What the sources of PINs may use.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Where systemd put the service's credentials ($CREDENTIALS_DIRECTORY when the provider was loaded).
    credentials: Option<PathBuf>,
    /// The programs that a URI may name. A URI may come from people, or files, that are trusted to choose a key and not
    /// to run programs as the server's user, which is root at the start.
    programs: Vec<PathBuf>,
    /// What programs printed last.
    printed: Arc<Mutex<Vec<Printed>>>,
}

/// What a program printed.
#[derive(Debug)]
struct Printed {
    program: PathBuf,
    at: Instant,
    pin: Secret,
}

/// The PIN of the settings.
#[derive(Debug, Clone)]
pub struct Configured {
    /// What it was when the provider was loaded: a worker may not be able to read it any more.
    loaded: Result<Option<Secret>>,
    /// Where it is, if it is not in openssl.cnf itself.
    source: Option<String>,
    sources: Sources,
}

impl Sources {
    /// With these credentials, and these programs for URIs.
    pub fn new(credentials: Option<PathBuf>, programs: Vec<PathBuf>) -> Self {
        Sources { credentials, programs, printed: Arc::default() }
    }

    /// The PIN at `source`, which a URI names: an absolute path or `file:` URI of a file whose first line it is,
    /// `credential:` and a name, or `exec:` (or `|`, as in RFC 7512) and the absolute path of a program that the settings
    /// allow, which prints it.
    ///
    /// # Errors
    ///
    /// [`Error::PinSource`] if it cannot be had, or is not one line of 1 to 1,024 bytes.
    pub fn fetch_for_uri(&self, source: &str, is_refused: impl Fn(&Secret) -> bool) -> Result<Secret> {
        if let Some(program) = program_of(source)
            && !self.programs.iter().any(|allowed| allowed == Path::new(program))
        {
            return Err(Error::PinSource {
                from: format!("exec:{program}"),
                why: "a URI may not run it unless strongroom-pin-programs in openssl.cnf names it".into(),
            });
        }
        self.fetch(source, is_refused)
    }

    /// As [`fetch_for_uri`](Self::fetch_for_uri), for a source in openssl.cnf: whoever writes that may run any program.
    fn fetch(&self, source: &str, is_refused: impl Fn(&Secret) -> bool) -> Result<Secret> {
        if let Some(program) = program_of(source) {
            return self.printed_by(Path::new(program), is_refused);
        }
        if let Some(name) = source.strip_prefix("credential:") {
            return self.credential(name);
        }
        let path = source.strip_prefix("file:").unwrap_or(source);
        let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        if !path.starts_with('/') {
            // It may be the PIN itself: it is not repeated.
            return Err(Error::PinSource {
                from: "(a relative path)".into(),
                why: "give an absolute path".into(),
            });
        }
        first_line(Path::new(path))
    }

    /// The PIN that a program prints, or printed a moment ago unless the token has refused that.
    fn printed_by(&self, program: &Path, is_refused: impl Fn(&Secret) -> bool) -> Result<Secret> {
        // A thread that a child does not have may hold the lock: then the program is run once more.
        if let Ok(mut printed) = self.printed.try_lock() {
            printed.retain(|printed| printed.at.elapsed() < PRINTED && !is_refused(&printed.pin));
            if let Some(printed) = printed.iter().find(|printed| printed.program == program) {
                return Ok(printed.pin.clone());
            }
        }
        let pin = program::run(program, Instant::now() + DEADLINE)?;
        if let Ok(mut printed) = self.printed.try_lock() {
            printed.push(Printed { program: program.to_owned(), at: Instant::now(), pin: pin.clone() });
        }
        Ok(pin)
    }

    /// The PIN that systemd passed for this token alone, if it passed one: credential `strongroom-pin.LABEL`.
    ///
    /// # Errors
    ///
    /// [`Error::PinSource`] if there is one that cannot be read or is no PIN.
    pub fn credential_of(&self, token: &str) -> Result<Option<Secret>> {
        self.existing(&format!("{CREDENTIAL}.{token}"))
    }

    /// The PIN that systemd passed for a token: credential `strongroom-pin.LABEL` or, for any token, `strongroom-pin`.
    ///
    /// # Errors
    ///
    /// As [`credential_of`](Self::credential_of).
    pub fn credential_for(&self, token: &str) -> Result<Option<Secret>> {
        match self.credential_of(token)? {
            Some(pin) => Ok(Some(pin)),
            None => self.existing(CREDENTIAL),
        }
    }

    fn existing(&self, name: &str) -> Result<Option<Secret>> {
        let exists = |folder: &PathBuf| is_file_name(name) && folder.join(name).exists();
        if !self.credentials.as_ref().is_some_and(exists) {
            return Ok(None);
        }
        self.credential(name).map(Some)
    }

    fn credential(&self, name: &str) -> Result<Secret> {
        let failed = |why: &str| Error::PinSource { from: format!("credential:{name}"), why: why.to_owned() };
        let Some(folder) = &self.credentials else {
            return Err(failed(
                "the service has no credentials ($CREDENTIALS_DIRECTORY was not set at its start); see LoadCredential= in systemd.exec(5)",
            ));
        };
        if !is_file_name(name) {
            return Err(failed("that is not a credential's name"));
        }
        first_line(&folder.join(name))
    }
}

impl Configured {
    /// Takes the setting: the PIN itself, or a source as in a URI, with its `file:`, `credential:` or `exec:` before it.
    pub fn new(setting: Option<String>, sources: &Sources) -> Self {
        let Some(mut value) = setting else {
            return Configured { loaded: Ok(None), source: None, sources: sources.clone() };
        };
        if ["file:", "credential:", "exec:"].iter().any(|scheme| value.starts_with(scheme)) {
            let loaded = sources.fetch(&value, |_| false).map(Some);
            return Configured { loaded, source: Some(value), sources: sources.clone() };
        }
        let loaded = Secret::new(value.as_bytes()).map(Some);
        value.zeroize();
        Configured { loaded, source: None, sources: sources.clone() }
    }

    /// The PIN, if there is one: as it is now where it comes from, so that a reload finds a new one or, where this process may
    /// not read that, as it was.
    ///
    /// # Errors
    ///
    /// [`Error::PinSource`] if it cannot be had, now or then.
    pub fn pin(&self, is_refused: impl Fn(&Secret) -> bool) -> Result<Option<Secret>> {
        let Some(source) = &self.source else { return self.loaded.clone() };
        match (self.sources.fetch(source, is_refused), &self.loaded) {
            (Err(_), Ok(Some(loaded))) => Ok(Some(loaded.clone())),
            (now, _) => now.map(Some),
        }
    }
}

/// The program that a source names, if it names one.
fn program_of(source: &str) -> Option<&str> {
    source.strip_prefix("exec:").or_else(|| source.strip_prefix('|'))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// The first line of a file. One that is a pipe is waited for, not for ever.
fn first_line(path: &Path) -> Result<Secret> {
    let from = path.display().to_string();
    let failed = |error: std::io::Error| Error::PinSource { from: from.clone(), why: error.to_string() };
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    Secret::fill(&from, |room| {
        let until = Instant::now() + DEADLINE;
        let read = read_until(file, until, room, |text| text.contains(&b'\n'))?;
        line(room, read)
    })
}

/// Reads into `room` up to the end, or as far as is `enough`.
///
/// # Errors
///
/// For people, also if `room` is too small or it takes longer than `until`.
pub fn read_until(
    mut file: impl Read + AsFd,
    until: Instant,
    room: &mut [u8],
    enough: impl Fn(&[u8]) -> bool,
) -> std::result::Result<usize, String> {
    let mut read = 0;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        let mut polled = [PollFd::new(&file, PollFlags::IN)];
        match poll(&mut polled, left.as_ref()) {
            Ok(0) => return Err(format!("nothing came within {} s", DEADLINE.as_secs())),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
        let rest =
            room.get_mut(read..).filter(|rest| !rest.is_empty()).ok_or("it says too much for a PIN")?;
        match file.read(rest) {
            Ok(0) => return Ok(read),
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
        if enough(room.get(..read).unwrap_or_default()) {
            return Ok(read);
        }
    }
}

/// The length of the first line of the first `read` bytes. The rest is wiped.
///
/// # Errors
///
/// If it is empty.
pub fn line(room: &mut [u8], read: usize) -> std::result::Result<usize, String> {
    let text = room.get(..read).unwrap_or_default();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let length = line.strip_suffix(b"\r").unwrap_or(line).len();
    room.get_mut(length..).unwrap_or_default().zeroize();
    if length == 0 {
        return Err("its first line is empty".into());
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(folder: &Path) -> Sources {
        Sources::new(Some(folder.into()), Vec::new())
    }

    #[test]
    fn a_source_is_the_first_line_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        let sources = sources(folder.path());
        std::fs::write(&path, "user:secret\r\nmore").unwrap();
        for source in [
            path.display().to_string(),
            format!("file:{}", path.display()),
            format!("file://{}", path.display()),
            "credential:pin".into(),
        ] {
            assert_eq!(
                sources.fetch_for_uri(&source, |_| false).unwrap().bytes(),
                b"user:secret",
                "{source}"
            );
        }
        for wrong in ["", "\n1234", &"1".repeat(1025)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(sources.fetch_for_uri(&path.display().to_string(), |_| false).is_err(), "{wrong}");
        }
        std::fs::write(&path, "1".repeat(1024)).unwrap();
        for source in ["pin", "relative/pin", "credential:../pin", "credential:", "credential:other"] {
            let error = sources.fetch_for_uri(source, |_| false).unwrap_err();
            assert!(matches!(error, Error::PinSource { .. }), "{source}: {error}");
        }
        let outside = Sources::default().fetch_for_uri("credential:pin", |_| false).unwrap_err().to_string();
        assert!(outside.contains("LoadCredential"), "{outside}");
    }

    #[test]
    fn the_token_s_own_credential_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path());
        let pin = |token| sources.credential_for(token).unwrap().map(|pin| pin.bytes().to_vec());
        assert_eq!(pin("tls"), None);
        std::fs::write(folder.path().join("strongroom-pin"), "1").unwrap();
        std::fs::write(folder.path().join("strongroom-pin.tls"), "2").unwrap();
        assert_eq!((pin("tls").unwrap(), pin("other").unwrap()), (b"2".to_vec(), b"1".to_vec()));
        assert_eq!(pin("../strongroom-pin").unwrap(), b"1");
    }

    #[test]
    fn a_pin_that_was_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        std::fs::write(&path, "old").unwrap();
        let configured = Configured::new(Some(format!("file:{}", path.display())), &Sources::default());
        let pin = |configured: &Configured| configured.pin(|_| false).unwrap().unwrap().bytes().to_vec();
        assert_eq!(pin(&configured), b"old");
        std::fs::write(&path, "new").unwrap();
        assert_eq!(pin(&configured), b"new");
        // A worker may not read it any more.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(pin(&configured), b"old");
        let plain = Configured::new(Some("1234".into()), &Sources::default());
        assert_eq!(pin(&plain), b"1234");
        let none = Configured::new(None, &Sources::default());
        assert_eq!(none.pin(|_| true), Ok(None));
    }

    #[test]
    fn a_program_is_run_once_unless_its_pin_was_refused() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pin");
        let text = format!("#!/bin/sh\necho x >>{0}/runs\nwc -l <{0}/runs\n", folder.path().display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sources = Sources::new(None, vec![program.clone()]);
        let source = format!("exec:{}", program.display());
        for (refused, pin) in [("0", "1"), ("0", "1"), ("1", "2"), ("1", "2")] {
            let fetched = sources.fetch_for_uri(&source, |pin| pin.bytes() == refused.as_bytes()).unwrap();
            assert_eq!(fetched.bytes(), pin.as_bytes());
        }
    }

    #[test]
    fn a_uri_runs_only_what_the_settings_allow() {
        let sources = Sources::new(None, vec!["/bin/pwd".into()]);
        for source in ["exec:/bin/pwd", "|/bin/pwd"] {
            assert_eq!(sources.fetch_for_uri(source, |_| false).unwrap().bytes(), b"/", "{source}");
        }
        for source in
            ["exec:/usr/bin/id", "|/usr/bin/id", "exec:pwd", "exec:/bin/../bin/pwd", "exec:/bin/pwd -P"]
        {
            let error = sources.fetch_for_uri(source, |_| false).unwrap_err().to_string();
            assert!(error.contains("strongroom-pin-programs"), "{source}: {error}");
        }
    }
}
