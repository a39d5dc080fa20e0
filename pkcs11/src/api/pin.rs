//! PINs: how they name a user, and the functions that set them (PKCS#11 3.0, 5.5).

use cryptoki_sys::*;
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::{
    self, ChangePassword, CreateUser, ListUsers, Role, UserInfo, request::Op, response,
};

use super::input;
use crate::call::{Access, Repeat};
use crate::error::Outcome;
use crate::pool::RETIRED;
use crate::state::Process;
use crate::token::Token;

/// The crypto user that `C_InitPIN` makes when a partition has none and the PIN names none.
const DEFAULT_USER: &str = "user";

/// A PIN: `name:password`, or the password of the only user of the role.
#[derive(Clone, Copy)]
pub struct Pin<'a> {
    /// Empty: the only user of the role.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

impl<'a> Pin<'a> {
    /// Takes a PIN apart at its first colon.
    ///
    /// # Errors
    ///
    /// `CKR_PIN_INCORRECT` if it is not UTF-8, as all passwords are.
    pub fn read(pin: &'a [u8]) -> Outcome<Self> {
        let pin = std::str::from_utf8(pin).map_err(|_| CKR_PIN_INCORRECT)?;
        let (user, password) = pin.split_once(':').unwrap_or(("", pin));
        Ok(Pin { user, password })
    }

    /// As [`Pin::read`], of a PIN that is to be set.
    ///
    /// # Errors
    ///
    /// `CKR_PIN_INVALID` if it is not UTF-8.
    fn read_new(pin: &'a [u8]) -> Outcome<Self> {
        Pin::read(pin).map_err(|_| CKR_PIN_INVALID)
    }
}

/// `C_InitPIN`: the crypto officer sets a crypto user's password, and makes the user if there is none.
pub unsafe fn init_pin(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let pin = Pin::read_new(unsafe { input(pin, length) }?)?;
    let session = process.sessions.get(session)?;
    let token = &session.token;
    check_length(token, pin)?;
    if token.login.role() != Some(Role::CryptoOfficer) {
        return Err(CKR_USER_NOT_LOGGED_IN);
    }
    session.writable()?;
    let list = || Op::ListUsers(ListUsers {});
    let response::Result::Users(list) = process.call(Access::of(token), Repeat::Safe, list)? else {
        return Err(CKR_DEVICE_ERROR);
    };
    let (users, others): (Vec<UserInfo>, Vec<_>) =
        list.users.into_iter().partition(|user| user.role() == Role::CryptoUser);
    let name = match (pin.user, users.as_slice()) {
        ("", []) => DEFAULT_USER.to_owned(),
        ("", [only]) => only.name.clone(),
        // Whose PIN it is to be, it must say.
        ("", _) => return Err(CKR_PIN_INVALID),
        // An officer's: officers set their own, by C_SetPIN.
        (name, _) if others.iter().any(|other| other.name == name) => return Err(CKR_PIN_INVALID),
        (name, _) => name.to_owned(),
    };
    let exists = users.iter().any(|user| user.name == name);
    let make = || match exists {
        true => Op::ChangePassword(ChangePassword {
            name: name.clone(),
            old_password: String::new(),
            new_password: pin.password.to_owned(),
        }),
        false => Op::CreateUser(CreateUser {
            name: name.clone(),
            role: Role::CryptoUser.into(),
            password: pin.password.to_owned(),
            ..CreateUser::default()
        }),
    };
    process.call(Access::of(token), Repeat::Never, make)?;
    Ok(())
}

/// Refuses a new password of an impossible length. To the daemon none at all is that of a user who has none, and one that is too long is no
/// password. Which are too short it says itself.
fn check_length(token: &Token, pin: Pin<'_>) -> Outcome {
    let longest = token.info().max_password as usize;
    if (1..=longest).contains(&pin.password.len()) { Ok(()) } else { Err(CKR_PIN_LEN_RANGE) }
}

/// `C_SetPIN`: the user who is logged in, or else a crypto user, changes the own password.
pub unsafe fn set_pin(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    old: *mut CK_UTF8CHAR,
    old_length: CK_ULONG,
    new: *mut CK_UTF8CHAR,
    new_length: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let (old, new) = unsafe { (input(old, old_length)?, input(new, new_length)?) };
    let (old, new) = (Pin::read(old)?, Pin::read_new(new)?);
    let session = process.sessions.get(session)?;
    session.writable()?;
    let token = &session.token;
    let logged_in = token.login.user();
    let role = token.login.role().unwrap_or(Role::CryptoUser);
    let named = if old.user.is_empty() { logged_in.as_deref().unwrap_or_default() } else { old.user };
    if old.password.is_empty() {
        return Err(CKR_PIN_INCORRECT);
    }
    check_length(token, new)?;
    let _turn = logged_in.is_some().then(|| token.login.hold()).transpose()?;
    let user = change(process, token, role, named, old.password, new)?;
    if logged_in.is_some_and(|name| name == user) {
        token.login.change_password(new.password)?;
    }
    Ok(())
}

/// Logs in with the old password on a connection of its own, which proves it and finds the name, and changes
/// it there. Returns the name.
fn change(
    process: &'static Process,
    token: &Token,
    role: Role,
    user: &str,
    old: &str,
    new: Pin<'_>,
) -> Outcome<String> {
    process.on_connection(Access::anonymous(), Repeat::Never, |pooled| {
        pooled.epoch = RETIRED;
        let login = v1::Login {
            role: role.into(),
            user: user.to_owned(),
            password: old.to_owned(),
            ticket: Vec::new(),
        };
        let name = match pooled.connection.call(token.partition, Op::Login(login))? {
            response::Result::Login(reply) => reply.user,
            _ => return Ok(Err(CKR_DEVICE_ERROR)),
        };
        if !new.user.is_empty() && new.user != name {
            // Users cannot be renamed.
            return Ok(Err(CKR_PIN_INVALID));
        }
        let change = ChangePassword {
            name: name.clone(),
            old_password: old.to_owned(),
            new_password: new.password.to_owned(),
        };
        pooled.connection.call(token.partition, Op::ChangePassword(change))?;
        Ok::<_, ClientError>(Ok(name))
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_its_user_or_not() {
        let pin = Pin::read(b"alice:s:ecret").unwrap();
        assert_eq!((pin.user, pin.password), ("alice", "s:ecret"));
        let pin = Pin::read(b"secret").unwrap();
        assert_eq!((pin.user, pin.password), ("", "secret"));
        assert_eq!(Pin::read(&[0xff]).err(), Some(CKR_PIN_INCORRECT));
        assert_eq!(Pin::read_new(&[0xff]).err(), Some(CKR_PIN_INVALID));
    }
}
