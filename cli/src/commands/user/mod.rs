//! `strongroom user`: who may do what in a partition.

mod password;
mod roles;
mod unlock;
mod view;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use strongroom_protocol::v1::{
    AdmitUid, CreateUser, DeleteUser, ListUsers, Role, UserInfo, request::Op, response,
};

use crate::args::Global;
use crate::commands::confirm;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, answer};

use password::SetPassword;
use unlock::{Challenge, Unlock};
use view::{Changed, List};

pub use password::new_password;
pub use view::UserView;

const ADMIT: &str = "\
Let a local user id act as a user without a password.

The kernel tells the daemon who connects, so no password stands in a configuration. Who is admitted uses all of the \
partition's keys, and makes and destroys them: that is for administrators. A web server's workers need one key, and that \
key names them ('strongroom key grant web --uid www-data --role tls-server').

  strongroom user admit user root";

const CREATE: &str = "\
Create a user.

The password is an initial one: the user has to choose another at the first log-in, and can do nothing else before. \
At a terminal, every command that logs in asks for it. For a program, change it here, once:

  strongroom user create web --new-password-file first.txt -l admin
  strongroom user password web --password-file first.txt --new-password-file /etc/ssl/web.pin

Or let the program in by its user id, without a password: --admit.";

/// `strongroom user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// List the users, their roles, and the user ids that act as them
    List,
    /// Show who may do what: each request with the roles that may send it
    #[command(long_about = roles::ABOUT)]
    Roles,
    /// Create a user
    #[command(visible_alias = "add", long_about = CREATE)]
    Create(Create),
    /// Delete a user; keys stay
    #[command(visible_alias = "remove")]
    Delete(Delete),
    /// Change a password: your own, or as the crypto officer a crypto user's or appliance user's
    Password(SetPassword),
    /// Let a local user id act as a user without a password
    #[command(long_about = ADMIT)]
    Admit(Admission),
    /// No longer let a local user id act as a user
    Withdraw(Admission),
    /// Get what the partition's owner signs to unlock a user
    #[command(long_about = unlock::CHALLENGE)]
    Challenge(Challenge),
    /// Unlock a user who gave too many wrong passwords
    #[command(long_about = unlock::UNLOCK)]
    Unlock(Unlock),
}

/// `strongroom user create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The new user's name: letters, digits, '.', '_' and '-'
    name: String,
    /// Crypto users own and use keys; crypto officers manage users, appliance users do backups and audits, and
    /// neither can use keys
    #[arg(long, value_enum, default_value = "crypto-user")]
    role: RoleArgument,
    /// A local user (id or name) that acts as this user without a password; may be repeated
    #[arg(long, value_name = "UID|NAME", value_parser = Uid::parse)]
    admit: Vec<Uid>,
    /// The new user's password is the first line of this file (- for standard input). Without it the command
    /// asks, unless --admit is given: then there is none
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// The crypto user uses only keys that name it ('strongroom key grant KEY --user NAME'), sees no others, and makes none
    #[arg(long)]
    limited: bool,
}

/// `strongroom user delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// The user
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `strongroom user admit` and `withdraw`.
#[derive(Debug, Args)]
pub struct Admission {
    /// The partition's user
    name: String,
    /// Local users, by id or name
    #[arg(required = true, value_name = "UID|NAME", value_parser = Uid::parse)]
    uids: Vec<Uid>,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArgument {
    #[value(alias = "cu", alias = "user")]
    CryptoUser,
    #[value(alias = "co", alias = "so", alias = "officer")]
    CryptoOfficer,
    #[value(alias = "au", alias = "appliance")]
    ApplianceUser,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::CryptoUser => Role::CryptoUser,
            RoleArgument::CryptoOfficer => Role::CryptoOfficer,
            RoleArgument::ApplianceUser => Role::ApplianceUser,
        }
    }
}

/// A local user id.
#[derive(Debug, Clone, Copy)]
pub struct Uid(pub u32);

impl Uid {
    /// Reads a user id, or looks up a user's name.
    ///
    /// # Errors
    ///
    /// If there is no such user.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(uid) = text.parse() {
            return Ok(Uid(uid));
        }
        match nix::unistd::User::from_name(text) {
            Ok(Some(user)) => Ok(Uid(user.uid.as_raw())),
            Ok(None) => Err(format!("this machine has no user {text:?}; give the user id as a number")),
            Err(error) => Err(format!("cannot look up {text:?}: {error}")),
        }
    }

    /// Names a user id: `33 (www-data)`.
    pub fn title(uid: u32) -> String {
        match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
            Ok(Some(user)) => format!("{uid} ({})", user.name),
            _ => uid.to_string(),
        }
    }
}

impl User {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = match &self {
            // Of the daemon, whatever partitions it has.
            User::Roles => return roles::run(global, output),
            // Who knows the present password needs no log-in.
            User::Password(change) if change.is_own(global) => Session::open_without_log_in(global)?,
            User::Challenge(_) => Session::open_without_log_in(global)?,
            User::Unlock(unlock) if unlock.is_by_owner() => Session::open_without_log_in(global)?,
            User::List => Session::open_in_own_role(global, output, Role::CryptoOfficer)?,
            _ => Session::open(global, output, Role::CryptoOfficer)?,
        };
        let (done, name) = match self {
            User::Roles => return roles::run(global, output),
            User::Challenge(challenge) => return challenge.run(&mut session, output),
            User::List => {
                let users = session.users()?.into_iter().map(UserView::from).collect();
                return output.print(&List { partition: session.partition().label.clone(), users });
            }
            User::Create(create) => ("created", create.run(&mut session, output)?),
            User::Delete(delete) => ("deleted", delete.run(&mut session)?),
            User::Password(change) => ("password_changed", change.run(&mut session, global, output)?),
            User::Admit(admission) => ("admitted", admission.run(&mut session, false)?),
            User::Withdraw(admission) => ("withdrawn", admission.run(&mut session, true)?),
            User::Unlock(unlock) => ("unlocked", unlock.run(&mut session)?),
        };
        let user = session.user(&name);
        output.print(&Changed { partition: session.partition().label.clone(), done, name, user })
    }
}

impl Session {
    fn users(&mut self) -> Result<Vec<UserInfo>, Failure> {
        let reply = self.call(Role::CryptoOfficer, || Op::ListUsers(ListUsers {}))?;
        Ok(answer!(Ok::<_, Failure>(reply), Users)?.users)
    }

    /// How a user stands now, if the session may know: crypto officers do.
    pub fn user(&mut self, name: &str) -> Option<UserView> {
        self.users_seen().ok()?.into_iter().find(|user| user.name == name).map(UserView::from)
    }

    /// Lists the users with the rights that the session has.
    fn users_seen(&mut self) -> Result<Vec<UserInfo>, Failure> {
        Ok(answer!(self.try_call(Op::ListUsers(ListUsers {})), Users)?.users)
    }
}

/// Takes either answer that says that the request was carried out.
fn finished(reply: response::Result) -> Result<(), Failure> {
    match reply {
        response::Result::Done(_) | response::Result::User(_) => Ok(()),
        _ => Err(Failure::unexpected_answer()),
    }
}

impl Create {
    fn run(self, session: &mut Session, output: Output) -> Result<String, Failure> {
        let password = if self.new_password_file.is_none() && !self.admit.is_empty() {
            None
        } else {
            let prompt = format!("New password of {}", self.name);
            Some(new_password(self.new_password_file.as_ref(), "--new-password-file", &prompt, output)?)
        };
        let op = || {
            Op::CreateUser(CreateUser {
                name: self.name.clone(),
                role: Role::from(self.role).into(),
                password: password.as_ref().map(|p| p.to_string()).unwrap_or_default(),
                uids: self.admit.iter().map(|uid| uid.0).collect(),
                limited: self.limited,
            })
        };
        finished(session.call(Role::CryptoOfficer, op)?)?;
        Ok(self.name)
    }
}

impl Delete {
    fn run(self, session: &mut Session) -> Result<String, Failure> {
        let label = session.partition().label.clone();
        confirm(self.yes, &format!("Delete user {} of partition {label:?}?", self.name))?;
        let op = || Op::DeleteUser(DeleteUser { name: self.name.clone() });
        finished(session.call(Role::CryptoOfficer, op)?)?;
        Ok(self.name)
    }
}

impl Admission {
    fn run(self, session: &mut Session, withdraw: bool) -> Result<String, Failure> {
        for Uid(uid) in &self.uids {
            let op = || Op::AdmitUid(AdmitUid { name: self.name.clone(), uid: *uid, withdraw });
            finished(session.call(Role::CryptoOfficer, op)?)?;
        }
        Ok(self.name)
    }
}
