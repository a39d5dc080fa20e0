//! Access by key: whom a key names, and the roles that it can give.

use std::sync::Arc;

use strongroom_protocol::v1::{
    self, AccessList, AccessRole, AccessRoleList, DeleteAccessRole, GrantAccess, ListAccess, ObjectClass,
    PutAccessRole, RevokeAccess, grantee::Who, response,
};

use super::{Context, changing, objects};
use crate::access::{self, Access, Grant, Grantee, MAX_GRANTS, MAX_ROLES, Permissions};
use crate::failure::{Failure, refuse};
use crate::object::Object;
use crate::partition::{Change, Contents, Partition};
use crate::users;

pub(super) async fn grant(
    context: &Context,
    partition: &Arc<Partition>,
    request: GrantAccess,
) -> Result<response::Result, Failure> {
    let GrantAccess { key, grant } = request;
    let asked = grant.unwrap_or_default();
    edit(context, partition, "access granted", key, asked, |object, contents, grantee, role| {
        let Some(role) = contents.roles.get(role) else { return no_such_role(role) };
        let is_there = |identity| contents.users.iter().any(|user| user.limited && user.identity == identity);
        let without = object.access.without(grantee, Some(&role.name)).without_the_gone(is_there);
        if without.grants().len() >= MAX_GRANTS {
            return refuse!(
                Limit,
                "{} names others {MAX_GRANTS} times already: revoke some with 'strongroom key revoke'",
                object.title()
            );
        }
        Ok(without.with(Grant { grantee, role: Arc::clone(role) }))
    })
    .await
}

pub(super) async fn revoke(
    context: &Context,
    partition: &Arc<Partition>,
    request: RevokeAccess,
) -> Result<response::Result, Failure> {
    let RevokeAccess { key, grant } = request;
    let asked = grant.unwrap_or_default();
    edit(context, partition, "access revoked", key, asked, |object, _, grantee, role| {
        let without = object.access.without(grantee, (!role.is_empty()).then_some(role));
        if without.grants().len() == object.access.grants().len() {
            return refuse!(
                NoSuchUser,
                "{} does not name them{}: 'strongroom key access' shows whom it names",
                object.title(),
                if role.is_empty() { String::new() } else { format!(" as \"{role}\"") }
            );
        }
        Ok(without)
    })
    .await
}

/// Changes whom a key names, as `plan` says.
async fn edit(
    context: &Context,
    partition: &Arc<Partition>,
    what: &'static str,
    identity: Vec<u8>,
    asked: v1::Grant,
    plan: impl FnOnce(&Object, &Contents, Grantee, &str) -> Result<Access, Failure> + Send + 'static,
) -> Result<response::Result, Failure> {
    key(context, partition, &identity)?;
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let (object, grantee) = partition.change(|change: &mut Change<'_>| {
            asker.still_may(&partition, &change.before().users)?;
            let Some(object) = change.before().objects.get(&identity).map(Arc::clone) else {
                return refuse!(NoSuchObject, "the key was destroyed meanwhile");
            };
            let grantee = grantee(change.before(), asked.grantee.as_ref())?;
            let access = plan(&object, change.before(), grantee, &asked.role)?;
            Ok((change.set_access(&object, access)?, grantee))
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(
            uid,
            by,
            partition = partition.label(),
            object = object.title(),
            whom = ?grantee,
            role = asked.role,
            "{what}"
        );
        Ok(listed(&partition.contents(), &object))
    })
    .await
}

pub(super) fn list(
    context: &Context,
    partition: &Partition,
    request: &ListAccess,
) -> Result<response::Result, Failure> {
    let object = key(context, partition, &request.key)?;
    Ok(listed(&partition.contents(), &object))
}

/// The key of this identity: only private and secret keys name others.
fn key(context: &Context, partition: &Partition, identity: &[u8]) -> Result<Arc<Object>, Failure> {
    let object = objects::visible(&context.acting, partition, identity)?;
    match object.info.class() {
        ObjectClass::PrivateKey | ObjectClass::SecretKey => Ok(object),
        _ => refuse!(
            AttributeWrong,
            "{} is not a private or secret key: only these name others",
            object.title()
        ),
    }
}

fn grantee(contents: &Contents, asked: Option<&v1::Grantee>) -> Result<Grantee, Failure> {
    match asked.and_then(|grantee| grantee.who.as_ref()) {
        Some(Who::Uid(uid)) => Ok(Grantee::Uid(*uid)),
        Some(Who::User(name)) => match contents.users.get(name) {
            Some(user) if user.limited => Ok(Grantee::User(user.identity)),
            Some(user) => refuse!(
                AttributeWrong,
                "{} is not limited to keys that name it: as a crypto user it uses all keys, as an officer none",
                user.title()
            ),
            None => refuse!(NoSuchUser, "there is no user \"{name}\"; list them with 'strongroom user list'"),
        },
        Some(Who::Certificate(hash)) => match hash.as_slice().try_into() {
            Ok(hash) => Ok(Grantee::Certificate(hash)),
            Err(_) => refuse!(
                AttributeWrong,
                "a certificate is named by the SHA-256 of its public key, 32 bytes, not {}",
                hash.len()
            ),
        },
        None => refuse!(Malformed, "whom to name is missing: a user id, a user or a certificate"),
    }
}

fn listed(contents: &Contents, object: &Object) -> response::Result {
    let who = |grantee: Grantee| match grantee {
        Grantee::Uid(uid) => Some(Who::Uid(uid)),
        Grantee::Certificate(hash) => Some(Who::Certificate(hash.to_vec())),
        // A user who is gone is named in vain.
        Grantee::User(identity) => {
            let user = contents.users.iter().find(|user| user.limited && user.identity == identity)?;
            Some(Who::User(user.name.clone()))
        }
    };
    let grants = object.access.grants().iter().filter_map(|grant| {
        Some(v1::Grant {
            grantee: Some(v1::Grantee { who: Some(who(grant.grantee)?) }),
            role: grant.role.name.clone(),
            permissions: grant.role.permissions().to_wire(),
        })
    });
    response::Result::Access(AccessList { grants: grants.collect() })
}

pub(super) fn roles(contents: &Contents) -> response::Result {
    let built_in = access::built_in().map(|role| (role, true));
    let all = built_in.chain(contents.roles.own().map(|role| (role, false)));
    let roles = all.map(|(role, built_in)| AccessRole {
        name: role.name.clone(),
        permissions: role.permissions().to_wire(),
        built_in,
    });
    response::Result::AccessRoles(AccessRoleList { roles: roles.collect() })
}

pub(super) async fn put_role(
    context: &Context,
    partition: &Arc<Partition>,
    request: PutAccessRole,
) -> Result<response::Result, Failure> {
    let AccessRole { name, permissions, .. } = request.role.unwrap_or_default();
    users::check_name(&name)?;
    let Some(permissions) = Permissions::from_wire(&permissions) else {
        return refuse!(Unsupported, "this strongroomd does not know all permissions of role \"{name}\"");
    };
    change_roles(context, partition, "role set", name, move |change, name| {
        let there = &change.before().settings.roles;
        if !there.contains_key(name) && there.len() >= MAX_ROLES {
            return refuse!(Limit, "the partition has {MAX_ROLES} roles of its own: delete one first");
        }
        change.settings().roles.insert(name.to_owned(), permissions);
        Ok(())
    })
    .await
}

pub(super) async fn delete_role(
    context: &Context,
    partition: &Arc<Partition>,
    request: DeleteAccessRole,
) -> Result<response::Result, Failure> {
    change_roles(context, partition, "role deleted", request.name, |change, name| {
        if !change.before().settings.roles.contains_key(name) {
            return no_such_role(name);
        }
        if change.before().objects.give(name) {
            return refuse!(
                NotPermitted,
                "keys give role \"{name}\": revoke it there first; 'strongroom role list' shows the roles"
            );
        }
        if change.before().deleted.give(name) {
            return refuse!(
                NotPermitted,
                "deleted keys give role \"{name}\" ('strongroom key list --deleted'): purge them, or recover them and \
                 revoke it there"
            );
        }
        change.settings().roles.remove(name);
        Ok(())
    })
    .await
}

async fn change_roles(
    context: &Context,
    partition: &Arc<Partition>,
    what: &'static str,
    name: String,
    plan: impl FnOnce(&mut Change<'_>, &str) -> Result<(), Failure> + Send + 'static,
) -> Result<response::Result, Failure> {
    if access::built_in().any(|role| role.name == name) {
        return refuse!(Exists, "role \"{name}\" is built in: it cannot be changed; choose another name");
    }
    let (partition, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        partition.change(|change| {
            asker.still_may(&partition, &change.before().users)?;
            plan(change, &name)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), role = name, "{what}");
        Ok(roles(&partition.contents()))
    })
    .await
}

fn no_such_role<T>(name: &str) -> Result<T, Failure> {
    refuse!(NoSuchUser, "there is no role \"{name}\"; list them with 'strongroom role list'")
}
