//! What is found by which URI and search, in SoftHSM2, with openssl storeutl and Apache as the programs. The values that a URI is
//! made of are read with pkcs11-tool, which somebody else wrote.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{Authority, KeyKind, key_file, openssl, run_openssl, text};
use strongroom_demo::programs::{Programs, system};
use strongroom_demo::run_folder::RunFolder;
use strongroom_demo::server::Site;
use strongroom_demo::softhsm::SoftHsm;
use strongroom_demo::{apache, nginx};
use strongroom_tests::{Bench, Place, reference, traffic};

const SOON: Duration = Duration::from_secs(25);

/// A SoftHSM2 token with two P-256 keys, `web` and `mail`, each with its certificate.
struct Fixture {
    run: RunFolder,
    token: SoftHsm,
    environment: Environment,
    authority: Authority,
}

impl Fixture {
    fn new() -> Self {
        let programs = Programs::find().unwrap();
        let run = RunFolder::new().unwrap();
        let token = SoftHsm::create(&run.folder("softhsm").unwrap(), "tls").unwrap();
        let environment = token.environment(&programs).unwrap();
        let authority = Authority::in_file(run.path()).unwrap();
        let fixture = Fixture { run, token, environment, authority };
        for (name, id) in [("web", 1), ("mail", 2)] {
            fixture.token.generate(KeyKind::P256, name, id).unwrap();
            let certificate = fixture.authority.certify(&fixture.environment, &fixture.token.uri(name), name);
            let der = fixture.run.path().join(format!("{name}.der"));
            fixture.plain("x509 -in {} -outform DER -out {}", &[&text(&certificate.unwrap()), &text(&der)]);
            fixture.token.store_certificate(&der, name, id).unwrap();
        }
        fixture
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.run.path().join(format!("{name}.crt"))
    }

    fn plain(&self, arguments: &str, values: &[&str]) -> String {
        run_openssl(&Environment::plain(), arguments, values).unwrap()
    }

    fn openssl(&self, arguments: &str, values: &[&str]) -> Finished {
        command::run(openssl(&self.environment, arguments, values).unwrap(), SOON).unwrap()
    }

    /// What openssl prints, whether or not it succeeds.
    fn printed(&self, arguments: &str, values: &[&str]) -> String {
        String::from_utf8(self.openssl(arguments, values).stdout).unwrap()
    }

    /// How many objects storeutl finds, or what it says.
    fn found(&self, options: &str, uri: &str) -> Result<u32, String> {
        let done = self.openssl(&format!("storeutl -noout {options} {{}}"), &[uri]);
        let printed = String::from_utf8(done.stdout).unwrap();
        match printed.lines().find_map(|line| line.strip_prefix("Total found: ")) {
            // It ends well when it found nothing, too.
            Some(count) if done.status.success() && count != "0" => Ok(count.parse().unwrap()),
            _ => Err(done.stderr),
        }
    }
}

#[test]
fn a_partial_uri_lists_what_is_there() {
    let fixture = Fixture::new();
    for (options, uri, count) in [
        ("", "pkcs11:", 6),
        ("", "pkcs11:token=tls", 6),
        ("-certs", "pkcs11:", 2),
        ("-keys", "pkcs11:token=tls", 2),
        ("", "pkcs11:type=cert", 2),
        ("", "pkcs11:type=public", 2),
        ("", "pkcs11:token=tls;type=private", 2),
        ("", "pkcs11:object=web", 3),
        ("", "pkcs11:id=%02", 3),
        ("", "pkcs11:object=web;id=%01;type=cert", 1),
    ] {
        assert_eq!(fixture.found(options, uri), Ok(count), "{options} {uri}");
    }
    for uri in ["pkcs11:object=web;id=%02", "pkcs11:object=Web", "pkcs11:token=tls;type=data", "pkcs11:x-a=1"]
    {
        let said = fixture.found("", uri).unwrap_err();
        assert!(said.contains("strongroom") || said.contains("pkcs11"), "{uri}: {said}");
    }
}

/// Each attribute with the value that pkcs11-tool shows finds the key, and with another value does not.
#[test]
fn every_attribute_of_the_rfc_is_matched() {
    let fixture = Fixture::new();
    let tool = |option: &str| {
        let mut tool = command::new(system("pkcs11-tool").unwrap());
        fixture.token.plain_environment().apply(&mut tool);
        tool.arg("--module").arg(fixture.token.module()).arg(option);
        command::succeed(tool, SOON).unwrap()
    };
    let (listed, info) = (tool("--list-token-slots"), tool("--show-info"));
    let value = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect(name);
        value.trim_start_matches([' ', ':']).trim_end().to_owned()
    };
    let slot = listed.lines().find(|line| line.starts_with("Slot 0")).unwrap();
    let (id, description) = slot.split_once("): ").unwrap();
    let id = u64::from_str_radix(id.rsplit_once("(0x").unwrap().1, 16).unwrap();
    let library = value(&info, "Library");
    let (library, version) = library.split_once(" (ver ").unwrap();
    let (version, _) = version.split_once(')').unwrap();
    let mut attributes = vec![
        ("token", "tls".to_owned()),
        ("serial", value(&listed, "serial num")),
        ("manufacturer", value(&listed, "token manufacturer")),
        ("model", value(&listed, "token model")),
        ("slot-id", id.to_string()),
        ("slot-description", description.to_owned()),
        ("library-manufacturer", value(&info, "Manufacturer")),
        ("library-description", library.to_owned()),
        ("library-version", version.to_owned()),
        ("type", "private".into()),
        ("id", "%01".into()),
    ];
    // pkcs11-tool does not show it; SoftHSM2's source does.
    attributes.push(("slot-manufacturer", "SoftHSM project".into()));
    let mut all = "pkcs11:object=web;type=private".to_owned();
    for (name, value) in &attributes {
        let encoded = value.replace(' ', "%20");
        let other = match *name {
            "type" => "cert".into(),
            "id" => "%03".into(),
            "slot-id" => format!("{}", id + 1),
            "library-version" => "99.9".into(),
            _ => format!("{encoded}x"),
        };
        let uri = format!("pkcs11:object=web;{name}={encoded}");
        assert_eq!(fixture.found("-keys", &uri), Ok(1), "{uri}");
        let uri = format!("pkcs11:object=web;{name}={other}");
        assert!(fixture.found("-keys", &uri).is_err(), "{uri}");
        if *name != "type" {
            all.push_str(&format!(";{name}={encoded}"));
        }
    }
    assert_eq!(fixture.found("-keys", &all), Ok(1), "{all}");
}

/// A URI loads no module: what it says of one must fit the one of openssl.cnf.
#[test]
fn a_uri_that_asks_for_another_module_is_refused() {
    let fixture = Fixture::new();
    let module = fixture.token.module();
    let folder = module.parent().unwrap().display();
    for query in [
        format!("module-path={}", module.display()),
        format!("module-path={folder}&module-name=softhsm2"),
        "module-name=libsofthsm2".into(),
        "unknown=1".into(),
    ] {
        assert_eq!(fixture.found("-keys", &format!("pkcs11:object=web?{query}")), Ok(1), "{query}");
    }
    for query in ["module-path=/usr/lib/other.so", "module-name=opensc-pkcs11"] {
        let said = fixture.found("-keys", &format!("pkcs11:object=web?{query}")).unwrap_err();
        assert!(said.contains("pkcs11-module-path"), "{query}: {said}");
    }
}

#[test]
fn a_uri_that_names_two_private_keys_is_an_error_with_both() {
    let fixture = Fixture::new();
    fixture.token.generate(KeyKind::P256, "web", 7).unwrap();
    let said = fixture.openssl("pkey -in {} -pubout", &["pkcs11:token=tls;object=web;type=private"]);
    assert!(!said.status.success());
    for word in ["2 keys", "id=%01", "id=%07"] {
        assert!(said.stderr.contains(word), "{word} is missing in {}", said.stderr);
    }
    let reference =
        text(&reference::write("pkcs11:object=web", &fixture.run.path().join("two.pem")).unwrap());
    let said = fixture.openssl("pkey -in {} -pubout", &[&reference]);
    assert!(!said.status.success() && said.stderr.contains("id=%07"), "{}", said.stderr);
    assert_eq!(fixture.found("-keys", "pkcs11:object=web;id=%07"), Ok(1));
    // Of all keys, there is a list.
    assert_eq!(fixture.found("-keys", "pkcs11:token=tls"), Ok(3));
}

/// As openssl finds it in a file.
#[test]
fn certificates_are_found_by_what_is_in_them() {
    let fixture = Fixture::new();
    // Both have the same subject, and serial numbers of 20 bytes.
    let file = text(&fixture.certificate("web"));
    let serial = fixture.plain("x509 -noout -serial -in {}", &[&file]);
    let serial = format!("0x{}", serial.trim().strip_prefix("serial=").unwrap());
    let print = |hash: &str| {
        let print = fixture.plain(&format!("x509 -noout -fingerprint {hash} -in {{}}"), &[&file]);
        print.trim().split_once('=').unwrap().1.to_owned()
    };
    let issuer = "-issuer {} -serial {}";
    let search = |options: &str, values: &[&str]| {
        let arguments = format!("storeutl -certs {options} {{}}");
        let printed = fixture.printed(&arguments, &[values, &["pkcs11:token=tls"]].concat());
        printed.matches("-----BEGIN CERTIFICATE-----").count()
    };
    assert_eq!(search("-subject {}", &["/CN=localhost"]), 2);
    assert_eq!(search("-subject {}", &["/CN=other"]), 0);
    assert_eq!(search(issuer, &["/CN=Strongroom demo CA", &serial]), 1);
    assert_eq!(search(issuer, &["/CN=Strongroom demo CA", "0x01"]), 0);
    assert_eq!(search(issuer, &["/CN=other", &serial]), 0);
    assert_eq!(search("-fingerprint {} -sha1", &[&print("-sha1")]), 1);
    assert_eq!(search("-fingerprint {} -sha256", &[&print("-sha256")]), 1);
    assert_eq!(search("-fingerprint {} -sha256", &[&print("-sha256").replace(':', "")[2..]]), 0);
    assert_eq!(search("-alias {}", &["mail"]), 1);
    assert_eq!(search("-alias {}", &["nobody"]), 0);
    // The one that is found is the one that is meant.
    let printed = fixture.printed("storeutl -certs -alias {} {}", &["web", "pkcs11:token=tls"]);
    let pem = fixture.plain("x509 -in {} -outform PEM", &[&file]);
    assert!(printed.contains(pem.trim()), "{printed}");
}

#[test]
fn openssl_takes_certificates_and_public_keys_from_the_token() {
    let fixture = Fixture::new();
    let certificate = "pkcs11:token=tls;object=web;type=cert";
    let subject = run_openssl(&fixture.environment, "x509 -in {} -noout -subject", &[certificate]).unwrap();
    assert!(subject.contains("localhost"), "{subject}");
    let ca = text(&fixture.authority.certificate());
    run_openssl(&fixture.environment, "verify -CAfile {} {}", &[&ca, certificate]).unwrap();
    let expected = fixture.plain("x509 -in {} -noout -pubkey", &[&text(&fixture.certificate("web"))]);
    let public = |uri: &str| run_openssl(&fixture.environment, "pkey -pubin -in {} -pubout", &[uri]).unwrap();
    assert_eq!(public("pkcs11:object=web;type=public"), expected);
    assert_eq!(public("pkcs11:object=web"), expected);
    // Without an object of its own it is that of the private key.
    fixture.token.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--id", "01"]).unwrap();
    assert!(fixture.found("", "pkcs11:object=web;type=public").is_err());
    assert_eq!(public("pkcs11:object=web"), expected);
}

fn handshake(port: u16, ca: &Path) {
    let done = traffic::handshake(port, "-tls1_3", ca).unwrap();
    assert!(done.status.success(), "{}", done.stderr);
}

#[test]
fn apache_takes_key_and_certificate_from_softhsm() {
    let fixture = Fixture::new();
    let folder = fixture.run.folder("apache").unwrap();
    let certificate = Path::new("pkcs11:token=tls;object=web;type=cert");
    let site =
        Site::new(folder, certificate, "pkcs11:token=tls;object=web;type=private", &fixture.environment);
    let server = apache::start(&site).unwrap();
    handshake(server.port, &fixture.authority.certificate());
}

/// The intermediate certificates come from a file, as the documentation says.
#[test]
fn apache_takes_the_chain_beside_a_certificate_in_the_token() {
    let fixture = Fixture::new();
    let file = |name: &str| text(&fixture.run.path().join(name));
    let (key, request, extensions) = (file("middle.key"), file("middle.csr"), file("middle.ext"));
    let (middle, leaf, der) = (file("middle.crt"), file("leaf.crt"), file("leaf.der"));
    std::fs::write(&extensions, "basicConstraints = critical, CA:TRUE\n").unwrap();
    key_file(KeyKind::P256, Path::new(&key)).unwrap();
    fixture.plain("req -new -key {} -subj /CN=middle -out {}", &[&key, &request]);
    let sign = "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -days 30 -extfile {} -out {}";
    let (ca, ca_key) = (text(&fixture.authority.certificate()), file("ca.key"));
    fixture.plain(sign, &[&request, &ca, &ca_key, &extensions, &middle]);
    let (request, extensions) = (file("web.csr"), file("web.ext"));
    fixture.plain(sign, &[&request, &middle, &key, &extensions, &leaf]);
    fixture.plain("x509 -in {} -outform DER -out {}", &[&leaf, &der]);
    fixture.token.store_certificate(Path::new(&der), "leaf", 1).unwrap();

    let site = |folder: &str, chain: &str| {
        let certificate = Path::new("pkcs11:token=tls;object=leaf;type=cert");
        let key = "pkcs11:token=tls;object=web;type=private";
        let folder = fixture.run.folder(folder).unwrap();
        Site::new(folder, certificate, key, &fixture.environment).with_directives(chain)
    };
    let server = apache::start(&site("chain", &format!("SSLCertificateChainFile {middle}\n"))).unwrap();
    handshake(server.port, &fixture.authority.certificate());
    let server = apache::start(&site("leaf", "")).unwrap();
    let done = traffic::handshake(server.port, "-tls1_3", &fixture.authority.certificate()).unwrap();
    assert!(!done.status.success(), "without the chain it cannot be verified");
}

#[test]
fn apache_takes_key_and_certificate_from_the_partition() {
    let bench = Bench::new().unwrap();
    let key = bench.keys(Place::Partition, &[KeyKind::P256]).unwrap().remove(0);
    let certificate = key.certify(&bench).unwrap();
    bench.partition.daemon.manage(&["cert", "put", "p256", &text(&certificate)]).unwrap();
    let site = |folder: &str, certificate: &Path| {
        Site::new(bench.run.folder(folder).unwrap(), certificate, &key.uri, &key.environment)
    };
    let in_token = Path::new("pkcs11:token=tls;object=p256;type=cert");
    // And one that another program stored through PKCS#11.
    let der = text(&bench.run.path().join("p256.der"));
    run_openssl(&Environment::plain(), "x509 -in {} -outform DER -out {}", &[&text(&certificate), &der])
        .unwrap();
    let write = ["--token-label", "tls", "--write-object", &der, "--type", "cert", "--label", "by tool"];
    bench.pkcs11_tool(&write).unwrap();
    let by_tool = Path::new("pkcs11:token=tls;object=by%20tool;type=cert");
    for site in [site("foreground", in_token), site("daemon", by_tool).as_daemon()] {
        let server = apache::start(&site).unwrap();
        handshake(server.port, &bench.authority.certificate());
    }
}

/// nginx's loop over a store ends only at the store's end: whatever fails, there is one.
#[test]
fn what_fails_has_an_end() {
    let fixture = Fixture::new();
    let mut module = openssl(&fixture.environment, "storeutl pkcs11:", &[]).unwrap();
    module.env("PKCS11_PROVIDER_MODULE", "/nowhere/module.so");
    assert!(command::run(module, SOON).unwrap().stderr.contains("/nowhere/module.so"));
    for uri in [
        "pkcs11:object=nobody",
        "pkcs11:token=nobody",
        "pkcs11:object=web?pin-source=/nowhere/pin",
        "pkcs11:object=web?pin-value=4321",
        "pkcs11:type=secret-key",
    ] {
        assert!(fixture.found("", uri).is_err(), "{uri}");
    }
    // nginx 1.22 has no store; its PEM reader meets the same.
    let reference =
        text(&reference::write("pkcs11:object=nobody", &fixture.run.path().join("no.pem")).unwrap());
    let folder = fixture.run.folder("nginx").unwrap();
    assert!(
        nginx::start(&Site::new(folder, &fixture.certificate("web"), &reference, &fixture.environment))
            .is_err()
    );
}
