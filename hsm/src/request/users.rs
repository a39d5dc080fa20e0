//! Users: log-in and log-out, list, create, delete, passwords, admitted user ids, unlock.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use strongroom_protocol::v1::{
    AdmitUid, ChangePassword, CreateUser, DeleteUser, Login, LoginReply, Role, UserList, response,
};
use zeroize::Zeroizing;

use super::{Asker, Context, changing, done};
use crate::failure::{Failure, refuse};
use crate::partition::{Change, Partition};
use crate::service::{Service, detached};
use crate::session::Acting;
use crate::users::{self, MAX_UIDS, PasswordHash, User, Users, role_name};

/// Passwords of one user id that are checked, or wait for it, at the same time. The workers of a web server
/// may all log in at once.
const MOST_PASSWORDS: usize = 64;

pub(super) async fn login(
    context: &Context,
    partition: &Arc<Partition>,
    request: &mut Login,
) -> Result<response::Result, Failure> {
    let role = request.role();
    if role == Role::Unspecified && (request.user.is_empty() || request.role != i32::from(role)) {
        return refuse!(Malformed, "a log-in without a role needs the name of a user");
    }
    if !request.ticket.is_empty() {
        return login_by_ticket(context, partition, role, &request.ticket);
    }
    let password = Zeroizing::new(std::mem::take(&mut request.password));
    let name = match request.user.is_empty() {
        false => request.user.clone(),
        true => only_user(&partition.contents().users, role, partition.label())?,
    };
    let wanted = (role != Role::Unspecified).then_some(role);
    let user = check_password(context, partition, &name, wanted, password).await?;
    let (ticket, login) = partition.tickets().issue(&user);
    context.session.log_in(partition.number(), login);
    tracing::info!(uid = context.session.uid, partition = partition.label(), user = name, "logged in");
    Ok(response::Result::Login(LoginReply {
        user: user.name.clone(),
        role: user.role.into(),
        ticket,
        must_change_password: user.must_change,
    }))
}

fn login_by_ticket(
    context: &Context,
    partition: &Partition,
    role: Role,
    ticket: &[u8],
) -> Result<response::Result, Failure> {
    let contents = partition.contents();
    let known = partition.tickets().redeem(ticket, &contents.users);
    let Some((login, user)) = known.filter(|(_, user)| [user.role, Role::Unspecified].contains(&role)) else {
        return refuse!(
            TicketInvalid,
            "the log-in is over (log-out, new password, or an hour is): log in again"
        );
    };
    // Also of a locked user: the password was right, and nobody stops a web server by guessing at it.
    let must_change_password = user.must_change;
    let reply = LoginReply {
        user: login.user.clone(),
        role: login.role.into(),
        ticket: ticket.to_vec(),
        must_change_password,
    };
    context.session.log_in(partition.number(), login);
    Ok(response::Result::Login(reply))
}

fn only_user(users: &Users, role: Role, label: &str) -> Result<String, Failure> {
    let mut of_role = users.iter().filter(|user| user.role == role && user.password.is_some());
    match (of_role.next(), of_role.next()) {
        (Some(user), None) => Ok(user.name.clone()),
        (None, _) => refuse!(
            NoSuchUser,
            "partition \"{label}\" has no {} with a password; make one with 'strongroom user create'",
            role_name(role)
        ),
        (Some(_), Some(_)) => {
            refuse!(NoSuchUser, "partition \"{label}\" has several users of this role: name the user")
        }
    }
}

/// Checks a password. The attempt is counted durably before, so that ending the daemon does not give another
/// one; a user who does not exist takes as long as one who does.
pub(super) async fn check_password(
    context: &Context,
    partition: &Arc<Partition>,
    name: &str,
    role: Option<Role>,
    password: Zeroizing<String>,
) -> Result<Arc<User>, Failure> {
    if users::check_name(name).is_err() {
        // There is none; and such a name does not belong in the log.
        return password_wrong(partition);
    }
    let waiting = Waiting::begin(context)?;
    let (service, origin) = (Arc::clone(&context.service), context.origin());
    let (partition, name) = (Arc::clone(partition), name.to_owned());
    detached(async move {
        let _waiting = waiting;
        let _turn = partition.login_turn(&name).await;
        let counted = {
            let (partition, name) = (Arc::clone(&partition), name.clone());
            let count = move || partition.change(|change| count_attempt(change, &name, role));
            service.change(origin, count).await?
        };
        let hash = counted.as_ref().and_then(|user| user.password.clone());
        let right =
            service.verify_password(origin, hash.unwrap_or_else(PasswordHash::of_nobody), password).await?;
        match counted {
            Some(user) if right => {
                let partition = Arc::clone(&partition);
                let forget = move || {
                    partition.change(|change| {
                        let now = change.before().users.get(&user.name);
                        if !now.is_some_and(|now| now.is_still(&user)) {
                            return password_wrong(&partition);
                        }
                        edit(change, &user.name, |user| {
                            user.attempts = 0;
                            Ok(())
                        })
                    })
                };
                service.change(origin, forget).await
            }
            _ => {
                tracing::warn!(
                    uid = origin.uid,
                    partition = partition.label(),
                    user = name,
                    "wrong user name or password"
                );
                password_wrong(&partition)
            }
        }
    })
    .await
}

fn password_wrong<T>(partition: &Partition) -> Result<T, Failure> {
    refuse!(PasswordWrong, "wrong user name or password for partition \"{}\"", partition.label())
}

/// One of the password checks of a user id: each costs the disk and the processor something, and takes its turn.
struct Waiting(Arc<Service>, u32);

impl Waiting {
    fn begin(context: &Context) -> Result<Self, Failure> {
        let (service, uid) = (Arc::clone(&context.service), context.session.uid);
        if service.counters.passwords.enter(uid, usize::MAX, MOST_PASSWORDS) {
            return Ok(Self(service, uid));
        }
        refuse!(Limit, "user id {uid} has {MOST_PASSWORDS} passwords being checked: wait for an answer")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.counters.passwords.leave(self.1);
    }
}

/// `None`: no such user in this role, or one without a password.
fn count_attempt(
    change: &mut Change<'_>,
    name: &str,
    role: Option<Role>,
) -> Result<Option<Arc<User>>, Failure> {
    let user = change.before().users.get(name);
    let known = user.filter(|user| user.password.is_some() && role.is_none_or(|role| role == user.role));
    match known {
        None => Ok(None),
        Some(user) if user.is_locked(change.before().settings.max_attempts) => locked(user),
        Some(_) => {
            let counted = edit(change, name, |user| {
                user.attempts += 1;
                Ok(())
            })?;
            Ok(Some(counted))
        }
    }
}

fn locked<T>(user: &User) -> Result<T, Failure> {
    let name = &user.name;
    refuse!(
        UserLocked,
        "{} \"{name}\" is locked after {} wrong passwords: 'strongroom user unlock {name}' unlocks, by a crypto officer \
         or the partition's owner",
        role_name(user.role),
        user.attempts
    )
}

/// Changes a user that has to be there.
pub(super) fn edit(
    change: &mut Change<'_>,
    name: &str,
    edit: impl FnOnce(&mut User) -> Result<(), Failure>,
) -> Result<Arc<User>, Failure> {
    let Some(user) = change.before().users.get(name) else {
        return no_such_user(name);
    };
    let mut user = User::clone(user);
    edit(&mut user)?;
    change.put_user(user)
}

pub(super) fn no_such_user<T>(name: &str) -> Result<T, Failure> {
    refuse!(NoSuchUser, "there is no user \"{name}\"; list them with 'strongroom user list'")
}

pub(super) async fn logout(
    context: &Context,
    partition: &Arc<Partition>,
) -> Result<response::Result, Failure> {
    if let Some(login) = context.session.log_out(partition.number()) {
        // Also if the client does not wait for it.
        let partition = Arc::clone(partition);
        detached(async move { partition.log_out(&login).await }).await?;
    }
    Ok(done())
}

pub(super) fn list(partition: &Partition) -> response::Result {
    let contents = partition.contents();
    let users = contents.users.iter().map(|user| user.info(contents.settings.max_attempts)).collect();
    response::Result::Users(UserList { users })
}

pub(super) async fn create(
    context: &Context,
    partition: &Arc<Partition>,
    request: CreateUser,
) -> Result<response::Result, Failure> {
    let role = request.role();
    let CreateUser { name, password, uids, limited, .. } = request;
    let password = Zeroizing::new(password);
    users::check_name(&name)?;
    if role == Role::Unspecified {
        return refuse!(AttributeWrong, "a user needs a role: crypto officer, crypto user or appliance user");
    }
    if limited && role != Role::CryptoUser {
        return refuse!(AttributeWrong, "only a crypto user can be limited to keys that name it");
    }
    users::check_uids(&uids)?;
    let hash = match password.is_empty() {
        true => None,
        false => {
            users::check_new_password(&password)?;
            Some(context.service.hash_password(context.origin(), password).await?)
        }
    };
    let user =
        administer(context, context.asker(), partition, "user created", name, move |change, _, name| {
            if change.before().users.get(name).is_some() {
                return refuse!(Exists, "a user \"{name}\" is there already");
            }
            for uid in &uids {
                check_free(&change.before().users, *uid, role, name)?;
            }
            let epoch = change.revision();
            let must_change = hash.is_some() && !change.before().settings.keep_initial_passwords;
            change.put_user(User { must_change, limited, ..User::new(name, role, hash, uids, epoch) })
        })
        .await?;
    Ok(described(partition, &user))
}

pub(super) async fn delete(
    context: &Context,
    partition: &Arc<Partition>,
    request: DeleteUser,
) -> Result<response::Result, Failure> {
    administer(context, context.asker(), partition, "user deleted", request.name, |change, _, name| {
        let Some(user) = change.before().users.get(name).map(Arc::clone) else {
            return no_such_user(name);
        };
        if user.can_administer() {
            check_other_officer(&change.before().users, name)?;
        }
        change.delete_user(&user);
        Ok(())
    })
    .await?;
    Ok(done())
}

/// A partition without crypto officer could never be administered again.
fn check_other_officer(users: &Users, name: &str) -> Result<(), Failure> {
    match users.iter().any(|user| user.name != name && user.can_administer()) {
        true => Ok(()),
        false => refuse!(
            NotPermitted,
            "\"{name}\" is the only crypto officer with a password or an admitted user id: make another one first"
        ),
    }
}

pub(super) async fn change_password(
    context: &Context,
    partition: &Arc<Partition>,
    request: ChangePassword,
) -> Result<response::Result, Failure> {
    let ChangePassword { name, old_password, new_password } = request;
    let (old_password, new_password) = (Zeroizing::new(old_password), Zeroizing::new(new_password));
    users::check_new_password(&new_password)?;
    let role = partition.contents().users.get(&name).map(|user| user.role);
    let by_officer = context.acting.officer.is_some() && role.is_some_and(is_set_by_officers);
    let mut asker = context.asker();
    let is_unchanged = verify_slices_are_equal(old_password.as_bytes(), new_password.as_bytes()).is_ok();
    let checked = match by_officer && old_password.is_empty() {
        true => None,
        false => Some(check_password(context, partition, &name, None, old_password).await?),
    };
    if let Some(user) = &checked {
        asker.by = user.title();
    }
    if checked.as_ref().is_some_and(|user| user.must_change) && is_unchanged {
        return refuse!(AttributeWrong, "the new password of \"{name}\" is the initial one: choose another");
    }
    let hash = context.service.hash_password(context.origin(), new_password).await?;
    let plan = move |change: &mut Change<'_>, acting: &Acting, name: &str| {
        let epoch = change.revision();
        // Who knows the old one sets the own.
        let must_change = checked.is_none() && !change.before().settings.keep_initial_passwords;
        edit(change, name, |user| {
            match &checked {
                Some(checked) if user.is_still(checked) => {}
                Some(_) => {
                    return refuse!(PasswordWrong, "the password of \"{}\" was changed meanwhile", user.name);
                }
                None if acting.officer.is_some() && is_set_by_officers(user.role) => {}
                None => {
                    return refuse!(
                        NotPermitted,
                        "this takes the old password of \"{}\": crypto officers set those of crypto users and \
                         appliance users only",
                        user.name
                    );
                }
            }
            user.password = Some(hash);
            user.attempts = 0;
            user.must_change = must_change;
            user.epoch = epoch;
            Ok(())
        })
    };
    let user = administer(context, asker, partition, "password changed", name, plan).await?;
    // Log-ins with the old password are over, but for the one that changed it.
    if let Some(login) = context.session.log_out(partition.number()) {
        let own = login.user == user.name && login.role == user.role;
        let login = if own { partition.tickets().issue(&user).1 } else { login };
        context.session.log_in(partition.number(), login);
    }
    Ok(done())
}

/// Whether a crypto officer sets passwords of this role without knowing the old one. Officers' own are theirs.
fn is_set_by_officers(role: Role) -> bool {
    matches!(role, Role::CryptoUser | Role::ApplianceUser)
}

pub(super) async fn admit_uid(
    context: &Context,
    partition: &Arc<Partition>,
    request: AdmitUid,
) -> Result<response::Result, Failure> {
    let AdmitUid { name, uid, withdraw } = request;
    let what = if withdraw { "user id withdrawn" } else { "user id admitted" };
    let user = administer(context, context.asker(), partition, what, name, move |change, _, name| {
        if !withdraw && let Some(user) = change.before().users.get(name) {
            check_free(&change.before().users, uid, user.role, name)?;
        }
        let other_officer = check_other_officer(&change.before().users, name);
        edit(change, name, |user| {
            let could_administer = user.can_administer();
            user.uids.retain(|admitted| *admitted != uid);
            if withdraw && could_administer && !user.can_administer() {
                other_officer?;
            }
            if !withdraw {
                if user.uids.len() >= MAX_UIDS {
                    return refuse!(Limit, "\"{}\" has {MAX_UIDS} admitted user ids already", user.name);
                }
                user.uids.push(uid);
            }
            Ok(())
        })
    })
    .await?;
    Ok(described(partition, &user))
}

/// A user id acts as one user of each role, so that it is clear who did something.
fn check_free(users: &Users, uid: u32, role: Role, name: &str) -> Result<(), Failure> {
    match users.admitted(uid, role) {
        Some(other) if other.name != name => refuse!(
            Exists,
            "user id {uid} already acts as {} \"{}\": withdraw it there first",
            role_name(role),
            other.name
        ),
        _ => Ok(()),
    }
}

/// A user as clients see it.
pub(super) fn described(partition: &Partition, user: &User) -> response::Result {
    response::Result::User(user.info(partition.contents().settings.max_attempts))
}

/// Makes a change of a user if those who ask still may, and logs it with who did it.
pub(super) async fn administer<T: Send + 'static>(
    context: &Context,
    asker: Asker,
    partition: &Arc<Partition>,
    what: &'static str,
    name: String,
    plan: impl FnOnce(&mut Change<'_>, &Acting, &str) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let partition = Arc::clone(partition);
    changing(context, move || {
        let value = partition.change(|change| {
            let acting = asker.still_may(&partition, &change.before().users)?;
            plan(change, &acting, &name)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = partition.label(), user = name, "{what}");
        Ok(value)
    })
    .await
}
