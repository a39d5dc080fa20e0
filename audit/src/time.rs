//! Moments, as lines have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The end of the year 9999, in seconds since 1970: the last moment that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Writes a moment: RFC 3339, UTC, to the microsecond.
pub fn moment(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string()
}

/// Reads a moment: microseconds since 1970. `None` if it is none.
pub fn micros_of(text: &str) -> Option<u64> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}
