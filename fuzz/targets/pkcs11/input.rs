//! From the fuzzer's bytes to arguments: pointers that are null or valid, lengths that fit them or are impossible.

use cryptoki_sys::*;
use strongroom_pkcs11::mechanism::MECHANISMS;

/// The fuzzer's bytes, read from the front. Past their end everything is 0.
pub struct Input<'a>(pub &'a [u8]);

/// What an application's memory looks like behind its buffers.
const GUARD: u8 = 0xa5;
const ROOM: usize = 1024;

/// A buffer for what comes out: what lies behind it must stay as it was.
pub struct Buffer {
    bytes: Vec<u8>,
    room: usize,
    is_null: bool,
    pub length: CK_ULONG,
    no_length: bool,
}

impl Input<'_> {
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// One of a few.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// True once in a while.
    pub fn rarely(&mut self) -> bool {
        self.byte() % 16 == 15
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let length = match self.byte() {
            length @ 0..=199 => usize::from(length % 80),
            200 => 4000,
            201 => 20_000,
            _ => self.pick(&[16, 20, 24, 32, 48, 64, 128, 256]),
        };
        let seed = self.byte();
        let mut bytes: Vec<u8> = (0..length).map(|at| seed.wrapping_mul(at as u8 | 1)).collect();
        let given = self.0.len().min(length).min(16);
        bytes[..given].copy_from_slice(&self.0[..given]);
        self.0 = &self.0[given..];
        bytes
    }

    pub fn number(&mut self) -> CK_ULONG {
        match self.below(8) {
            0 => 0,
            1 => CK_ULONG::MAX,
            2 => 1 << 63,
            3 => (1 << 63) - 1,
            4 => CKO_VENDOR_DEFINED,
            _ => self.byte().into(),
        }
    }

    /// Bytes that go in, and the length that the call says of them.
    pub fn data(&mut self) -> (Vec<u8>, *mut CK_BYTE, CK_ULONG) {
        let mut bytes = self.bytes();
        let pointer = bytes.as_mut_ptr();
        let length = bytes.len() as CK_ULONG;
        match self.byte() {
            // Null, with a length or without.
            250..=252 => (bytes, std::ptr::null_mut(), length),
            253 => (bytes, std::ptr::null_mut(), CK_ULONG::MAX),
            // More than any memory has: the module sees that.
            254 => (bytes, pointer, 1 << 63),
            255 => (bytes, pointer, CK_ULONG::MAX),
            _ => (bytes, pointer, length),
        }
    }

    pub fn buffer(&mut self) -> Buffer {
        let room = match self.byte() {
            room @ 0..=63 => usize::from(room),
            _ => ROOM,
        };
        let (is_null, no_length) = (self.byte() % 8 == 7, self.rarely());
        Buffer { bytes: vec![GUARD; ROOM + 64], room, is_null, length: room as CK_ULONG, no_length }
    }

    pub fn mechanism(&mut self) -> CK_MECHANISM_TYPE {
        match self.rarely() {
            true => self.number(),
            false => {
                let at = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
                MECHANISMS[at % MECHANISMS.len()].mechanism
            }
        }
    }
}

impl Buffer {
    pub fn pointer(&mut self) -> *mut CK_BYTE {
        if self.is_null { std::ptr::null_mut() } else { self.bytes.as_mut_ptr() }
    }

    pub fn length(&mut self) -> *mut CK_ULONG {
        if self.no_length { std::ptr::null_mut() } else { &mut self.length }
    }

    /// Checks that nothing was written that the call was not given room for.
    pub fn check(&self, code: CK_RV) {
        assert!(self.bytes[self.room..].iter().all(|byte| *byte == GUARD), "written beyond the buffer");
        if code == CKR_OK && !self.is_null && !self.no_length {
            assert!(self.length as usize <= self.room, "more came out than there was room for");
        }
    }
}

/// A mechanism with the memory that its parameter lies in.
pub struct Mechanism {
    pub mechanism: CK_MECHANISM,
    _memory: Vec<u64>,
    _pointed: Vec<u8>,
}

impl Mechanism {
    /// One with a parameter of a known shape, of bytes that are no structure with pointers, or without.
    pub fn read(input: &mut Input<'_>) -> Self {
        let mechanism = input.mechanism();
        let shape = match (input.byte() % 4, mechanism) {
            (0, _) => 0,
            (1..=2, CKM_AES_GCM) => 1,
            (1..=2, CKM_RSA_PKCS_OAEP) => 2,
            (1..=2, CKM_ECDH1_DERIVE | CKM_ECDH1_COFACTOR_DERIVE) => 3,
            (1..=2, CKM_EDDSA) => 4,
            (1..=2, CKM_ML_DSA) => 5,
            (1..=2, CKM_RSA_AES_KEY_WRAP) => 6,
            (1..=2, CKM_HKDF_DERIVE) => 9,
            (1..=2, CKM_SP800_108_COUNTER_KDF | CKM_SP800_108_DOUBLE_PIPELINE_KDF) => 10,
            (1..=2, CKM_SP800_108_FEEDBACK_KDF) => 11,
            (1..=2, CKM_PKCS5_PBKD2) => 12,
            (1..=2, _) => 7,
            _ => 8,
        };
        let mut pointed = input.bytes();
        pointed.resize(pointed.len().max(64), 7);
        let at = pointed.as_mut_ptr() as u64;
        let length = input.pick(&[0, 1, 12, 16, 32, 64, u64::MAX, 1 << 63]);
        let small = input.pick(&[0u64, 1, 12, 16, 32, 96, 128, u64::MAX]);
        let (at, length) = match input.byte() % 8 {
            7 => (0, length),
            // Of what is there.
            _ => (at, if length > 64 && length < 1 << 63 { 64 } else { length }),
        };
        let hash = input.pick(&[CKM_SHA_1, CKM_SHA256, CKM_SHA384, CKM_SHA512, CKM_RSA_PKCS]);
        let mask = input.pick(&[CKG_MGF1_SHA1, CKG_MGF1_SHA256, CKG_MGF1_SHA512, 99]);
        let mut memory: Vec<u64> = match shape {
            0 => Vec::new(),
            1 => vec![at, length, small, at, input.pick(&[0, 3, 64]), input.pick(&[96, 128, 97, 0])],
            2 => vec![hash, mask, input.pick(&[0, 1, 2]), at, length],
            3 => vec![input.pick(&[1, 2, 6, 9]), 0, 0, length, at],
            4 => vec![input.below(2) as u64, length, at],
            5 => vec![input.below(4) as u64, at, length],
            6 => vec![input.pick(&[128, 192, 256, 7, u64::MAX]), 0],
            7 => vec![hash, mask, small],
            9 => {
                let (steps, salt) = (input.pick(&[0x0101, 0x0100, 1, 0, 2]), input.pick(&[1, 2, 4, 9]));
                vec![steps, hash, salt, at, length, small, at, length]
            }
            10 | 11 => {
                // One part of the input, whose value is its own beginning.
                let part = [input.pick(&[1, 2, 3, 4, 5, 99]), at, input.pick(&[0, 16, 24, 8])];
                for (place, word) in pointed.chunks_exact_mut(8).zip(part) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
                let function = input.pick(&[CKM_SHA256_HMAC, CKM_SHA512_HMAC, CKM_AES_CMAC, CKM_SHA256]);
                let is_aligned = pointed.as_ptr() as u64 % 8 == 0;
                let parts = if is_aligned { pointed.as_ptr() as u64 } else { 0 };
                let count = input.pick(&[1, 0, u64::MAX, 1 << 63]);
                let more = input.pick(&[0, 0, 0, u64::MAX]);
                match shape {
                    10 => vec![function, count, parts, more, 0],
                    _ => vec![function, count, parts, length, at, more, 0],
                }
            }
            12 => {
                let (source, iterations) = (input.pick(&[1, 1, 1, 0]), input.pick(&[1, 1000, 0, 5_000_000, u64::MAX]));
                vec![source, at, length, iterations, input.pick(&[1, 4, 6, 9]), 0, input.pick(&[0, 0, 1]), at, length]
            }
            _ => vec![u64::from_le_bytes([input.byte(); 8]); 2],
        };
        // The memory that a structure points to is another structure here.
        if shape == 6 {
            let oaep = [hash, mask, 1, 0, 0];
            pointed.clear();
            pointed.extend(oaep.iter().flat_map(|word: &u64| word.to_le_bytes()));
            let aligned = pointed.as_ptr() as u64;
            memory[1] = if aligned % 8 == 0 { aligned } else { 0 };
        }
        let size = match shape {
            8 => input.pick(&[1, 4, 7, 12, 15]),
            // An initialisation vector.
            7 if input.byte() % 2 == 0 => 16,
            _ => memory.len() * 8,
        };
        let size = if shape == 7 && size == 16 && has_pointers_in_16_bytes(mechanism) { 24 } else { size };
        let parameter = if memory.is_empty() { std::ptr::null_mut() } else { memory.as_mut_ptr().cast() };
        let mechanism =
            CK_MECHANISM { mechanism, pParameter: parameter, ulParameterLen: size as CK_ULONG };
        Mechanism { mechanism, _memory: memory, _pointed: pointed }
    }
}

/// `CK_KEY_DERIVATION_STRING_DATA`, and others of a pointer and a length: numbers there would be pointers to nowhere.
fn has_pointers_in_16_bytes(mechanism: CK_MECHANISM_TYPE) -> bool {
    !matches!(mechanism, CKM_AES_CBC | CKM_AES_CBC_PAD | CKM_AES_CTR | CKM_DES3_CBC | CKM_DES3_CBC_PAD)
}
