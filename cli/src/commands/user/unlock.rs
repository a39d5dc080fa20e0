//! `strongroom user challenge` and `user unlock`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_owner::certificate::MAX_SIGNATURE;
use strongroom_protocol::v1::{ChallengeUser, Role, UnlockUser, request::Op};

use crate::commands::user::finished;
use crate::commands::{moment, write_file};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

/// What `strongroom user challenge --help` says.
pub const CHALLENGE: &str = "\
Get what the partition's owner signs to unlock a user.

The challenge is a text that says what it is for; it is good once, for ten minutes. The owner signs it with the key \
of the certificate that the partition was made with, on whatever machine has that key:

  strongroom user challenge admin --out c.bin
  openssl dgst -sha256 -sign PO.key -out c.sig c.bin
  strongroom user unlock admin --signature c.sig";

/// What `strongroom user unlock --help` says.
pub const UNLOCK: &str = "\
Unlock a user who gave too many wrong passwords.

A crypto officer unlocks crypto users and appliance users. A crypto officer is unlocked by the partition's owner, who \
signs a challenge ('strongroom user challenge --help'). In a partition that was made without an owner's certificate, \
root and the other officers unlock an officer.

  strongroom user unlock user --login admin
  strongroom user unlock admin --signature c.sig";

/// `strongroom user challenge`.
#[derive(Debug, Args)]
pub struct Challenge {
    /// The user who is locked
    name: String,
    /// Where to write the challenge
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// `strongroom user unlock`.
#[derive(Debug, Args)]
pub struct Unlock {
    /// The user
    name: String,
    /// The owner's signature of the challenge
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Written {
    user: String,
    challenge: PathBuf,
    /// Until when it is good.
    expires: String,
}

impl Report for Written {
    fn text(&self, page: &mut Page) {
        let (file, name) = (self.challenge.display(), &self.user);
        page.line(format!("Wrote {file}, good until {}. The owner signs it:", self.expires));
        page.line(format!(
            "  openssl dgst -sha256 -sign PO.key -out {file}.sig {file}\n  \
               strongroom user unlock {name} --signature {file}.sig"
        ));
    }
}

impl Challenge {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let op = Op::ChallengeUser(ChallengeUser { name: self.name.clone() });
        let challenge = answer!(session.try_call(op), Challenge)?;
        let text = String::from_utf8(challenge.challenge).map_err(|_| Failure::unexpected_answer())?;
        write_file(&self.out, &text, self.force)?;
        output.print(&Written { user: self.name, challenge: self.out, expires: moment(challenge.expires) })
    }
}

impl Unlock {
    /// Whether it is the owner's signature that unlocks, and no log-in.
    pub(super) fn is_by_owner(&self) -> bool {
        self.signature.is_some()
    }

    pub(super) fn run(self, session: &mut Session) -> Result<String, Failure> {
        let signature = self.signature.as_deref().map(read_signature).transpose()?.unwrap_or_default();
        let op = || Op::UnlockUser(UnlockUser { name: self.name.clone(), signature: signature.clone() });
        let reply = match self.is_by_owner() {
            true => session.try_call(op())?,
            false => session.call(Role::CryptoOfficer, op)?,
        };
        finished(reply)?;
        Ok(self.name)
    }
}

fn read_signature(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| Failure::file("read", path, &e);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_SIGNATURE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.is_empty() || bytes.len() > MAX_SIGNATURE {
        let message = format!("{} is not a signature as 'openssl dgst -sign' writes it", path.display());
        return Err(Failure::new(Exit::Failed, "signature", message));
    }
    Ok(bytes)
}
