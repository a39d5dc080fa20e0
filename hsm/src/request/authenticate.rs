//! AuthenticateUse: the password for one use of a key, and the ticket that it gives.

use std::sync::Arc;

use strongroom_protocol::v1::{AuthenticateUse, ObjectClass, Permission, Role, UseTicket, response};
use zeroize::Zeroizing;

use super::{Context, objects, users};
use crate::failure::{Failure, refuse};
use crate::object::Object;
use crate::partition::Partition;

pub(super) async fn authenticate(
    context: &Context,
    partition: &Arc<Partition>,
    request: &mut AuthenticateUse,
) -> Result<response::Result, Failure> {
    let password = Zeroizing::new(std::mem::take(&mut request.password));
    let object = objects::usable(&context.acting, partition, &request.key, &[Permission::View])?;
    if object.info.class() != ObjectClass::PrivateKey || !asks(&object) {
        return refuse!(
            KeyMayNot,
            "{} does not ask for the password before each use (CKA_ALWAYS_AUTHENTICATE)",
            object.title()
        );
    }
    let user = user(context)?;
    users::check_password(context, partition, &user.0, Some(Role::CryptoUser), password).await?;
    let ticket = partition.tickets().uses.issue(&user, object.id);
    Ok(response::Result::UseTicket(UseTicket { ticket: ticket.to_vec() }))
}

/// Spends the ticket for a use of a key, if the key asks for one.
///
/// # Errors
///
/// USE_NOT_AUTHENTICATED.
pub(super) fn spend(
    context: &Context,
    partition: &Partition,
    object: &Object,
    ticket: &[u8],
) -> Result<(), Failure> {
    if !asks(object) || partition.tickets().uses.spend(&user(context)?, object.id, ticket) {
        return Ok(());
    }
    refuse!(
        UseNotAuthenticated,
        "{} asks for its user's password before each use (CKA_ALWAYS_AUTHENTICATE): C_Login with CKU_CONTEXT_SPECIFIC, after \
         C_SignInit or C_DecryptInit",
        object.title()
    )
}

fn asks(object: &Object) -> bool {
    object.info.policy.unwrap_or_default().always_authenticate
}

/// The user as whom the connection uses keys, and since when the password is the one that it is.
fn user(context: &Context) -> Result<(String, u64), Failure> {
    let acting = &context.acting;
    match acting.crypto_user.as_ref().or(acting.limited.as_ref()) {
        Some(user) => Ok((user.name.clone(), user.epoch)),
        None => refuse!(NotLoggedIn, "this takes a user with a password: log in first"),
    }
}
