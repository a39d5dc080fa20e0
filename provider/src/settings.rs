//! The provider's section in openssl.cnf. Names and values are pkcs11-provider's, so that its users change
//! only `module =`.

use std::ffi::CStr;
use std::path::PathBuf;

use crate::core::Core;
use crate::environment;
use crate::error::{Error, Result};
use crate::pin::{self, Secret};

/// The module that is used when none is named, beside strongroom.so or in the linker's path.
const OWN_MODULE: &str = "libstrongroom_pkcs11.so";

/// How many threads sign for ASYNC jobs at most, if the settings do not say, and how many they may say.
const THREADS: usize = 64;
const MAX_THREADS: usize = 1024;

/// What openssl.cnf says.
#[derive(Debug)]
pub struct Settings {
    /// `pkcs11-module-path`, else the environment's PKCS11_PROVIDER_MODULE, else our own module.
    pub module: PathBuf,
    /// `pkcs11-module-init-args`: passed to C_Initialize as pReserved (NSS's softokn wants it).
    pub init_arguments: Option<String>,
    /// `pkcs11-module-token-pin`: a PIN, or `file:` and a path, which is read now: the process that will need the
    /// PIN may no longer have the right. A failure is reported when a PIN is needed.
    pub pin: Result<Option<Secret>>,
    /// `pkcs11-module-login-behavior = always`: log in although the token does not ask for it.
    pub always_log_in: bool,
    /// `strongroom-async-threads`: how many threads sign for ASYNC jobs at most; 0 for none. A failure is reported in the
    /// first job.
    pub threads: Result<usize>,
}

impl Settings {
    /// Reads the settings.
    pub fn read(core: &Core) -> Self {
        // An empty value is pkcs11-provider's way to unset one.
        let setting = |name: &CStr| core.setting(name).filter(|value| !value.is_empty());
        let module = setting(c"pkcs11-module-path")
            .map(PathBuf::from)
            .or_else(|| environment::variable(c"PKCS11_PROVIDER_MODULE").map(PathBuf::from))
            .unwrap_or_else(own_module);
        let pin = match setting(c"pkcs11-module-token-pin") {
            Some(value) if value.starts_with("file:") => pin::from_source(&value).map(Some),
            Some(value) => Ok(Some(Secret::new(value.into_bytes()))),
            None => Ok(None),
        };
        Settings {
            module,
            init_arguments: setting(c"pkcs11-module-init-args"),
            pin,
            threads: threads(setting(c"strongroom-async-threads")),
            always_log_in: setting(c"pkcs11-module-login-behavior").is_some_and(|value| value == "always"),
        }
    }
}

fn threads(setting: Option<String>) -> Result<usize> {
    let Some(text) = setting else { return Ok(THREADS) };
    text.parse().ok().filter(|threads| *threads <= MAX_THREADS).ok_or_else(|| {
        Error::Job(format!(
            "strongroom-async-threads = {text} in openssl.cnf is not a number up to {MAX_THREADS}"
        ))
    })
}

/// Our own PKCS#11 module: beside this library where both are installed together, else by its name alone, for
/// the dynamic linker to find.
fn own_module() -> PathBuf {
    match strongroom_ffi::library_directory().map(|directory| directory.join(OWN_MODULE)) {
        Some(beside) if beside.exists() => beside,
        _ => PathBuf::from(OWN_MODULE),
    }
}
