//! `strongroom role`: what those may whom a key names.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_protocol::names;
use strongroom_protocol::v1::{
    AccessRole, DeleteAccessRole, ListAccessRoles, Permission, PutAccessRole, Role as UserRole, request::Op,
};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::{Session, answer};

pub(crate) const ABOUT: &str = "\
Roles say what those may do whom a key names ('strongroom key grant'). (The roles of users are others: 'strongroom user roles'.)

Some are built in. A partition can have its own:

  strongroom role create deploy --may sign,derive
  strongroom role set deploy --may sign             for all keys that give it, at once";

/// `strongroom role`.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// List the roles and what each permits
    List,
    /// Make a role of the partition's own
    Create(Definition),
    /// Change what one of the partition's own roles permits, for all keys that give it, at once
    Set(Definition),
    /// Delete a role that no key gives
    Delete(Name),
}

/// `strongroom role create` and `set`.
#[derive(Debug, Args)]
pub struct Definition {
    /// The role's name: letters, digits, '.', '_' and '-'
    name: String,
    /// What it permits
    #[arg(long, required = true, value_name = "USES", value_delimiter = ',')]
    may: Vec<Use>,
}

/// `strongroom role delete`.
#[derive(Debug, Args)]
pub struct Name {
    /// The role
    name: String,
}

/// A permission on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Use {
    /// See that the key is there: all roles permit that
    View,
    /// Sign
    Sign,
    /// Decrypt
    Decrypt,
    /// Encrypt, with a secret key
    Encrypt,
    /// Agree on secrets (ECDH, X25519)
    Derive,
    /// Decapsulate secrets (ML-KEM)
    Decapsulate,
    /// Take extractable keys out, wrapped, where both keys permit it
    Wrap,
}

impl From<Use> for Permission {
    fn from(wanted: Use) -> Self {
        match wanted {
            Use::View => Permission::View,
            Use::Sign => Permission::Sign,
            Use::Decrypt => Permission::Decrypt,
            Use::Encrypt => Permission::Encrypt,
            Use::Derive => Permission::Derive,
            Use::Decapsulate => Permission::Decapsulate,
            Use::Wrap => Permission::Wrap,
        }
    }
}

#[derive(Debug, Serialize)]
struct RoleView {
    name: String,
    may: Vec<&'static str>,
    built_in: bool,
}

#[derive(Debug, Serialize)]
struct List {
    partition: String,
    roles: Vec<RoleView>,
}

impl Report for List {
    fn text(&self, page: &mut Page) {
        let rows = self.roles.iter().map(|role| {
            let origin = if role.built_in { "built in" } else { "this partition" };
            vec![role.name.as_str().into(), role.may.join(", ").into(), origin.into()]
        });
        page.table(&["ROLE", "MAY", "OF"], rows.collect());
    }
}

impl Role {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut session = Session::open(global, output, UserRole::CryptoUser)?;
        let mut call = |op: &dyn Fn() -> Op| answer!(session.call(UserRole::CryptoUser, op), AccessRoles);
        let list = || Op::ListAccessRoles(ListAccessRoles {});
        let roles = match self {
            Role::List => call(&list)?,
            Role::Create(role) => {
                if call(&list)?.roles.iter().any(|there| there.name == role.name) {
                    return Err(Failure::new(
                        crate::failure::Exit::Exists,
                        "exists",
                        format!("role {:?} is there already: 'strongroom role set' changes it", role.name),
                    ));
                }
                call(&|| role.op())?
            }
            Role::Set(role) => {
                if call(&list)?.roles.iter().all(|there| there.name != role.name) {
                    return Err(Failure::new(
                        crate::failure::Exit::NotFound,
                        "no_such_role",
                        format!("there is no role {:?}: 'strongroom role create' makes it", role.name),
                    ));
                }
                call(&|| role.op())?
            }
            Role::Delete(Name { name }) => {
                call(&|| Op::DeleteAccessRole(DeleteAccessRole { name: name.clone() }))?
            }
        };
        let roles = roles.roles.into_iter().map(|role| RoleView {
            may: role.permissions().map(names::permission).collect(),
            built_in: role.built_in,
            name: role.name,
        });
        let roles = roles.collect();
        output.print(&List { partition: session.partition().label.clone(), roles })
    }
}

impl Definition {
    fn op(&self) -> Op {
        let permissions = self.may.iter().map(|may| Permission::from(*may).into()).collect();
        Op::PutAccessRole(PutAccessRole {
            role: Some(AccessRole { name: self.name.clone(), permissions, built_in: false }),
        })
    }
}
