//! ML-KEM keys of a partition with OpenSSL 3.5, through the provider: made, shown, and used. The other side is openssl without the
//! provider, with the same keys in files where both can have them.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;

use strongroom_tests::newer::OpenSsl;

/// The secret that `key` gets of a ciphertext.
fn decapsulated(token: &OpenSsl, key: &str, ciphertext: &str) -> Vec<u8> {
    let secret = token.bench.file("decapsulated");
    let arguments = ["pkeyutl", "-decap", "-inkey", key, "-in", ciphertext, "-secret", &secret];
    if key.starts_with("pkcs11:") || key.ends_with(".ref") {
        token.ours(&arguments);
    } else {
        token.plain(&arguments);
    }
    fs::read(secret).unwrap()
}

/// Encapsulates for `key`, with or without the provider, into the file `ciphertext`; the secret.
fn encapsulated(token: &OpenSsl, key: &[&str], ciphertext: &str) -> Vec<u8> {
    let secret = token.bench.file("encapsulated");
    let arguments = ["pkeyutl", "-encap", "-out", ciphertext, "-secret", &secret];
    let arguments = [&arguments[..], key].concat();
    if key.contains(&"-pubin") {
        token.plain(&arguments);
    } else {
        token.ours(&arguments);
    }
    fs::read(secret).unwrap()
}

#[test]
#[ignore = "builds OpenSSL 3.5 once, which takes five minutes"]
fn secrets_for_a_partitions_keys_are_decapsulated_there() {
    let token = OpenSsl::new("openssl-3.5").unwrap();
    for name in ["ml-kem-512", "ml-kem-768", "ml-kem-1024"] {
        let file = |suffix: &str| token.bench.file(&format!("{name}.{suffix}"));
        let (reference, public, ciphertext) = (file("ref"), file("pub"), file("ciphertext"));
        let generate = |label: &str, more: &[&str]| {
            let uri = format!("pkcs11_uri:pkcs11:token=tls;object={label}");
            let generate =
                ["genpkey", "-propquery", "provider=strongroom", "-algorithm", name, "-pkeyopt", &uri];
            let generate = [&generate[..], &["-out", &reference]].concat();
            token.with_partition(&[&generate[..], more].concat())
        };
        let refused = generate("signs", &["-pkeyopt", "pkcs11_key_usage:digitalSignature"]).unwrap_err();
        assert!(refused.to_string().contains("of a ML-KEM"), "{refused}");
        generate(name, &["-pkeyopt", "pkcs11_key_usage:keyEncipherment"]).unwrap();
        assert!(fs::read_to_string(&reference).unwrap().contains("PKCS#11 PROVIDER URI"));
        let uri = token.bench.partition.short_uri(name);
        let listed = token.ours(&["storeutl", "-keys", "-text", "-noout", &uri]);
        assert!(listed.contains("Total found: 1"), "{listed}");

        // The public half, as everybody has it.
        fs::write(&public, token.ours(&["pkey", "-in", &reference, "-pubout"])).unwrap();
        assert_eq!(token.manage(&["key", "public", name]), fs::read_to_string(&public).unwrap());
        let shown = token.ours(&["pkey", "-in", &uri, "-noout", "-text_pub"]);
        assert_eq!(shown, token.plain(&["pkey", "-pubin", "-in", &public, "-noout", "-text_pub"]));

        let theirs = encapsulated(&token, &["-pubin", "-inkey", &public], &ciphertext);
        assert_eq!(theirs.len(), 32);
        assert_eq!(decapsulated(&token, &uri, &ciphertext), theirs);
        assert_eq!(decapsulated(&token, &reference, &ciphertext), theirs);
        let ours = encapsulated(&token, &["-inkey", &uri], &ciphertext);
        assert_eq!(decapsulated(&token, &uri, &ciphertext), ours);

        // openssl's own keys, in each form that it writes.
        for (form, has_seed) in [("seed-priv", true), ("seed-only", true), ("priv-only", false)] {
            let (key, label) = (file(form), format!("{name}-{form}"));
            let output = format!("ml-kem.output_formats={form}");
            token.plain(&["genpkey", "-algorithm", name, "-provparam", &output, "-out", &key]);
            let imported = token.bench.partition.manage(&["key", "import", &label, &key]);
            if !has_seed {
                assert!(imported.unwrap_err().to_string().contains("without its seed"));
                continue;
            }
            imported.unwrap();
            let uri = token.bench.partition.short_uri(&label);
            let secret = encapsulated(&token, &["-inkey", &uri], &ciphertext);
            assert_eq!(decapsulated(&token, &key, &ciphertext), secret);
            // Of a changed ciphertext both make the same, which is another.
            let mut changed = fs::read(&ciphertext).unwrap();
            changed[100] ^= 1;
            fs::write(&ciphertext, &changed).unwrap();
            let rejected = decapsulated(&token, &uri, &ciphertext);
            assert_eq!(rejected, decapsulated(&token, &key, &ciphertext));
            assert_ne!(rejected, secret);
            fs::write(&ciphertext, &changed[1..]).unwrap();
            let short = ["pkeyutl", "-decap", "-inkey", &uri, "-in", &ciphertext];
            let refused = token.with_partition(&short).unwrap_err().to_string();
            assert!(refused.contains("bytes; those of this key have"), "{refused}");
        }
        // A key that is not meant for it says so.
        token.manage(&["key", "generate", "signs", "--type", "p256"]);
        let p256 = token.bench.partition.short_uri("signs");
        token.with_partition(&["pkeyutl", "-decap", "-inkey", &p256, "-in", &ciphertext]).unwrap_err();
        token.manage(&["key", "delete", "signs", "--yes"]);
    }
}
