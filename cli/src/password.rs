//! Passwords: typed at a terminal, read from a file, or made at random. Never from the command line or
//! the environment, where other users of the machine can read them.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// A password, wiped when dropped.
pub type Password = Zeroizing<String>;

/// The largest password file that is read, in bytes.
const MAX_FILE: u64 = 4096;

/// Without letters and digits that look alike.
const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// Length of a generated password in characters: 118 bits.
const GENERATED: usize = 24;

/// Whether somebody is there to be asked.
pub fn interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a password at the terminal.
///
/// # Errors
///
/// If there is no terminal or the person ends the input.
pub fn ask(prompt: &str) -> Result<Password, Failure> {
    rpassword::prompt_password(format!("{prompt}: "))
        .map(Zeroizing::new)
        .map_err(|e| Failure::file("read a password from", "the terminal".as_ref(), &e))
}

/// Asks for a new password, twice.
///
/// # Errors
///
/// As [`ask`], and if the two differ.
pub fn ask_new(prompt: &str) -> Result<Password, Failure> {
    let first = ask(prompt)?;
    let second = ask("Again, the same")?;
    if *first == *second {
        Ok(first)
    } else {
        Err(Failure::new(Exit::Failed, "passwords_differ", "the two passwords differ: nothing was changed"))
    }
}

/// Reads a password: the first line of `path`, or of standard input if `path` is `-`. Warns if other users
/// may read the file.
///
/// # Errors
///
/// If the file cannot be read, is larger than 4 KiB, is not UTF-8 or has an empty first line.
pub fn from_file(path: &Path, output: Output) -> Result<Password, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let failed = |e: io::Error| Failure::file("read the password file", path, &e);
    if path.as_os_str() == "-" {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            let path = path.display();
            output.warn(&format!("other users can read the password file {path}: 'chmod 600 {path}'"));
        }
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    let unfit = |what: &str| {
        let message = format!("the password file {} {what}: the password is its first line", path.display());
        Failure::new(Exit::Failed, "password_file", message)
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(unfit("is larger than 4 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unfit("is not UTF-8"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(unfit("begins with an empty line")),
    }
}

/// Makes a random password.
///
/// # Errors
///
/// If the kernel gives no random bytes.
pub fn generate() -> Result<Password, Failure> {
    let mut password = Zeroizing::new(String::with_capacity(GENERATED));
    let mut random = [0; 64];
    while password.len() < GENERATED {
        let got = getrandom(&mut random, GetRandomFlags::empty())
            .map_err(|e| Failure::file("read", "random bytes".as_ref(), &e.into()))?;
        let letters = random.iter().take(got).filter_map(|byte| ALPHABET.get(usize::from(byte & 31)));
        let missing = GENERATED - password.len();
        password.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    random.zeroize();
    Ok(password)
}

/// Writes a password to a new file that only its owner may read.
///
/// # Errors
///
/// If the file exists or cannot be written.
pub fn write_file(path: &Path, password: &Password) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(password.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|e| Failure::file("write the password file", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Password, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        from_file(file.path(), Output::new(false))
    }

    #[test]
    fn the_password_is_the_first_line() {
        assert_eq!(*read(b"correct horse\nbattery\n").unwrap(), "correct horse");
        assert_eq!(*read(b"no line feed").unwrap(), "no line feed");
        assert_eq!(*read(b"from dos\r\n").unwrap(), "from dos");
    }

    #[test]
    fn files_that_hold_no_password_are_refused() {
        for content in [&b""[..], b"\nsecond", &[0xff, 0xfe], &[b'x'; 4097]] {
            assert_eq!(read(content).unwrap_err().code(), "password_file");
        }
    }

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_eq!(a.len(), GENERATED);
        assert_ne!(*a, *b);
        assert!(a.bytes().all(|c| ALPHABET.contains(&c)));
    }

    #[test]
    fn a_written_file_is_private_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("officer");
        write_file(&path, &Zeroizing::new("one".into())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_file(&path, &Zeroizing::new("two".into())).unwrap_err().exit(), Exit::Exists);
        assert_eq!(*from_file(&path, Output::new(false)).unwrap(), "one");
    }
}
