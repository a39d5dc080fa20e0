//! PINs: where they come from, and that a wrong one is tried once.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::{Environment, openssl_configuration};
use strongroom_demo::pki::{Authority, KeyKind, openssl, text};
use strongroom_demo::programs::{Programs, system};
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::server::Site;
use strongroom_demo::softhsm::{PIN, SoftHsm};
use strongroom_demo::{apache, nginx};
use strongroom_tests::{Bench, reference, traffic};

const SOON: Duration = Duration::from_secs(25);

/// The PIN of the second token.
const SECOND_PIN: &str = "567890";

/// A SoftHSM2 token `one` with a P-256 key, and nothing that says its PIN.
struct Fixture {
    programs: Programs,
    run: RunFolder,
    token: SoftHsm,
    uri: String,
}

impl Fixture {
    fn new() -> Self {
        let programs = Programs::find().unwrap();
        let run = RunFolder::new().unwrap();
        let token = SoftHsm::create(&run.folder("softhsm").unwrap(), "one").unwrap();
        token.generate(KeyKind::P256, "web", 1).unwrap();
        let uri = token.uri("web");
        Fixture { programs, run, token, uri }
    }

    /// A second token, with another PIN, and a key.
    fn second(&self) -> String {
        let run = |program: &str, arguments: &[&str]| {
            let mut command = command::new(system(program).unwrap());
            self.token.plain_environment().apply(&mut command);
            command.args(arguments);
            command::succeed(command, SOON).unwrap();
        };
        let label = ["--label", "two"];
        let init = ["--init-token", "--free", "--so-pin", "0000", "--pin", SECOND_PIN];
        run("softhsm2-util", &[&init[..], &label].concat());
        let module = text(self.token.module());
        let login = ["--module", &module, "--token-label", "two", "--login", "--pin", SECOND_PIN];
        let generate = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "mail"];
        run("pkcs11-tool", &[&login[..], &generate].concat());
        "pkcs11:token=two;object=mail;type=private".into()
    }

    /// OpenSSL with these lines in the provider's section.
    fn environment(&self, lines: &str) -> Environment {
        let file = self.run.path().join("pin.cnf");
        openssl_configuration(&self.programs, self.token.module(), None, &file).unwrap();
        let configuration = fs::read_to_string(&file).unwrap();
        let section = "[strongroom_sect]\n";
        assert!(configuration.contains(section));
        fs::write(&file, configuration.replace(section, &format!("{section}{lines}\n"))).unwrap();
        self.token.plain_environment().with("OPENSSL_CONF", file)
    }

    /// A file of the test's.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.run.path().join(name);
        fs::write(&path, content).unwrap();
        text(&path)
    }

    /// A program that prints the PIN, and counts how often it does.
    fn program(&self) -> String {
        let runs = text(&self.run.path().join("runs"));
        let path = self.file("print-pin", &format!("#!/bin/sh\necho run >>{runs}\necho {PIN}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Signs, which takes a log-in.
    fn signs(&self, environment: &Environment, options: &str, uri: &str) -> Finished {
        let message = self.file("message", "a message");
        let arguments = format!("dgst -sha256 {options} -sign {{}} -out /dev/null {{}}");
        let mut command = openssl(environment, &arguments, &[uri, &message]).unwrap();
        command.stdin(Stdio::null());
        command::run(command, SOON).unwrap()
    }

    fn certificate(&self) -> (Authority, std::path::PathBuf) {
        let authority = Authority::in_file(self.run.path()).unwrap();
        let environment = self.token.environment(&self.programs).unwrap();
        let certificate = authority.certify(&environment, &self.uri, "web").unwrap();
        (authority, certificate)
    }
}

#[test]
fn every_source_gives_the_pin() {
    let fixture = Fixture::new();
    let program = fixture.program();
    let file = fixture.file("pin", &format!("{PIN}\n"));
    let credentials = fixture.run.folder("credentials").unwrap();
    let write = |name: &str, pin: &str| fs::write(credentials.join(name), pin).unwrap();
    write("mine", PIN);
    let plain = fixture.environment("");
    let with_credentials = plain.clone().with("CREDENTIALS_DIRECTORY", &credentials);
    let allowed = format!("strongroom-pin-programs = /bin/false {program}");
    let works = |environment: &Environment, options: &str, query: &str| {
        let done = fixture.signs(environment, options, &format!("{}{query}", fixture.uri));
        assert!(done.status.success(), "{query}: {}", done.stderr);
    };

    works(&plain, "", &format!("?pin-value={PIN}"));
    works(&plain, "", &format!("?pin-source={file}"));
    works(&plain, "", &format!("?pin-source=file:{file}"));
    works(&plain, "", &format!(";pin-value={PIN}"));
    works(&with_credentials, "", "?pin-source=credential:mine");
    works(&plain, &format!("-passin pass:{PIN}"), "");
    works(&plain, &format!("-passin file:{file}"), "");
    works(&fixture.environment(&allowed), "", &format!("?pin-source=exec:{program}"));
    works(&fixture.environment(&allowed), "", &format!("?pin-source=%7C{program}"));
    works(&fixture.environment(&format!("pkcs11-module-token-pin = {PIN}")), "", "");
    works(&fixture.environment(&format!("pkcs11-module-token-pin = file:{file}")), "", "");
    works(&fixture.environment(&format!("pkcs11-module-token-pin = exec:{program}")), "", "");
    let named = fixture.environment("pkcs11-module-token-pin = credential:mine");
    works(&named.with("CREDENTIALS_DIRECTORY", &credentials), "", "");

    // The token's own credential comes before the one for all.
    let with_credentials = fixture.environment("").with("CREDENTIALS_DIRECTORY", &credentials);
    write("strongroom-pin", PIN);
    works(&with_credentials, "", "");
    write("strongroom-pin", "4321");
    write("strongroom-pin.one", PIN);
    works(&with_credentials, "", "");
}

#[test]
fn what_gives_no_pin_is_named_and_not_run() {
    let fixture = Fixture::new();
    let program = fixture.program();
    for (lines, query, says) in [
        ("", "?pin-source=/nowhere/pin".to_owned(), "/nowhere/pin"),
        ("", "?pin-source=credential:mine".into(), "LoadCredential"),
        ("", format!("?pin-source=exec:{program}"), "strongroom-pin-programs"),
        (
            "strongroom-pin-programs = /bin/true",
            format!("?pin-source=%7C{program}"),
            "strongroom-pin-programs",
        ),
        ("pkcs11-module-token-pin = exec:/bin/false", String::new(), "/bin/false"),
        ("", String::new(), "wants a PIN"),
    ] {
        let done = fixture.signs(&fixture.environment(lines), "", &format!("{}{query}", fixture.uri));
        assert!(!done.status.success() && done.stderr.contains(says), "{lines} {query}: {}", done.stderr);
    }
    assert!(!fixture.run.path().join("runs").exists(), "a program was run that openssl.cnf does not name");
}

/// Two tokens with different PINs in one process.
#[test]
fn each_token_has_its_own_pin() {
    let fixture = Fixture::new();
    let mail = fixture.second();
    let credentials = fixture.run.folder("credentials").unwrap();
    fs::write(credentials.join("strongroom-pin.one"), PIN).unwrap();
    fs::write(credentials.join("strongroom-pin.two"), SECOND_PIN).unwrap();
    let environment = fixture.environment("").with("CREDENTIALS_DIRECTORY", &credentials);
    let authority = Authority::in_file(fixture.run.path()).unwrap();
    let message = fixture.file("message", "a message");
    let web = text(&authority.certify(&environment, &fixture.uri, "web").unwrap());
    let other = text(&authority.certify(&environment, &mail, "mail").unwrap());
    let plain = fixture.environment("");
    let in_uri = |uri: &str, pin: &str| format!("{uri}?pin-value={pin}");
    for (environment, one, two) in [
        (&environment, fixture.uri.clone(), mail.clone()),
        (&plain, in_uri(&fixture.uri, PIN), in_uri(&mail, SECOND_PIN)),
    ] {
        let sign =
            "cms -sign -binary -outform PEM -signer {} -inkey {} -signer {} -inkey {} -in {} -out /dev/null";
        let command = openssl(environment, sign, &[&web, &one, &other, &two, &message]).unwrap();
        let done = command::run(command, SOON).unwrap();
        assert!(done.status.success(), "{}", done.stderr);
    }
    // A PIN that may be meant for the other is tried with neither.
    let environment = fixture.environment(&format!("pkcs11-module-token-pin = {PIN}"));
    let done = fixture.signs(&environment, "", "pkcs11:type=private");
    assert!(!done.status.success() && done.stderr.contains("add token="), "{}", done.stderr);
}

#[test]
fn servers_give_the_pin_in_their_own_way() {
    let fixture = Fixture::new();
    let (authority, certificate) = fixture.certificate();
    let environment = fixture.environment("");
    let pin = fixture.file("pin", &format!("{PIN}\n"));
    let reference = reference::write(&fixture.uri, &fixture.run.path().join("web.ref.pem")).unwrap();
    let folder = |name| fixture.run.folder(name).unwrap();
    let nginx_site = Site::new(folder("nginx"), &certificate, &text(&reference), &environment)
        .with_directives(&format!("ssl_password_file {pin};"));
    let apache_site = Site::new(folder("apache"), &certificate, &fixture.uri, &environment)
        .with_directives(&format!("SSLPassPhraseDialog exec:{}\n", fixture.program()));
    for server in [nginx::start(&nginx_site).unwrap(), apache::start(&apache_site).unwrap()] {
        // More than the workers that nginx has: each logs in for itself.
        let ca = authority.certificate();
        let report = traffic::handshakes(&fixture.programs, &server, &ca, 40, &[]).unwrap();
        assert_eq!((report.handshakes, report.errors.len()), (40, 0), "{:?}", report.error_messages);
    }
}

/// Keys that nginx's workers load themselves, at a handshake, because the name has a variable. They may read neither the PIN's file
/// nor the environment: what the provider read at the start serves. If it is wrong, one of them tries it.
#[test]
fn workers_load_keys_with_the_pin_of_the_start() {
    let fixture = Fixture::new();
    let (authority, certificate) = fixture.certificate();
    let reference = text(&reference::write(&fixture.uri, &fixture.run.path().join("web.ref.pem")).unwrap());
    let map = format!("map $ssl_server_name $strongroom_key {{ default {reference}; }}");
    for (pin, handshakes, logins) in [(PIN, 40, None), ("4321", 0, Some(1))] {
        let folder = fixture.run.folder(&format!("nginx-{pin}")).unwrap();
        let (pin, log) = (fixture.file("pin", pin), folder.join("debug.log"));
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        let environment = fixture
            .environment(&format!("pkcs11-module-token-pin = file:{pin}"))
            .with("PKCS11_PROVIDER_DEBUG", format!("file:{},level:1", log.display()));
        let site = Site::new(folder, &certificate, "$strongroom_key", &environment)
            .with_directives(&map)
            .with_workers(Some(8));
        let server = nginx::start(&site).unwrap();
        let ca = authority.certificate();
        let report = traffic::handshakes(&fixture.programs, &server, &ca, 40, &[]).unwrap();
        assert_eq!(report.handshakes, handshakes, "{}", server.errors());
        let log = fs::read_to_string(log).unwrap();
        let tried = log.lines().filter(|line| line.contains(" C_Login ")).count();
        assert!(logins.is_none_or(|logins| logins == tried) && tried > 0, "{tried} log-ins: {log}");
    }
}

/// Twice as many workers as the partition bears wrong passwords. Their password changes while they run: one of them finds
/// out for all, the user is not locked, and a reload with the new one mends it.
#[test]
fn many_workers_try_a_wrong_pin_once() {
    let bench = Bench::new().unwrap();
    let locked = bench.locked().unwrap();
    let uri = locked.generate(KeyKind::P256, "web").unwrap();
    let pin = bench.file("pin");
    fs::write(&pin, &locked.pin).unwrap();
    let environment = locked.environment(&format!("file:{pin}"), "locked.cnf").unwrap();
    let certificate = bench.authority.certify(&environment, &uri, "web").unwrap();
    let reference = text(&reference::write(&uri, &bench.run.path().join("web.ref.pem")).unwrap());
    let folder = bench.run.folder("nginx").unwrap();
    let site = Site::new(folder, &certificate, &reference, &environment).with_workers(Some(20));
    let server = nginx::start(&site).unwrap();
    let ca = bench.authority.certificate();
    let load = |count| traffic::handshakes(&bench.programs, &server, &ca, count, &[]).unwrap();

    let password = bench.file("locked-user.password");
    let new_password = bench.file("new.password");
    fs::write(&new_password, "another-password-of-the-user").unwrap();
    let login = ["--partition", "locked", "--login", "user", "--password-file"];
    let change = |from: &str, to: &str| {
        let change = ["user", "password", "user", "--new-password-file", to];
        bench.partition.daemon.manage(&[&login[..], &[from], &change].concat()).unwrap();
    };
    change(&password, &new_password);

    // Until no worker is left that was there before.
    let reload = || {
        let (master, old) = (server.process.id(), server.processes().unwrap());
        server.tell(&["-s", "reload"]).unwrap();
        strongroom_demo::process::wait_for("the new workers", SOON, || {
            let now = server.processes()?;
            let left = now.iter().filter(|process| **process != master && old.contains(process)).count();
            anyhow::ensure!(left == 0 && now.len() > 1, "{left} of the old ones are left");
            Ok(())
        })
        .unwrap();
    };

    // No worker has logged in yet.
    let report = load(100);
    assert_eq!(report.handshakes, 0, "{report:?}");
    let errors = server.errors();
    for word in ["CKR_PIN_INCORRECT", "reload the server"] {
        assert!(errors.contains(word), "{word} is missing in {errors}");
    }
    // To the token went one.
    assert_eq!(errors.matches("CKR_PIN_INCORRECT;").count(), 1, "{errors}");
    // Ten would have locked it. It is the same count for a right password.
    let list = ["key", "list"];
    bench.partition.daemon.manage(&[&login[..], &[&new_password], &list].concat()).unwrap();

    fs::write(&pin, "user:another-password-of-the-user").unwrap();
    reload();
    let report = load(100);
    assert_eq!((report.handshakes, report.errors.len()), (100, 0), "{:?}", report.error_messages);

    // Changed on both sides and then reloaded, it fails nobody but the old workers' last connections.
    let third_password = bench.file("third.password");
    fs::write(&third_password, "a-third-password-of-the-user").unwrap();
    change(&new_password, &third_password);
    fs::write(&pin, "user:a-third-password-of-the-user").unwrap();
    reload();
    let report = load(200);
    assert_eq!((report.handshakes, report.errors.len()), (200, 0), "{:?}", report.error_messages);
}

/// On a terminal there is one prompt for one key, also when the answer is wrong; where there is no terminal, none.
#[test]
fn there_is_one_prompt() {
    let fixture = Fixture::new();
    let environment = fixture.environment("");
    let reference = text(&reference::write(&fixture.uri, &fixture.run.path().join("web.ref.pem")).unwrap());
    for key in [&fixture.uri, &reference] {
        for (answer, succeeds) in [(PIN, true), ("4321", false)] {
            // `script` makes the terminal.
            let mut script = Command::new(system("script").unwrap());
            environment.apply(&mut script);
            let openssl = format!("openssl pkey -in '{key}' -pubout -out /dev/null");
            script.args(["--quiet", "--return", "--command", &openssl, "/dev/null"]);
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut script = script.spawn().unwrap();
            let mut terminal = script.stdin.take().unwrap();
            // One answer, and then the end of the input: a second prompt would get none.
            writeln!(terminal, "{answer}").unwrap();
            let done = script.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert_eq!(done.status.success(), succeeds, "{said}");
            assert_eq!(said.matches("Enter ").count(), 1, "{said}");
            assert!(succeeds || said.contains("CKR_PIN_INCORRECT"), "{said}");
        }
        let mut setsid = command::new(system("setsid").unwrap());
        environment.apply(&mut setsid);
        setsid.args(["--wait", "openssl", "pkey", "-in", key, "-pubout"]).stdin(Stdio::null());
        let done = command::run(setsid, SOON).unwrap();
        assert!(!done.status.success() && done.stderr.contains("wants a PIN"), "{}", done.stderr);
    }
    assert!(Path::new(&reference).exists());
}
