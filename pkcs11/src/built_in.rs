//! Objects that every token has because the module is what it is: the profiles that it meets (`CKO_PROFILE`), and one for each of its
//! mechanisms (`CKO_MECHANISM`). They stand in no partition, are seen without a log-in, and nobody changes, copies or destroys them.
//!
//! Of the profiles those are named that are a matter of functions, which the module has whatever a partition holds
//! (`CKP_BASELINE_PROVIDER`, `CKP_EXTENDED_PROVIDER`). Not that all certificates are public (`CKP_PUBLIC_CERTIFICATES_TOKEN`), or that
//! there are keys with certificates to log in with elsewhere (`CKP_AUTHENTICATION_TOKEN`): that is for a partition's users to say, and a
//! partition shows nothing to most of those who have not logged in. Nor that all there is in the standard is here
//! (`CKP_COMPLETE_PROVIDER`).
//!
//! There are no hardware features (`CKO_HW_FEATURE`): a partition has no clock but its machine's, and no counter that outlives a restored
//! backup.

use std::borrow::Cow;

use cryptoki_sys::*;

use crate::mechanism::{self, Entry};
use crate::object::Value;
use crate::template::Template;
use crate::token::Token;

/// Set in the handles of these objects, and of no others.
const MARK: CK_OBJECT_HANDLE = 1 << 61;

/// How many bytes `C_GetObjectSize` says that one takes: none that count in a partition.
pub const SIZE: usize = 0;

const PROFILES: [CK_PROFILE_ID; 2] = [CKP_BASELINE_PROVIDER, CKP_EXTENDED_PROVIDER];

/// An object of the module's own.
#[derive(Debug, Clone, Copy)]
pub enum BuiltIn {
    /// A profile that it meets.
    Profile(CK_PROFILE_ID),
    /// A mechanism that it has.
    Mechanism(&'static Entry),
}

impl BuiltIn {
    /// The object behind a handle, in a token; `None` if the handle is another's.
    pub fn of(token: &Token, handle: CK_OBJECT_HANDLE) -> Option<Self> {
        let place = usize::try_from(handle.checked_sub(MARK)?).ok()?;
        match place.checked_sub(PROFILES.len()) {
            None => PROFILES.get(place).copied().map(BuiltIn::Profile),
            Some(place) => {
                let entry = mechanism::MECHANISMS.get(place)?;
                entry.info_in(token.fips_state()).map(|_| BuiltIn::Mechanism(entry))
            }
        }
    }

    /// The handles of those that fit a search template, which names their class: programs that were written before there were such objects
    /// do not know what to do with them. Of mechanisms and hardware features the standard has it so, for that reason; of profiles it says
    /// nothing, and the reason is the same.
    pub fn find(token: &Token, template: &Template<'_>) -> Vec<CK_OBJECT_HANDLE> {
        if template.bytes(CKA_CLASS).is_none() {
            return Vec::new();
        }
        let all = PROFILES.len() + mechanism::MECHANISMS.len();
        let handles = (0..all).map(|place| MARK + place as CK_OBJECT_HANDLE);
        let fits =
            |handle: &CK_OBJECT_HANDLE| BuiltIn::of(token, *handle).is_some_and(|one| one.matches(template));
        handles.filter(fits).collect()
    }

    fn matches(self, template: &Template<'_>) -> bool {
        template.iter().all(|(attribute, wanted)| {
            template.nested(attribute).is_none()
                && matches!(self.attribute(attribute), Value::Bytes(value) if value == wanted)
        })
    }

    /// The value of an attribute.
    pub fn attribute(self, attribute: CK_ATTRIBUTE_TYPE) -> Value<'static> {
        match (attribute, self) {
            (CKA_CLASS, BuiltIn::Profile(_)) => number(CKO_PROFILE),
            (CKA_CLASS, BuiltIn::Mechanism(_)) => number(CKO_MECHANISM),
            (CKA_PROFILE_ID, BuiltIn::Profile(profile)) => number(profile),
            (CKA_MECHANISM_TYPE, BuiltIn::Mechanism(entry)) => number(entry.mechanism),
            // The standard asks for none of these; NSS looks for profiles with CKA_TOKEN.
            (CKA_TOKEN, _) => Value::Bytes(Cow::Borrowed(&[CK_TRUE])),
            (CKA_PRIVATE | CKA_MODIFIABLE | CKA_COPYABLE | CKA_DESTROYABLE, _) => {
                Value::Bytes(Cow::Borrowed(&[CK_FALSE]))
            }
            _ => Value::Absent,
        }
    }
}

fn number(value: CK_ULONG) -> Value<'static> {
    Value::Bytes(Cow::Owned(value.to_ne_bytes().to_vec()))
}
