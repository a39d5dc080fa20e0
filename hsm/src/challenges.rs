//! Challenges that wait for the owner's signature. Kept in memory: a restart ends them.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use strongroom_owner::challenge::NONCE;

use crate::crypto::aws_lc;

/// How long a challenge waits for its answer.
pub const LIFE: Duration = Duration::from_secs(600);

/// A challenge that has so long to go is given again: asking again, which anybody can, neither voids the one that
/// the owner is signing nor makes more than two for a user.
const WORTH_GIVING: Duration = Duration::from_secs(300);

/// Those of one partition, by user.
#[derive(Debug, Default)]
pub struct Challenges(HashMap<String, Vec<Waiting>>);

#[derive(Debug, Clone)]
struct Waiting {
    text: String,
    until: Instant,
    expires: SystemTime,
}

impl Challenges {
    /// The challenge for a user, and until when it is good. `write` makes its text of a nonce and that moment.
    pub fn issue(
        &mut self,
        user: &str,
        write: impl FnOnce([u8; NONCE], SystemTime) -> String,
    ) -> (String, SystemTime) {
        self.issue_at(Instant::now(), user, write)
    }

    fn issue_at(
        &mut self,
        now: Instant,
        user: &str,
        write: impl FnOnce([u8; NONCE], SystemTime) -> String,
    ) -> (String, SystemTime) {
        self.forget_old(now);
        let of_user = self.0.entry(user.to_owned()).or_default();
        if let Some(waiting) = of_user.iter().find(|waiting| waiting.until >= now + WORTH_GIVING) {
            return (waiting.text.clone(), waiting.expires);
        }
        let expires = SystemTime::now() + LIFE;
        let text = write(aws_lc::random_array(), expires);
        of_user.push(Waiting { text: text.clone(), until: now + LIFE, expires });
        (text, expires)
    }

    /// The texts that an answer for this user may be to.
    pub fn waiting(&mut self, user: &str) -> Vec<String> {
        self.forget_old(Instant::now());
        self.0.get(user).into_iter().flatten().map(|waiting| waiting.text.clone()).collect()
    }

    /// Takes an answered challenge out, with the others of its user. False if it was not there any more.
    pub fn take(&mut self, user: &str, text: &str) -> bool {
        let is_there = self.0.get(user).is_some_and(|all| all.iter().any(|waiting| waiting.text == text));
        if is_there {
            self.0.remove(user);
        }
        is_there
    }

    fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, all| {
            all.retain(|waiting| waiting.until > now);
            !all.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_and_for_ten_minutes() {
        let mut challenges = Challenges::default();
        let now = Instant::now();
        let write = |nonce: [u8; NONCE], _| format!("{nonce:?}");
        let (first, _) = challenges.issue_at(now, "admin", write);
        // Asking again gives the same while it is fresh, and then another beside it.
        assert_eq!(challenges.issue_at(now + WORTH_GIVING, "admin", write).0, first);
        let late = now + WORTH_GIVING + Duration::from_secs(1);
        let (second, _) = challenges.issue_at(late, "admin", write);
        assert_ne!(first, second);
        assert_eq!(challenges.waiting("admin"), [first.clone(), second.clone()]);
        challenges.issue_at(now + LIFE, "other", write);
        assert_eq!(challenges.0["admin"].len(), 1, "the first has run out");
        assert!(!challenges.take("admin", &first) && !challenges.take("other", &second));
        assert!(challenges.take("admin", &second) && !challenges.take("admin", &second));
        assert_eq!(challenges.waiting("admin"), [] as [String; 0]);
    }
}
