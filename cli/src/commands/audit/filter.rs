//! Which entries are shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use strongroom_audit::{CHECKPOINT, Entry, SUCCESS, micros_of};
use strongroom_protocol::v1::ErrorCode;

/// What is asked for as the outcome of all that was not done.
const FAILURE: &str = "failure";

/// A moment on the command line, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When(pub u64);

impl When {
    /// Reads how long ago (`2h`, `7d`), a day, or a moment (UTC).
    ///
    /// # Errors
    ///
    /// What it has to look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let moment = match humantime::parse_duration(text) {
            Ok(ago) => SystemTime::now().checked_sub(ago),
            Err(_) if text.len() == "2026-11-23".len() => {
                humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")).ok()
            }
            Err(_) => humantime::parse_rfc3339_weak(text).ok(),
        };
        let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
        since
            .and_then(|since: Duration| u64::try_from(since.as_micros()).ok())
            .map(When)
            .ok_or_else(|| "not like 2h, 7d, 2026-11-23 or 2026-11-23T06:00:00Z".to_owned())
    }
}

/// Which entries.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only about this key: its label, or its object's identity in hexadecimal
    #[arg(long, value_name = "LABEL|OBJECT")]
    key: Option<String>,
    /// Only by this user of the partition
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only from this local user id
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// Only this action, as in sign or destroy_object
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only this outcome: success, failure (all but success), or the error's name
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    outcome: Option<String>,
    /// Only until then
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    until: Option<When>,
    /// Checkpoints, too
    #[arg(long)]
    checkpoints: bool,
}

fn outcome(text: &str) -> Result<String, String> {
    let code = format!("ERROR_CODE_{}", text.to_ascii_uppercase());
    match matches!(text, SUCCESS | "begun" | FAILURE) || ErrorCode::from_str_name(&code).is_some() {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("success, begun, failure (all but these two), or an error's name, as in password_wrong"
            .to_owned()),
    }
}

impl Filter {
    /// Whether everything is shown but checkpoints.
    pub fn is_open(&self) -> bool {
        self.key.is_none()
            && self.user.is_none()
            && self.uid.is_none()
            && self.action.is_none()
            && self.outcome.is_none()
            && self.until.is_none()
    }

    /// Whether an entry is shown.
    pub fn shows(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let is_key = self.key.as_ref().is_none_or(|key| *key == entry.key || *key == entry.object);
        let has_outcome = match self.outcome.as_deref() {
            None => true,
            Some(FAILURE) => !matches!(entry.outcome.as_str(), SUCCESS | "begun"),
            Some(outcome) => outcome == entry.outcome,
        };
        let is_before =
            self.until.is_none_or(|until| micros_of(&entry.time).is_none_or(|time| time <= until.0));
        let is_checkpoint = entry.action == CHECKPOINT;
        is_key
            && is(&self.user, &entry.user)
            && is(&self.action, &entry.action)
            && self.uid.is_none_or(|uid| entry.uid == Some(uid))
            && has_outcome
            && is_before
            && (self.checkpoints || !is_checkpoint || self.action.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let day = When(1_795_392_000_000_000);
        for text in ["2026-11-23", "2026-11-23T00:00:00Z", "2026-11-23 00:00:00"] {
            assert_eq!(When::parse(text), Ok(day), "{text}");
        }
        assert!(When::parse("2h").unwrap().0 > 0);
        for text in ["", "yesterday", "2026-13-23", "-1h"] {
            assert!(When::parse(text).is_err(), "{text}");
        }
    }
}
