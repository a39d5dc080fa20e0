//! Entries as syslog messages: RFC 5424.

use super::feed::Line;
use crate::audit::ALARM;

/// What programs are known as.
const APP_NAME: &str = "strongroomd";

/// Severities: alert, warning, informational.
const ALERT: u8 = 1;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;

/// The severity of an entry.
pub(super) fn severity(line: &Line) -> u8 {
    match (line.entry.action.as_str(), line.entry.outcome.as_str()) {
        (ALARM, _) => ALERT,
        (_, "success" | "begun") => INFORMATIONAL,
        _ => WARNING,
    }
}

/// What stands in each message.
#[derive(Debug, Clone)]
pub(super) struct Header {
    facility: u8,
    host: String,
    process: u32,
}

impl Header {
    pub(super) fn new(facility: u8) -> Self {
        let host = rustix::system::uname();
        let host = word(&host.nodename().to_string_lossy(), 255);
        Header { facility, host, process: std::process::id() }
    }

    /// The message of an entry. Its text is the line, byte for byte, so that what a receiver writes down can be verified.
    pub(super) fn message(&self, line: &Line) -> String {
        let priority = u32::from(self.facility) * 8 + u32::from(severity(line));
        let (time, id) = (word(&line.entry.time, 64), word(&line.entry.action, 32));
        format!(
            "<{priority}>1 {time} {host} {APP_NAME} {process} {id} - {text}",
            host = self.host,
            process = self.process,
            text = line.text
        )
    }
}

/// A word of a header: printable ASCII, or `-`.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// The number of a facility, by its name (RFC 5424, table 1, and the names that syslog daemons use).
pub(in crate::audit) fn facility(name: &str) -> Option<u8> {
    const NAMES: [&str; 14] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
        "ntp", "audit",
    ];
    let local = name.strip_prefix("local").and_then(|number| number.parse::<u8>().ok());
    match local {
        Some(number) => (number < 8).then_some(16 + number),
        None => NAMES.iter().position(|known| *known == name).and_then(|number| u8::try_from(number).ok()),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_audit::Entry;

    use super::*;

    #[test]
    fn a_message_is_what_the_rfc_says() {
        let header = Header { facility: 13, host: "node-1".into(), process: 42 };
        let entry = Entry {
            time: "2026-11-23T06:00:00.000001Z".into(),
            key: "wéb".into(),
            ..Entry::new("sign", "success")
        };
        let text = serde_json::to_string(&entry).unwrap();
        let line = Line { text: text.clone(), entry };
        let expected = format!("<110>1 2026-11-23T06:00:00.000001Z node-1 strongroomd 42 sign - {text}");
        assert_eq!(header.message(&line), expected);
        let of =
            |action, outcome| severity(&Line { text: String::new(), entry: Entry::new(action, outcome) });
        assert_eq!(
            (of("alarm", "store_tampered"), of("sign", "key_may_not"), of("seal", "begun")),
            (ALERT, WARNING, INFORMATIONAL)
        );
        assert_eq!(word("", 9), "-");
        assert_eq!(word("a b\n\u{e9}c", 2), "ab");
    }

    #[test]
    fn facilities_have_their_numbers() {
        let names = ["kern", "authpriv", "audit", "local0", "local7"];
        assert_eq!(names.map(|name| facility(name).unwrap()), [0, 10, 13, 16, 23]);
        assert_eq!([facility("local8"), facility("nothing"), facility("")], [None; 3]);
    }
}
