//! openssl's commands that make something of a signature.

use std::fs;

use strongroom_demo::pki::{KeyKind, run_openssl, text};
use strongroom_tests::Bench;

use super::{BOTH, plain};

/// ca, ts, ocsp and smime: each signs with the key and is verified without.
#[test]
fn the_other_commands_sign() {
    for place in BOTH {
        let bench = Bench::new().unwrap();
        for key in bench.keys(place, &[KeyKind::Rsa2048, KeyKind::P256]).unwrap() {
            let folder = bench.run.folder(&format!("ca-{}", key.kind.name())).unwrap();
            let file = |name: &str| text(&folder.join(name));
            let database = file("index.txt");
            fs::write(&database, "").unwrap();
            let configuration = format!(
                "[ca]\ndefault_ca = own\n[own]\ndatabase = {database}\nnew_certs_dir = {}\nserial = {}\ndefault_md = sha256\n\
                 policy = any\ndefault_days = 7\ndefault_crl_days = 7\nunique_subject = no\nrand_serial = yes\n[any]\ncommonName = supplied\n\
                 [tsa]\ndefault_tsa = stamps\n[stamps]\nserial = {}\ndefault_policy = 1.2.3\ndigests = sha256\nsigner_digest = sha256\n\
                 accuracy = secs:1\ness_cert_id_alg = sha256\n",
                text(&folder),
                file("serial"),
                file("tsserial"),
            );
            let own = file("ca.cnf");
            fs::write(&own, configuration).unwrap();
            let (authority, request, leaf) = (file("ca.pem"), file("leaf.csr"), file("leaf.pem"));
            let extended = "-addext extendedKeyUsage=critical,timeStamping";
            let certify = |extra: &str, out: &str| {
                let req = format!("req -x509 -new -key {{}} -subj /CN=authority -days 7 {extra} -out {{}}");
                run_openssl(&key.environment, &req, &[&key.uri, out]).unwrap();
            };
            certify("", &authority);
            run_openssl(&key.environment, "req -new -key {} -subj /CN=leaf -out {}", &[&key.uri, &request])
                .unwrap();
            run_openssl(
                &key.environment,
                "ca -batch -notext -config {} -cert {} -keyfile {} -in {} -out {}",
                &[&own, &authority, &key.uri, &request, &leaf],
            )
            .unwrap();
            plain("verify -CAfile {} {}", &[&authority, &leaf]);
            let list = file("list.pem");
            run_openssl(
                &key.environment,
                "ca -gencrl -config {} -cert {} -keyfile {} -out {}",
                &[&own, &authority, &key.uri, &list],
            )
            .unwrap();
            plain("crl -noout -verify -CAfile {} -in {}", &[&authority, &list]);
            // A responder's answer.
            let (question, answer) = (file("ocsp.req"), file("ocsp.resp"));
            plain("ocsp -no_nonce -issuer {} -cert {} -reqout {}", &[&authority, &leaf, &question]);
            run_openssl(
                &key.environment,
                "ocsp -index {} -rsigner {} -rkey {} -CA {} -reqin {} -respout {}",
                &[&database, &authority, &key.uri, &authority, &question, &answer],
            )
            .unwrap();
            let status = plain(
                "ocsp -no_nonce -respin {} -issuer {} -cert {} -CAfile {}",
                &[&answer, &authority, &leaf, &authority],
            );
            assert!(status.contains(": good"), "{status}");
            // A time stamp.
            let (stamper, query, stamp) = (file("tsa.pem"), file("ts.req"), file("ts.resp"));
            certify(extended, &stamper);
            plain("ts -query -data {} -sha256 -cert -out {}", &[&own, &query]);
            // This command reads keys from files only: a reference.
            let named = text(&key.reference(&bench).unwrap());
            let reply = "ts -reply -config {} -section stamps -queryfile {} -signer {} -inkey {} -out {}";
            run_openssl(&key.environment, reply, &[&own, &query, &stamper, &named, &stamp]).unwrap();
            let verified = plain("ts -verify -queryfile {} -in {} -CAfile {}", &[&query, &stamp, &stamper]);
            assert!(verified.contains("OK"), "{verified}");
            // Mail.
            let (mail, signed) = (file("mail"), file("signed"));
            fs::write(&mail, "a letter\n").unwrap();
            let sign = "smime -sign -binary -nodetach -signer {} -inkey {} -in {} -out {}";
            run_openssl(&key.environment, sign, &[&authority, &key.uri, &mail, &signed]).unwrap();
            assert_eq!(
                plain("smime -verify -purpose any -CAfile {} -in {}", &[&authority, &signed]),
                "a letter\n"
            );
        }
    }
}
