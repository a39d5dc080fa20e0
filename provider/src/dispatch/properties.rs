//! The properties by which programs ask for this provider's algorithms (property(7)): `provider=` with the name that it has in
//! openssl.cnf, so that one that took pkcs11-provider's place still answers to `provider=pkcs11`, and `fips=yes` where the
//! settings say so.

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::bindings::OSSL_ALGORITHM;

/// What the lists of algorithms say.
const OWN: &str = "provider=strongroom";

/// The lists that were made: libcrypto keeps what it was given, so they live as long as the process, and are used again when the
/// provider is loaded again.
static MADE: AtomicPtr<Made> = AtomicPtr::new(ptr::null_mut());

struct Made {
    /// The list that it was made of.
    of: *const OSSL_ALGORITHM,
    properties: String,
    list: *const OSSL_ALGORITHM,
    before: *const Made,
}

/// The properties of a provider that is called `name` in openssl.cnf, if they are others than in the lists.
pub fn of(name: Option<&str>, assume_fips: bool) -> Option<String> {
    // Anything else would be more than one property.
    let is_plain = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) && !name.is_empty()
    };
    let name = name.filter(is_plain).unwrap_or("strongroom");
    let properties = format!("provider={name}{}", if assume_fips { ",fips=yes" } else { "" });
    (properties != OWN).then_some(properties)
}

/// A list with these properties in the place of `provider=strongroom`; the same at each call.
///
/// # Safety
///
/// `list` is static, and ends with an entry without names.
pub unsafe fn replace(list: *const OSSL_ALGORITHM, properties: &str) -> *const OSSL_ALGORITHM {
    let mut newest = MADE.load(Ordering::Acquire);
    if let Some(known) = find(newest, list, properties) {
        return known;
    }
    let mut copy = Vec::new();
    let mut next = list;
    loop {
        // SAFETY: by the contract, up to the entry without names.
        let mut entry = unsafe { ptr::read(next) };
        let is_last = entry.algorithm_names.is_null();
        if !is_last && !entry.property_definition.is_null() {
            // SAFETY: by the contract, a static string.
            let own = unsafe { CStr::from_ptr(entry.property_definition) }.to_string_lossy();
            // It has no NUL, so this does not fail.
            let Ok(replaced) = CString::new(own.replacen(OWN, properties, 1)) else { return list };
            entry.property_definition = replaced.into_raw();
        }
        copy.push(entry);
        if is_last {
            break;
        }
        // SAFETY: that was not the last one.
        next = unsafe { next.add(1) };
    }
    let copy = Vec::leak(copy).as_ptr();
    let made =
        Box::leak(Box::new(Made { of: list, properties: properties.to_owned(), list: copy, before: newest }));
    while let Err(other) = MADE.compare_exchange(newest, made, Ordering::AcqRel, Ordering::Acquire) {
        newest = other;
        made.before = newest;
    }
    copy
}

fn find(newest: *const Made, list: *const OSSL_ALGORITHM, properties: &str) -> Option<*const OSSL_ALGORITHM> {
    let mut next = newest;
    // SAFETY: null, or an entry that was leaked above and does not change any more.
    while let Some(made) = unsafe { next.as_ref() } {
        if made.of == list && made.properties == properties {
            return Some(made.list);
        }
        next = made.before;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_the_configuration_is_the_property() {
        assert_eq!(of(Some("strongroom"), false), None);
        assert_eq!(of(None, false), None);
        assert_eq!(of(Some("pkcs11"), false).unwrap(), "provider=pkcs11");
        assert_eq!(of(Some("pkcs11"), true).unwrap(), "provider=pkcs11,fips=yes");
        for strange in ["a,b=c", "a b", "", "\u{e4}"] {
            assert_eq!(of(Some(strange), true).unwrap(), "provider=strongroom,fips=yes");
        }
    }

    #[test]
    fn a_list_is_made_once_and_keeps_the_rest() {
        let list = crate::dispatch::decoder::ALGORITHMS.as_ptr();
        // SAFETY: a static, terminated list.
        let (made, again, other) = unsafe {
            (replace(list, "provider=a"), replace(list, "provider=a"), replace(list, "provider=b"))
        };
        assert!(made == again && made != list && other != made);
        // SAFETY: it has as many entries, and at least one.
        let (one, own) = unsafe { (&*made, &*list) };
        assert_eq!((one.algorithm_names, one.implementation), (own.algorithm_names, own.implementation));
        // SAFETY: made above.
        let properties = unsafe { CStr::from_ptr(one.property_definition) }.to_str().unwrap();
        assert!(properties.starts_with("provider=a,input="), "{properties}");
    }
}
