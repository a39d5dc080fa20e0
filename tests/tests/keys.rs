//! Keys of every type made in a token with the openssl command, shown, written and read again. What comes out is compared with the
//! openssl command without our provider, and with pkcs11-tool.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{openssl, run_openssl, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::system;
use strongroom_demo::server::free_port;
use strongroom_demo::softhsm::{PIN, SoftHsm};
use strongroom_tests::place::TOKEN;
use strongroom_tests::{Bench, Place, reference, traffic};

/// A type of key: `openssl genpkey`'s algorithm and options, and how pkeyutl signs with it, if it does.
struct Type {
    name: &'static str,
    generate: &'static str,
    sign: Option<&'static str>,
}

const fn signs(name: &'static str, generate: &'static str, options: &'static str) -> Type {
    Type { name, generate, sign: Some(options) }
}

const DIGEST: &str = "-pkeyopt digest:sha256";

/// What SoftHSM2 2.6.1 makes: all that the provider has.
const SOFTHSM: [Type; 13] = [
    signs("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048", DIGEST),
    signs(
        "rsa-e",
        "-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:4294967297",
        DIGEST,
    ),
    signs("pss", "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", DIGEST),
    signs("p224", "-algorithm EC -pkeyopt ec_paramgen_curve:P-224", DIGEST),
    signs("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve", DIGEST),
    signs("p521", "-algorithm EC -pkeyopt group:P-521", DIGEST),
    signs("k256", "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", DIGEST),
    signs("brainpool", "-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP384r1", DIGEST),
    signs("brainpool-512", "-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP512r1", DIGEST),
    signs("ed25519", "-algorithm ED25519", "-rawin"),
    signs("ed448", "-algorithm ED448", "-rawin"),
    Type { name: "x25519", generate: "-algorithm X25519", sign: None },
    Type { name: "x448", generate: "-algorithm X448", sign: None },
];

/// What a partition makes.
const PARTITION: [Type; 12] = [
    signs("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072", DIGEST),
    signs("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", DIGEST),
    signs("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:secp384r1", DIGEST),
    signs("p521", "-algorithm EC -pkeyopt group:P-521", DIGEST),
    signs("k256", "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", DIGEST),
    signs("p224", "-algorithm EC -pkeyopt ec_paramgen_curve:P-224", DIGEST),
    signs("brainpool", "-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP384r1", DIGEST),
    signs("brainpool-512", "-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP512r1", DIGEST),
    signs("ed25519", "-algorithm ED25519", "-rawin"),
    signs("ed448", "-algorithm ED448", "-rawin"),
    Type { name: "x25519", generate: "-algorithm X25519", sign: None },
    Type { name: "x448", generate: "-algorithm X448", sign: None },
];

/// A token in which openssl makes keys through the provider.
struct Token<'a> {
    bench: &'a Bench,
    softhsm: Option<SoftHsm>,
    environment: Environment,
}

impl<'a> Token<'a> {
    fn new(bench: &'a Bench, place: Place) -> Self {
        match place {
            Place::Partition => {
                let environment = bench.partition.environment();
                Token { bench, softhsm: None, environment }
            }
            Place::SoftHsm => {
                let token = SoftHsm::create(&bench.run.folder("softhsm").unwrap(), TOKEN).unwrap();
                let environment = token.environment(&bench.programs).unwrap();
                Token { bench, softhsm: Some(token), environment }
            }
            Place::Kryoptic => unreachable!("no test here uses it"),
        }
    }

    fn openssl(&self, arguments: &str, values: &[&str]) -> Result<String, String> {
        run_openssl(&self.environment, arguments, values).map_err(|error| format!("{error:#}"))
    }

    /// Makes a pair of this label; returns the reference file.
    fn generate(&self, options: &str, label: &str) -> Result<String, String> {
        let (file, uri) =
            (self.bench.file(&format!("{label}.ref")), format!("pkcs11_uri:{}", self.uri(label)));
        let command =
            format!("genpkey -quiet -propquery ?provider=strongroom {options} -pkeyopt {{}} -out {{}}");
        self.openssl(&command, &[&uri, &file])?;
        Ok(file)
    }

    fn uri(&self, label: &str) -> String {
        format!("pkcs11:token={TOKEN};object={label}")
    }

    /// What pkcs11-tool says, which is another client of the token.
    fn tool(&self, arguments: &[&str]) -> String {
        let Some(softhsm) = &self.softhsm else {
            return self.bench.pkcs11_tool(arguments).unwrap();
        };
        let mut tool = command::new(system("pkcs11-tool").unwrap());
        softhsm.plain_environment().apply(&mut tool);
        tool.arg("--module").arg(softhsm.module());
        tool.args(["--token-label", TOKEN, "--login", "--pin", PIN]).args(arguments);
        command::succeed(tool, Duration::from_secs(60)).unwrap()
    }

    /// pkcs11-tool's lines on the object of this class and label.
    fn object(&self, class: &str, label: &str) -> String {
        let listed = self.tool(&["--list-objects", "--type", class]);
        let objects =
            listed.split("Object;").find(|object| object.contains(&format!("label:      {label}\n")));
        objects.unwrap_or_else(|| panic!("no {class} {label} in {listed}")).to_owned()
    }
}

fn plain(arguments: &str, values: &[&str]) -> String {
    run_openssl(&Environment::plain(), arguments, values).unwrap()
}

fn in_both_places(test: impl Fn(&Token, &Type)) {
    for (place, types) in [(Place::SoftHsm, &SOFTHSM[..]), (Place::Partition, &PARTITION[..])] {
        let bench = Bench::new().unwrap();
        let token = Token::new(&bench, place);
        for kind in types {
            eprintln!("{place:?} {}", kind.name);
            test(&token, kind);
        }
    }
}

/// genpkey makes a pair in the token and writes a reference to it. The private key is one that cannot leave; the public one is there
/// too; what it signs is right.
#[test]
fn genpkey_makes_pairs_of_every_type_in_the_token() {
    in_both_places(|token, kind| {
        let file = token.generate(kind.generate, kind.name).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("-----BEGIN PKCS#11 PROVIDER URI-----\n"), "{text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");

        let private = token.object("privkey", kind.name);
        assert!(private.contains("sensitive, always sensitive, never extractable, local"), "{private}");
        token.object("pubkey", kind.name);

        let public = token.bench.file("public.pem");
        token.openssl("pkey -in {} -pubout -out {}", &[&file, &public]).unwrap();
        let by_uri = token.openssl("pkey -in {} -pubout", &[&token.uri(kind.name)]).unwrap();
        assert_eq!(fs::read_to_string(&public).unwrap(), by_uri);
        let Some(options) = kind.sign else { return };
        let (message, signature) = (token.bench.file("message"), token.bench.file("signature"));
        fs::write(&message, [7; 32]).unwrap();
        let sign = format!("pkeyutl -sign {options} -inkey {{}} -in {{}} -out {{}}");
        token.openssl(&sign, &[&file, &message, &signature]).unwrap();
        let verify = format!("pkeyutl -verify {options} -pubin -inkey {{}} -in {{}} -sigfile {{}}");
        plain(&verify, &[&public, &message, &signature]);
    });
}

/// Every way to write a key gives its public half as OpenSSL's own provider writes it, or a reference; never the private key.
#[test]
fn keys_are_shown_and_written_as_openssl_writes_them() {
    in_both_places(|token, kind| {
        let uri = token.uri(kind.name);
        let written = token.generate(kind.generate, kind.name).unwrap();
        let (public, der) = (token.bench.file("public.pem"), token.bench.file("public.der"));
        token.openssl("pkey -in {} -pubout -out {}", &[&uri, &public]).unwrap();
        assert_eq!(plain("pkey -pubin -in {}", &[&public]), fs::read_to_string(&public).unwrap());
        token.openssl("pkey -in {} -pubout -outform DER -out {}", &[&uri, &der]).unwrap();
        assert_eq!(plain("pkey -pubin -inform DER -in {}", &[&der]), fs::read_to_string(&public).unwrap());

        let shown = token.openssl("pkey -in {} -text -noout", &[&uri]).unwrap();
        let algorithm = kind.generate.split(' ').nth(1).unwrap();
        assert!(shown.starts_with(&format!("PKCS#11 {algorithm} Private-Key: (")), "{shown}");
        assert!(shown.contains(&format!("URI: {uri};id=")), "{shown}");
        let plainly = plain("pkey -pubin -in {} -text -noout", &[&public]);
        assert!(shown.ends_with(&plainly), "{shown} is not {plainly}");
        assert_eq!(token.openssl("pkey -in {} -text_pub -noout", &[&uri]).unwrap(), plainly);

        // The reference, in PEM and DER, is a key for every program that reads one.
        let again = token.openssl("pkey -in {}", &[&uri]).unwrap();
        assert_eq!(again, fs::read_to_string(&written).unwrap());
        let der = token.bench.file("reference.der");
        token.openssl("pkey -in {} -outform DER -out {}", &[&uri, &der]).unwrap();
        for form in ["-inform DER", ""] {
            let read = token.openssl(&format!("pkey {form} -in {{}} -pubout"), &[&der]).unwrap();
            assert_eq!(read, fs::read_to_string(&public).unwrap());
        }
        for file in [&written, &der] {
            let found = token.openssl("storeutl -keys {}", &[file]).unwrap();
            assert!(found.contains("Total found: 1"), "{found}");
        }
        // A reference may name the public key, as pkcs11-provider's may.
        let file = token.bench.run.path().join("public.ref");
        let file = text(&reference::write(&format!("{uri};type=public"), &file).unwrap());
        // That a key is for PSS only is not in a public key object.
        if algorithm != "RSA-PSS" {
            let read = token.openssl("pkey -pubin -in {}", &[&file]).unwrap();
            assert_eq!(read, fs::read_to_string(&public).unwrap());
        }
        let found = token.openssl("storeutl -noout {}", &[&file]).unwrap();
        assert!(found.contains("0: Public key") && found.contains("Total found: 1"), "{found}");
        assert!(plain("asn1parse -inform DER -in {}", &[&der]).contains(":PKCS#11 Provider URI v1.0"));

        assert!(
            token.openssl("pkey -in {} -check -pubcheck -noout", &[&uri]).unwrap().contains("Key is valid")
        );
        if algorithm == "RSA" {
            let pkcs1 = token.openssl("rsa -in {} -RSAPublicKey_out", &[&uri]).unwrap();
            assert_eq!(pkcs1, plain("rsa -pubin -in {} -RSAPublicKey_out", &[&public]));
        }
        let old_command = match algorithm {
            "RSA" => "rsa",
            "EC" => "ec",
            _ => return,
        };
        if old_command == "ec" {
            let form = "-conv_form compressed -param_enc named_curve -pubout";
            let compressed = token.openssl(&format!("ec -in {{}} {form}"), &[&uri]).unwrap();
            assert_eq!(compressed, plain(&format!("ec -pubin -in {{}} {form}"), &[&public]));
            assert!(token.openssl("ec -in {} -param_enc explicit -pubout", &[&uri]).is_err());
        }
        let written = token.openssl(&format!("{old_command} -in {{}} -text"), &[&uri]).unwrap();
        assert!(written.ends_with(&again) && !written.contains("PRIVATE KEY"), "{written}");
    });
}

/// The usage that a key is made for is all that the token allows.
#[test]
fn a_key_is_made_for_the_usage_that_was_asked_for() {
    let bench = Bench::new().unwrap();
    let token = Token::new(&bench, Place::SoftHsm);
    let make = |algorithm: &str, usage: &str, label: &str| {
        let usage = format!("pkcs11_key_usage:{usage}");
        let uri = format!("pkcs11_uri:{};id=%0a%0b", token.uri(label));
        let command = format!(
            "genpkey -quiet -propquery ?provider=strongroom -algorithm {algorithm} -pkeyopt {{}} -pkeyopt {{}}"
        );
        token.openssl(&command, &[&uri, &usage])
    };
    make("RSA", "digitalSignature", "signs").unwrap();
    make("RSA", "dataEncipherment keyEncipherment", "decrypts").unwrap();
    make("EC -pkeyopt ec_paramgen_curve:P-256", "keyAgreement", "agrees").unwrap();
    for (label, private, public) in [
        ("signs", "sign", "verify"),
        ("decrypts", "decrypt, unwrap", "encrypt, wrap"),
        ("agrees", "derive", "derive"),
    ] {
        for (class, usage) in [("privkey", private), ("pubkey", public)] {
            let object = token.object(class, label);
            assert!(object.contains(&format!("Usage:      {usage}\n")), "{object}");
            assert!(object.contains("ID:         0a0b\n"), "{object}");
        }
    }
    // Only one of them signs.
    let message = bench.file("message");
    fs::write(&message, [7; 32]).unwrap();
    for (label, does) in [("signs", true), ("decrypts", false)] {
        let uri = token.uri(label);
        let signed = token
            .openssl("pkeyutl -sign -pkeyopt digest:sha256 -inkey {} -in {} -hexdump", &[&uri, &message]);
        assert_eq!(signed.is_ok(), does, "{label} {signed:?}");
    }
    for (algorithm, usage) in
        [("RSA", "dataEncipherment gibberish"), ("RSA", "keyAgreement"), ("ED25519", "")]
    {
        let refused = make(algorithm, usage, "refused").unwrap_err();
        assert!(refused.contains("usage"), "{refused}");
    }
    assert!(!token.tool(&["--list-objects"]).contains("refused"));
}

/// Nothing is made in the token unless it is asked for by a URI, and nothing that could not be told apart from what is there.
#[test]
fn keys_are_not_made_in_the_token_by_accident() {
    let bench = Bench::new().unwrap();
    let token = Token::new(&bench, Place::SoftHsm);
    // Without a query these are OpenSSL's own provider's; with one, there is no URI.
    for algorithm in ["RSA", "X25519", "EC -pkeyopt ec_paramgen_curve:P-256"] {
        let made = token.openssl(&format!("genpkey -quiet -algorithm {algorithm}"), &[]).unwrap();
        assert!(made.contains("BEGIN PRIVATE KEY"), "{made}");
        let refused = token
            .openssl(&format!("genpkey -propquery ?provider=strongroom -algorithm {algorithm}"), &[])
            .unwrap_err();
        assert!(refused.contains("pkcs11_uri"), "{refused}");
    }
    assert!(!token.tool(&["--list-objects"]).contains("Object"));
    token.generate("-algorithm ED25519", "twice").unwrap();
    let refused = token.generate("-algorithm ED25519", "twice").unwrap_err();
    assert!(refused.contains("has a private key of this name"), "{refused}");
    for (options, says) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-257", ""),
        ("-algorithm RSA-PSS -pkeyopt rsa_pss_keygen_saltlen:48", "20 bytes"),
        ("-algorithm RSA-PSS -pkeyopt rsa_pss_keygen_mgf1_md:sha1", "mask"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "named"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:16384", "8192"),
        ("-algorithm RSA -pkeyopt rsa_keygen_primes:3", "two primes"),
        ("-algorithm RSA -pkeyopt rsa_keygen_pubexp:2", "exponent"),
    ] {
        let refused = token.generate(options, "refused").unwrap_err();
        assert!(refused.contains(says), "{options}: {refused}");
    }
    let elsewhere = format!("pkcs11_uri:pkcs11:token=other;object={}", "a");
    let refused = token
        .openssl("genpkey -propquery ?provider=strongroom -algorithm ED25519 -pkeyopt {}", &[&elsewhere])
        .unwrap_err();
    assert!(refused.contains("no token for pkcs11:token=other"), "{refused}");
    assert!(!token.tool(&["--list-objects"]).contains("refused"));
}

/// `openssl req` makes the pair and its certificate in one; so does nothing else need the key in a file.
#[test]
fn req_makes_a_pair_and_a_certificate() {
    in_both_places(|token, kind| {
        if kind.sign != Some(DIGEST) || kind.name == "rsa-e" {
            return;
        }
        let (_, options) = kind.generate.split_once("-algorithm ").unwrap();
        let (algorithm, options) = options.split_once(' ').unwrap_or((options, ""));
        let (file, certificate) = (token.bench.file("key.ref"), token.bench.file("certificate.pem"));
        let uri = format!("pkcs11_uri:{}", token.uri(kind.name));
        let command = format!(
            "req -x509 -newkey {algorithm} {options} -pkeyopt {{}} -propquery ?provider=strongroom -noenc \
             -subj /CN=made -keyout {{}} -out {{}}"
        );
        token.openssl(&command, &[&uri, &file, &certificate]).unwrap();
        plain("verify -CAfile {} {}", &[&certificate, &certificate]);
        let of_key = token.openssl("pkey -in {} -pubout", &[&file]).unwrap();
        assert_eq!(plain("x509 -in {} -noout -pubkey", &[&certificate]), of_key);
        // The reference in DER does for openssl x509 as well.
        let (der, again) = (token.bench.file("key.der"), token.bench.file("again.pem"));
        token.openssl("pkey -in {} -outform DER -out {}", &[&file, &der]).unwrap();
        token.openssl("x509 -in {} -signkey {} -days 9 -out {}", &[&certificate, &der, &again]).unwrap();
        plain("verify -CAfile {} {}", &[&again, &again]);
    });
}

/// PKCS#11 has no type for RSA keys that are for PSS only: the certificate in the token says what a key is.
#[test]
fn a_certificate_says_that_an_rsa_key_is_for_pss() {
    let bench = Bench::new().unwrap();
    let token = Token::new(&bench, Place::SoftHsm);
    let (pss, plain_key) = (bench.file("pss.key"), bench.file("plain.key"));
    for (file, algorithm, id) in [
        (
            &pss,
            "RSA-PSS -pkeyopt rsa_pss_keygen_md:sha384 -pkeyopt rsa_pss_keygen_mgf1_md:sha384 -pkeyopt rsa_pss_keygen_saltlen:48",
            "01",
        ),
        (&plain_key, "RSA", "02"),
    ] {
        let certificate = bench.file("certificate.der");
        plain(&format!("genpkey -quiet -algorithm {algorithm} -out {{}}"), &[file]);
        plain("req -x509 -new -key {} -subj /CN=a -outform DER -out {}", &[file, &certificate]);
        // As a plain RSA key, which is all that PKCS#11 can say.
        let traditional = bench.file("key.der");
        plain("rsa -in {} -traditional -outform DER -out {}", &[file, &traditional]);
        token.tool(&[
            "--write-object",
            &traditional,
            "--type",
            "privkey",
            "--id",
            id,
            "--label",
            "key",
            "--usage-sign",
        ]);
        let type_of = || {
            let shown = token
                .openssl("pkey -in {} -text -noout", &[&format!("pkcs11:id=%{id};type=private")])
                .unwrap();
            shown.split(' ').nth(1).unwrap().to_owned()
        };
        assert_eq!(type_of(), "RSA");
        token.tool(&["--write-object", &certificate, "--type", "cert", "--id", id, "--label", "key"]);
        assert_eq!(type_of(), algorithm.split(' ').next().unwrap());
    }
    // It has the restrictions of its certificate.
    let shown = token.openssl("pkey -in {} -text -noout", &["pkcs11:id=%01;type=private"]).unwrap();
    assert!(shown.ends_with(&plain("pkey -in {} -text_pub -noout", &[&pss])), "{shown}");
    // Another request for a certificate is made with it, as with the key in a file.
    let request = bench.file("request");
    token
        .openssl("req -new -sha384 -key {} -subj /CN=a -out {}", &["pkcs11:id=%01;type=private", &request])
        .unwrap();
    assert!(
        plain("req -verify -in {} -noout -text", &[&request]).contains("Public Key Algorithm: rsassaPss")
    );
}

/// A key that was made for PSS and one hash stays so, and serves TLS with a certificate that says the same.
#[test]
fn a_key_for_pss_and_one_hash() {
    let bench = Bench::new().unwrap();
    let token = Token::new(&bench, Place::SoftHsm);
    let key = token.generate("-algorithm RSA-PSS -pkeyopt rsa_pss_keygen_md:sha384", "pss").unwrap();
    let shown = token.openssl("pkey -in {} -text_pub -noout", &[&key]).unwrap();
    let restricted =
        "Hash Algorithm: SHA2-384\n  Mask Algorithm: MGF1 with SHA2-384\n  Minimum Salt Length: 20";
    assert!(shown.contains(restricted), "{shown}");
    let (message, signature, public) =
        (bench.file("message"), bench.file("signature"), bench.file("public.pem"));
    fs::write(&message, "a message").unwrap();
    token.openssl("pkey -in {} -pubout -out {}", &[&key, &public]).unwrap();
    token.openssl("dgst -sha384 -sign {} -out {} {}", &[&key, &signature, &message]).unwrap();
    plain("dgst -sha384 -verify {} -signature {} {}", &[&public, &signature, &message]);
    for other in ["-sha256", "-sha384 -sigopt rsa_padding_mode:pkcs1", "-sha384 -sigopt rsa_pss_saltlen:8"] {
        let command = format!("dgst {other} -sign {{}} -out {{}} {{}}");
        assert!(token.openssl(&command, &[&key, &signature, &message]).is_err(), "{other}");
    }

    let certificate = text(&bench.authority.certify(&token.environment, &key, "pss").unwrap());
    let port = free_port().unwrap();
    let address = format!("127.0.0.1:{port}");
    let serve = "s_server -quiet -www -accept {} -key {} -cert {}";
    let mut server = openssl(&token.environment, serve, &[&address, &key, &certificate]).unwrap();
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Process::spawn("openssl", server).unwrap();
    wait_for("s_server", Duration::from_secs(10), || Ok(std::net::TcpStream::connect(&address)?)).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let done = traffic::handshake(port, version, &bench.authority.certificate()).unwrap();
        assert!(done.status.success(), "{version} {}", done.stderr);
    }
}

/// A key that may only be used by a mechanism that hashes, as pkcs11-provider makes them: the token is given the message.
#[test]
fn a_key_whose_token_hashes() {
    let bench = Bench::new().unwrap();
    let token = Token::new(&bench, Place::SoftHsm);
    let generate = ["--keypairgen", "--key-type", "rsa:2048", "--label", "hashed", "--id", "01"];
    token.tool(&[&generate[..], &["--allowed-mechanisms", "SHA256-RSA-PKCS-PSS"]].concat());
    let (uri, public) = (token.uri("hashed"), bench.file("public.pem"));
    token.openssl("pkey -in {} -pubout -out {}", &[&uri, &public]).unwrap();
    let (message, signature, request) =
        (bench.file("message"), bench.file("signature"), bench.file("request"));
    // More than one buffer of openssl dgst.
    fs::write(&message, vec![b'm'; 100_000]).unwrap();
    token.openssl("dgst -sha256 -sign {} -out {} {}", &[&uri, &signature, &message]).unwrap();
    plain("dgst -sha256 -verify {} -signature {} {}", &[&public, &signature, &message]);
    token.openssl("req -new -key {} -subj /CN=a -out {}", &[&uri, &request]).unwrap();
    plain("req -verify -noout -in {}", &[&request]);
    fs::write(&message, [7; 32]).unwrap();
    let refused = token
        .openssl("pkeyutl -sign -pkeyopt digest:sha256 -inkey {} -in {} -hexdump", &[&uri, &message])
        .unwrap_err();
    assert!(refused.contains("sign the message"), "{refused}");
}

/// The URI of a new key may say what any other does: the PIN, and which of several tokens.
#[test]
fn a_new_key_goes_to_the_token_that_its_uri_names() {
    let bench = Bench::new().unwrap();
    let folder = bench.run.folder("softhsm").unwrap();
    let first = SoftHsm::create(&folder, TOKEN).unwrap();
    let second = SoftHsm::create(&folder, "second").unwrap();
    let environment = second.environment_with_pin(&bench.programs, "", "openssl.cnf").unwrap();
    let pin = bench.file("pin");
    fs::write(&pin, PIN).unwrap();
    let token = Token { bench: &bench, softhsm: Some(first), environment };
    let make = |uri: &str| {
        let command = "genpkey -quiet -propquery ?provider=strongroom -algorithm ED25519 -pkeyopt {}";
        token.openssl(command, &[&format!("pkcs11_uri:{uri}")])
    };
    let refused = make("pkcs11:object=made").unwrap_err();
    assert!(refused.contains("2 tokens fit"), "{refused}");
    let refused = make("pkcs11:token=second;object=made").unwrap_err();
    assert!(refused.contains("wants a PIN"), "{refused}");
    make(&format!("pkcs11:token=second;object=made?pin-source=file:{pin}")).unwrap();
    assert!(!token.tool(&["--list-objects"]).contains("made"), "it is in the first token");
    let uri = format!("pkcs11:token=second;object=made?pin-value={PIN}");
    let written = token.openssl("pkey -in {} -text", &[&uri]).unwrap();
    assert!(written.contains("pkcs11:token=second;object=made;id="), "{written}");
    assert!(!written.contains("pin"), "a reference has no PIN: {written}");
}

/// What wants the private key itself fails, and leaves no file that looks like one.
#[test]
fn nothing_writes_a_private_key() {
    let bench = Bench::new().unwrap();
    let token = Token::new(&bench, Place::SoftHsm);
    token.generate("-algorithm RSA", "key").unwrap();
    let (uri, out) = (token.uri("key"), bench.file("out"));
    for command in [
        "pkey -traditional -in {} -out {}",
        "pkcs8 -topk8 -nocrypt -in {} -out {}",
        "pkcs8 -topk8 -passout pass:abcd -in {} -out {}",
        "pkcs12 -export -nocerts -passout pass:abcd -inkey {} -out {}",
    ] {
        assert!(token.openssl(command, &[&uri, &out]).is_err(), "{command}");
        assert!(!fs::read_to_string(&out).unwrap_or_default().contains("PRIVATE KEY"), "{command}");
    }
    for command in ["pkey -in {}", "rsa -in {}", "rsa -traditional -in {}"] {
        let written = token.openssl(command, &[&uri]).unwrap();
        assert!(
            written.contains("BEGIN PKCS#11 PROVIDER URI") && !written.contains("PRIVATE KEY"),
            "{written}"
        );
    }
}
