//! `strongroom key grant`, `revoke` and `access`: whom a key names besides the partition's crypto users.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use strongroom_protocol::v1::grantee::Who;
use strongroom_protocol::v1::{
    AccessList, Grant as WireGrant, GrantAccess, Grantee, ListAccess, RevokeAccess, Role, request::Op,
};

use crate::certificate::Certificate;
use crate::commands::key::Named;
use crate::commands::user::Uid;
use crate::failure::{Exit, Failure};
use crate::objects::{hex, unhex};
use crate::output::{Output, Page, Report};
use crate::pem_file;
use crate::session::{Session, answer};

pub(super) const GRANT: &str = "\
Let somebody use one key, and no other, for what a role permits ('strongroom role list').

Whom a key names sees that key and its public half, can do with it what the role permits, and nothing else in the \
partition: not list other keys, nor make or destroy any. That is for the identity of a web server:

  strongroom key grant web --uid www-data --role tls-server
  strongroom key grant web --user shop --role tls-server         a limited user, who logs in by password
  strongroom key grant web --certificate client.crt --role tls-server

The key's own policy has to allow it as well. Crypto users use all keys and need no grant.";

pub(super) const REVOKE: &str = "\
No longer let somebody use a key. It holds at once, also for programs that use the key now.

  strongroom key revoke web --uid www-data
  strongroom key revoke web --uid www-data --role tls-server     only this role";

/// `strongroom key grant`.
#[derive(Debug, Args)]
pub struct Grant {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    whom: Whom,
    /// What for: a role of 'strongroom role list'
    #[arg(long, value_name = "ROLE")]
    role: String,
}

/// `strongroom key revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    whom: Whom,
    /// Only this role; otherwise all
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

/// Whom a key names.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// A local user: whoever connects with this user id
    #[arg(long, value_name = "UID|NAME", value_parser = Uid::parse)]
    uid: Option<Uid>,
    /// A limited user of the partition ('strongroom user create NAME --limited')
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A client certificate, or the SHA-256 of its public key in hexadecimal
    #[arg(long, value_name = "FILE|HEX")]
    certificate: Option<String>,
}

impl Whom {
    fn to_wire(&self) -> Result<Grantee, Failure> {
        let who = match (&self.uid, &self.user, &self.certificate) {
            (Some(Uid(uid)), ..) => Who::Uid(*uid),
            (_, Some(user), _) => Who::User(user.clone()),
            (_, _, Some(certificate)) => Who::Certificate(hash_of(certificate)?),
            _ => return Err(Failure::usage("name a --uid, a --user or a --certificate")),
        };
        Ok(Grantee { who: Some(who) })
    }
}

/// The SHA-256 of the public key of a certificate in a file, or as it stands.
fn hash_of(certificate: &str) -> Result<Vec<u8>, Failure> {
    if let Ok(hash) = unhex(certificate)
        && hash.len() == 32
    {
        return Ok(hash);
    }
    let path = Path::new(certificate);
    let blocks = pem_file::read(path)?;
    let der =
        blocks.into_iter().find(|block| block.label == "CERTIFICATE").and_then(|block| block.content.ok());
    match der.and_then(|der| Certificate::parse(&der).ok()) {
        Some(certificate) => Ok(Sha256::digest(&certificate.public_key).to_vec()),
        None => Err(Failure::new(
            Exit::Failed,
            "certificate_malformed",
            format!("{certificate} holds no certificate (PEM), nor is it a SHA-256 in hexadecimal"),
        )),
    }
}

/// Somebody whom a key names.
#[derive(Debug, Serialize)]
struct GrantView {
    /// One of the three is given.
    uid: Option<u32>,
    user: Option<String>,
    /// SHA-256 of the certificate's public key, in hexadecimal.
    certificate: Option<String>,
    role: String,
    may: Vec<&'static str>,
}

impl From<WireGrant> for GrantView {
    fn from(grant: WireGrant) -> Self {
        let may = grant.permissions().map(strongroom_protocol::names::permission).collect();
        let mut view = GrantView { uid: None, user: None, certificate: None, role: grant.role, may };
        match grant.grantee.and_then(|grantee| grantee.who) {
            Some(Who::Uid(uid)) => view.uid = Some(uid),
            Some(Who::User(user)) => view.user = Some(user),
            Some(Who::Certificate(hash)) => view.certificate = Some(hex(&hash)),
            None => {}
        }
        view
    }
}

impl GrantView {
    fn who(&self) -> String {
        match (self.uid, &self.user, &self.certificate) {
            (Some(uid), ..) => format!("user id {}", Uid::title(uid)),
            (_, Some(user), _) => format!("user {user}"),
            (_, _, Some(hash)) => format!("certificate {hash}"),
            _ => "somebody that this release does not know".to_owned(),
        }
    }
}

/// Whom a key names.
#[derive(Debug, Serialize)]
struct AccessView {
    key: String,
    id: String,
    access: Vec<GrantView>,
}

impl Report for AccessView {
    fn text(&self, page: &mut Page) {
        if self.access.is_empty() {
            page.line(format!("Key {:?} names nobody: only the partition's crypto users use it.", self.key));
            return;
        }
        let rows = self
            .access
            .iter()
            .map(|grant| vec![grant.who().into(), grant.role.as_str().into(), grant.may.join(", ").into()]);
        page.table(&["MAY USE IT", "ROLE", "FOR"], rows.collect());
    }
}

/// What `edit` makes of the key's access, or `list` asks.
fn run(
    named: &Named,
    session: &mut Session,
    output: Output,
    op: impl Fn(Vec<u8>) -> Op,
) -> Result<(), Failure> {
    session.require_crypto_user()?;
    let key = session.key(&named.name)?;
    let Some(private) = &key.private else {
        let message = format!("key {}: its private half is not in this partition", named.name);
        return Err(Failure::new(Exit::NotFound, "no_such_object", message));
    };
    let AccessList { grants } =
        answer!(session.call(Role::CryptoUser, || op(private.object.clone())), Access)?;
    let access = grants.into_iter().map(GrantView::from).collect();
    output.print(&AccessView { key: key.label().to_owned(), id: hex(key.id()), access })
}

impl Grant {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let grant = WireGrant { grantee: Some(self.whom.to_wire()?), role: self.role, permissions: vec![] };
        run(&self.named, session, output, |key| {
            Op::GrantAccess(GrantAccess { key, grant: Some(grant.clone()) })
        })
    }
}

impl Revoke {
    pub(super) fn run(self, session: &mut Session, output: Output) -> Result<(), Failure> {
        let role = self.role.unwrap_or_default();
        let grant = WireGrant { grantee: Some(self.whom.to_wire()?), role, permissions: vec![] };
        run(&self.named, session, output, |key| {
            Op::RevokeAccess(RevokeAccess { key, grant: Some(grant.clone()) })
        })
    }
}

/// `strongroom key access`.
pub(super) fn access(named: &Named, session: &mut Session, output: Output) -> Result<(), Failure> {
    run(named, session, output, |key| Op::ListAccess(ListAccess { key }))
}
