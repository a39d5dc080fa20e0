//! The names of key types on the command line, in tables and in JSON: one table.

use strongroom_protocol::v1::KeyType;

/// Each key type with its name for programs and for people.
pub const KEY_TYPES: [(KeyType, &str, &str); 27] = [
    (KeyType::Rsa2048, "rsa-2048", "RSA 2048"),
    (KeyType::Rsa3072, "rsa-3072", "RSA 3072"),
    (KeyType::Rsa4096, "rsa-4096", "RSA 4096"),
    (KeyType::P224, "p224", "ECDSA P-224"),
    (KeyType::P256, "p256", "ECDSA P-256"),
    (KeyType::P384, "p384", "ECDSA P-384"),
    (KeyType::P521, "p521", "ECDSA P-521"),
    (KeyType::Secp256k1, "secp256k1", "ECDSA secp256k1"),
    (KeyType::BrainpoolP256r1, "brainpoolP256r1", "ECDSA brainpoolP256r1"),
    (KeyType::BrainpoolP320r1, "brainpoolP320r1", "ECDSA brainpoolP320r1"),
    (KeyType::BrainpoolP384r1, "brainpoolP384r1", "ECDSA brainpoolP384r1"),
    (KeyType::BrainpoolP512r1, "brainpoolP512r1", "ECDSA brainpoolP512r1"),
    (KeyType::Ed25519, "ed25519", "Ed25519"),
    (KeyType::Ed448, "ed448", "Ed448"),
    (KeyType::X25519, "x25519", "X25519"),
    (KeyType::X448, "x448", "X448"),
    (KeyType::MlDsa44, "ml-dsa-44", "ML-DSA-44"),
    (KeyType::MlDsa65, "ml-dsa-65", "ML-DSA-65"),
    (KeyType::MlDsa87, "ml-dsa-87", "ML-DSA-87"),
    (KeyType::MlKem512, "ml-kem-512", "ML-KEM-512"),
    (KeyType::MlKem768, "ml-kem-768", "ML-KEM-768"),
    (KeyType::MlKem1024, "ml-kem-1024", "ML-KEM-1024"),
    (KeyType::Aes128, "aes-128", "AES 128"),
    (KeyType::Aes192, "aes-192", "AES 192"),
    (KeyType::Aes256, "aes-256", "AES 256"),
    (KeyType::GenericSecret, "generic-secret", "generic secret"),
    (KeyType::Des3, "3des", "3DES"),
];

/// Names a key type as `--type` takes it; "unknown" for one of a newer daemon.
pub fn name(key_type: KeyType) -> &'static str {
    KEY_TYPES.iter().find(|(t, ..)| *t == key_type).map_or("unknown", |(_, name, _)| name)
}

/// Whether keys of this type are secret keys, of one object; the others are pairs.
pub fn is_secret(key_type: KeyType) -> bool {
    use KeyType::{Aes128, Aes192, Aes256, Des3, GenericSecret};
    matches!(key_type, Aes128 | Aes192 | Aes256 | GenericSecret | Des3)
}

/// Names a key type for people.
pub fn title(key_type: KeyType) -> &'static str {
    KEY_TYPES.iter().find(|(t, ..)| *t == key_type).map_or("unknown", |(.., title)| title)
}

/// Reads a key type from the command line, with the spellings that other programs have.
///
/// # Errors
///
/// If there is no such type, with the list of those there are.
pub fn parse(text: &str) -> Result<KeyType, String> {
    let plain: String = text.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    let wanted = match plain.as_str() {
        "secp224r1" | "nistp224" | "ecp224" => "p224",
        "prime256v1" | "secp256r1" | "nistp256" | "ecp256" => "p256",
        "secp384r1" | "nistp384" | "ecp384" => "p384",
        "secp521r1" | "nistp521" | "ecp521" => "p521",
        // In bytes, as pkcs11-tool has it.
        "aes16" => "aes128",
        "aes24" => "aes192",
        "aes32" => "aes256",
        "generic" | "hmac" => "genericsecret",
        "des3" | "tripledes" => "3des",
        other => other,
    };
    let found = KEY_TYPES.iter().find(|(_, name, _)| name.replace('-', "").eq_ignore_ascii_case(wanted));
    found.map(|(key_type, ..)| *key_type).ok_or_else(|| {
        let names: Vec<_> = KEY_TYPES.iter().map(|(_, name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_by_its_own_name() {
        for (key_type, name, _) in KEY_TYPES {
            assert_eq!(parse(name), Ok(key_type));
        }
    }

    #[test]
    fn other_programs_spellings_are_read() {
        assert_eq!(parse("RSA:3072"), Ok(KeyType::Rsa3072));
        assert_eq!(parse("prime256v1"), Ok(KeyType::P256));
        assert_eq!(parse("P-384"), Ok(KeyType::P384));
        assert_eq!(parse("AES:32"), Ok(KeyType::Aes256));
        assert_eq!(parse("BrainpoolP384R1"), Ok(KeyType::BrainpoolP384r1));
        assert_eq!(parse("HMAC"), Ok(KeyType::GenericSecret));
        assert!(parse("rsa-1024").unwrap_err().contains("rsa-2048"));
    }
}
