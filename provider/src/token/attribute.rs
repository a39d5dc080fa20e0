//! Templates: to find objects by, and to make them after.

use cryptoki_sys::*;
use zeroize::Zeroizing;

/// Attributes that an object must have.
#[derive(Default)]
pub struct Template(Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>);

impl Template {
    /// Objects of a class.
    pub fn class(class: CK_OBJECT_CLASS) -> Self {
        Template(Vec::new()).and_number(CKA_CLASS, class)
    }

    /// … that have also this value.
    pub fn and(mut self, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        self.0.push((kind, Zeroizing::new(value.to_vec())));
        self
    }

    /// … and this flag.
    pub fn and_flag(self, kind: CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        self.and(kind, &[if value { CK_TRUE } else { CK_FALSE }])
    }

    /// … and this number.
    pub fn and_number(self, kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Self {
        self.and(kind, &value.to_ne_bytes())
    }

    /// As C wants it: pointers into this template.
    pub fn attributes(&self) -> Vec<CK_ATTRIBUTE> {
        self.0
            .iter()
            .map(|(kind, value)| CK_ATTRIBUTE {
                type_: *kind,
                pValue: value.as_ptr().cast_mut().cast(),
                ulValueLen: value.len() as CK_ULONG,
            })
            .collect()
    }
}

/// An attribute of type CK_ULONG.
pub fn ulong(value: Option<&Vec<u8>>) -> Option<CK_ULONG> {
    value?.as_slice().try_into().ok().map(CK_ULONG::from_ne_bytes)
}

/// An attribute of type CK_BBOOL.
pub fn boolean(value: Option<&Vec<u8>>) -> Option<bool> {
    value?.first().map(|byte| *byte != CK_FALSE)
}
