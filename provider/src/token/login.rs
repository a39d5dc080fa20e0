//! Log-ins: of this process, and what it knows of those of its parents and siblings.

use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys::*;

use super::TokenIdentity;
use super::attempts::{Attempts, Counted, Refusal};
use super::known_pins::KnownPins;
use super::module::{self, Module};
use super::session::Session;
use super::slot::Slot;
use crate::error::{Error, Result, Rv};
use crate::pin::Secret;

/// What a provider knows of log-ins, which its processes' children inherit.
pub struct LogIns {
    /// What the tokens said of PINs.
    attempts: Attempts,
    /// The PINs that they took.
    known: KnownPins,
    /// As whom to log in: CKU_USER, but for some vendors.
    user: CK_USER_TYPE,
}

/// The log-in of one process with one token.
#[derive(Default)]
pub struct Login {
    /// The epoch of the sessions that are logged in.
    epoch: Option<u64>,
    /// The PIN that the token took.
    pin: Option<Secret>,
}

impl LogIns {
    /// Nothing is known yet.
    pub fn new(user: CK_USER_TYPE) -> Self {
        LogIns { attempts: Attempts::new(), known: KnownPins::default(), user }
    }

    /// Whether the token has refused this PIN for a log-in.
    pub fn is_refused(&self, token: &TokenIdentity, pin: &Secret) -> bool {
        self.attempts.refused(token, self.user, pin).is_some()
    }
}

impl Slot {
    /// Logs in, unless the session is logged in already.
    ///
    /// # Errors
    ///
    /// [`Error::PinRefused`] for a wrong PIN, for one that was wrong before without asking the token, for another user's
    /// than the one as whom this process is logged in, and if one more wrong PIN would lock the token.
    pub fn login(&self, module: &Module, session: &Session, pin: &Secret) -> Result<()> {
        let mut login = self.lock_login();
        // A token logs out with its last session: one that failed and was closed may have been that.
        let is_logged_in = || module.is_logged_in(session.handle).unwrap_or(true);
        if login.epoch == Some(session.epoch) && is_logged_in() {
            return match login.pin.clone() {
                Some(good) if good != *pin => self.change_pin(module, session, &mut login, good, pin),
                _ => Ok(()),
            };
        }
        if self.try_pin(module, session, self.log_ins.user, pin)? {
            login.pin = Some(pin.clone());
        }
        login.epoch = Some(session.epoch);
        Ok(())
    }

    /// Logs in for one use of a key that wants it each time (CKA_ALWAYS_AUTHENTICATE).
    ///
    /// # Errors
    ///
    /// As [`login`](Self::login).
    pub fn login_for_one_use(&self, module: &Module, session: &Session, pin: &Secret) -> Result<()> {
        let _login = self.lock_login();
        self.try_pin(module, session, CKU_CONTEXT_SPECIFIC, pin).map(drop)
    }

    /// The PIN that this token took last, and has not refused since, from this process or an ancestor.
    pub fn known_pin(&self) -> Option<Secret> {
        let mut known = self.log_ins.known.of(&self.token);
        known.find(|pin| !self.log_ins.is_refused(&self.token, pin)).cloned()
    }

    /// Looks something up, logged in where the token asks for that. Where it does not, who is not logged in may be shown less:
    /// after a look in vain there is another one with the PIN, if one is known and the settings do not say `never`.
    ///
    /// # Errors
    ///
    /// What `look` says; of a token that asks for a log-in, as [`login`](Self::login) too.
    pub fn logged_in<T>(
        &self,
        module: &Module,
        session: &Session,
        found_with: Option<&Secret>,
        look: impl Fn() -> Result<T>,
    ) -> Result<T> {
        if self.login_required {
            if let Some(pin) = self.pin_of(found_with) {
                self.login(module, session, &pin)?;
            }
            return look();
        }
        let missing = match look() {
            Err(error) if error.rv().is_none() => error,
            looked => return looked,
        };
        match self.pin_of(found_with).filter(|_| self.may_log_in) {
            Some(pin) if self.login(module, session, &pin).is_ok() => look(),
            _ => Err(missing),
        }
    }

    /// A PIN that the token took, as the copy that is kept anyway: a thousand keys do not lock a thousand pages.
    pub fn kept(&self, pin: Secret) -> Secret {
        self.known_pin().filter(|known| *known == pin).unwrap_or(pin)
    }

    /// The PIN to use a key with: the one that it was found with or, if the token has refused that since, a later one.
    pub fn pin_of(&self, found_with: Option<&Secret>) -> Option<Secret> {
        match found_with {
            Some(pin) if self.log_ins.is_refused(&self.token, pin) => {
                self.known_pin().or_else(|| Some(pin.clone()))
            }
            Some(pin) => Some(pin.clone()),
            None => self.known_pin(),
        }
    }

    /// Logs in with another PIN than the process is logged in with: it may be a typing error, or the token's PIN may have been
    /// changed, and only the token knows. Operations that are running find that they are logged out, and recover.
    fn change_pin(
        &self,
        module: &Module,
        session: &Session,
        login: &mut Login,
        good: Secret,
        pin: &Secret,
    ) -> Result<()> {
        let user = |pin: &Secret| pin.bytes().split(|byte| *byte == b':').next().map(<[u8]>::to_vec);
        let is_named = |pin: &Secret| pin.bytes().contains(&b':');
        if is_named(&good) && is_named(pin) && user(&good) != user(pin) {
            return Err(self.refused(
                "this process is logged in to the token as another user, and PKCS#11 has one log-in for a process",
            ));
        }
        if let Some(rv) = self.log_ins.attempts.refused(&self.token, self.log_ins.user, pin) {
            return Err(self.refused_before(rv));
        }
        // A module without C_Logout says that the user is logged in already.
        let _ = module.logout(session.handle);
        login.epoch = None;
        match self.try_pin(module, session, self.log_ins.user, pin) {
            Ok(is_taken) => {
                login.pin = Some(if is_taken { pin.clone() } else { good });
                login.epoch = Some(session.epoch);
                Ok(())
            }
            Err(error) => {
                if self.try_pin(module, session, self.log_ins.user, &good).is_ok() {
                    login.epoch = Some(session.epoch);
                }
                Err(error)
            }
        }
    }

    /// C_Login, if the PIN may be tried. True if the token took it, false if the process was logged in already: by the
    /// application, or by a parent process whose module's state survived the fork.
    fn try_pin(&self, module: &Module, session: &Session, user: CK_USER_TYPE, pin: &Secret) -> Result<bool> {
        let LogIns { attempts, known, .. } = self.log_ins;
        let attempt = attempts.begin(&self.token, user, pin).map_err(|refusal| match refusal {
            Refusal::Refused(rv) => self.refused_before(rv),
            Refusal::Pending => self.refused("another process is trying it, and the token does not answer"),
            Refusal::Doubtful => {
                self.refused(&format!("C_Login failed too often in the last minutes; {DOUBTFUL}"))
            }
        })?;
        let flags = module.token_info(self.id).map_or(0, |info| info.flags);
        if flags & CKF_USER_PIN_LOCKED != 0 {
            return Err(self.refused("it is locked; unlock it first"));
        }
        if flags & CKF_USER_PIN_FINAL_TRY != 0 && known.of(&self.token).next() != Some(pin) {
            return Err(self.refused(
                "one more wrong PIN would lock it; log in once by hand, as with pkcs11-tool --login",
            ));
        }
        match login_when_possible(module, session, user, pin) {
            Ok(()) => {
                attempt.taken();
                if user == self.log_ins.user {
                    known.add(&self.token, pin);
                }
                Ok(true)
            }
            Err(CKR_USER_ALREADY_LOGGED_IN) => Ok(false),
            Err(rv) if is_wrong(rv) => {
                attempt.refused(rv);
                let left = match module.token_info(self.id).map_or(0, |info| info.flags) {
                    flags if flags & CKF_USER_PIN_LOCKED != 0 => "; the token is locked now",
                    flags if flags & CKF_USER_PIN_FINAL_TRY != 0 => "; one more wrong PIN locks the token",
                    flags if flags & CKF_USER_PIN_COUNT_LOW != 0 => "; a few more wrong PINs lock the token",
                    _ => "",
                };
                Err(self.refused(&format!("C_Login: {}{left}; {REMEDY}", Rv(rv))))
            }
            // Not of this PIN: when that is mended it may be the right one.
            Err(rv @ (CKR_PIN_LOCKED | CKR_PIN_EXPIRED)) => {
                Err(self.refused(&format!("C_Login: {}", Rv(rv))))
            }
            // There are modules that say so of a wrong PIN; and there is SoftHSM2, which says so while another process logs in.
            Err(rv) if is_unknown(rv) => {
                let counted = match module.token_info(self.id).map(|info| info.flags & COUNTS) {
                    Ok(0) => Counted::None,
                    Ok(_) if flags & COUNTS == 0 => Counted::Yes,
                    _ => Counted::Unknown,
                };
                match attempt.doubted(counted) {
                    true => Err(Error::token("C_Login", self.name(), rv)),
                    false => Err(self.refused(&format!("C_Login: {}; {DOUBTFUL}", Rv(rv)))),
                }
            }
            Err(rv) => Err(Error::token("C_Login", self.name(), rv)),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::PinRefused { token: self.token.label.clone(), why: why.to_owned() }
    }

    fn refused_before(&self, rv: CK_RV) -> Error {
        self.refused(&format!("C_Login: {} when it was tried before; {REMEDY}", Rv(rv)))
    }

    fn lock_login(&self) -> MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a log-in is tried again at a token that is busy with others'.
const BUSY: Duration = Duration::from_secs(10);

/// C_Login; again, after pauses, while the token has no room for it. A PIN is dear to check on purpose, and many workers that
/// start at once log in at once.
fn login_when_possible(
    module: &Module,
    session: &Session,
    user: CK_USER_TYPE,
    pin: &Secret,
) -> module::Rv<()> {
    let until = Instant::now() + BUSY;
    // Not the same in processes that start together.
    let mut pause = Duration::from_millis(20 + u64::from(std::process::id() % 16));
    loop {
        match module.login(session.handle, user, pin) {
            Err(CKR_TOKEN_RESOURCE_EXCEEDED) if Instant::now() < until => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            done => return done,
        }
    }
}

const REMEDY: &str = "it is not tried again by this process and its workers: give the right PIN and load the key again (reload the server)";

const DOUBTFUL: &str = "the PIN may be wrong, and each try may bring the token nearer to locking: it is not tried again for ten minutes, or until the program is started again";

/// What a token says of wrong PINs.
const COUNTS: CK_FLAGS = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;

/// Errors of C_Login that do not say whether the PIN was wrong.
fn is_unknown(rv: CK_RV) -> bool {
    matches!(rv, CKR_GENERAL_ERROR | CKR_DEVICE_ERROR | CKR_FUNCTION_FAILED) || rv >= CKR_VENDOR_DEFINED
}

/// Errors of C_Login that say that the PIN is wrong.
fn is_wrong(rv: CK_RV) -> bool {
    matches!(rv, CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE)
}
