//! What users of pkcs11-provider have goes on working when only `module =` changes: its settings, its environment variables, its
//! reference files, and p11-kit where no module is named.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{KeyKind, key_file, openssl, text};
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::softhsm::{PIN, SoftHsm};
use strongroom_tests::reference;

const SOON: Duration = Duration::from_secs(25);

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
        let token = SoftHsm::create(&run.folder("softhsm").unwrap(), "tls").unwrap();
        token.generate(KeyKind::P256, "web", 1).unwrap();
        let uri = token.uri("web");
        Fixture { programs, run, token, uri }
    }

    /// A configuration as pkcs11-provider's manual has it, with our library for `module` and these lines in its section.
    fn environment_of(&self, module: &Path, lines: &[&str]) -> Environment {
        let file = self.run.path().join("pkcs11-provider.cnf");
        let text = format!(
            "HOME = .\nopenssl_conf = openssl_init\n\n[openssl_init]\nproviders = provider_sect\n\n\
             [provider_sect]\ndefault = default_sect\npkcs11 = pkcs11_sect\n\n[default_sect]\nactivate = 1\n\n\
             [pkcs11_sect]\nmodule = {}\n{}\nactivate = 1\n",
            module.display(),
            lines.join("\n")
        );
        fs::write(&file, text).unwrap();
        self.token.plain_environment().with("OPENSSL_CONF", file)
    }

    /// With the module, the PIN, and these lines.
    fn environment(&self, lines: &[&str]) -> Environment {
        let module = format!("pkcs11-module-path = {}", self.token.module().display());
        let pin = format!("pkcs11-module-token-pin = {PIN}");
        self.environment_of(&self.programs.provider(), &[&[module.as_str(), &pin], lines].concat())
    }

    fn openssl(&self, environment: &Environment, arguments: &str, values: &[&str]) -> Finished {
        command::run(openssl(environment, arguments, values).unwrap(), SOON).unwrap()
    }

    fn signs(&self, environment: &Environment, key: &str) -> Result<(), String> {
        let message = self.run.path().join("message");
        fs::write(&message, "a message").unwrap();
        let sign = "dgst -sha256 -sign {} -out /dev/null {}";
        let done = self.openssl(environment, sign, &[key, &text(&message)]);
        if done.status.success() { Ok(()) } else { Err(done.stderr) }
    }

    fn printed(&self, environment: &Environment, arguments: &str, values: &[&str]) -> String {
        let done = self.openssl(environment, arguments, values);
        assert!(done.status.success(), "{}", done.stderr);
        String::from_utf8(done.stdout).unwrap()
    }
}

#[test]
fn a_whole_section_works_unchanged() {
    let fixture = Fixture::new();
    let pin = fixture.run.path().join("pin.txt");
    fs::write(&pin, format!("{PIN}\n")).unwrap();
    let log = fixture.run.path().join("debug.log");
    let environment = fixture
        .environment_of(
            &fixture.programs.provider(),
            &[
                &format!("pkcs11-module-path = {}", fixture.token.module().display()),
                &format!("pkcs11-module-token-pin = file:{}", pin.display()),
                "pkcs11-module-init-args =",
                "pkcs11-module-allow-export = 0",
                "pkcs11-module-cache-keys = true",
                "pkcs11-module-cache-pins = cache",
                "pkcs11-module-cache-sessions = 5",
                "pkcs11-module-login-behavior = auto",
                "pkcs11-module-load-behavior = early",
                "pkcs11-module-quirks = no-deinit no-operation-state no-session-callbacks no-allowed-mechanisms",
                "pkcs11-module-block-operations = digest",
                "pkcs11-module-encode-provider-uri-to-pem = true",
                "pkcs11-module-assume-fips = false",
            ],
        )
        .with("PKCS11_PROVIDER_DEBUG", format!("file:{},level:1", log.display()));
    assert_eq!(fixture.signs(&environment, &fixture.uri), Ok(()));
    let reference = reference::write(&fixture.uri, &fixture.run.path().join("web.pem")).unwrap();
    assert_eq!(fixture.signs(&environment, &text(&reference)), Ok(()));
    assert!(fs::read_to_string(log).unwrap().contains("C_Login"));
}

#[test]
fn the_environment_names_the_module_before_the_section() {
    let fixture = Fixture::new();
    let pin = format!("pkcs11-module-token-pin = {PIN}");
    let lines = ["pkcs11-module-path = /nowhere/module.so", &pin];
    let environment = fixture.environment_of(&fixture.programs.provider(), &lines);
    assert!(fixture.signs(&environment, &fixture.uri).unwrap_err().contains("/nowhere/module.so"));
    let environment = environment.with("PKCS11_PROVIDER_MODULE", fixture.token.module());
    assert_eq!(fixture.signs(&environment, &fixture.uri), Ok(()));
}

/// Without our own module beside the provider: p11-kit's, which knows SoftHSM2 in Debian.
#[test]
fn without_a_module_there_is_p11_kit() {
    let fixture = Fixture::new();
    let alone = fixture.run.folder("alone").unwrap().join("strongroom.so");
    fs::copy(fixture.programs.provider(), &alone).unwrap();
    let pin = format!("pkcs11-module-token-pin = {PIN}");
    // cargo has our module where the dynamic linker looks.
    let environment = fixture.environment_of(&alone, &[&pin]).with("LD_LIBRARY_PATH", "");
    assert_eq!(fixture.signs(&environment, &fixture.uri), Ok(()));
    assert!(fixture.signs(&environment, &format!("{}?module-name=softhsm2", fixture.uri)).is_err());
    assert_eq!(fixture.signs(&environment, &format!("{}?module-name=p11-kit-proxy", fixture.uri)), Ok(()));
}

/// A value that cannot be honoured stops what needs the token, and nothing else.
#[test]
fn a_bad_value_is_named_where_a_key_is_used() {
    let fixture = Fixture::new();
    let file = fixture.run.path().join("file.key");
    key_file(KeyKind::P256, &file).unwrap();
    for line in [
        "pkcs11-module-login-behavior = sometimes",
        "pkcs11-module-quirks = no-deinit be-quick",
        "pkcs11-module-cache-sessions = many",
        "pkcs11-module-block-operations = signing",
    ] {
        let environment = fixture.environment(&[line]);
        let said = fixture.signs(&environment, &fixture.uri).unwrap_err();
        let name = line.split(' ').next().unwrap();
        assert!(said.contains(name), "{line}: {said}");
        assert_eq!(fixture.signs(&environment, &text(&file)), Ok(()), "{line}");
    }
}

#[test]
fn what_is_blocked_is_left_to_others() {
    let fixture = Fixture::new();
    let blocked = |operation: &str| {
        let line = format!("pkcs11-module-block-operations = kdf {operation}");
        fixture.signs(&fixture.environment(&[&line]), &fixture.uri)
    };
    assert_eq!(blocked("digest"), Ok(()));
    assert!(blocked("signature").is_err());
    assert!(blocked("store").is_err());
}

/// `fips=yes` is what programs in FIPS mode ask of every algorithm.
#[test]
fn assume_fips_gives_the_property() {
    let fixture = Fixture::new();
    for (line, has) in
        [("pkcs11-module-assume-fips = true", true), ("pkcs11-module-assume-fips = false", false)]
    {
        let environment = fixture.environment(&[line]);
        let listed = fixture.printed(&environment, "list -signature-algorithms -propquery fips=yes", &[]);
        assert_eq!(listed.contains("@ pkcs11"), has, "{line}: {listed}");
    }
}

/// Who asks for pkcs11-provider by its property gets us, as long as openssl.cnf calls us so.
#[test]
fn the_name_in_the_configuration_is_the_property() {
    let fixture = Fixture::new();
    let environment = fixture.environment(&[]);
    let listed = |query: &str| {
        fixture.printed(&environment, &format!("list -signature-algorithms -propquery {query}"), &[])
    };
    assert!(listed("provider=pkcs11").contains("@ pkcs11"));
    assert!(!listed("provider=strongroom").contains("@ pkcs11"));
    let (new, key) = ("pkcs11:token=tls;object=new", "genpkey -propquery provider=pkcs11 -algorithm EC");
    let options = "-pkeyopt ec_paramgen_curve:P-256 -pkeyopt";
    fixture.printed(&environment, &format!("{key} {options} pkcs11_uri:{new}"), &[]);
    assert_eq!(fixture.signs(&environment, &format!("{new};type=private")), Ok(()));
}

/// A public key that the token shows only after a log-in: it has no object of its own, but is that of the private key.
#[test]
fn login_behavior_is_for_what_is_shown_without() {
    let fixture = Fixture::new();
    let environment = fixture.environment(&[]);
    let (pem, der) = (fixture.run.path().join("web.crt"), fixture.run.path().join("web.der"));
    let req = "req -x509 -new -key {} -subj /CN=web -config /etc/ssl/openssl.cnf -out {}";
    fixture.printed(&environment, req, &[&fixture.uri, &text(&pem)]);
    fixture.printed(&Environment::plain(), "x509 -in {} -outform DER -out {}", &[&text(&pem), &text(&der)]);
    fixture.token.store_certificate(&der, "web", 1).unwrap();
    fixture.token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", "01"]).unwrap();
    for (behavior, finds) in [("auto", true), ("always", true), ("never", false)] {
        let environment = fixture.environment(&[&format!("pkcs11-module-login-behavior = {behavior}")]);
        let done = fixture.openssl(&environment, "pkey -pubin -noout -in {}", &["pkcs11:object=web"]);
        assert_eq!(done.status.success(), finds, "{behavior}: {}", done.stderr);
        let done = fixture.openssl(&environment, "x509 -noout -in {}", &["pkcs11:object=web;type=cert"]);
        assert!(done.status.success(), "{behavior}: {}", done.stderr);
        // For private keys there is always a log-in.
        assert_eq!(fixture.signs(&environment, &fixture.uri), Ok(()), "{behavior}");
    }
}

/// With `early` a module that cannot be initialised is missed when OpenSSL starts.
#[test]
fn early_means_at_the_start() {
    let fixture = Fixture::new();
    let lines = ["pkcs11-module-path = /nowhere/module.so", "pkcs11-module-load-behavior = early"];
    let environment = fixture.environment_of(&fixture.programs.provider(), &lines);
    let done = fixture.openssl(&environment, "list -providers", &[]);
    assert!(!String::from_utf8_lossy(&done.stdout).contains("Strongroom"), "{:?}", done.stdout);
    let environment = fixture.environment_of(&fixture.programs.provider(), &lines[..1]);
    assert!(fixture.printed(&environment, "list -providers", &[]).contains("Strongroom"));
}
