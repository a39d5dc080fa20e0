//! What happens to a program with a key in a token in the course of its life: it forks at any point, ends in the middle of
//! signatures, loads and unloads the provider, and starts in many processes at once. The program is tests/programs/life.c.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::pki::KeyKind;
use strongroom_tests::{Bench, Keys, Place, program};

const LIMIT: Duration = Duration::from_secs(400);

/// One test at a time: each needs the whole machine.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program and a key.
struct Life {
    bench: Bench,
    key: Keys,
    program: std::path::PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Life {
    fn new(place: Place, kind: KeyKind) -> Self {
        let turn = turn();
        let bench = Bench::new().unwrap();
        let key = bench.keys(place, &[kind]).unwrap().remove(0);
        let program = program::build("life", bench.run.path()).unwrap();
        Life { bench, key, program, _turn: turn }
    }

    /// Runs the program on the key.
    fn run(&self, action: &str, numbers: &[u32]) -> Finished {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let mut arguments = vec![action, &self.key.uri];
        arguments.extend(numbers.iter().map(String::as_str));
        let command = program::command(&self.program, &self.key.environment, &arguments);
        let finished = command::run(command, LIMIT).unwrap();
        let said = String::from_utf8_lossy(&finished.stdout).into_owned();
        println!("{:?} {}: {}", self.key.place, self.key.kind.title(), said.trim());
        finished
    }

    /// Runs it; all its signatures must be made.
    fn succeed(&self, action: &str, numbers: &[u32]) {
        let done = self.run(action, numbers);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors: Vec<&str> = done.stderr.lines().take(10).collect();
        assert!(
            done.status.success(),
            "{action} {numbers:?} {:?}: {}\n{said}\n{errors:?}",
            self.key.place,
            done.status
        );
    }
}

const OURS_AND_SOFTHSM: [Place; 2] = [Place::Partition, Place::SoftHsm];

/// Families of a child, its child and its child, forked from a parent whose four threads are signing. A lock of the module's
/// that a thread of the parent held would never be free in the child.
#[test]
fn a_threaded_parent_forks_while_it_signs() {
    for place in OURS_AND_SOFTHSM {
        Life::new(place, KeyKind::P256).succeed("forks", &[4, 20]);
    }
}

#[test]
#[ignore = "takes minutes: 1,000 families for each token"]
fn a_threaded_parent_forks_1_000_times_while_it_signs() {
    for place in [Place::Partition, Place::SoftHsm, Place::Kryoptic] {
        let life = Life::new(place, KeyKind::P256);
        life.succeed("forks", &[4, 1000]);
        life.succeed("forks", &[0, 200]);
    }
}

/// main returns while threads are signing: no thread meets the ruins of the module or of libcrypto.
#[test]
fn a_program_ends_with_signatures_in_flight() {
    for (place, kind) in [(Place::Partition, KeyKind::P256), (Place::SoftHsm, KeyKind::Rsa2048)] {
        let life = Life::new(place, kind);
        for wait in 0..10 {
            life.succeed("exit", &[4, 5 * wait]);
        }
    }
}

#[test]
#[ignore = "takes minutes: 200 ends for each token"]
fn a_program_ends_200_times_with_signatures_in_flight() {
    for place in [Place::Partition, Place::SoftHsm, Place::Kryoptic] {
        for kind in [KeyKind::P256, KeyKind::Rsa2048] {
            let life = Life::new(place, kind);
            for wait in 0..100 {
                life.succeed("exit", &[8, wait]);
            }
        }
    }
}

/// Library contexts that come and go, and providers that are unloaded, leave no memory, no descriptors and no sessions behind.
#[test]
fn a_program_unloads_the_provider_again_and_again() {
    for place in OURS_AND_SOFTHSM {
        Life::new(place, KeyKind::P256).succeed("unload", &[60]);
    }
}

#[test]
#[ignore = "takes minutes: 1,000 times for each token"]
fn a_program_unloads_the_provider_1_000_times() {
    for place in [Place::Partition, Place::SoftHsm, Place::Kryoptic] {
        Life::new(place, KeyKind::P256).succeed("unload", &[1000]);
    }
}

/// Many processes log in and sign at the same moment: workers of one parent that has loaded the key (0), and workers that each
/// load it themselves (1).
#[test]
fn two_hundred_workers_log_in_at_once() {
    for (place, workers) in [(Place::Partition, 200), (Place::SoftHsm, 50)] {
        let life = Life::new(place, KeyKind::P256);
        life.succeed("storm", &[workers, 0]);
        life.succeed("storm", &[workers, 1]);
    }
}

#[test]
#[ignore = "takes minutes: 2,000 processes at once"]
fn two_thousand_workers_log_in_at_once() {
    for kind in [KeyKind::P256, KeyKind::Rsa2048] {
        let life = Life::new(Place::Partition, kind);
        life.succeed("storm", &[2000, 0]);
        life.succeed("storm", &[2000, 1]);
    }
    for place in [Place::SoftHsm, Place::Kryoptic] {
        let life = Life::new(place, KeyKind::P256);
        life.succeed("storm", &[200, 0]);
        // SoftHSM2 shows no token while another process writes that it logged in: with more processes than these at once,
        // on two processors, it may do so for longer than the provider waits.
        life.succeed("storm", &[50, 1]);
    }
}

/// The same with a password for each log-in: what costs the daemon time is checked once, and not for each worker.
#[test]
fn a_storm_of_log_ins_with_a_pin() {
    let mut life = Life::new(Place::Partition, KeyKind::P256);
    let locked = life.bench.locked().unwrap();
    let uri = locked.generate(KeyKind::P256, "web").unwrap();
    let environment = locked.environment(&locked.pin, "locked.cnf").unwrap();
    life.key = Keys { uri, environment, ..life.key.clone() };
    life.succeed("storm", &[100, 0]);
    life.succeed("storm", &[30, 1]);
}
