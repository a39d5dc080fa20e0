//! Users in reports.

use serde::Serialize;
use strongroom_protocol::v1::UserInfo;

use crate::commands::partition::{role_code, role_of_code};
use crate::commands::user::Uid;
use crate::output::{Cell, Page, Report, Tone};
use crate::session::role_name;

/// A user in reports.
#[derive(Debug, Serialize)]
pub struct UserView {
    /// The user's name.
    pub name: String,
    role: Option<&'static str>,
    /// Local user ids that act as this user.
    pub uids: Vec<u32>,
    /// Whether there is a password.
    pub has_password: bool,
    /// Uses only keys that name it.
    limited: bool,
    locked: bool,
    failed_attempts: u32,
    /// Somebody else has set the password: the user changes it at the first log-in.
    must_change_password: bool,
}

impl From<UserInfo> for UserView {
    fn from(user: UserInfo) -> Self {
        UserView {
            role: role_code(user.role()),
            name: user.name,
            uids: user.uids,
            has_password: user.has_password,
            limited: user.limited,
            locked: user.locked,
            failed_attempts: user.failed_attempts,
            must_change_password: user.must_change_password,
        }
    }
}

impl UserView {
    /// Says how the user can act: `by password, as 0 (root)`.
    pub fn ways(&self) -> String {
        let mut ways: Vec<_> = self.uids.iter().map(|uid| Uid::title(*uid)).collect();
        if self.has_password {
            ways.insert(0, "password".to_owned());
        }
        if ways.is_empty() { "no way in".to_owned() } else { ways.join(", ") }
    }

    fn row(&self) -> Vec<Cell> {
        let state = match (self.locked, self.failed_attempts) {
            (true, _) => Cell::toned("locked", Tone::Bad),
            (false, 0) if self.must_change_password => {
                Cell::toned("has to change the password", Tone::Doubtful)
            }
            (false, 0) => Cell::toned("ok", Tone::Good),
            (false, n) => Cell::toned(format!("{n} wrong passwords"), Tone::Doubtful),
        };
        let role = role_name(role_of_code(self.role));
        let role = if self.limited { format!("{role}, limited") } else { role.to_owned() };
        vec![self.name.as_str().into(), role.into(), self.ways().into(), state]
    }
}

#[derive(Debug, Serialize)]
pub(super) struct List {
    pub(super) partition: String,
    pub(super) users: Vec<UserView>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        page.table(&["USER", "ROLE", "LOGS IN BY", "STATE"], self.users.iter().map(UserView::row).collect());
    }
}

/// What was done to a user.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    pub(super) partition: String,
    /// `created`, `deleted`, `password_changed`, `admitted`, `withdrawn`, `unlocked`.
    pub(super) done: &'static str,
    pub(super) name: String,
    /// The user afterwards, if it is known.
    pub(super) user: Option<UserView>,
}

impl Report for Changed {
    fn text(&self, page: &mut Page) {
        let what = match self.done {
            "created" => "Created user",
            "deleted" => "Deleted user",
            "password_changed" => "Changed the password of user",
            "admitted" => "Admitted user ids to user",
            "withdrawn" => "Withdrew user ids from user",
            _ => "Unlocked user",
        };
        match &self.user {
            Some(user) if self.done != "deleted" => {
                page.line(format!("{what} {}, who logs in by: {}.", self.name, user.ways()));
            }
            _ => page.line(format!("{what} {}.", self.name)),
        }
    }
}
