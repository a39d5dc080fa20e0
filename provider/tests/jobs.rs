//! Signatures in OpenSSL's ASYNC jobs, on a token that is as slow as each test wants it.
// libcrypto's functions are called on objects made a line before; a panic is the report.
#![allow(clippy::undocumented_unsafe_blocks, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::ffi::{c_int, c_void};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, ptr, thread};

mod libcrypto;
mod stub;

use libcrypto::Key;
use stub::{URI, signed_digest};

const ERR: c_int = 0;
const PAUSE: c_int = 2;
const FINISH: c_int = 3;

unsafe extern "C" {
    fn ASYNC_WAIT_CTX_new() -> *mut c_void;
    fn ASYNC_WAIT_CTX_free(context: *mut c_void);
    fn ASYNC_WAIT_CTX_get_all_fds(context: *mut c_void, descriptors: *mut c_int, count: *mut usize) -> c_int;
    fn ASYNC_WAIT_CTX_set_callback(
        context: *mut c_void,
        callback: extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn ASYNC_WAIT_CTX_get_status(context: *mut c_void) -> c_int;
    fn ASYNC_start_job(
        job: *mut *mut c_void,
        context: *mut c_void,
        result: *mut c_int,
        function: extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
        size: usize,
    ) -> c_int;
    fn ASYNC_block_pause();
    fn ASYNC_unblock_pause();
}

/// One signature in a job, and what came of it.
struct Driver<'a> {
    wait: *mut c_void,
    job: *mut c_void,
    order: Box<Order<'a>>,
    resumes: usize,
}

struct Order<'a> {
    key: &'a Key<'a>,
    message: Vec<u8>,
    blocked: bool,
    signed: Option<Result<Vec<u8>, String>>,
}

extern "C" fn sign(argument: *mut c_void) -> c_int {
    let order = unsafe { &mut **argument.cast::<*mut Order>() };
    if order.blocked {
        unsafe { ASYNC_block_pause() };
    }
    order.signed = Some(order.key.sign(&order.message));
    if order.blocked {
        unsafe { ASYNC_unblock_pause() };
    }
    1
}

impl<'a> Driver<'a> {
    fn new(key: &'a Key<'a>, message: &[u8]) -> Self {
        let order = Box::new(Order { key, message: message.to_vec(), blocked: false, signed: None });
        Driver { wait: unsafe { ASYNC_WAIT_CTX_new() }, job: ptr::null_mut(), order, resumes: 0 }
    }

    /// Begins the job or resumes it; whether it has ended.
    fn go_on(&mut self) -> bool {
        let order: *mut Order = &mut *self.order;
        let mut result = 0;
        self.resumes += 1;
        let became = unsafe {
            ASYNC_start_job(
                &mut self.job,
                self.wait,
                &mut result,
                sign,
                ptr::from_ref(&order).cast_mut().cast(),
                size_of::<*mut Order>(),
            )
        };
        assert_ne!(became, ERR);
        match became {
            PAUSE => false,
            FINISH => true,
            other => panic!("ASYNC_start_job: {other}"),
        }
    }

    fn descriptors(&self) -> Vec<c_int> {
        let mut count = 0;
        unsafe { ASYNC_WAIT_CTX_get_all_fds(self.wait, ptr::null_mut(), &mut count) };
        let mut descriptors = vec![-1; count];
        unsafe { ASYNC_WAIT_CTX_get_all_fds(self.wait, descriptors.as_mut_ptr(), &mut count) };
        descriptors
    }

    /// Whether the job's descriptor is readable within `limit`.
    fn is_ready(&self, limit: Duration) -> bool {
        let descriptors = self.descriptors();
        assert_eq!(descriptors.len(), 1);
        let mut poll = libc::pollfd { fd: descriptors[0], events: libc::POLLIN, revents: 0 };
        unsafe { libc::poll(&mut poll, 1, limit.as_millis() as c_int) == 1 }
    }

    fn signed(&mut self) -> Result<Vec<u8>, String> {
        self.order.signed.take().unwrap()
    }

    /// Runs to the end, as an application that waits for the descriptor.
    fn run(&mut self) -> Result<Vec<u8>, String> {
        while !self.go_on() {
            assert!(self.is_ready(Duration::from_secs(10)));
        }
        self.signed()
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        unsafe { ASYNC_WAIT_CTX_free(self.wait) };
    }
}

fn digest_of(key: &Key, message: &[u8]) -> Vec<u8> {
    signed_digest(&key.sign(message).unwrap())
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.trim() == "strongroom-sign").count()
}

/// Runs `test` in a process that does nothing else, and returns its exit code; `None` in that process. Here there may be
/// threads that other tests have made, and a child of a fork would find libcrypto's locks as they hold them.
fn in_its_own_process(name: &str, test: fn()) -> Option<i32> {
    const MARK: &str = "STRONGROOM_TEST_ALONE";
    if env::var_os(MARK).is_some() {
        test();
        return None;
    }
    let program = env::current_exe().unwrap();
    let mut alone = Command::new(program)
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = alone.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        if Instant::now() > until {
            alone.kill().unwrap();
            alone.wait().unwrap();
            panic!("{name} does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_thread_keeps_many_signatures_in_flight() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let expected: Vec<Vec<u8>> = (0..48u8).map(|number| digest_of(&key, &[number])).collect();
    stub.delay(100);
    let mut drivers: Vec<Driver> = (0..48u8).map(|number| Driver::new(&key, &[number])).collect();
    for driver in &mut drivers {
        assert!(!driver.go_on(), "the job is paused while the token signs");
    }
    for (driver, expected) in drivers.iter_mut().zip(&expected) {
        assert_eq!(signed_digest(&driver.run().unwrap()), *expected, "each job has its own signature");
    }
    assert!(stub.most_in_flight() > 24);
}

#[test]
fn the_descriptor_stays_and_is_quiet_between_signatures() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let mut driver = Driver::new(&key, b"first");
    driver.run().unwrap();
    let first = driver.descriptors();
    for round in 0..20u8 {
        assert!(!driver.is_ready(Duration::ZERO), "round {round}");
        driver.order.message = vec![round];
        let signature = driver.run().unwrap();
        assert_eq!(signed_digest(&signature), digest_of(&key, &[round]));
        assert_eq!(driver.descriptors(), first);
    }
    drop(driver);
    assert_eq!(unsafe { libc::fcntl(first[0], libc::F_GETFD) }, -1, "closed with the connection");
    assert_eq!(stub.most_in_flight(), 1);
}

#[test]
fn a_job_that_is_resumed_early_pauses_again() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.delay(200);
    let mut driver = Driver::new(&key, b"message");
    let started = Instant::now();
    while !driver.go_on() {}
    assert!(started.elapsed() >= Duration::from_millis(190));
    assert!(driver.resumes < 1000, "the application's loop is held: {}", driver.resumes);
    stub.delay(0);
    assert_eq!(signed_digest(&driver.signed().unwrap()), digest_of(&key, b"message"));
    assert!(!driver.is_ready(Duration::ZERO));
}

#[test]
fn a_job_that_may_not_pause_waits() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.delay(50);
    let mut driver = Driver::new(&key, b"message");
    driver.order.blocked = true;
    assert!(driver.go_on());
    stub.delay(0);
    assert_eq!(signed_digest(&driver.signed().unwrap()), digest_of(&key, b"message"));
}

#[test]
fn the_callback_is_called_when_the_signature_is_there() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn called(argument: *mut c_void) -> c_int {
        CALLS.fetch_add(argument as u64, Ordering::SeqCst);
        1
    }
    const STATUS_OK: c_int = 2;
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.delay(50);
    let mut driver = Driver::new(&key, b"message");
    unsafe { ASYNC_WAIT_CTX_set_callback(driver.wait, called, 7 as *mut c_void) };
    for round in 1..4 {
        assert!(!driver.go_on());
        assert_eq!(unsafe { ASYNC_WAIT_CTX_get_status(driver.wait) }, STATUS_OK);
        assert_eq!(CALLS.load(Ordering::SeqCst), 7 * (round - 1), "not before");
        let until = Instant::now() + Duration::from_secs(5);
        while CALLS.load(Ordering::SeqCst) < 7 * round {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(driver.go_on());
        driver.signed().unwrap();
    }
    // The connection ends before its signature: nobody is called.
    assert!(!driver.go_on());
    drop(driver);
    thread::sleep(Duration::from_millis(150));
    assert_eq!(CALLS.load(Ordering::SeqCst), 21);
}

#[test]
fn the_callback_may_end_the_connection() {
    static ENDED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn end(wait: *mut c_void) -> c_int {
        unsafe { ASYNC_WAIT_CTX_free(wait) };
        ENDED.fetch_add(1, Ordering::SeqCst);
        1
    }
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.delay(20);
    let mut driver = Driver::new(&key, b"message");
    unsafe { ASYNC_WAIT_CTX_set_callback(driver.wait, end, driver.wait) };
    assert!(!driver.go_on());
    // The callback frees what the driver would; the job's stack still points to the order.
    std::mem::forget(driver);
    let started = Instant::now();
    while ENDED.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(1));
    }
    stub.delay(0);
    let signature = Driver::new(&key, b"message").run().unwrap();
    assert_eq!(signed_digest(&signature), digest_of(&key, b"message"));
}

#[test]
fn jobs_that_are_given_up_leave_nothing_open() {
    let status = in_its_own_process("jobs_that_are_given_up_leave_nothing_open", jobs_are_given_up);
    assert!(status.is_none_or(|code| code == 0), "{status:?}");
}

fn jobs_are_given_up() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("strongroom-async-threads = 4\n");
    let key = context.key(URI).unwrap();
    Driver::new(&key, b"warm").run().unwrap();
    let before = open_descriptors();
    let signed_before = stub.signatures();
    stub.delay(50);
    let mut drivers: Vec<Driver> = (0..40u8).map(|number| Driver::new(&key, &[number])).collect();
    for driver in &mut drivers {
        assert!(!driver.go_on());
    }
    assert!(open_descriptors() >= before + 40);
    // The application drops all connections.
    drop(drivers);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(open_descriptors(), before);
    let signed = stub.signatures() - signed_before;
    assert!(signed < 20, "what nobody waits for is not signed: {signed}");
    stub.delay(0);
    let mut driver = Driver::new(&key, b"after");
    assert_eq!(signed_digest(&driver.run().unwrap()), digest_of(&key, b"after"));
}

#[test]
fn there_are_no_more_threads_than_the_setting_says() {
    let status = in_its_own_process("there_are_no_more_threads_than_the_setting_says", three_threads);
    assert!(status.is_none_or(|code| code == 0), "{status:?}");
}

fn three_threads() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("strongroom-async-threads = 3\n");
    let key = context.key(URI).unwrap();
    stub.delay(20);
    let mut drivers: Vec<Driver> = (0..20u8).map(|number| Driver::new(&key, &[number])).collect();
    for driver in &mut drivers {
        assert!(!driver.go_on());
    }
    for driver in &mut drivers {
        driver.run().unwrap();
    }
    assert_eq!((stub.most_in_flight(), threads()), (3, 3));
}

#[test]
fn errors_come_back_and_stale_state_is_renewed() {
    const DEVICE_REMOVED: u64 = 0x32;
    const KEY_FUNCTION_NOT_PERMITTED: u64 = 0x68;
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    stub.fail(KEY_FUNCTION_NOT_PERMITTED, 1);
    let error = Driver::new(&key, b"message").run().unwrap_err();
    assert!(error.contains("C_Sign on pkcs11:token=stub;object=key"), "{error}");
    assert!(error.contains("CKR_KEY_FUNCTION_NOT_PERMITTED"), "{error}");
    // The token was away for a moment: the same recovery as without a job.
    stub.fail(DEVICE_REMOVED, 1);
    let signature = Driver::new(&key, b"message").run().unwrap();
    assert_eq!(signed_digest(&signature), digest_of(&key, b"message"));
}

#[test]
fn a_bad_setting_is_reported_and_none_means_without_threads() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("strongroom-async-threads = many\n");
    let key = context.key(URI).unwrap();
    key.sign(b"without a job").unwrap();
    let error = Driver::new(&key, b"message").run().unwrap_err();
    assert!(error.contains("strongroom-async-threads = many"), "{error}");
    let context = stub::context("strongroom-async-threads = 0\n");
    let key = context.key(URI).unwrap();
    stub.delay(20);
    let mut driver = Driver::new(&key, b"message");
    assert!(driver.go_on(), "signed at once");
    driver.signed().unwrap();
}

#[test]
fn a_child_of_a_fork_has_its_own_threads() {
    let status = in_its_own_process("a_child_of_a_fork_has_its_own_threads", a_child_signs);
    assert!(status.is_none_or(|code| code == 0), "{status:?}");
}

fn a_child_signs() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let expected = digest_of(&key, b"message");
    Driver::new(&key, b"message").run().unwrap();
    stub.delay(50);
    let mut paused = Driver::new(&key, b"message");
    assert!(!paused.go_on());
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // A job that the parent began, and one of its own.
            let inherited = paused.go_on() && signed_digest(&paused.signed().unwrap()) == expected;
            let own = signed_digest(&Driver::new(&key, b"message").run().unwrap()) == expected;
            libc::_exit(i32::from(!inherited) + 2 * i32::from(!own));
        }
        let mut status = -1;
        assert_eq!((libc::waitpid(child, &mut status, 0), status), (child, 0));
    }
    assert_eq!(signed_digest(&paused.run().unwrap()), expected);
}

#[test]
fn without_a_descriptor_the_thread_waits() {
    let status = in_its_own_process("without_a_descriptor_the_thread_waits", no_descriptors);
    assert!(status.is_none_or(|code| code == 0), "{status:?}");
}

fn no_descriptors() {
    let (stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    let expected = digest_of(&key, b"message");
    stub.delay(50);
    let mut driver = Driver::new(&key, b"message");
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 1024 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &none), 0);
        assert!(driver.go_on(), "not paused");
        let some = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &some), 0);
    }
    assert_eq!(signed_digest(&driver.signed().unwrap()), expected);
    // With one again.
    assert!(!driver.go_on());
    assert_eq!(signed_digest(&driver.run().unwrap()), expected);
}

#[test]
fn the_threads_block_signals() {
    let (_stub, _alone) = stub::stub();
    let context = stub::context("");
    let key = context.key(URI).unwrap();
    Driver::new(&key, b"message").run().unwrap();
    let mut seen = 0;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if read("comm").trim() == "strongroom-sign" {
            let status = read("status");
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
            let blocked = u64::from_str_radix(blocked, 16).unwrap();
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD, libc::SIGUSR1] {
                assert_ne!(blocked & 1 << (signal - 1), 0, "{signal}");
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn the_process_may_end_with_jobs_in_flight() {
    let status = in_its_own_process("the_process_may_end_with_jobs_in_flight", || {
        let (stub, _alone) = stub::stub();
        let context = stub::context("strongroom-async-threads = 8\n");
        let key = context.key(URI).unwrap();
        stub.delay(300);
        let mut drivers: Vec<Driver> = (0..30u8).map(|number| Driver::new(&key, &[number])).collect();
        for driver in &mut drivers {
            assert!(!driver.go_on());
        }
        thread::sleep(Duration::from_millis(20));
        std::mem::forget(drivers);
        // With exit handlers: libcrypto's clean-up among them.
        unsafe { libc::exit(7) };
    });
    assert!(status.is_none_or(|code| code == 7), "{status:?}");
}
