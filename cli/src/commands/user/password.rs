//! `strongroom user password`, and new passwords in general.

use std::path::PathBuf;

use clap::Args;
use strongroom_protocol::v1::Role;
use zeroize::Zeroizing;

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::password::{self, Password};
use crate::session::Session;

/// `strongroom user password`.
#[derive(Debug, Args)]
pub struct SetPassword {
    /// The user whose password changes
    name: String,
    /// The new password is the first line of this file (- for standard input)
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

impl SetPassword {
    /// Whether the command line says that this user changes the own password.
    pub(super) fn is_own(&self, global: &Global) -> bool {
        global.login.as_ref().is_none_or(|login| *login == self.name)
    }

    pub(super) fn run(
        self,
        session: &mut Session,
        global: &Global,
        output: Output,
    ) -> Result<String, Failure> {
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
        session.change_password(&self.name, &old, &new)?;
        Ok(self.name)
    }

    /// Whether an officer is setting the password of a crypto user or appliance user. Asked before sending anything: the daemon
    /// would count a missing old password as a wrong one.
    fn set_by_officer(&self, session: &mut Session, global: &Global) -> Result<bool, Failure> {
        if global.login.as_ref().is_some_and(|login| *login == self.name) {
            return Ok(false);
        }
        // Only officers may list users.
        let Ok(users) = session.users_seen() else { return Ok(false) };
        match users.iter().find(|user| user.name == self.name) {
            Some(user) => Ok(matches!(user.role(), Role::CryptoUser | Role::ApplianceUser)),
            None => {
                let message =
                    format!("there is no user {:?}; list them with 'strongroom user list'", self.name);
                Err(Failure::new(Exit::NotFound, "no_such_user", message))
            }
        }
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
