//! PINs and roles: C_InitPIN, C_SetPIN, C_Login, C_LoginUser and C_InitToken, each error of the standard's lists that a partition can give.

use cryptoki_sys::*;
use strongroom_protocol::v1::{CreatePartition, SetPolicy, request::Op, response};

use crate::call;
use crate::support::application::{Application, TRUE, attribute, number};
use crate::support::{Daemon, OFFICER};

const FIRST: &str = "a first secret";
const OWN: &str = "a secret of one's own";

struct Bench {
    application: Application,
    slot: u32,
}

fn bytes(text: &str) -> (*mut CK_UTF8CHAR, CK_ULONG) {
    (text.as_ptr().cast_mut(), text.len() as CK_ULONG)
}

impl Bench {
    fn login(&self, session: CK_SESSION_HANDLE, kind: CK_USER_TYPE, pin: &str) -> CK_RV {
        self.application.login(session, kind, pin)
    }

    fn logout(&self, session: CK_SESSION_HANDLE) {
        assert_eq!(call!(self.application, C_Logout, session), CKR_OK);
    }

    fn init_pin(&self, session: CK_SESSION_HANDLE, pin: &str) -> CK_RV {
        let (pin, length) = bytes(pin);
        call!(self.application, C_InitPIN, session, pin, length)
    }

    fn set_pin(&self, session: CK_SESSION_HANDLE, old: &str, new: &str) -> CK_RV {
        let ((old, old_length), (new, new_length)) = (bytes(old), bytes(new));
        call!(self.application, C_SetPIN, session, old, old_length, new, new_length)
    }

    fn init_token(&self, pin: &str, label: &str) -> CK_RV {
        let ((pin, length), label) = (bytes(pin), format!("{label:32}"));
        call!(self.application, C_InitToken, self.slot.into(), pin, length, label.as_ptr().cast_mut())
    }

    fn flags(&self) -> CK_FLAGS {
        // SAFETY: a structure of numbers and bytes.
        let mut info: CK_TOKEN_INFO = unsafe { std::mem::zeroed() };
        assert_eq!(call!(self.application, C_GetTokenInfo, self.slot.into(), &mut info), CKR_OK);
        info.flags
    }

    fn data(&self, session: CK_SESSION_HANDLE) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let mut template = [attribute(CKA_CLASS, number(CKO_DATA)), attribute(CKA_TOKEN, TRUE)];
        let mut made = 0;
        match call!(self.application, C_CreateObject, session, template.as_mut_ptr(), 2, &mut made) {
            CKR_OK => Ok(made),
            code => Err(code),
        }
    }
}

/// A partition with an officer, who locks after three wrong passwords, and nobody else.
fn bench(daemon: &Daemon) -> Bench {
    let create = CreatePartition {
        label: "tls".into(),
        officer: OFFICER.0.into(),
        password: OFFICER.1.into(),
        ..CreatePartition::default()
    };
    let response::Result::Partition(partition) = daemon.as_owner(Op::CreatePartition(create)) else {
        panic!("CreatePartition's answer");
    };
    let policy = SetPolicy { max_attempts: Some(3), ..SetPolicy::default() };
    daemon.as_officer(partition.number, Op::SetPolicy(policy));
    let application = Application::load();
    application.initialize();
    Bench { application, slot: partition.number }
}

pub fn pins(daemon: &Daemon) {
    let bench = bench(daemon);
    let session = bench.application.open_writable(bench.slot);
    first(&bench, session);
    own(&bench, session);
    several(&bench, session);
    locked(&bench, session);
    bench.application.finalize();
}

/// The first user: there is no PIN before the officer sets one.
fn first(bench: &Bench, session: CK_SESSION_HANDLE) {
    assert_eq!(bench.flags() & CKF_USER_PIN_INITIALIZED, 0);
    assert_eq!(bench.login(session, CKU_USER, "anything else"), CKR_USER_PIN_NOT_INITIALIZED);
    assert_eq!(bench.login(session, CKU_SO, "anything else"), CKR_PIN_INCORRECT);
    assert_ne!(bench.flags() & CKF_SO_PIN_COUNT_LOW, 0);
    assert_eq!(bench.init_pin(session, FIRST), CKR_USER_NOT_LOGGED_IN);
    let reader = bench.application.open(bench.slot, 0).unwrap();
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_SESSION_READ_ONLY_EXISTS);
    assert_eq!(call!(bench.application, C_CloseSession, reader), CKR_OK);
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(bench.flags() & CKF_SO_PIN_COUNT_LOW, 0);
    assert_eq!(bench.application.open(bench.slot, 0), Err(CKR_SESSION_READ_WRITE_SO_EXISTS));
    assert_eq!(bench.init_pin(session, "short"), CKR_PIN_LEN_RANGE);
    assert_eq!(bench.init_pin(session, &"long".repeat(1000)), CKR_PIN_LEN_RANGE);
    let broken = b"no text: \xff\xff";
    let (pin, length) = (broken.as_ptr().cast_mut(), broken.len() as CK_ULONG);
    assert_eq!(call!(bench.application, C_InitPIN, session, pin, length), CKR_PIN_INVALID);
    // Officers set their own PINs.
    assert_eq!(bench.init_pin(session, &format!("{}:{FIRST}", OFFICER.0)), CKR_PIN_INVALID);
    assert_eq!(bench.flags() & CKF_USER_PIN_INITIALIZED, 0);
    assert_eq!(bench.init_pin(session, FIRST), CKR_OK);
    assert_eq!(
        bench.flags() & (CKF_USER_PIN_INITIALIZED | CKF_USER_PIN_TO_BE_CHANGED),
        CKF_USER_PIN_INITIALIZED | CKF_USER_PIN_TO_BE_CHANGED
    );
    bench.logout(session);
}

/// What was set by the officer is good for `C_SetPIN` only.
fn own(bench: &Bench, session: CK_SESSION_HANDLE) {
    assert_eq!(bench.login(session, CKU_USER, FIRST), CKR_OK);
    assert_eq!(bench.data(session), Err(CKR_PIN_EXPIRED));
    assert_eq!(bench.init_pin(session, OWN), CKR_USER_NOT_LOGGED_IN, "a user is no officer");
    let reader = bench.application.open(bench.slot, 0).unwrap();
    assert_eq!(bench.set_pin(reader, FIRST, OWN), CKR_SESSION_READ_ONLY);
    assert_eq!(call!(bench.application, C_CloseSession, reader), CKR_OK);
    assert_eq!(bench.set_pin(session, "another secret", OWN), CKR_PIN_INCORRECT);
    assert_eq!(bench.set_pin(session, FIRST, "short"), CKR_PIN_LEN_RANGE);
    assert_eq!(bench.set_pin(session, FIRST, &format!("renamed:{OWN}")), CKR_PIN_INVALID);
    assert_eq!(bench.set_pin(session, FIRST, OWN), CKR_OK);
    assert_eq!(bench.flags() & CKF_USER_PIN_TO_BE_CHANGED, 0);
    let made = bench.data(session).unwrap();
    assert_eq!(call!(bench.application, C_DestroyObject, session, made), CKR_OK);
    bench.logout(session);
    // Without a log-in it is the user's PIN that is changed; with the officer's, the officer's.
    assert_eq!(bench.set_pin(session, OWN, FIRST), CKR_OK);
    assert_eq!(bench.login(session, CKU_USER, OWN), CKR_PIN_INCORRECT);
    assert_eq!(bench.set_pin(session, FIRST, OWN), CKR_OK);
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(bench.set_pin(session, OFFICER.1, "officer-secret 2"), CKR_OK);
    bench.logout(session);
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_PIN_INCORRECT);
    assert_eq!(bench.login(session, CKU_SO, "officer-secret 2"), CKR_OK);
    assert_eq!(bench.set_pin(session, "officer-secret 2", OFFICER.1), CKR_OK);
    bench.logout(session);
}

/// Users by name.
fn several(bench: &Bench, session: CK_SESSION_HANDLE) {
    let by_name = |kind, name, pin| {
        let ((name, size), (pin, length)) = (bytes(name), bytes(pin));
        call!(bench.application, C_LoginUser, session, kind, pin, length, name, size)
    };
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(bench.init_pin(session, &format!("bob:{FIRST}")), CKR_OK);
    assert_eq!(bench.init_pin(session, FIRST), CKR_PIN_INVALID, "whose, of two?");
    bench.logout(session);
    assert_eq!(bench.login(session, CKU_USER, OWN), CKR_PIN_INCORRECT, "whose, of two?");
    assert_eq!(by_name(CKU_USER, "nobody", OWN), CKR_PIN_INCORRECT);
    assert_eq!(by_name(CKU_USER, OFFICER.0, OFFICER.1), CKR_PIN_INCORRECT, "an officer is no user");
    assert_eq!(by_name(CKU_SO, "user", OWN), CKR_PIN_INCORRECT, "nor the other way round");
    assert_eq!(by_name(77, "user", OWN), CKR_USER_TYPE_INVALID);
    assert_eq!(by_name(CKU_CONTEXT_SPECIFIC, "user", OWN), CKR_OPERATION_NOT_INITIALIZED);
    assert_eq!(by_name(CKU_USER, "user", OWN), CKR_OK);
    assert_eq!(by_name(CKU_USER, "bob", FIRST), CKR_USER_ALREADY_LOGGED_IN);
    assert_eq!(by_name(CKU_SO, OFFICER.0, OFFICER.1), CKR_USER_ANOTHER_ALREADY_LOGGED_IN);
    // One who is logged in changes another's with that one's password.
    assert_eq!(bench.set_pin(session, &format!("bob:{FIRST}"), OWN), CKR_OK);
    bench.logout(session);
    assert_eq!(by_name(CKU_USER, "bob", OWN), CKR_OK);
    bench.logout(session);
}

/// Three wrong passwords lock.
fn locked(bench: &Bench, session: CK_SESSION_HANDLE) {
    let pin_flags =
        || bench.flags() & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
    let wrong = |name| bench.login(session, CKU_USER, &format!("{name}:not the secret"));
    assert_eq!(pin_flags(), 0);
    assert_eq!(wrong("bob"), CKR_PIN_INCORRECT);
    assert_eq!(pin_flags(), CKF_USER_PIN_COUNT_LOW);
    assert_eq!(wrong("bob"), CKR_PIN_INCORRECT);
    assert_eq!(pin_flags(), CKF_USER_PIN_COUNT_LOW, "others have more tries than one");
    // The third time may say at once that it was the last.
    assert!([CKR_PIN_INCORRECT, CKR_PIN_LOCKED].contains(&wrong("bob")));
    assert_eq!(wrong("bob"), CKR_PIN_LOCKED);
    assert_eq!(
        bench.login(session, CKU_USER, &format!("bob:{OWN}")),
        CKR_PIN_LOCKED,
        "the right one neither"
    );
    assert_eq!(bench.set_pin(session, &format!("bob:{OWN}"), FIRST), CKR_PIN_LOCKED);
    for _ in 0..2 {
        assert_eq!(wrong("user"), CKR_PIN_INCORRECT);
    }
    assert_eq!(pin_flags(), CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY);
    wrong("user");
    assert_eq!(pin_flags(), CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
    // The officer gives a new one, and it counts from the beginning.
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(bench.init_pin(session, &format!("bob:{FIRST}")), CKR_OK);
    bench.logout(session);
    assert_eq!(bench.login(session, CKU_USER, &format!("bob:{FIRST}")), CKR_OK);
    assert_eq!(pin_flags() & CKF_USER_PIN_LOCKED, 0, "not all are locked");
    bench.logout(session);
}

/// `C_InitToken`: the officer's word, and nothing is destroyed.
pub fn initialized(daemon: &Daemon) {
    let bench = bench(daemon);
    assert_eq!(bench.init_token(OFFICER.1, "tls"), CKR_OK);
    assert_eq!(bench.init_token("not the secret", "tls"), CKR_PIN_INCORRECT);
    assert_eq!(bench.init_token(OFFICER.1, "another"), CKR_TOKEN_WRITE_PROTECTED);
    let session = bench.application.open_writable(bench.slot);
    assert_eq!(bench.init_token(OFFICER.1, "tls"), CKR_SESSION_EXISTS);
    assert_eq!(bench.login(session, CKU_SO, OFFICER.1), CKR_OK);
    assert_eq!(bench.init_pin(session, FIRST), CKR_OK);
    bench.logout(session);
    assert_eq!(bench.set_pin(session, FIRST, OWN), CKR_OK);
    assert_eq!(bench.login(session, CKU_USER, OWN), CKR_OK);
    bench.data(session).unwrap();
    assert_eq!(call!(bench.application, C_CloseAllSessions, bench.slot.into()), CKR_OK);
    assert_eq!(bench.init_token(OFFICER.1, "tls"), CKR_TOKEN_WRITE_PROTECTED);
    for _ in 0..3 {
        bench.init_token("not the secret", "tls");
    }
    assert_eq!(bench.init_token(OFFICER.1, "tls"), CKR_PIN_LOCKED);
    assert_ne!(bench.flags() & CKF_SO_PIN_LOCKED, 0);
    // All is as it was.
    let session = bench.application.open_writable(bench.slot);
    assert_eq!(bench.login(session, CKU_USER, OWN), CKR_OK);
    assert_eq!(bench.application.find(session, &mut []).len(), 1);
    bench.application.finalize();
}

/// `C_SessionCancel` ends what it names, and nothing else.
pub fn cancelled(daemon: &Daemon) {
    let (application, _, session) = crate::logged_in(daemon);
    let (private, public) = application.generate(session, "web").unwrap();
    let begin = || {
        let (mut digest, mut ecdsa) = (
            crate::support::application::plain(CKM_SHA256),
            crate::support::application::plain(CKM_ECDSA_SHA256),
        );
        [
            call!(application, C_DigestInit, session, &mut digest),
            call!(application, C_SignInit, session, &mut ecdsa, private),
            call!(application, C_VerifyInit, session, &mut ecdsa, public),
            call!(application, C_MessageSignInit, session, &mut ecdsa, private),
            call!(application, C_MessageVerifyInit, session, &mut ecdsa, public),
            call!(application, C_FindObjectsInit, session, std::ptr::null_mut(), 0),
        ]
    };
    assert_eq!(begin(), [CKR_OK; 6]);
    assert_eq!(begin(), [CKR_OPERATION_ACTIVE; 6]);
    assert_eq!(call!(application, C_SessionCancel, session, 0), CKR_OK);
    assert_eq!(begin(), [CKR_OPERATION_ACTIVE; 6], "nothing was named");
    let named = [CKF_DIGEST, CKF_SIGN, CKF_VERIFY, CKF_MESSAGE_SIGN, CKF_MESSAGE_VERIFY, CKF_FIND_OBJECTS];
    for (place, flag) in named.into_iter().enumerate() {
        assert_eq!(call!(application, C_SessionCancel, session, flag), CKR_OK);
        let mut expected = [CKR_OPERATION_ACTIVE; 6];
        expected[place] = CKR_OK;
        assert_eq!(begin(), expected, "{flag:#x}");
    }
    // What is not under way is no error; nor is what has no operation.
    assert_eq!(call!(application, C_SessionCancel, session, CK_FLAGS::MAX), CKR_OK);
    assert_eq!(call!(application, C_SessionCancel, session, CKF_ENCRYPT | CKF_GENERATE), CKR_OK);
    assert_eq!(begin(), [CKR_OK; 6]);
    application.finalize();
}
