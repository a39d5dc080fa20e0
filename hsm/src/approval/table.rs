//! The judgements as a table for people: docs/fips.md shows it.

use strongroom_protocol::v1::KeyType;

/// The type's name in the protocol, without what all have in common.
pub(super) fn name_of(key_type: KeyType) -> &'static str {
    key_type.as_str_name().trim_start_matches("KEY_TYPE_")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::{env, fs};

    use super::super::*;
    use super::*;
    use crate::users::MIN_PASSWORD;

    /// More than any number of the protocol's.
    const NUMBERS: std::ops::Range<i32> = 1..4_096;

    /// All that is decided, in the order in which people are shown it.
    fn table() -> Vec<(String, Judgement)> {
        let mut rows = Vec::new();
        let mut row = |what: String, judgement| rows.push((what, judgement));
        for key_type in NUMBERS.filter_map(|number| KeyType::try_from(number).ok()) {
            row(format!("keys of type {}", name_of(key_type)), judge_key_type(key_type));
        }
        for mechanism in NUMBERS.filter_map(|number| Mechanism::try_from(number).ok()) {
            let name = mechanism.as_str_name().trim_start_matches("MECHANISM_");
            let (signs, encrypts) = (judge_mechanism(mechanism), judge_encryption(mechanism));
            match signs == encrypts {
                true => row(format!("mechanism {name}"), signs),
                false => {
                    row(format!("mechanism {name}, to sign"), signs);
                    row(format!("mechanism {name}, to encrypt, decrypt, wrap and unwrap"), encrypts);
                }
            }
            let unwraps = judge_unwrapping(mechanism);
            if unwraps != encrypts {
                row(format!("mechanism {name}, to unwrap"), unwraps);
            }
        }
        row("PBKDF2 with a salt of less than 16 bytes".to_owned(), judge_pbkdf2(15, 1_000));
        row("PBKDF2 with less than 1,000 iterations".to_owned(), judge_pbkdf2(16, 999));
        for (name, prefix, length, _) in DIGEST_INFOS {
            let data = [prefix, &vec![0; length][..]].concat();
            row(
                format!("RSA PKCS#1 v1.5 signatures with {name}"),
                judge_signature(crypto::Mechanism::RsaPkcs, &data),
            );
        }
        let anything = judge_signature(crypto::Mechanism::RsaPkcs, b"");
        row("RSA PKCS#1 v1.5 signatures over anything else".to_owned(), anything);
        for (bits, length) in [(104, 13), (112, 14)] {
            row(format!("HMAC with a key of {bits} bits, to make codes"), judge_hmac_key(length));
        }
        let hashes = [
            ("SHA-1", Hash::Sha1),
            ("SHA-224", Hash::Sha224),
            ("SHA-256", Hash::Sha256),
            ("SHA-384", Hash::Sha384),
            ("SHA-512", Hash::Sha512),
        ];
        let pss = |hash: Hash, salt_length| {
            let mechanism = crypto::Mechanism::RsaPss { hash, mgf1_hash: hash, salt_length };
            judge_signature(mechanism, &vec![0; hash.length()])
        };
        for (name, hash) in hashes {
            row(format!("RSA-PSS signatures with {name}"), pss(hash, hash.length()));
        }
        row("RSA-PSS signatures with a salt longer than the hash".to_owned(), pss(Hash::Sha256, 33));
        for (name, hash) in hashes {
            let judgement = judge_signature(crypto::Mechanism::Ecdsa, &vec![0; hash.length()]);
            row(format!("ECDSA signatures over {} bytes ({name})", hash.length()), judgement);
        }
        rows
    }

    /// docs/fips.md has this table. UPDATE_GUIDE=1 writes it there.
    #[test]
    fn the_document_shows_the_table() {
        const BEGIN: &str = "<!-- The table of hsm/src/approval.rs; a test compares. -->\n";
        const END: &str = "<!-- End of the table. -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fips.md");
        let page = fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (shown, after) = rest.split_once(END).unwrap();
        let mut table = String::from("\n| | in FIPS state 2 |\n|---|---|\n");
        for (what, judgement) in super::tests::table() {
            let answer = judgement.map_or_else(|why| format!("refused: {why}"), |()| "permitted".to_owned());
            writeln!(table, "| {what} | {answer} |").unwrap();
        }
        table.push('\n');
        if env::var_os("UPDATE_GUIDE").is_some() {
            fs::write(path, [before, BEGIN, &table, END, after].concat()).unwrap();
        } else {
            let how = "UPDATE_GUIDE=1 cargo test -p strongroom-hsm --lib approval";
            assert_eq!(shown, table, "docs/fips.md has another table than approval.rs: {how}");
        }
    }

    /// The prefixes are DER, and of the digest's length.
    #[test]
    fn digest_infos_are_known_by_their_first_bytes() {
        for (name, prefix, length, judgement) in DIGEST_INFOS {
            assert_eq!(prefix[1] as usize, prefix.len() + length - 2, "{name}");
            assert_eq!(prefix[prefix.len() - 1] as usize, length, "{name}");
            let data = [prefix, &vec![7; length][..]].concat();
            assert_eq!(judge_signature(crypto::Mechanism::RsaPkcs, &data), judgement, "{name}");
            assert!(judge_signature(crypto::Mechanism::RsaPkcs, &data[..data.len() - 1]).is_err(), "{name}");
        }
    }

    /// What docs/fips.md says of passwords, which are bounded in either state (SP 800-63B, 5.1.1 and 5.2.2).
    #[test]
    fn passwords_have_eight_bytes_and_a_hundred_wrong_ones_lock() {
        const { assert!(MIN_PASSWORD >= 8) };
        assert!(*crate::partition::settings::ATTEMPTS.end() <= 100);
    }
}
