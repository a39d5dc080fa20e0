//! The debug log: a line for each call into the provider and for each PKCS#11 call, with what it was about, how long it took and
//! how it ended. It never has a PIN, a key, or data that is signed.
//!
//! Off, it costs one relaxed load. On, it takes no lock and no memory: the descriptor is opened when the provider is loaded,
//! so that workers that have given up their rights still write, and a line is one write(2) to the end of the file, so that
//! the lines of many processes do not mix.

mod line;
mod sink;

use std::cell::Cell;
use std::fmt::{self, Display, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use cryptoki_sys::CK_RV;

use crate::core::Core;
use crate::error::Rv;
use line::{Line, Text};

/// Nothing, PKCS#11 calls and errors, or libcrypto's calls too.
static LEVEL: AtomicU8 = AtomicU8::new(OFF);
const OFF: u8 = 0;
const TOKEN: u8 = 1;
const ALL: u8 = 2;

thread_local! {
    /// What this thread's calls are about: a key's or a search's URI.
    static SUBJECT: Cell<Text> = const { Cell::new(Text::EMPTY) };
}

/// Opens the log, if `strongroom-debug` in openssl.cnf or the environment's PKCS11_PROVIDER_DEBUG asks for one: `file:PATH` and
/// `level:NUMBER`, separated by a comma, as pkcs11-provider has it. A program that runs with more rights than its user's takes
/// nothing from the environment. A file that cannot be opened is no failure: nobody could read of it.
pub fn open(core: &Core) {
    let wanted = core.setting(c"strongroom-debug").filter(|value| !value.is_empty());
    let Some(wanted) = wanted.or_else(|| crate::environment::variable(c"PKCS11_PROVIDER_DEBUG")) else {
        return;
    };
    let wanted = Wanted::parse(&wanted);
    if wanted.level > OFF && sink::open(wanted.file) {
        LEVEL.store(wanted.level.min(ALL), Ordering::Relaxed);
        note(format_args!(
            "strongroom {} in a program with {}",
            env!("CARGO_PKG_VERSION"),
            core.setting(c"openssl-version").as_deref().unwrap_or("another libcrypto"),
        ));
    }
}

/// What the setting says.
#[derive(Debug, PartialEq)]
struct Wanted<'a> {
    file: &'a str,
    level: u8,
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Self {
        // As in pkcs11-provider: to the error output if no file is named, and level 1.
        let mut wanted = Wanted { file: "/dev/stderr", level: TOKEN };
        for part in text.split(',') {
            match part.trim().split_once(':') {
                Some(("file", path)) => wanted.file = path,
                Some(("level", level)) => wanted.level = level.trim().parse().unwrap_or(TOKEN),
                _ => {}
            }
        }
        wanted
    }
}

fn is_on(level: u8) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level
}

/// Says what the calls of this thread are about from here on, until the call from libcrypto that it is in ends.
pub fn subject<T: Display>(subject: impl FnOnce() -> T) {
    if is_on(TOKEN) {
        let mut text = Text::EMPTY;
        let _ = write!(text, "{}", subject());
        SUBJECT.set(text);
    }
}

/// A call from libcrypto.
pub struct Call {
    began: Instant,
    outer: Text,
}

/// Begins a call from libcrypto, if those are traced.
// Not in line: a caller that pauses a job may go on in another thread, with the address of this one's place.
#[inline(never)]
pub fn enter() -> Option<Call> {
    is_on(ALL).then(|| Call { began: Instant::now(), outer: SUBJECT.replace(Text::EMPTY) })
}

impl Call {
    /// Ends it.
    #[inline(never)]
    pub fn leave(self, function: &str, outcome: &str) {
        let subject = SUBJECT.replace(self.outer);
        finished(function, self.began, format_args!("{outcome}"), &subject);
    }
}

/// Makes a PKCS#11 call.
pub fn pkcs11(function: &str, call: impl FnOnce() -> CK_RV) -> CK_RV {
    #[cfg(debug_assertions)]
    crate::inject::at_token();
    if !is_on(TOKEN) {
        return call();
    }
    let began = Instant::now();
    let rv = call();
    finished(function, began, format_args!("{}", Rv(rv)), &SUBJECT.get());
    rv
}

/// Notes an error, as it goes to OpenSSL's queue.
pub fn error(text: impl Display) {
    note(format_args!("error: {text}"));
}

fn note(text: fmt::Arguments) {
    if is_on(TOKEN) {
        let mut line = Line::now();
        let _ = line.write_fmt(text);
        sink::write(line.end());
    }
}

fn finished(function: &str, began: Instant, outcome: fmt::Arguments, subject: &Text) {
    let took = began.elapsed();
    let mut line = Line::now();
    let _ = write!(line, "{function} {}.{:06} s {outcome} {subject}", took.as_secs(), took.subsec_micros());
    sink::write(line.end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_pkcs11_providers() {
        for (text, file, level) in [
            ("file:/tmp/a.log", "/tmp/a.log", 1),
            ("file:/tmp/a.log,level:2", "/tmp/a.log", 2),
            ("level:2,file:/tmp/a:b", "/tmp/a:b", 2),
            ("level:0", "/dev/stderr", 0),
            ("file:/x,level:much", "/x", 1),
        ] {
            assert_eq!(Wanted::parse(text), Wanted { file, level }, "{text}");
        }
    }
}
