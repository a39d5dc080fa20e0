//! Newer OpenSSL than Debian's, with the same build of the provider: what works with which is in docs/versions.md, which is written
//! by this test.
//!
//! tests/openssl-versions builds what it needs, which takes ten minutes once.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::{repository, system};
use strongroom_demo::server::{Server, Site, free_port};
use strongroom_demo::{apache, haproxy, nginx};
use strongroom_tests::{Bench, Keys, Place, newer, traffic};

const LIMIT: Duration = Duration::from_secs(60);

/// An OpenSSL.
struct Version {
    /// The openssl program.
    program: PathBuf,
    /// Its libraries, where they are not the system's.
    libraries: Option<PathBuf>,
    /// What it calls itself, such as 3.5.5.
    number: String,
    /// An nginx that is linked with it, where its libraries are not those that Debian's programs take.
    nginx: Option<PathBuf>,
}

/// A folder of tests/openssl-versions.
fn built(name: &str) -> PathBuf {
    newer::built(name).unwrap()
}

impl Version {
    fn new(folder: Option<PathBuf>, nginx: Option<PathBuf>) -> Self {
        let program =
            folder.as_ref().map_or_else(|| system("openssl").unwrap(), |folder| folder.join("bin/openssl"));
        let libraries = folder.map(|folder| folder.join("lib"));
        let mut version = Version { program, libraries, number: String::new(), nginx };
        let said = version.run(&Environment::plain(), &["version"]).unwrap();
        version.number = said.split(' ').nth(1).unwrap().to_owned();
        version
    }

    /// Whether Debian's programs, which are linked with 3.0, run with it.
    fn is_for_debian(&self) -> bool {
        self.nginx.is_none()
    }

    /// With its libraries before the system's.
    fn environment(&self, environment: &Environment) -> Environment {
        match &self.libraries {
            Some(folder) => environment.clone().with("LD_LIBRARY_PATH", folder),
            None => environment.clone(),
        }
    }

    fn command(&self, environment: &Environment, arguments: &[&str]) -> Command {
        let mut command = command::new(&self.program);
        self.environment(environment).apply(&mut command);
        command.args(arguments);
        command
    }

    fn run(&self, environment: &Environment, arguments: &[&str]) -> Result<String> {
        command::succeed(self.command(environment, arguments), LIMIT)
    }
}

/// A version, with a partition, and what is made for each key.
struct Trial<'a> {
    version: &'a Version,
    bench: &'a Bench,
    keys: &'a [Keys],
}

impl Trial<'_> {
    fn file(&self, name: &str) -> String {
        self.bench.file(&format!("{}-{name}", self.version.number))
    }

    fn each(&self, check: impl Fn(&Keys) -> Result<()>) -> Result<()> {
        self.keys.iter().try_for_each(|key| check(key).with_context(|| key.kind.title()))
    }

    fn run(&self, key: &Keys, arguments: &[&str]) -> Result<String> {
        self.version.run(&key.environment, arguments)
    }

    /// Signs, and verifies with the public key and without the provider.
    fn signs(&self, key: &Keys, uri: &str, sign: &[&str], verify: &[&str]) -> Result<()> {
        let (message, signature) = (self.file("message"), self.file("signature"));
        fs::write(&message, "a message")?;
        self.run(
            key,
            &[&["pkeyutl", "-sign", "-inkey", uri, "-in", &message, "-out", &signature], sign].concat(),
        )?;
        let public = text(&key.public);
        let check =
            ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-in", &message, "-sigfile", &signature];
        self.version.run(&Environment::plain(), &[&check[..], verify].concat())?;
        Ok(())
    }

    fn loads(&self) -> Result<()> {
        let listed = self.version.run(&self.bench.partition.environment(), &["list", "-providers"])?;
        let ours = listed.split("strongroom").nth(1).context("it is not listed")?;
        ensure!(ours.contains("status: active"), "{listed}");
        Ok(())
    }

    fn signs_with_every_key(&self) -> Result<()> {
        self.each(|key| match key.kind {
            KeyKind::Ed25519 => self.signs(key, &key.uri, &["-rawin"], &["-rawin"]),
            KeyKind::Rsa2048 => {
                let digest = ["-rawin", "-digest", "sha256"];
                self.signs(key, &key.uri, &digest, &digest)?;
                let pss = ["-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"];
                let pss = [&digest[..], &pss].concat();
                self.signs(key, &key.uri, &pss, &pss)
            }
            _ => {
                self.signs(key, &key.uri, &["-rawin", "-digest", "sha384"], &["-rawin", "-digest", "sha384"])
            }
        })
    }

    fn reads_reference_files(&self) -> Result<()> {
        self.each(|key| {
            let reference = text(&self.bench.partition.reference(key.kind.name())?);
            let public = self.run(key, &["pkey", "-in", &reference, "-pubout"])?;
            ensure!(public == fs::read_to_string(&key.public)?, "{public}");
            Ok(())
        })
    }

    /// Makes a pair in the token; reads the reference that was written, and writes it in DER and reads that.
    fn generates(&self) -> Result<()> {
        for algorithm in ["RSA", "EC", "ED25519"] {
            let name = format!("{algorithm}-{}", self.version.number);
            let (reference, public, der) =
                (self.file("made.pem"), self.file("made.pub"), self.file("made.der"));
            let run = |arguments: &[&str]| self.version.run(&self.bench.partition.environment(), arguments);
            let uri = format!("pkcs11_uri:pkcs11:token=tls;object={name}");
            let query = ["-propquery", "?provider=strongroom", "-algorithm", algorithm];
            run(&[&["genpkey", "-out", &reference, "-pkeyopt", &uri], &query[..]].concat())?;
            run(&["pkey", "-in", &reference, "-pubout", "-out", &public])?;
            let shown = run(&["pkey", "-in", &reference, "-text", "-noout"])?;
            let plain = self
                .version
                .run(&Environment::plain(), &["pkey", "-pubin", "-in", &public, "-text", "-noout"])?;
            ensure!(shown.contains(&format!("object={name};")) && shown.ends_with(&plain), "{shown}");
            run(&["pkey", "-in", &reference, "-outform", "DER", "-out", &der])?;
            let again = run(&["pkey", "-in", &der, "-pubout"])?;
            ensure!(again == fs::read_to_string(&public)?, "{again}");
        }
        Ok(())
    }

    fn lists(&self) -> Result<()> {
        let listed = self.version.run(
            &self.bench.partition.environment(),
            &["storeutl", "-keys", "pkcs11:token=tls;type=private"],
        )?;
        ensure!(listed.contains(&format!("Total found: {}", self.keys.len())), "{listed}");
        Ok(())
    }

    fn certifies(&self) -> Result<()> {
        self.each(|key| {
            let certificate = self.file("self-signed.pem");
            let request =
                ["req", "-x509", "-new", "-key", &key.uri, "-subj", "/CN=test", "-out", &certificate];
            self.run(key, &request)?;
            self.version.run(&Environment::plain(), &["verify", "-CAfile", &certificate, &certificate])?;
            Ok(())
        })
    }

    /// A handshake of Debian's client with each version of TLS.
    fn handshakes(&self, port: u16) -> Result<()> {
        for version in ["-tls1_2", "-tls1_3"] {
            let done = traffic::handshake(port, version, &self.bench.authority.certificate())?;
            ensure!(done.status.success(), "{version} {}", done.stderr);
        }
        Ok(())
    }

    fn serves(&self, more: &[&str]) -> Result<()> {
        self.each(|key| {
            let certificate = text(&key.certify(self.bench)?);
            let address = format!("127.0.0.1:{}", free_port()?);
            let arguments =
                ["s_server", "-quiet", "-www", "-accept", &address, "-key", &key.uri, "-cert", &certificate];
            let mut server = self.version.command(&key.environment, &[&arguments[..], more].concat());
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let _server = Process::spawn("openssl", server)?;
            wait_for("s_server", Duration::from_secs(10), || Ok(std::net::TcpStream::connect(&address)?))?;
            self.handshakes(address.split(':').nth(1).context("a port")?.parse()?)
        })
    }

    /// A handshake with a post-quantum certificate, with a key that openssl made in the partition: in the openssl command, and in
    /// nginx if one runs with this version. The client is this version's, without the provider.
    fn serves_ml_dsa(&self) -> Result<()> {
        let name = format!("ml-dsa-65-{}", self.version.number);
        let uri = format!("pkcs11:token=tls;object={name}");
        let environment = self.bench.partition.environment();
        let pair = format!("pkcs11_uri:{uri}");
        let generate =
            ["genpkey", "-propquery", "provider=strongroom", "-algorithm", "ML-DSA-65", "-pkeyopt", &pair];
        self.version.run(&environment, &generate)?;
        self.bench.partition.grant(&name, "tls-server")?;
        let uri = format!("{uri};type=private");
        let certificate = self.file("ml-dsa.pem");
        let request = ["req", "-x509", "-new", "-key", &uri, "-subj", "/CN=localhost", "-out", &certificate];
        self.version.run(&environment, &request)?;
        let handshake = |port: u16| {
            let address = format!("127.0.0.1:{port}");
            let client = [
                "s_client",
                "-connect",
                &address,
                "-tls1_3",
                "-CAfile",
                &certificate,
                "-verify_return_error",
            ];
            let said = self.version.run(&Environment::plain(), &client)?;
            ensure!(said.contains("Peer signature type: mldsa65"), "{said}");
            Ok(())
        };
        let port = free_port()?;
        let arguments = [
            "s_server",
            "-quiet",
            "-www",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-key",
            &uri,
            "-cert",
            &certificate,
        ];
        let mut server = self.version.command(&environment, &arguments);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Process::spawn("openssl", server)?;
        wait_for("s_server", Duration::from_secs(10), || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port))?)
        })?;
        handshake(port)?;
        drop(server);
        let program = self.nginx_1_28();
        let reference = text(&self.bench.partition.reference(&name)?);
        let folder = self.bench.run.folder(&format!("{}-ml-dsa", self.version.number))?;
        let site =
            Site::new(folder, Path::new(&certificate), &reference, &self.version.environment(&environment));
        let server = nginx::start_program(program, &site)?;
        handshake(server.port).with_context(|| server.errors())
    }

    fn nginx_1_28(&self) -> PathBuf {
        match &self.version.nginx {
            Some(program) => program.clone(),
            None => built("nginx-1.28").join("nginx"),
        }
    }

    /// A server with the first key, started, used, reloaded and used.
    fn server(&self, name: &str, reads_uris: bool, start: impl Fn(&Site) -> Result<Server>) -> Result<()> {
        let key = self.keys.first().context("a key")?;
        let named = match reads_uris {
            true => key.uri.clone(),
            false => text(&self.bench.partition.reference(key.kind.name())?),
        };
        let folder = self.bench.run.folder(&format!("{}-{name}", self.version.number))?;
        let environment = self.version.environment(&key.environment);
        let site = Site::new(folder, &key.certify(self.bench)?, &named, &environment).as_daemon();
        let server = start(&site)?;
        self.handshakes(server.port).with_context(|| server.errors())?;
        ensure!(
            server.processes()?.into_iter().all(|pid| self.is_loaded(pid).unwrap_or(true)),
            "{name} does not run with {}",
            self.version.number
        );
        Ok(())
    }

    /// Whether a process has this version's libcrypto, and no other.
    fn is_loaded(&self, pid: u32) -> Result<bool> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut files: Vec<_> = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
        files.retain(|file| file.contains("/libcrypto.so"));
        files.dedup();
        let wanted = match &self.version.libraries {
            Some(folder) => text(folder),
            None => "/usr/lib".to_owned(),
        };
        Ok(files.len() == 1 && files.iter().all(|file| file.starts_with(&wanted)))
    }
}

/// One row of the table: what is tried, and `None` where it is not there to be tried.
type Row = (&'static str, fn(&Trial) -> Option<Result<()>>);

const ROWS: &[Row] = &[
    ("`openssl list -providers` shows it active", |trial| Some(trial.loads())),
    ("`openssl pkeyutl -sign`: RSA (PKCS#1 v1.5, PSS), ECDSA (P-256, P-384), Ed25519", |trial| {
        Some(trial.signs_with_every_key())
    }),
    ("`openssl pkey` on reference files", |trial| Some(trial.reads_reference_files())),
    ("`openssl storeutl`", |trial| Some(trial.lists())),
    ("`openssl genpkey` in the token, `openssl pkey -text` and in DER", |trial| Some(trial.generates())),
    ("`openssl req -x509`", |trial| Some(trial.certifies())),
    ("`openssl s_server`, TLS 1.2 and 1.3, every key", |trial| Some(trial.serves(&[]))),
    ("`openssl s_server -async`", |trial| Some(trial.serves(&["-async"]))),
    ("nginx 1.22 (Debian)", |trial| {
        trial.version.is_for_debian().then(|| trial.server("nginx", false, nginx::start))
    }),
    ("nginx 1.28", |trial| {
        let program = trial.nginx_1_28();
        Some(trial.server("nginx-1.28", false, |site| nginx::start_program(program.clone(), site)))
    }),
    ("`openssl genpkey`, `s_server` and nginx 1.28 with ML-DSA-65: a post-quantum certificate", |trial| {
        // 3.0 has no ML-DSA.
        (trial.version.libraries.is_some()).then(|| trial.serves_ml_dsa())
    }),
    ("Apache 2.4 (Debian)", |trial| {
        trial.version.is_for_debian().then(|| trial.server("apache", true, apache::start))
    }),
    ("HAProxy 2.6 (Debian), `ssl-mode-async`", |trial| {
        trial.version.is_for_debian().then(|| trial.server("haproxy", false, haproxy::start))
    }),
];

/// With `STRONGROOM_WRITE=1` the table is written, otherwise it must be as it is.
#[test]
#[ignore = "builds OpenSSL 3.5 and 4.0 once, which takes ten minutes, and then runs for a minute"]
fn one_build_works_with_every_version() {
    let versions = [
        Version::new(None, None),
        Version::new(Some(built("openssl-3.5")), None),
        Version::new(Some(built("openssl-4.0")), Some(built("nginx-1.28-openssl-4.0").join("nginx"))),
    ];
    let bench = Bench::new().unwrap();
    let keys = bench.keys(Place::Partition, &KeyKind::TYPES).unwrap();
    let mut table = String::from("| |");
    for version in &versions {
        write!(table, " OpenSSL {} |", version.number).unwrap();
    }
    table.push_str("\n|---|---|---|---|\n");
    let mut failures = Vec::new();
    for (name, check) in ROWS {
        write!(table, "| {name} |").unwrap();
        for version in &versions {
            let trial = Trial { version, bench: &bench, keys: &keys };
            let cell = match check(&trial) {
                None => "–",
                Some(Ok(())) => "works",
                Some(Err(error)) => {
                    failures.push(format!("{name} with {}: {error:#}", version.number));
                    "FAILS"
                }
            };
            eprintln!("{name} {} {cell}", version.number);
            write!(table, " {cell} |").unwrap();
        }
        table.push('\n');
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let file = repository("docs/versions.md");
    let document = fs::read_to_string(&file).unwrap();
    let (before, after) = document.split_once("| |").unwrap();
    let after = after.split_once("\n\n").map_or("", |(_, after)| after);
    let updated = format!("{before}{table}\n{after}");
    if std::env::var_os("STRONGROOM_WRITE").is_some() {
        fs::write(file, updated).unwrap();
    } else {
        // Debian's patch releases change nothing.
        let rows =
            |text: &str| text.lines().filter(|line| !line.starts_with("| |")).collect::<Vec<_>>().join("\n");
        assert_eq!(rows(&document), rows(&updated), "STRONGROOM_WRITE=1 writes it");
    }
}
