//! Secrets that a key in the token agrees on with a peer.

use std::fs;

use strongroom_demo::environment::Environment;
use strongroom_demo::pki::run_openssl;
use strongroom_tests::place::TOKEN;
use strongroom_tests::{Bench, Place};

use super::{BOTH, attempt, plain};

/// A key that agrees on secrets, made in the token: its reference file and its public half.
fn agreeing_key(
    bench: &Bench,
    place: Place,
    environment: &Environment,
    kind: &str,
    label: &str,
) -> [String; 2] {
    let (file, public) = (bench.file(&format!("{label}.ref")), bench.file(&format!("{label}.pub")));
    let uri = format!("pkcs11_uri:pkcs11:token={TOKEN};object={label}");
    let generate = format!(
        "genpkey -quiet -propquery ?provider=strongroom {kind} -pkeyopt {{}} -pkeyopt pkcs11_key_usage:keyAgreement -out {{}}"
    );
    let made = attempt(environment, &generate, &[&uri, &file]);
    assert!(made.status.success(), "{place:?} {kind} {}", made.stderr);
    run_openssl(environment, "pkey -in {} -pubout -out {}", &[&file, &public]).unwrap();
    [file, public]
}

#[test]
fn pkeyutl_derives_what_the_peer_derives() {
    let curve = |name: &str| format!("-algorithm EC -pkeyopt ec_paramgen_curve:{name}");
    let [x25519, x448] = ["-algorithm X25519", "-algorithm X448"].map(str::to_owned);
    let kinds = [
        curve("P-256"),
        curve("P-384"),
        curve("P-521"),
        curve("brainpoolP256r1"),
        curve("brainpoolP384r1"),
        curve("brainpoolP512r1"),
        x25519,
        x448,
    ];
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let environment = bench.environment(place).unwrap();
        let [peer, public, ours, theirs] =
            ["peer.key", "peer.pub", "ours", "theirs"].map(|name| bench.file(name));
        for (at, kind) in kinds.iter().enumerate() {
            let [key, own] = agreeing_key(&bench, place, &environment, kind, &format!("key{at}"));
            plain(&format!("genpkey -quiet {kind} -out {{}}"), &[&peer]);
            let kdf = "-pkeyopt kdf-type:X963KDF -pkeyopt kdf-digest:SHA256 -pkeyopt kdf-outlen:77 -pkeyopt hexkdf-ukm:0102";
            let variants: &[(&str, &str)] = if kind.contains("EC") {
                &[
                    ("", ""),
                    ("-ec_conv_form compressed", ""),
                    ("", kdf),
                    ("", "-pkeyopt ecdh_cofactor_mode:1"),
                ]
            } else {
                &[("", "")]
            };
            for (form, options) in variants {
                plain(&format!("pkey -in {{}} {form} -pubout -out {{}}"), &[&peer, &public]);
                let derive = format!("pkeyutl -derive {options} -inkey {{}} -peerkey {{}} -out {{}}");
                run_openssl(&environment, &derive, &[&key, &public, &ours]).unwrap();
                plain(&derive, &[&peer, &own, &theirs]);
                let (ours, theirs) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
                assert_eq!(ours, theirs, "{place:?} {kind} {form} {options}");
            }
            // More than there is memory for.
            let endless = "pkeyutl -derive -pkeyopt kdf-outlen:1099511627776 -inkey {} -peerkey {}";
            let refused = attempt(&environment, endless, &[&key, &public]);
            if kind.contains("EC") {
                assert!(refused.stderr.contains("a derived key of"), "{}", refused.stderr);
            }
            // A peer on another curve.
            let other = if kind.contains("P-256") { curve("P-384") } else { curve("P-256") };
            plain(&format!("genpkey -quiet {other} -out {{}}"), &[&peer]);
            plain("pkey -in {} -pubout -out {}", &[&peer, &public]);
            let derive = "pkeyutl -derive -inkey {} -peerkey {}";
            assert!(!attempt(&environment, derive, &[&key, &public]).status.success());
        }
        // A point of small order contributes nothing to a secret (RFC 7748, 6.1).
        let zero = bench.file("zero.der");
        fs::write(
            &zero,
            [&[0x30u8, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 3, 0x21, 0][..], &[0; 32]].concat(),
        )
        .unwrap();
        let key = bench.file(&format!("key{}.ref", if place == Place::Partition { 3 } else { 4 }));
        let derive = "pkeyutl -derive -inkey {} -peerkey {} -peerform DER";
        let derived = attempt(&environment, derive, &[&key, &zero]);
        assert!(!derived.status.success(), "{place:?}");
    }
}

/// A key on brainpoolP512r1 (no secret) whose point begins with 04 7f, as an OCTET STRING of its length would.
const SEEMS_DER: &str = "-----BEGIN EC PRIVATE KEY-----
MIHaAgEBBECGnyezIYfXRUezFoiAC7owdtU3LiCcfrkvLPJFlPJJ+KFsj+a95c8d
Cf5S+/ZEj0l2ozSUSQerWgVNFrVdp1ycoAsGCSskAwMCCAEBDaGBhQOBggAEf3j2
G5Vzia1v6yAfKUGHbx2JoA2rIn+Umr97ptwatMQsGCsXUWzCfsxKFaNTjuoRsiYO
Y4NIxo656ReN4IThxixl9Ek7zJMkak+aGyhbkspQUVCAuFOFfmlFYKeWnI1GXyhE
Pt8z7irEfTg8NrWLenh2nIJPoFqTr8otpsVZyf4=
-----END EC PRIVATE KEY-----
";

/// SoftHSM2 takes such a point for DER, and refuses it: the provider then gives it the DER.
#[test]
fn a_peers_point_may_look_like_der() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        let environment = bench.environment(place).unwrap();
        let [peer, public, ours, theirs] =
            ["peer.key", "peer.pub", "ours", "theirs"].map(|name| bench.file(name));
        fs::write(&peer, SEEMS_DER).unwrap();
        plain("pkey -in {} -pubout -out {}", &[&peer, &public]);
        let kind = "-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP512r1";
        let [key, own] = agreeing_key(&bench, place, &environment, kind, "key");
        let derive = "pkeyutl -derive -inkey {} -peerkey {} -out {}";
        run_openssl(&environment, derive, &[&key, &public, &ours]).unwrap();
        plain(derive, &[&peer, &own, &theirs]);
        assert_eq!(fs::read(&ours).unwrap(), fs::read(&theirs).unwrap(), "{place:?}");
    }
}
