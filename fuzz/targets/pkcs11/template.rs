//! Templates: sensible ones, and some with an attribute changed, doubled, or of an impossible size.

use cryptoki_sys::*;

use super::input::Input;

const BOOLEANS: [CK_ATTRIBUTE_TYPE; 20] = [
    CKA_TOKEN, CKA_PRIVATE, CKA_MODIFIABLE, CKA_COPYABLE, CKA_DESTROYABLE, CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_SIGN,
    CKA_VERIFY, CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE, CKA_ALWAYS_AUTHENTICATE,
    CKA_WRAP_WITH_TRUSTED, CKA_TRUSTED, CKA_LOCAL, CKA_SIGN_RECOVER, CKA_ENCAPSULATE,
];
const NUMBERS: [CK_ATTRIBUTE_TYPE; 8] = [
    CKA_CLASS, CKA_KEY_TYPE, CKA_CERTIFICATE_TYPE, CKA_VALUE_LEN, CKA_MODULUS_BITS, CKA_PARAMETER_SET,
    CKA_KEY_GEN_MECHANISM, CKA_CERTIFICATE_CATEGORY,
];
const BYTES: [CK_ATTRIBUTE_TYPE; 20] = [
    CKA_LABEL, CKA_ID, CKA_VALUE, CKA_APPLICATION, CKA_OBJECT_ID, CKA_SUBJECT, CKA_ISSUER, CKA_SERIAL_NUMBER,
    CKA_START_DATE, CKA_EC_PARAMS, CKA_EC_POINT, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_SEED,
    CKA_ALLOWED_MECHANISMS, CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_CHECK_VALUE, CKA_UNIQUE_ID,
];
const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];

/// A template with the memory that its values lie in.
#[derive(Default)]
pub struct Template {
    pub attributes: Vec<CK_ATTRIBUTE>,
    values: Vec<Vec<u8>>,
    /// Templates that are values.
    nested: Vec<Vec<CK_ATTRIBUTE>>,
    pub count: CK_ULONG,
    is_null: bool,
}

impl Template {
    pub fn pointer(&mut self) -> *mut CK_ATTRIBUTE {
        if self.is_null { std::ptr::null_mut() } else { self.attributes.as_mut_ptr() }
    }

    fn add(&mut self, kind: CK_ATTRIBUTE_TYPE, value: Vec<u8>) {
        let (pointer, length) = (value.as_ptr().cast_mut().cast(), value.len() as CK_ULONG);
        self.attributes.push(CK_ATTRIBUTE { type_: kind, pValue: pointer, ulValueLen: length });
        self.values.push(value);
    }

    fn finish(mut self, input: &mut Input<'_>) -> Self {
        self.count = self.attributes.len() as CK_ULONG;
        match input.byte() {
            253 => self.is_null = true,
            254 => self.count = CK_ULONG::MAX,
            255 => self.count = 1 << 63,
            _ => {}
        }
        self
    }

    /// A template that is a value.
    fn nest(&mut self, input: &mut Input<'_>) {
        let mut inner = Template::default();
        for _ in 0..input.below(4) {
            let value = vec![input.byte() % 2];
            inner.add(input.pick(&BOOLEANS), value);
        }
        if input.byte() % 4 == 0 {
            inner.add(input.pick(&NUMBERS), input.number().to_ne_bytes().to_vec());
        }
        let kind = input.pick(&[CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_DERIVE_TEMPLATE]);
        let (pointer, length) = (inner.attributes.as_ptr(), size_of_val(inner.attributes.as_slice()));
        let pointer = pointer.cast_mut().cast();
        self.attributes.push(CK_ATTRIBUTE { type_: kind, pValue: pointer, ulValueLen: length as CK_ULONG });
        self.nested.push(inner.attributes);
        self.values.extend(inner.values);
    }

    /// A list of mechanisms.
    fn allow(&mut self, input: &mut Input<'_>) {
        let list = (0..input.below(4)).flat_map(|_| input.mechanism().to_ne_bytes()).collect();
        self.add(CKA_ALLOWED_MECHANISMS, list);
    }

    /// A few attributes.
    fn some(&mut self, input: &mut Input<'_>, most: usize) {
        for _ in 0..input.below(most) {
            match input.below(7) {
                5 => self.nest(input),
                6 => self.allow(input),
                0 | 1 => {
                    let kind = input.pick(&BOOLEANS);
                    let value = if input.rarely() { input.bytes() } else { vec![input.byte() % 2] };
                    self.add(kind, value);
                }
                2 => {
                    let kind = input.pick(&NUMBERS);
                    let value = input.number().to_ne_bytes().to_vec();
                    self.add(kind, value);
                }
                3 => {
                    let kind = input.pick(&BYTES);
                    // An array of attributes has pointers in it.
                    let value = match kind {
                        CKA_WRAP_TEMPLATE | CKA_UNWRAP_TEMPLATE => vec![0; input.pick(&[0, 5, 24, 48])],
                        _ => input.bytes(),
                    };
                    self.add(kind, value);
                }
                _ => {
                    let kind = input.number();
                    // As above: a number that happens to name such an attribute.
                    if kind & CKF_ARRAY_ATTRIBUTE == 0 {
                        let value = input.bytes();
                        self.add(kind, value);
                    }
                }
            }
            if input.rarely()
                && let Some(last) = self.attributes.last_mut()
            {
                match input.below(4) {
                    0 => last.pValue = std::ptr::null_mut(),
                    1 => last.ulValueLen = CK_UNAVAILABLE_INFORMATION,
                    2 => last.ulValueLen = 1 << 63,
                    _ => last.ulValueLen = 0,
                }
            }
        }
    }

    /// Any.
    pub fn any(input: &mut Input<'_>) -> Self {
        let mut template = Template::default();
        template.some(input, 6);
        template.finish(input)
    }

    /// One that would do for an object, with a few more.
    pub fn of_object(input: &mut Input<'_>) -> Self {
        let mut template = Template::default();
        let number = |value: CK_ULONG| value.to_ne_bytes().to_vec();
        template.add(CKA_TOKEN, vec![input.byte() % 2]);
        match input.below(5) {
            0 => {
                template.add(CKA_CLASS, number(CKO_DATA));
                template.add(CKA_VALUE, input.bytes());
            }
            1 => {
                template.add(CKA_CLASS, number(CKO_SECRET_KEY));
                template.add(CKA_KEY_TYPE, number(input.pick(&[CKK_AES, CKK_GENERIC_SECRET, CKK_DES3])));
                template.add(CKA_VALUE, vec![input.byte(); input.pick(&[16, 24, 32, 20, 7])]);
            }
            2 => {
                template.add(CKA_CLASS, number(CKO_PRIVATE_KEY));
                template.add(CKA_KEY_TYPE, number(CKK_EC));
                template.add(CKA_EC_PARAMS, P256.to_vec());
                template.add(CKA_VALUE, vec![input.byte(); input.pick(&[32, 31, 33])]);
            }
            3 => {
                template.add(CKA_CLASS, number(CKO_PUBLIC_KEY));
                template.add(CKA_KEY_TYPE, number(CKK_RSA));
                template.add(CKA_MODULUS, vec![input.byte() | 0x81; 256]);
                template.add(CKA_PUBLIC_EXPONENT, vec![1, 0, 1]);
            }
            _ => {
                template.add(CKA_CLASS, number(CKO_CERTIFICATE));
                template.add(CKA_CERTIFICATE_TYPE, number(CKC_X_509));
                template.add(CKA_VALUE, input.bytes());
            }
        }
        template.some(input, 4);
        template.finish(input)
    }

    /// One that would do for a key that is made, unwrapped or derived.
    pub fn of_key(input: &mut Input<'_>) -> Self {
        let mut template = Template::default();
        let number = |value: CK_ULONG| value.to_ne_bytes().to_vec();
        template.add(CKA_TOKEN, vec![input.byte() % 2]);
        match input.below(5) {
            0 => template.add(CKA_EC_PARAMS, P256.to_vec()),
            1 => template.add(CKA_EC_PARAMS, ED25519.to_vec()),
            2 => template.add(CKA_VALUE_LEN, number(input.pick(&[16, 32, 7]))),
            3 => {
                template.add(CKA_CLASS, number(CKO_SECRET_KEY));
                template.add(CKA_KEY_TYPE, number(input.pick(&[CKK_AES, CKK_GENERIC_SECRET])));
            }
            _ => {
                for right in [CKA_SIGN, CKA_VERIFY, CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP] {
                    template.add(right, vec![input.byte() % 2]);
                }
            }
        }
        template.some(input, 4);
        template.finish(input)
    }

    /// Room for the values of a few attributes.
    pub fn room(input: &mut Input<'_>) -> Self {
        let mut template = Template::default();
        for _ in 0..=input.below(4) {
            let kind = match input.below(3) {
                0 => input.pick(&BOOLEANS),
                1 => input.pick(&NUMBERS),
                _ => input.pick(&BYTES),
            };
            // Arrays of attributes have pointers in them, which the module would have to follow.
            let size = if kind & CKF_ARRAY_ATTRIBUTE != 0 { 0 } else { input.pick(&[0, 1, 8, 512]) };
            template.add(kind, vec![0; size]);
            if input.rarely()
                && let Some(last) = template.attributes.last_mut()
            {
                last.pValue = std::ptr::null_mut();
            }
        }
        template.finish(input)
    }
}
