//! `strongroom init`: a partition that is ready for keys.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_protocol::v1::{CreatePartition, Role, UserInfo, request::Op};

use crate::args::Global;
use crate::commands::owner;
use crate::commands::user::{Uid, UserView, new_password};
use crate::failure::Failure;
use crate::objects::hex;
use crate::output::{Output, Page, Report};
use crate::password::{self, Password};
use crate::session::{self, answer};
use strongroom_uri::Uri;

/// What `strongroom init --help` says.
pub const ABOUT: &str = "\
Make a partition with its crypto officer and first crypto user. Only root and the user that runs strongroomd may.

The crypto officer manages users and cannot use keys. The crypto user owns and uses keys. Whom the kernel \
reports as one of the --admit user ids acts as the crypto user without a password. By default that is nobody.

Admit who administers keys: you, as root. A web server's master process loads its key as root too; its workers \
(www-data, as Debian calls them) are not admitted: the key names them, and they sign with it and do nothing else.

  strongroom init tls --admit root
  strongroom key generate web --type p256
  strongroom key grant web --uid www-data --role tls-server

Passwords are asked at the terminal. For scripts, let the command make them, each in a file of its own that \
only you can read, or read them from files:

  strongroom init tls --admit root --generate-passwords /root/strongroom
  strongroom init tls --officer-password-file officer.txt --user-password-file user.txt

These passwords are yours: nobody else has chosen them. If they are for other people, --hand-over has each of \
them choose another one at the first log-in.

An owner's certificate makes you independent of root, and of officers who forget their password. Its key stays \
off this machine:

  openssl req -x509 -newkey rsa:3072 -noenc -keyout PO.key -out PO.crt -days 3650 -subj \"/CN=Owner of tls\"
  strongroom init tls --owner-certificate PO.crt --admit root --generate-passwords /root/strongroom";

/// `strongroom init`.
#[derive(Debug, Args)]

pub struct Init {
    /// The partition's label: the token in pkcs11: URIs, at most 32 bytes
    label: String,
    /// The crypto officer's name
    #[arg(long, value_name = "NAME", default_value = "admin")]
    officer: String,
    /// The first crypto user's name
    #[arg(long, value_name = "NAME", default_value = "user")]
    user: String,
    /// A local user (id or name) that acts as the crypto user without a password; may be repeated
    #[arg(long, value_name = "UID|NAME", value_parser = Uid::parse)]
    admit: Vec<Uid>,
    /// The officer's password is the first line of this file (- for standard input)
    #[arg(long, value_name = "FILE", conflicts_with = "generate_passwords")]
    officer_password_file: Option<PathBuf>,
    /// The crypto user's password is the first line of this file. Without it the command asks, unless --admit
    /// is given: then there is none
    #[arg(long, value_name = "FILE")]
    user_password_file: Option<PathBuf>,
    /// Make random passwords and write them to LABEL-NAME.password in this directory, mode 0600
    #[arg(long, value_name = "DIR")]
    generate_passwords: Option<PathBuf>,
    /// The owner's self-signed certificate (PEM). It cannot be changed later. Its key unlocks a crypto officer who
    /// gave too many wrong passwords, and signs the certificates of nodes
    #[arg(long, value_name = "FILE")]
    owner_certificate: Option<PathBuf>,
    /// The passwords are initial ones, to be handed to other people, who change them at their first log-in.
    /// Otherwise they are yours, and stay
    #[arg(long)]
    hand_over: bool,
    /// Refuse what NIST does not approve of, for good: FIPS state 2. A policy, and no validation (docs/fips.md)
    #[arg(long)]
    fips: bool,
}

#[derive(Debug, Serialize)]
struct Made {
    number: u32,
    label: String,
    serial: String,
    officer: String,
    user: UserView,
    /// SHA-256 of the owner's certificate.
    owner: Option<String>,
    /// Files with generated passwords.
    password_files: Vec<PathBuf>,
    #[serde(skip)]
    hint: String,
}

impl Report for Made {
    fn text(&self, page: &mut Page) {
        page.line(format!(
            "Made partition {:?} (number {}, serial {}).",
            self.label, self.number, self.serial
        ));
        page.line(format!("  crypto officer  {:<12}  logs in by: password", self.officer));
        page.line(format!("  crypto user     {:<12}  logs in by: {}", self.user.name, self.user.ways()));
        if let Some(owner) = &self.owner {
            page.line(format!("  owner           SHA256 {owner}"));
        }
        for path in &self.password_files {
            page.line(format!("  password file   {}", path.display()));
        }
        page.line("\nNext:");
        page.line(&self.hint);
    }
}

/// The next steps, as commands to copy. `option` chooses the partition where there are several.
fn hint(label: &str, option: &str, login: &str) -> String {
    let uri = Uri::of_private_key(label, "web", b"");
    let command = format!("strongroom{option}{login}");
    format!(
        "  {command} key generate web --type p256        make a key\n  \
           {command} key import web web.key              or bring one that you have\n  \
           {command} key grant web --uid www-data --role tls-server    let the web server sign with it\n  \
           strongroom{option} key reference web --out web.ref.pem\n\n\
         and in the server's configuration, instead of the key's file:\n  \
           nginx before 1.29  ssl_certificate_key /path/to/web.ref.pem;\n  \
           nginx from 1.29    ssl_certificate_key \"store:{uri}\";\n  \
           Apache             SSLCertificateKeyFile \"{uri}\""
    )
}

/// A password, and the file that it has to be written to when the partition is there.
struct Chosen {
    password: Password,
    write_to: Option<PathBuf>,
}

impl Chosen {
    fn generate(directory: &Path, label: &str, name: &str) -> Result<Self, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|e| Failure::file("make the directory", directory, &e))?;
        // A label may hold a slash.
        let safe: String = label.chars().map(|c| if c == '/' { '_' } else { c }).collect();
        let path = directory.join(format!("{safe}-{name}.password"));
        Ok(Chosen { password: password::generate()?, write_to: Some(path) })
    }

    fn given(password: Password) -> Self {
        Chosen { password, write_to: None }
    }
}

impl Init {
    /// Makes the partition with its users: all or nothing.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        if self.officer == self.user {
            return Err(Failure::usage("the crypto officer and the crypto user need different names"));
        }
        if global.partition.is_some() || global.login.is_some() || global.password_file.is_some() {
            return Err(Failure::usage(
                "init makes a new partition: --partition, --login and --password-file do not go with it; \
                 see --officer-password-file",
            ));
        }
        let stdin = |file: &Option<PathBuf>| file.as_ref().is_some_and(|path| path.as_os_str() == "-");
        if stdin(&self.officer_password_file) && stdin(&self.user_password_file) {
            return Err(Failure::usage("standard input can give only one of the two passwords"));
        }
        let owner = self.owner_certificate.as_deref().map(owner::read_owner).transpose()?;
        let owner_fingerprint = owner.as_ref().map(|owner| hex(&owner.certificate().fingerprint()));
        // The connection first: nobody wants to type passwords for a daemon that is not there.
        let mut connection = session::connect(global)?;
        let others = session::partitions(&mut connection)?.len();
        let officer = self.officer_password(output)?;
        let user = self.user_password(output)?;
        let files: Vec<_> = [Some(&officer), user.as_ref()].into_iter().flatten().collect();
        // Before the partition: passwords that cannot be kept must not lock anybody out of it.
        for chosen in &files {
            if let Some(path) = &chosen.write_to {
                password::write_file(path, &chosen.password)?;
            }
        }
        let written: Vec<_> = files.iter().filter_map(|chosen| chosen.write_to.clone()).collect();

        let create = CreatePartition {
            label: self.label.clone(),
            officer: self.officer.clone(),
            password: officer.password.to_string(),
            user: self.user.clone(),
            user_password: user.as_ref().map(|user| user.password.to_string()).unwrap_or_default(),
            user_uids: self.admit.iter().map(|uid| uid.0).collect(),
            hand_over: self.hand_over,
            owner_certificate: owner.map(|owner| owner.certificate().der().to_vec()).unwrap_or_default(),
            fips_state: if self.fips { 2 } else { 0 },
        };
        let partition = answer!(connection.call(0, Op::CreatePartition(create)), Partition)
            .inspect_err(|_| remove(&written))?;
        let view = UserView::from(UserInfo {
            name: self.user,
            role: Role::CryptoUser.into(),
            uids: self.admit.iter().map(|uid| uid.0).collect(),
            has_password: user.is_some(),
            must_change_password: self.hand_over && user.is_some(),
            ..UserInfo::default()
        });
        let option = if others > 0 { format!(" -p {}", quoted(&self.label)) } else { String::new() };
        let us = rustix::process::getuid().as_raw();
        let login = if view.uids.contains(&us) { String::new() } else { format!(" -l {}", view.name) };
        output.print(&Made {
            number: partition.number,
            serial: partition.serial,
            hint: hint(&self.label, &option, &login),
            label: self.label,
            officer: self.officer,
            user: view,
            owner: owner_fingerprint,
            password_files: written,
        })
    }

    fn officer_password(&self, output: Output) -> Result<Chosen, Failure> {
        if let Some(directory) = &self.generate_passwords {
            return Chosen::generate(directory, &self.label, &self.officer);
        }
        let prompt = format!("New password of {}, the crypto officer", self.officer);
        new_password(self.officer_password_file.as_ref(), "--officer-password-file", &prompt, output)
            .map(Chosen::given)
    }

    /// The crypto user's password; none if only admitted user ids act as this user.
    fn user_password(&self, output: Output) -> Result<Option<Chosen>, Failure> {
        if self.user_password_file.is_none() {
            if !self.admit.is_empty() {
                return Ok(None);
            }
            if let Some(directory) = &self.generate_passwords {
                return Chosen::generate(directory, &self.label, &self.user).map(Some);
            }
        }
        let prompt = format!("New password of {}, the crypto user", self.user);
        new_password(self.user_password_file.as_ref(), "--user-password-file", &prompt, output)
            .map(|password| Some(Chosen::given(password)))
    }
}

fn remove(files: &[PathBuf]) {
    for path in files {
        let _ = std::fs::remove_file(path);
    }
}

/// Quotes a word for a shell if it needs that.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("tls-1"), "tls-1");
        assert_eq!(quoted("it's; rm"), "'it'\\''s; rm'");
    }
}
