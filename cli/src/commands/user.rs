//! `strongroom user`: who may do what in a partition.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_protocol::v1::{
    AdmitUid, ChangePassword, CreateUser, DeleteUser, ListUsers, Role, UnlockUser, UserInfo, request::Op,
    response,
};
use zeroize::Zeroizing;

use crate::args::Global;
use crate::commands::confirm;
use crate::commands::partition::role_code;
use crate::failure::{Exit, Failure};
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::password::{self, Password};
use crate::session::{Session, answer, role_name};

const ADMIT: &str = "\
Let a local user id act as a user without a password.

The kernel tells the daemon who connects, so a web server needs no password in its configuration. nginx and \
Apache load keys as root in their master process and use them as www-data (Debian) in their workers: admit both.

  strongroom user admit user root www-data";

/// `strongroom user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// List the users, their roles, and the user ids that act as them
    List,
    /// Create a user
    #[command(visible_alias = "add")]
    Create(Create),
    /// Delete a user; keys stay
    #[command(visible_alias = "remove")]
    Delete(Delete),
    /// Change a password: your own, or as the crypto officer a crypto user's
    Password(SetPassword),
    /// Let a local user id act as a user without a password
    #[command(long_about = ADMIT)]
    Admit(Admission),
    /// No longer let a local user id act as a user
    Withdraw(Admission),
    /// Unlock a user who gave too many wrong passwords
    Unlock(Unlock),
}

/// `strongroom user create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The new user's name: letters, digits, '.', '_' and '-'
    name: String,
    /// Crypto users own and use keys; crypto officers manage users and cannot use keys
    #[arg(long, value_enum, default_value = "crypto-user")]
    role: RoleArgument,
    /// A local user (id or name) that acts as this user without a password; may be repeated
    #[arg(long, value_name = "UID|NAME", value_parser = Uid::parse)]
    admit: Vec<Uid>,
    /// The new user's password is the first line of this file (- for standard input). Without it the command
    /// asks, unless --admit is given: then there is none
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
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

/// `strongroom user password`.
#[derive(Debug, Args)]
pub struct SetPassword {
    /// The user whose password changes
    name: String,
    /// The new password is the first line of this file (- for standard input)
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
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

/// `strongroom user unlock`.
#[derive(Debug, Args)]
pub struct Unlock {
    /// The user
    name: String,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArgument {
    #[value(alias = "cu", alias = "user")]
    CryptoUser,
    #[value(alias = "co", alias = "so", alias = "officer")]
    CryptoOfficer,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::CryptoUser => Role::CryptoUser,
            RoleArgument::CryptoOfficer => Role::CryptoOfficer,
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
    locked: bool,
    failed_attempts: u32,
}

impl From<UserInfo> for UserView {
    fn from(user: UserInfo) -> Self {
        UserView {
            role: role_code(user.role()),
            name: user.name,
            uids: user.uids,
            has_password: user.has_password,
            locked: user.locked,
            failed_attempts: user.failed_attempts,
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
            (false, 0) => Cell::toned("ok", Tone::Good),
            (false, n) => Cell::toned(format!("{n} wrong passwords"), Tone::Doubtful),
        };
        let role = if self.role == Some("crypto_officer") { Role::CryptoOfficer } else { Role::CryptoUser };
        vec![self.name.as_str().into(), role_name(role).into(), self.ways().into(), state]
    }
}

#[derive(Debug, Serialize)]
struct List {
    partition: String,
    users: Vec<UserView>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        page.table(&["USER", "ROLE", "LOGS IN BY", "STATE"], self.users.iter().map(UserView::row).collect());
    }
}

/// What was done to a user.
#[derive(Debug, Serialize)]
struct Changed {
    partition: String,
    /// `created`, `deleted`, `password_changed`, `admitted`, `withdrawn`, `unlocked`.
    done: &'static str,
    name: String,
    /// The user afterwards, if it is known.
    user: Option<UserView>,
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

impl User {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = match &self {
            // Who knows the present password needs no log-in.
            User::Password(change) if change.is_own(global) => Session::open_without_log_in(global)?,
            _ => Session::open(global, output, Role::CryptoOfficer)?,
        };
        let (done, name) = match self {
            User::List => {
                let users = session.users()?.into_iter().map(UserView::from).collect();
                return output.print(&List { partition: session.partition().label.clone(), users });
            }
            User::Create(create) => ("created", create.run(&mut session, output)?),
            User::Delete(delete) => ("deleted", delete.run(&mut session)?),
            User::Password(change) => ("password_changed", change.run(&mut session, global, output)?),
            User::Admit(admission) => ("admitted", admission.run(&mut session, false)?),
            User::Withdraw(admission) => ("withdrawn", admission.run(&mut session, true)?),
            User::Unlock(Unlock { name }) => {
                let op = || Op::UnlockUser(UnlockUser { name: name.clone() });
                finished(session.call(Role::CryptoOfficer, op)?)?;
                ("unlocked", name)
            }
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

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// The daemon's refusal.
    pub fn create_user(
        &mut self,
        name: &str,
        role: Role,
        password: Option<&Password>,
        uids: &[Uid],
    ) -> Result<(), Failure> {
        let op = || {
            Op::CreateUser(CreateUser {
                name: name.to_owned(),
                role: role as i32,
                password: password.map(|p| p.to_string()).unwrap_or_default(),
                uids: uids.iter().map(|uid| uid.0).collect(),
            })
        };
        finished(self.call(Role::CryptoOfficer, op)?)
    }
}

/// Takes either answer that says that the request was carried out.
fn finished(reply: response::Result) -> Result<(), Failure> {
    match reply {
        response::Result::Done(_) | response::Result::User(_) => Ok(()),
        _ => Err(Failure::unexpected_answer()),
    }
}

/// Takes a new password from a file, or else from the terminal.
///
/// # Errors
///
/// If there is neither. `option` is the option that names the file.
pub fn new_password(
    file: Option<&PathBuf>,
    option: &str,
    prompt: &str,
    output: Output,
) -> Result<Password, Failure> {
    match file {
        Some(path) => password::from_file(path, output),
        None if password::interactive() => password::ask_new(prompt),
        None => Err(Failure::usage(format!(
            "{}: there is no terminal to ask at; give {option} FILE, or - for standard input",
            prompt.to_lowercase()
        ))),
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
        session.create_user(&self.name, self.role.into(), password.as_ref(), &self.admit)?;
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

impl SetPassword {
    /// Whether the command line says that this user changes the own password.
    fn is_own(&self, global: &Global) -> bool {
        global.login.as_ref().is_none_or(|login| *login == self.name)
    }

    fn run(self, session: &mut Session, global: &Global, output: Output) -> Result<String, Failure> {
        let stdin = |file: &Option<PathBuf>| file.as_ref().is_some_and(|path| path.as_os_str() == "-");
        if stdin(&global.password_file) && stdin(&self.new_password_file) {
            return Err(Failure::usage("standard input can give only one of the two passwords"));
        }
        let old = match &global.password_file {
            Some(path) if self.is_own(global) => password::from_file(path, output)?,
            _ if self.set_by_officer(session, global)? => Zeroizing::new(String::new()),
            _ if password::interactive() => password::ask(&format!("Present password of {}", self.name))?,
            _ => {
                let message = format!(
                    "changing the password of {} needs the present one (--password-file FILE) or a crypto \
                     officer (--login NAME --password-file FILE)",
                    self.name
                );
                return Err(Failure::new(Exit::NotPermitted, "not_logged_in", message));
            }
        };
        let prompt = format!("New password of {}", self.name);
        let new = new_password(self.new_password_file.as_ref(), "--new-password-file", &prompt, output)?;
        let op = Op::ChangePassword(ChangePassword {
            name: self.name.clone(),
            old_password: old.to_string(),
            new_password: new.to_string(),
        });
        finished(session.try_call(op)?)?;
        Ok(self.name)
    }

    /// Whether an officer is setting a crypto user's password. Asked before sending anything: the daemon
    /// would count a missing old password as a wrong one.
    fn set_by_officer(&self, session: &mut Session, global: &Global) -> Result<bool, Failure> {
        if global.login.as_ref().is_some_and(|login| *login == self.name) {
            return Ok(false);
        }
        // Only officers may list users.
        let Ok(users) = session.users_seen() else { return Ok(false) };
        match users.iter().find(|user| user.name == self.name) {
            Some(user) => Ok(user.role() == Role::CryptoUser),
            None => {
                let message =
                    format!("there is no user {:?}; list them with 'strongroom user list'", self.name);
                Err(Failure::new(Exit::NotFound, "no_such_user", message))
            }
        }
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
