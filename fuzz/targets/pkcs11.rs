//! The PKCS#11 module as an application meets it: sequences of calls with good and bad arguments, against a real daemon.
//!
//! The process has to live, what comes out has to fit, and the standard's few rules that can be told from outside hold:
//! which sessions there are, what a function says of one that is not, and that nothing is a panic.
#![no_main]

#[path = "pkcs11/daemon.rs"]
mod daemon;
#[path = "pkcs11/input.rs"]
mod input;
#[path = "pkcs11/template.rs"]
mod template;

use std::ptr::null_mut;
use std::sync::OnceLock;

use cryptoki_sys::*;
use input::{Input, Mechanism};
use libfuzzer_sys::fuzz_target;
use strongroom_pkcs11::entry::*;
use template::Template;

/// Calls in one input.
const MOST: usize = 96;

fuzz_target!(|data: &[u8]| {
    static SLOT: OnceLock<u32> = OnceLock::new();
    let slot = *SLOT.get_or_init(daemon::start);
    Run::new(slot).go(&mut Input(data));
});

/// What the sequence has made so far.
struct Run {
    slot: CK_SLOT_ID,
    sessions: Vec<CK_SESSION_HANDLE>,
    objects: Vec<CK_OBJECT_HANDLE>,
}

impl Run {
    fn new(slot: u32) -> Self {
        let mut run = Run { slot: slot.into(), sessions: Vec::new(), objects: Vec::new() };
        // SAFETY: a null pointer is allowed.
        assert_eq!(unsafe { C_Initialize(null_mut()) }, CKR_OK);
        run.open(CKF_SERIAL_SESSION | CKF_RW_SESSION);
        run
    }

    fn open(&mut self, flags: CK_FLAGS) {
        let mut session = 0;
        // SAFETY: a local.
        if unsafe { C_OpenSession(self.slot, flags, null_mut(), None, &mut session) } == CKR_OK {
            assert!(!self.sessions.contains(&session), "a handle twice");
            self.sessions.push(session);
        }
    }

    fn login(&self, session: CK_SESSION_HANDLE, kind: CK_USER_TYPE, pin: &str) -> CK_RV {
        // SAFETY: a string and its length.
        unsafe { C_Login(session, kind, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG) }
    }

    fn go(mut self, input: &mut Input<'_>) {
        // Without, the user id is admitted.
        if input.byte() % 64 == 63 {
            assert_eq!(self.login(self.sessions[0], CKU_USER, daemon::USER), CKR_OK);
        }
        for _ in 0..MOST {
            if input.is_over() {
                break;
            }
            self.step(input);
        }
        self.end();
    }

    /// What is left in the partition goes, so that every input finds the same.
    fn end(mut self) {
        // SAFETY: no pointers, and then locals.
        unsafe {
            C_CloseAllSessions(self.slot);
            self.open(CKF_SERIAL_SESSION | CKF_RW_SESSION);
            let session = *self.sessions.last().unwrap();
            assert_eq!(C_FindObjectsInit(session, null_mut(), 0), CKR_OK);
            let (mut found, mut count) = ([0; 64], 1);
            while count > 0 {
                assert_eq!(C_FindObjects(session, found.as_mut_ptr(), 64, &mut count), CKR_OK);
                for object in &found[..count as usize] {
                    C_DestroyObject(session, *object);
                }
            }
            assert_eq!(C_Finalize(null_mut()), CKR_OK);
        }
    }

    fn session(&mut self, input: &mut Input<'_>) -> CK_SESSION_HANDLE {
        match input.rarely() {
            true => input.number(),
            false => match self.sessions.as_slice() {
                [] => 0,
                sessions => input.pick(sessions),
            },
        }
    }

    fn object(&mut self, input: &mut Input<'_>) -> CK_OBJECT_HANDLE {
        match input.rarely() {
            true => input.number(),
            false => match self.objects.as_slice() {
                [] => 0,
                objects => input.pick(objects),
            },
        }
    }

    fn made(&mut self, code: CK_RV, object: CK_OBJECT_HANDLE) {
        if code == CKR_OK {
            assert_ne!(object, CK_INVALID_HANDLE);
            self.objects.push(object);
        }
    }

    /// One call.
    fn step(&mut self, input: &mut Input<'_>) {
        let is_open = |run: &Run, session| run.sessions.contains(&session);
        let session = self.session(input);
        // SAFETY (all calls): every pointer is null, or is to memory of this function that is as long as it is said to be
        // (or of a length that no memory has).
        let code = unsafe { self.call(session, input) };
        assert!(is_known(code), "{code:#x} is no CKR_ code of the standard's");
        assert_ne!(code, CKR_GENERAL_ERROR, "a panic");
        assert_ne!(code, CKR_CRYPTOKI_NOT_INITIALIZED);
        if code == CKR_SESSION_HANDLE_INVALID {
            assert!(!is_open(self, session), "an open session is denied");
        }
    }

    unsafe fn call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        // SAFETY: as `step` says.
        unsafe {
            match input.byte() % 10 {
                0 => self.session_call(session, input),
                1 | 2 => self.object_call(session, input),
                3 => self.key_call(session, input),
                4 => self.init_call(session, input),
                5 => self.message_call(session, input),
                _ => self.data_call(session, input),
            }
        }
    }

    unsafe fn session_call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        // SAFETY: as `step` says.
        unsafe {
            match input.byte() % 21 {
                0 | 1 => {
                    self.open(CKF_SERIAL_SESSION | input.pick(&[0, CKF_RW_SESSION]));
                    CKR_OK
                }
                2 => {
                    let code = C_CloseSession(session);
                    self.sessions.retain(|open| code != CKR_OK || *open != session);
                    code
                }
                3 if input.rarely() => {
                    self.sessions.clear();
                    C_CloseAllSessions(self.slot)
                }
                4 if input.rarely() => self.login(session, CKU_USER, daemon::USER),
                5 if input.rarely() => self.login(session, input.pick(&[CKU_SO, 7]), daemon::OFFICER),
                // The right password: wrong ones would lock the user.
                5 => self.login(session, CKU_CONTEXT_SPECIFIC, daemon::USER),
                6 => C_Logout(session),
                7 => {
                    let mut info = std::mem::zeroed();
                    C_GetSessionInfo(session, if input.rarely() { null_mut() } else { &mut info })
                }
                8 => C_SessionCancel(session, input.number()),
                9 => {
                    let (_memory, random, length) = input.data();
                    C_GenerateRandom(session, random, length)
                }
                10 => {
                    let (_memory, seed, length) = input.data();
                    C_SeedRandom(session, seed, length)
                }
                11 => {
                    let mut slot = 0;
                    C_WaitForSlotEvent(CKF_DONT_BLOCK, &mut slot, null_mut())
                }
                12 => {
                    let (mut list, mut count) = ([0; 8], input.pick(&[0, 8]));
                    C_GetSlotList(input.byte(), list.as_mut_ptr(), &mut count)
                }
                13 => {
                    let mut info = std::mem::zeroed();
                    C_GetTokenInfo(if input.rarely() { input.number() } else { self.slot }, &mut info)
                }
                14 => {
                    let mut info = std::mem::zeroed();
                    C_GetMechanismInfo(self.slot, input.mechanism(), &mut info)
                }
                15 => {
                    let mut state = input.buffer();
                    let code = C_GetOperationState(session, state.pointer(), state.length());
                    state.check(code);
                    code
                }
                16 => {
                    let (_memory, state, length) = input.data();
                    C_SetOperationState(session, state, length, self.object(input), self.object(input))
                }
                17 => C_GetFunctionStatus(session),
                18 => C_CancelFunction(session),
                19 => {
                    let mut flags = 0;
                    C_GetSessionValidationFlags(session, input.number(), if input.rarely() { null_mut() } else { &mut flags })
                }
                _ => {
                    let mut list = null_mut();
                    C_GetFunctionList(&mut list)
                }
            }
        }
    }

    unsafe fn object_call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        // SAFETY: as `step` says.
        unsafe {
            let object = self.object(input);
            let mut made = 0;
            match input.byte() % 12 {
                0..=2 => {
                    let mut template = Template::of_object(input);
                    let code = C_CreateObject(session, template.pointer(), template.count, &mut made);
                    self.made(code, made);
                    code
                }
                3 => {
                    let mut template = Template::any(input);
                    let code = C_CopyObject(session, object, template.pointer(), template.count, &mut made);
                    self.made(code, made);
                    code
                }
                4 => C_DestroyObject(session, object),
                5 => {
                    let mut size = 0;
                    C_GetObjectSize(session, object, if input.rarely() { null_mut() } else { &mut size })
                }
                6 | 7 => {
                    let mut template = Template::room(input);
                    C_GetAttributeValue(session, object, template.pointer(), template.count)
                }
                8 => {
                    let mut template = Template::any(input);
                    C_SetAttributeValue(session, object, template.pointer(), template.count)
                }
                9 => {
                    let mut template = Template::any(input);
                    C_FindObjectsInit(session, template.pointer(), template.count)
                }
                10 => {
                    let (mut found, mut count) = ([0; 4], 0);
                    let code = C_FindObjects(session, found.as_mut_ptr(), 4, &mut count);
                    if code == CKR_OK {
                        self.objects.extend_from_slice(&found[..count as usize]);
                    }
                    code
                }
                _ => C_FindObjectsFinal(session),
            }
        }
    }

    unsafe fn key_call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        let mut mechanism = Mechanism::read(input);
        let mut made = 0;
        let mechanism = match input.rarely() {
            true => null_mut(),
            false => &raw mut mechanism.mechanism,
        };
        let (first, second) = (self.object(input), self.object(input));
        // SAFETY: as `step` says.
        unsafe {
            match input.byte() % 8 {
                0 => {
                    let mut aes = CK_MECHANISM { mechanism: CKM_AES_KEY_GEN, pParameter: null_mut(), ulParameterLen: 0 };
                    let mut template = Template::of_key(input);
                    let code =
                        C_GenerateKey(session, &mut aes, template.pointer(), template.count, &mut made);
                    self.made(code, made);
                    code
                }
                1 => {
                    // Not RSA: primes take a second each.
                    let kind = input.pick(&[CKM_EC_KEY_PAIR_GEN, CKM_EC_EDWARDS_KEY_PAIR_GEN]);
                    let mut pair = CK_MECHANISM { mechanism: kind, pParameter: null_mut(), ulParameterLen: 0 };
                    let (mut public, mut private) = (Template::of_key(input), Template::of_key(input));
                    let mut other = 0;
                    let code = C_GenerateKeyPair(
                        session, &mut pair, public.pointer(), public.count, private.pointer(), private.count,
                        &mut made, &mut other,
                    );
                    self.made(code, made);
                    self.made(code, other);
                    code
                }
                2 => {
                    let mut wrapped = input.buffer();
                    let code = C_WrapKey(session, mechanism, first, second, wrapped.pointer(), wrapped.length());
                    wrapped.check(code);
                    code
                }
                3 => {
                    let (_memory, wrapped, length) = input.data();
                    let mut template = Template::of_object(input);
                    let code = C_UnwrapKey(
                        session, mechanism, first, wrapped, length, template.pointer(), template.count, &mut made,
                    );
                    self.made(code, made);
                    code
                }
                4 => {
                    let mut template = Template::of_key(input);
                    let code =
                        C_DeriveKey(session, mechanism, first, template.pointer(), template.count, &mut made);
                    self.made(code, made);
                    code
                }
                5 => {
                    let mut template = Template::of_key(input);
                    let mut ciphertext = input.buffer();
                    let code = C_EncapsulateKey(
                        session, mechanism, first, template.pointer(), template.count, ciphertext.pointer(),
                        ciphertext.length(), &mut made,
                    );
                    ciphertext.check(code);
                    code
                }
                6 => {
                    let mut template = Template::of_key(input);
                    let (_memory, ciphertext, length) = input.data();
                    C_DecapsulateKey(
                        session, mechanism, first, template.pointer(), template.count, ciphertext, length, &mut made,
                    )
                }
                _ => C_DigestKey(session, first),
            }
        }
    }

    unsafe fn init_call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        let mut mechanism = Mechanism::read(input);
        let mut of_messages =
            CK_MECHANISM { mechanism: CKM_AES_GCM, pParameter: null_mut(), ulParameterLen: 0 };
        let mechanism = match input.byte() % 16 {
            15 => null_mut(),
            12..15 => {
                of_messages.mechanism = input.pick(&[CKM_AES_GCM, CKM_AES_CCM, CKM_ECDSA_SHA256]);
                &raw mut of_messages
            }
            _ => &raw mut mechanism.mechanism,
        };
        let key = self.object(input);
        // SAFETY: as `step` says.
        unsafe {
            match input.byte() % 11 {
                0 => C_EncryptInit(session, mechanism, key),
                1 => C_DecryptInit(session, mechanism, key),
                2 => C_SignInit(session, mechanism, key),
                3 => C_VerifyInit(session, mechanism, key),
                4 => C_SignRecoverInit(session, mechanism, key),
                5 => C_VerifyRecoverInit(session, mechanism, key),
                6 => C_MessageEncryptInit(session, mechanism, key),
                7 => C_MessageDecryptInit(session, mechanism, key),
                8 => C_MessageSignInit(session, mechanism, key),
                9 => C_MessageVerifyInit(session, mechanism, key),
                _ => C_DigestInit(session, mechanism),
            }
        }
    }

    unsafe fn message_call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        let (_memory, data, length) = input.data();
        let (_aad, aad, aad_length) = input.data();
        let mut out = input.buffer();
        let (mut iv, mut tag) = ([7u8; 256], [7u8; 16]);
        let place = |memory: &mut [u8], input: &mut Input<'_>| {
            if input.rarely() { null_mut() } else { memory.as_mut_ptr() }
        };
        let mut gcm = CK_GCM_MESSAGE_PARAMS {
            pIv: place(&mut iv, input),
            ulIvLen: input.pick(&[12, 1, 256, 0, 257, CK_ULONG::MAX]),
            ulIvFixedBits: input.pick(&[0, 32, 5, 96, CK_ULONG::MAX]),
            ivGenerator: input.below(6) as CK_ULONG,
            pTag: place(&mut tag, input),
            ulTagBits: input.pick(&[128, 96, 104, 127, 0, CK_ULONG::MAX]),
        };
        let mut ccm = CK_CCM_MESSAGE_PARAMS {
            ulDataLen: length,
            pNonce: gcm.pIv,
            ulNonceLen: input.pick(&[12, 7, 13, 14, CK_ULONG::MAX]),
            ulNonceFixedBits: gcm.ulIvFixedBits,
            nonceGenerator: gcm.ivGenerator,
            pMAC: gcm.pTag,
            ulMACLen: input.pick(&[16, 4, 5, CK_ULONG::MAX]),
        };
        // A structure, or bytes of no structure's size.
        let mut odd = [0u8; 5];
        let (parameter, size): (*mut std::ffi::c_void, usize) = match input.byte() % 8 {
            0 => (null_mut(), 0),
            1 => (odd.as_mut_ptr().cast(), input.pick(&[1, 5])),
            2 | 3 => ((&raw mut ccm).cast(), size_of_val(&ccm)),
            _ => ((&raw mut gcm).cast(), size_of_val(&gcm)),
        };
        let size = size as CK_ULONG;
        // SAFETY: as `step` says.
        let code = unsafe {
            match input.byte() % 16 {
                12 => C_SignMessageBegin(session, null_mut(), 0),
                13 => C_VerifyMessageBegin(session, null_mut(), 0),
                14 => C_SignMessageNext(session, null_mut(), 0, data, length, out.pointer(), out.length()),
                15 => C_VerifyMessageNext(session, null_mut(), 0, data, length, aad, aad_length),
                0 => C_EncryptMessage(session, parameter, size, aad, aad_length, data, length, out.pointer(), out.length()),
                1 => C_DecryptMessage(session, parameter, size, aad, aad_length, data, length, out.pointer(), out.length()),
                2 => C_EncryptMessageBegin(session, parameter, size, aad, aad_length),
                3 => C_DecryptMessageBegin(session, parameter, size, aad, aad_length),
                4 => C_EncryptMessageNext(session, parameter, size, data, length, out.pointer(), out.length(), input.byte().into()),
                5 => C_DecryptMessageNext(session, parameter, size, data, length, out.pointer(), out.length(), input.byte().into()),
                6 => C_SignMessage(session, parameter, size, data, length, out.pointer(), out.length()),
                7 => C_VerifyMessage(session, parameter, size, data, length, aad, aad_length),
                8 => C_MessageEncryptFinal(session),
                9 => C_MessageDecryptFinal(session),
                10 => C_MessageSignFinal(session),
                _ => C_MessageVerifyFinal(session),
            }
        };
        out.check(code);
        code
    }

    unsafe fn data_call(&mut self, session: CK_SESSION_HANDLE, input: &mut Input<'_>) -> CK_RV {
        let (_memory, data, length) = input.data();
        let (_signature, signature, signature_length) = input.data();
        let mut out = input.buffer();
        // SAFETY: as `step` says.
        let code = unsafe {
            match input.byte() % 25 {
                0 => C_Encrypt(session, data, length, out.pointer(), out.length()),
                1 => C_EncryptUpdate(session, data, length, out.pointer(), out.length()),
                2 => C_EncryptFinal(session, out.pointer(), out.length()),
                3 => C_Decrypt(session, data, length, out.pointer(), out.length()),
                4 => C_DecryptUpdate(session, data, length, out.pointer(), out.length()),
                5 => C_DecryptFinal(session, out.pointer(), out.length()),
                6 => C_Sign(session, data, length, out.pointer(), out.length()),
                7 => C_SignUpdate(session, data, length),
                8 => C_SignFinal(session, out.pointer(), out.length()),
                9 => C_Verify(session, data, length, signature, signature_length),
                10 => C_VerifyUpdate(session, data, length),
                11 => C_VerifyFinal(session, signature, signature_length),
                12 => C_Digest(session, data, length, out.pointer(), out.length()),
                13 => C_DigestUpdate(session, data, length),
                14 => C_DigestFinal(session, out.pointer(), out.length()),
                15 => C_DigestEncryptUpdate(session, data, length, out.pointer(), out.length()),
                16 => C_DecryptDigestUpdate(session, data, length, out.pointer(), out.length()),
                17 => C_SignEncryptUpdate(session, data, length, out.pointer(), out.length()),
                18 => C_DecryptVerifyUpdate(session, data, length, out.pointer(), out.length()),
                19 => C_SignRecover(session, data, length, out.pointer(), out.length()),
                20 => C_VerifyRecover(session, data, length, out.pointer(), out.length()),
                21 => C_VerifySignature(session, data, length),
                22 => C_VerifySignatureUpdate(session, data, length),
                23 => C_VerifySignatureFinal(session),
                _ => {
                    let kind = input.pick(&[CKM_ECDSA_SHA256, CKM_ECDSA]);
                    let mut mechanism = CK_MECHANISM { mechanism: kind, pParameter: null_mut(), ulParameterLen: 0 };
                    C_VerifySignatureInit(session, &mut mechanism, self.object(input), data, length)
                }
            }
        };
        out.check(code);
        code
    }
}

/// Whether the standard knows the code; vendors' are not ours.
fn is_known(code: CK_RV) -> bool {
    code <= 0x1000
}
