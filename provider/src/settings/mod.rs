//! The provider's section in openssl.cnf. Names and values are pkcs11-provider's, so that its users change
//! only `module =`; docs/migration.md says of each what becomes of it.

mod operations;

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::str::FromStr;

use cryptoki_sys::{CK_SLOT_ID, CK_USER_TYPE, CKU_USER};

pub use operations::Operations;

use crate::bindings::{OSSL_OP_CIPHER, OSSL_OP_KDF, OSSL_OP_MAC, OSSL_OP_SKEYMGMT};
use crate::core::Core;
use crate::dispatch::properties;
use crate::environment;
use crate::error::{Error, Result};
use crate::pin::{Configured, Sources};

/// The module that is used when none is named, beside strongroom.so or in the linker's path.
const OWN_MODULE: &str = "libstrongroom_pkcs11.so";

/// p11-kit's module, which shows the tokens of all modules that the system knows. It is used where ours is not installed.
const PROXY_MODULE: &str = "p11-kit-proxy.so";

/// How many threads sign for ASYNC jobs at most, if the settings do not say, and how many they may say.
const THREADS: usize = 64;
const MAX_THREADS: usize = 1024;

/// How many sessions with a token are kept, if the settings do not say, and how many they may say.
const SESSIONS: usize = 256;
const MAX_SESSIONS: usize = 1024;

/// The user as whom crypto users of Thales Luna log in (CKU_CRYPTO_USER in its SDK).
const CKU_LUNA_CRYPTO_USER: CK_USER_TYPE = 0x8000_0001;

/// What openssl.cnf says.
#[derive(Debug)]
pub struct Settings {
    /// The PKCS#11 module: the environment's PKCS11_PROVIDER_MODULE, else `pkcs11-module-path`. Where none is named, those
    /// that are tried, in this order.
    pub modules: Vec<PathBuf>,
    /// `pkcs11-module-init-args`: passed to C_Initialize as pReserved (NSS's softokn wants it).
    pub init_arguments: Option<String>,
    /// `pkcs11-module-token-pin`: a PIN, or where it is. A failure is reported when a PIN is needed.
    pub pin: Configured,
    /// What PIN sources in URIs may use.
    pub sources: Sources,
    /// `pkcs11-module-login-behavior`
    pub login: Login,
    /// `pkcs11-module-load-behavior = early`: the module is initialised with the provider, which fails if it cannot be.
    pub load_early: bool,
    /// `pkcs11-module-quirks = luna-non-standard-cku-user`, else CKU_USER: as whom to log in.
    pub user: CK_USER_TYPE,
    /// `pkcs11-module-quirks = no-allowed-mechanisms`: the token has no CKA_ALLOWED_MECHANISMS.
    pub no_allowed_mechanisms: bool,
    /// `pkcs11-module-cache-sessions`: how many sessions with each token are kept, at least one, which holds the log-in.
    pub sessions: usize,
    /// `pkcs11-module-block-operations`: what is left to other providers.
    pub blocked: Operations,
    /// `strongroom-operations`: what is offered besides keys and what is done with them.
    pub optional: Operations,
    /// Unless `pkcs11-module-allow-export = 1` (sic): OpenSSL's own provider gets public keys, and may use them.
    pub public_keys_leave: bool,
    /// Unless `pkcs11-module-encode-provider-uri-to-pem = false`: a private key is written as a reference file where PKCS#8 is
    /// asked for.
    pub encode_references: bool,
    /// The algorithms' properties, where they are not those of the lists: `provider=` with the name that openssl.cnf gives the
    /// provider and, for `pkcs11-module-assume-fips = true`, `fips=yes`.
    pub properties: Option<String>,
    /// `pkcs11-module-default-slot-id`: the slot for what names no token: new keys and random numbers.
    pub default_slot: Option<CK_SLOT_ID>,
    /// `strongroom-async-threads`: how many threads sign for ASYNC jobs at most; 0 for none. A failure is reported in the
    /// first job.
    pub threads: Result<usize>,
    /// The first value that cannot be honoured and matters. It is reported when the provider is used: failing at once
    /// would take OpenSSL away from programs that use no key of ours.
    pub fault: Option<Error>,
}

/// When to log in for what a token also shows without: public keys and certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Login {
    /// When nothing is found without.
    #[default]
    Auto,
    /// Always, also where the token asks for no log-in at all.
    Always,
    /// Never.
    Never,
}

impl Settings {
    /// Reads the settings, and the environment: web servers' workers have none.
    pub fn read(core: &Core) -> Self {
        Self::parse(|name| core.setting(name), environment::variable)
    }

    /// The settings in `section`, with `environment`.
    fn parse(
        section: impl Fn(&CStr) -> Option<String>,
        environment: impl Fn(&CStr) -> Option<String>,
    ) -> Self {
        let mut reader = Reader { section, fault: None };
        let module = environment(c"PKCS11_PROVIDER_MODULE").or_else(|| reader.text("pkcs11-module-path"));
        let credentials = environment(c"CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let sources = Sources::new(credentials, reader.paths("strongroom-pin-programs"));
        let pin = Configured::new(reader.text("pkcs11-module-token-pin"), &sources);
        let login = match reader.text("pkcs11-module-login-behavior").as_deref() {
            None | Some("auto") => Login::Auto,
            Some("always") => Login::Always,
            Some("never") => Login::Never,
            Some(other) => reader.refuse("pkcs11-module-login-behavior", other, "auto, always or never"),
        };
        let mut user = CKU_USER;
        let mut no_allowed_mechanisms = false;
        for quirk in reader.words("pkcs11-module-quirks") {
            match quirk.as_str() {
                "luna-non-standard-cku-user" => user = CKU_LUNA_CRYPTO_USER,
                "no-allowed-mechanisms" => no_allowed_mechanisms = true,
                // So it is always: see docs/migration.md.
                "no-deinit" | "no-operation-state" | "no-session-callbacks" => {}
                other => reader.refuse("pkcs11-module-quirks", other, "a quirk that this provider knows"),
            }
        }
        let mut blocked = Operations::default();
        for operation in reader.words("pkcs11-module-block-operations") {
            if !blocked.add(&operation) {
                reader.refuse("pkcs11-module-block-operations", &operation, "an operation of OpenSSL's")
            }
        }
        let mut optional = Operations::default();
        for operation in reader.words("strongroom-operations") {
            if !optional.add_optional(&operation) {
                reader.refuse("strongroom-operations", &operation, "an operation that is offered on request")
            }
        }
        // They tune what this provider does in another way.
        for tuned in ["pkcs11-module-cache-pins", "pkcs11-module-cache-keys"] {
            let _ = reader.text(tuned);
        }
        Settings {
            modules: module.map_or_else(default_modules, |module| vec![module.into()]),
            init_arguments: reader.text("pkcs11-module-init-args"),
            pin,
            sources,
            login,
            load_early: reader.is("pkcs11-module-load-behavior", "early"),
            user,
            no_allowed_mechanisms,
            sessions: reader.number("pkcs11-module-cache-sessions", MAX_SESSIONS).unwrap_or(SESSIONS).max(1),
            blocked,
            optional,
            public_keys_leave: reader
                .number::<u64>("pkcs11-module-allow-export", u64::MAX)
                .is_none_or(|bits| bits & 1 == 0),
            encode_references: !reader.is("pkcs11-module-encode-provider-uri-to-pem", "false"),
            properties: properties::of(
                reader.text("provider-name").as_deref(),
                reader.is("pkcs11-module-assume-fips", "true"),
            ),
            default_slot: reader.number("pkcs11-module-default-slot-id", CK_SLOT_ID::MAX),
            threads: threads(reader.text("strongroom-async-threads")),
            fault: reader.fault,
        }
    }
}

impl Settings {
    /// Whether an operation of OpenSSL's is offered.
    pub fn offers(&self, operation: u32) -> bool {
        let asked_for = match operation {
            // Secret keys are for these operations, and of no use without them.
            OSSL_OP_SKEYMGMT => [OSSL_OP_CIPHER, OSSL_OP_MAC, OSSL_OP_KDF]
                .iter()
                .any(|operation| self.optional.contains(*operation)),
            _ => !Operations::is_optional(operation) || self.optional.contains(operation),
        };
        asked_for && !self.blocked.contains(operation)
    }
}

/// Reads one setting after the other, and keeps the first that is wrong.
struct Reader<F> {
    section: F,
    fault: Option<Error>,
}

impl<F: Fn(&CStr) -> Option<String>> Reader<F> {
    /// A setting. An empty value is pkcs11-provider's way to unset one.
    fn text(&self, name: &str) -> Option<String> {
        (self.section)(&CString::new(name).ok()?).filter(|value| !value.is_empty())
    }

    /// Whether a setting has this value; any other means that it does not.
    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name).as_deref() == Some(value)
    }

    /// The words of a setting, which blanks part.
    fn words(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// The absolute paths in a setting, which blanks part.
    fn paths(&mut self, name: &str) -> Vec<PathBuf> {
        let words = self.words(name);
        if let Some(relative) = words.iter().find(|word| !word.starts_with('/')) {
            self.refuse(name, relative, "an absolute path")
        }
        words.into_iter().map(PathBuf::from).collect()
    }

    /// A number, decimal or `0x` and hexadecimal, up to `most`.
    fn number<T: FromStr + TryFrom<u64> + PartialOrd + std::fmt::Display>(
        &mut self,
        name: &str,
        most: T,
    ) -> Option<T> {
        let text = self.text(name)?;
        let number = match text.strip_prefix("0x") {
            // Rust reads a sign, also behind the 0x.
            _ if text.contains('+') => None,
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let number = number.and_then(|number| T::try_from(number).ok()).filter(|number| *number <= most);
        if number.is_none() {
            self.refuse(name, &text, &format!("a number up to {most}"))
        }
        number
    }

    /// Keeps the fault that a setting's value is not `expected`; the default in its place.
    fn refuse<T: Default>(&mut self, name: &str, value: &str, expected: &str) -> T {
        let text = format!("{name} = {value} in openssl.cnf is not {expected}");
        self.fault.get_or_insert(Error::Setting(text));
        T::default()
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

/// The modules that are tried when none is named: our own, beside this library where both are installed together or
/// by its name alone, for the dynamic linker to find; then p11-kit's, which is what libp11 and pkcs11-provider use.
fn default_modules() -> Vec<PathBuf> {
    let beside = strongroom_ffi::library_directory().map(|directory| directory.join(OWN_MODULE));
    match beside.filter(|beside| beside.exists()) {
        Some(beside) => vec![beside],
        None => vec![PathBuf::from(OWN_MODULE), PathBuf::from(PROXY_MODULE)],
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn parse(section: &[(&str, &str)]) -> Settings {
        Settings::parse(
            |name| {
                let found = section.iter().find(|(known, _)| *known == name.to_str().unwrap());
                found.map(|(_, value)| (*value).to_owned())
            },
            |_| None,
        )
    }

    /// A section as pkcs11-provider's users have it, with all that its current release knows.
    #[test]
    fn a_section_of_pkcs11_provider_is_honoured() {
        let settings = parse(&[
            ("pkcs11-module-path", "/usr/lib/softhsm/libsofthsm2.so"),
            ("pkcs11-module-init-args", "configDir=/etc/pki"),
            ("pkcs11-module-token-pin", "1234"),
            ("pkcs11-module-allow-export", "1"),
            ("pkcs11-module-login-behavior", "never"),
            ("pkcs11-module-load-behavior", "early"),
            ("pkcs11-module-cache-pins", "cache"),
            ("pkcs11-module-cache-keys", "false"),
            ("pkcs11-module-quirks", "no-deinit no-operation-state luna-non-standard-cku-user"),
            ("pkcs11-module-cache-sessions", "0"),
            ("pkcs11-module-encode-provider-uri-to-pem", "false"),
            ("pkcs11-module-block-operations", "digest rand"),
            ("pkcs11-module-assume-fips", "true"),
            ("pkcs11-module-default-slot-id", "0x2a"),
        ]);
        assert_eq!(settings.fault, None);
        assert_eq!(settings.modules, [PathBuf::from("/usr/lib/softhsm/libsofthsm2.so")]);
        assert_eq!(settings.init_arguments.as_deref(), Some("configDir=/etc/pki"));
        assert_eq!(settings.pin.pin(|_| false).unwrap().unwrap().bytes(), b"1234");
        assert!(!settings.public_keys_leave && settings.load_early && !settings.encode_references);
        assert_eq!((settings.login, settings.sessions), (Login::Never, 1));
        assert_eq!(settings.user, CKU_LUNA_CRYPTO_USER);
        assert_eq!(settings.properties.as_deref(), Some("provider=strongroom,fips=yes"));
        assert_eq!(settings.default_slot, Some(42));
        assert!(settings.blocked.contains(crate::bindings::OSSL_OP_RAND));
        assert!(!settings.blocked.contains(crate::bindings::OSSL_OP_SIGNATURE));
    }

    #[test]
    fn nothing_said_is_the_default() {
        let settings = parse(&[("pkcs11-module-token-pin", "")]);
        assert_eq!((settings.fault, settings.pin.pin(|_| false)), (None, Ok(None)));
        assert!(settings.modules.iter().any(|module| module.ends_with(OWN_MODULE)));
        assert_eq!((settings.login, settings.sessions, settings.user), (Login::Auto, SESSIONS, CKU_USER));
        assert!(settings.public_keys_leave && settings.encode_references && settings.properties.is_none());
    }

    #[test]
    fn the_environment_names_the_module_before_the_section() {
        let settings = Settings::parse(
            |name| (name == c"pkcs11-module-path").then(|| "/section.so".into()),
            |name| (name == c"PKCS11_PROVIDER_MODULE").then(|| "/environment.so".into()),
        );
        assert_eq!(settings.modules, [PathBuf::from("/environment.so")]);
    }

    #[test]
    fn what_cannot_be_honoured_is_an_error() {
        for (name, value) in [
            ("pkcs11-module-login-behavior", "sometimes"),
            ("pkcs11-module-quirks", "no-deinit be-quick"),
            ("pkcs11-module-block-operations", "signatures"),
            ("pkcs11-module-cache-sessions", "many"),
            ("pkcs11-module-cache-sessions", "-1"),
            ("pkcs11-module-default-slot-id", "first"),
            ("pkcs11-module-default-slot-id", "0x+f"),
            ("pkcs11-module-default-slot-id", "+1"),
            ("pkcs11-module-allow-export", "yes"),
            ("strongroom-pin-programs", "bin/pin"),
            ("strongroom-operations", "digest signature"),
        ] {
            let fault = parse(&[(name, value)]).fault.unwrap_or_else(|| panic!("{name} = {value}"));
            assert!(fault.to_string().contains(name), "{fault}");
        }
    }

    /// The names of all settings that are read.
    fn names() -> Vec<String> {
        let names = RefCell::new(Vec::new());
        let ask = |name: &CStr| {
            names.borrow_mut().push(name.to_str().unwrap().to_owned());
            None
        };
        drop(Settings::parse(ask, |_| None));
        // The debug log's own.
        names.borrow_mut().push("strongroom-debug".into());
        let names = names.into_inner();
        // libcrypto's own, and no setting.
        names.into_iter().filter(|name| name != "provider-name").collect()
    }

    #[test]
    fn every_setting_is_in_the_documents() {
        let names = names();
        assert!(names.len() >= 16, "{names:?}");
        for document in [
            include_str!("../../../docs/man/provider-strongroom.7"),
            include_str!("../../../docs/provider.md"),
        ] {
            let text = document.replace("\\-", "-");
            for name in &names {
                assert!(text.contains(name.as_str()), "{name}");
            }
        }
    }
}
