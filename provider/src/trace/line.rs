//! Text of a fixed size on the stack.

use std::fmt::{self, Display, Write};
use std::mem::MaybeUninit;

/// What a line is about; what is longer is cut off.
pub type Text = Buffer<256>;

/// A line of the log.
pub type Line = Buffer<1024>;

/// Text of at most `N` bytes. Control characters become question marks: a label could otherwise forge lines.
#[derive(Clone, Copy)]
pub struct Buffer<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Buffer<N> {
    /// None.
    pub const EMPTY: Self = Buffer { bytes: [0; N], length: 0 };

    /// Its bytes.
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Line {
    /// A line with the time, the process and the thread.
    pub fn now() -> Self {
        let mut line = Buffer::EMPTY;
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut date = MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: each writes one structure of ours, of which zeros are a valid value.
        let (date, process, thread) = unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut now);
            libc::gmtime_r(&now.tv_sec, date.as_mut_ptr());
            (date.assume_init(), libc::getpid(), libc::gettid())
        };
        let _ = write!(
            line,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z {process} {thread} ",
            date.tm_year + 1900,
            date.tm_mon + 1,
            date.tm_mday,
            date.tm_hour,
            date.tm_min,
            date.tm_sec,
            now.tv_nsec / 1000,
        );
        line
    }

    /// Its bytes, with a newline at the end.
    pub fn end(&mut self) -> &[u8] {
        while self.as_bytes().last() == Some(&b' ') {
            self.length -= 1;
        }
        self.length = self.length.min(self.bytes.len() - 1);
        if let Some(end) = self.bytes.get_mut(self.length) {
            *end = b'\n';
            self.length += 1;
        }
        self.as_bytes()
    }
}

impl<const N: usize> Write for Buffer<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = if from < b' ' || from == 0x7f { b'?' } else { from };
            self.length += 1;
        }
        Ok(())
    }
}

impl<const N: usize> Display for Buffer<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let valid = match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            // Cut off in the middle of a character.
            Err(error) => {
                let valid = self.as_bytes().get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).unwrap_or_default()
            }
        };
        f.write_str(valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_not_longer_than_its_room() {
        let mut line = Line::now();
        let _ = write!(line, "token \"a\nb\"{}", "ü".repeat(600));
        let bytes = line.end().to_vec();
        assert_eq!(bytes.len(), 1024);
        assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(1023));
        let mut text = Text::EMPTY;
        let _ = write!(text, "x{}", "ü".repeat(200));
        assert_eq!(text.to_string(), format!("x{}", "ü".repeat(127)));
    }
}
