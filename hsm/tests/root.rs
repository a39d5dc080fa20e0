//! What root gets from the running daemon: a core taken by gdb, its memory before and after it is sealed, and what is left when
//! it dies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod attacker;
mod running;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use attacker::{forms, found, numbers, occurrences, openssl};
use running::{Client, PASSWORD, Process, USER};
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

#[test]
fn a_core_of_the_running_daemon_holds_no_key() {
    if !rustix::process::geteuid().is_root() {
        // Others may not even attach: hsm/tests/memory.rs.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    openssl(at, "genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
    openssl(at, "genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
    let numbers = [numbers(at, "rsa.pem"), numbers(at, "ec.pem")].concat();
    let needles: Vec<Vec<u8>> = numbers.iter().flat_map(|number| forms(number)).collect();

    let process = Process::start(at);
    let mut client = process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let label = "a label, which is no secret and is found";
    for (file, mechanism, data) in
        [("rsa.pem", Mechanism::RsaPkcs, &[1; 51][..]), ("ec.pem", Mechanism::Ecdsa, &[1; 32])]
    {
        let pkcs8 = openssl(at, &format!("pkcs8 -topk8 -nocrypt -outform DER -in {file}"));
        assert!(found(&pkcs8, &needles) > 0, "the needles are those of the key");
        let template = KeyTemplate { label: label.to_owned(), ..KeyTemplate::default() };
        let import = ImportKeyPair { pkcs8, private_key: Some(template), ..ImportKeyPair::default() };
        let pair = client.objects(Op::ImportKeyPair(import)).unwrap();
        for _ in 0..50 {
            client.sign(&pair[0], mechanism, None, data).unwrap();
        }
    }
    let response::Result::Status(status) = client.call(Op::Status(Status {})).unwrap() else { panic!() };

    let output = Command::new("gcore")
        .arg("-o")
        .arg(at.join("core"))
        .arg(process.child.id().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("Debian's package gdb ('demo/install tests' installs it)");
    let core = fs::read(at.join(format!("core.{}", process.child.id())));
    let core = core.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(found(&core, &[label.as_bytes().to_vec()]) > 0, "the core has the daemon's memory");
    if status.memory == "memfd_secret" {
        assert_eq!(found(&core, &needles), 0, "a key lies in memory that root can read");
    }
    // Running on, it signs.
    client.call(Op::Status(Status {})).unwrap();
}

/// The daemon may leave no core, whatever ends it: neither a file nor anything for the program that the kernel's core pattern names.
#[test]
fn a_daemon_that_dies_leaves_no_core() {
    use std::os::unix::process::ExitStatusExt;
    let directory = tempfile::tempdir().unwrap();
    let mut command = Process::command(directory.path());
    command.current_dir(directory.path());
    let mut process = Process::spawn(command, directory.path());
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.signal().is_some() && !status.core_dumped(), "{status}");
}

/// The secrets of keys that the partition has made, which nobody imported: each leaves it wrapped, and openssl unwraps it.
fn made_here(user: &mut Client, at: &Path) -> Vec<Vec<u8>> {
    let kek = openssl(at, "rand 32");
    let hex: String = kek.iter().map(|byte| format!("{byte:02x}")).collect();
    let policy = |policy: KeyPolicy| Some(KeyTemplate { policy: Some(policy), ..KeyTemplate::default() });
    let import = ImportKey {
        key_type: KeyType::Aes256.into(),
        value: kek.clone(),
        key: policy(KeyPolicy { wrap: true, ..KeyPolicy::default() }),
    };
    let wrapping_key = user.objects(Op::ImportKey(import)).unwrap().remove(0).object;
    let mut secrets = vec![kek];
    let mut leave = |user: &mut Client, key: &ObjectInfo| {
        let wrap = WrapKey {
            wrapping_key: wrapping_key.clone(),
            key: key.object.clone(),
            mechanism: Mechanism::AesKeyWrapKwp.into(),
            ..WrapKey::default()
        };
        let response::Result::WrappedKey(reply) = user.call(Op::WrapKey(wrap)).unwrap() else { panic!() };
        fs::write(at.join("wrapped"), reply.wrapped).unwrap();
        let unwrap = "enc -d -id-aes256-wrap-pad -iv A65959A6 -in wrapped -out back.der -K";
        openssl(at, &format!("{unwrap} {hex}"));
        match key.class() {
            ObjectClass::SecretKey => secrets.push(fs::read(at.join("back.der")).unwrap()),
            _ => secrets.extend(numbers(at, "back.der")),
        }
    };
    let leaves = KeyPolicy { extractable: true, ..KeyPolicy::default() };
    for (key_type, mechanism, length) in [
        (KeyType::Rsa2048, Mechanism::RsaPkcs, 51),
        (KeyType::P256, Mechanism::Ecdsa, 32),
        (KeyType::P384, Mechanism::Ecdsa, 48),
        (KeyType::Ed25519, Mechanism::Eddsa, 32),
    ] {
        let generate = GenerateKeyPair {
            key_type: key_type.into(),
            private_key: policy(KeyPolicy { sign: true, ..leaves }),
            public_key: None,
        };
        let pair = user.objects(Op::GenerateKeyPair(generate)).unwrap();
        for _ in 0..20 {
            user.sign(&pair[0], mechanism, None, &vec![1; length]).unwrap();
        }
        leave(user, &pair[0]);
    }
    let encrypts = policy(KeyPolicy { encrypt: true, ..leaves });
    let generate = GenerateKey { key_type: KeyType::Aes256.into(), key: encrypts.clone() };
    let made = user.objects(Op::GenerateKey(generate)).unwrap().remove(0);
    leave(user, &made);
    let derives = policy(KeyPolicy { derive: true, ..leaves });
    let derives = derives.map(|template| KeyTemplate { value_length: 32, ..template });
    let generate = GenerateKey { key_type: KeyType::GenericSecret.into(), key: derives };
    let base = user.objects(Op::GenerateKey(generate)).unwrap().remove(0);
    leave(user, &base);
    let hkdf =
        HkdfParameters { hash: Hash::Sha256.into(), extract: true, expand: true, ..Default::default() };
    let derive = DeriveKey {
        key: base.object,
        mechanism: Mechanism::Hkdf.into(),
        key_type: KeyType::Aes256.into(),
        derived: encrypts,
        hkdf: Some(hkdf),
        ..DeriveKey::default()
    };
    let derived = user.objects(Op::DeriveKey(derive)).unwrap().remove(0);
    leave(user, &derived);
    secrets
}

/// A node whose keys root looks for.
struct Searched {
    process: Process,
    owner: Client,
    user: Client,
    key: ObjectInfo,
    needles: Vec<Vec<u8>>,
}

impl Searched {
    /// A daemon that has signed and encrypted with keys that the test knows. Their numbers are looked for, and the node's
    /// own key.
    fn start(command: Command, directory: &tempfile::TempDir) -> Self {
        let at = directory.path();
        let process = Process::spawn(command, at);
        let mut user = process.client();
        user.make_partition("tls");
        user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
        let mut secrets = vec![fs::read(at.join("state/node.key")).unwrap()];
        let mut key = None;
        let kinds = [
            ("RSA -pkeyopt rsa_keygen_bits:2048", Mechanism::RsaPkcs, 51),
            ("EC -pkeyopt ec_paramgen_curve:P-256", Mechanism::Ecdsa, 32),
            ("EC -pkeyopt ec_paramgen_curve:P-521", Mechanism::Ecdsa, 64),
            ("ED25519", Mechanism::Eddsa, 32),
        ];
        for (algorithm, mechanism, length) in kinds {
            openssl(at, &format!("genpkey -quiet -algorithm {algorithm} -out key.pem"));
            secrets.extend(numbers(at, "key.pem"));
            let pkcs8 = openssl(at, "pkcs8 -topk8 -nocrypt -outform DER -in key.pem");
            let import = ImportKeyPair { pkcs8, ..ImportKeyPair::default() };
            let pair = user.objects(Op::ImportKeyPair(import)).unwrap();
            for _ in 0..20 {
                user.sign(&pair[0], mechanism, None, &vec![1; length]).unwrap();
            }
            key = Some(pair[0].clone()).filter(|_| mechanism == Mechanism::Ecdsa).or(key);
        }
        let value = openssl(at, "rand 32");
        let import = ImportKey { key_type: KeyType::Aes256.into(), value: value.clone(), key: None };
        let aes = user.objects(Op::ImportKey(import)).unwrap().remove(0);
        secrets.push(value);
        secrets.extend(made_here(&mut user, at));
        let encrypt = Encrypt {
            key: aes.object,
            mechanism: Mechanism::AesGcm.into(),
            gcm: Some(GcmParameters { iv: vec![1; 12], aad: Vec::new(), tag_bits: 128 }),
            data: vec![7; 100],
            ..Encrypt::default()
        };
        user.call(Op::Encrypt(encrypt)).unwrap();
        let mut owner = process.client();
        owner.partition = 0;
        let needles = secrets.iter().flat_map(|secret| forms(secret)).collect();
        Self { process, owner, user, key: key.unwrap(), needles }
    }

    fn status(&mut self) -> StatusReply {
        let response::Result::Status(status) = self.owner.call(Op::Status(Status {})).unwrap() else {
            panic!()
        };
        status
    }

    /// How often a key is found in the memory that root can read.
    fn keys(&self) -> usize {
        occurrences(self.process.child.id(), &self.needles)
    }

    /// The node is in this state, in which no key is anywhere: not in memory that root can read, whether that is all of it
    /// or not. What is in flight may take its time.
    #[track_caller]
    fn has_no_key(&mut self, state: NodeState) {
        assert_eq!(self.status().state(), state);
        let until = Instant::now() + Duration::from_secs(60);
        while self.keys() > 0 {
            assert!(Instant::now() < until, "{} in the state {state:?}", self.keys());
        }
        self.user.sign(&self.key, Mechanism::Ecdsa, None, &[1; 64]).unwrap_err();
    }

    /// Opened again, it signs; root sees a key only where the system has no better memory.
    fn signs_again(&mut self) {
        assert_eq!(self.status().state(), NodeState::Open);
        self.user = self.process.client();
        self.user.login(Role::CryptoUser, USER, PASSWORD).unwrap();
        self.user.sign(&self.key, Mechanism::Ecdsa, None, &[1; 64]).unwrap();
        self.is_as_protected_as_it_says();
    }

    fn is_as_protected_as_it_says(&mut self) {
        match self.status().memory.as_str() {
            "memfd_secret" => assert_eq!(self.keys(), 0),
            _ => assert!(self.keys() > 0, "the search finds what is there"),
        }
    }
}

/// Sealed, found to be tampered with, unsealed, zeroized: root looks at the memory each time.
fn look_in_each_state(command: Command, directory: &tempfile::TempDir) -> String {
    let mut node = Searched::start(command, directory);
    node.is_as_protected_as_it_says();
    node.owner.call(Op::Seal(Seal {})).unwrap();
    node.has_no_key(NodeState::Sealed);
    node.owner.call(Op::Unseal(Unseal::default())).unwrap();
    node.signs_again();

    let store = directory.path().join("state/store.redb");
    let sound = fs::read(&store).unwrap();
    let mut damaged = sound.clone();
    let half = damaged.len() / 2;
    damaged[4096..half].iter_mut().for_each(|byte| *byte ^= 0x40);
    fs::write(&store, damaged).unwrap();
    node.owner.call(Op::CheckStore(CheckStore {})).unwrap();
    node.has_no_key(NodeState::Tampered);
    fs::write(&store, sound).unwrap();
    node.owner.call(Op::ClearTampering(ClearTampering::default())).unwrap();
    node.signs_again();

    let status = node.status();
    node.owner.call(Op::Zeroize(Zeroize { store_path: status.store_path })).unwrap();
    node.has_no_key(NodeState::Zeroized);
    status.memory
}

#[test]
fn a_node_that_does_not_serve_has_no_key_in_memory() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    look_in_each_state(Process::command(directory.path()), &directory);
}

/// Where the system grants neither secret nor locked memory, root reads the keys of a node that serves: so the search is
/// seen to find them, and to find none when the node does not serve.
#[test]
fn nor_has_one_whose_memory_root_can_read() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let daemon = Process::command(directory.path());
    let mut command = Command::new("prlimit");
    command
        .args(["--memlock=0:0", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "--"])
        .arg(daemon.get_program())
        .args(daemon.get_args())
        .env_remove("CREDENTIALS_DIRECTORY")
        .stderr(Stdio::null());
    assert_eq!(look_in_each_state(command, &directory), "unlocked");
}
