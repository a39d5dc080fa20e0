//! Key transfer blobs, the `.byok` files of Azure's "bring your own key": JSON around a key that is wrapped with RSA-OAEP
//! (SHA-1) and AES key wrap.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

/// The only way of wrapping that the files know.
const WAY: &str = "CKM_RSA_AES_KEY_WRAP";

#[derive(Debug, Serialize, Deserialize)]
struct Blob {
    schema_version: String,
    header: Header,
    ciphertext: String,
    #[serde(default)]
    generator: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The key exchange key's name where the file goes.
    #[serde(default)]
    kid: String,
    #[serde(default)]
    alg: String,
    enc: String,
}

/// Whether a file may be one: it begins as JSON does.
pub fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// Reads the wrapped key in a file.
///
/// # Errors
///
/// What is wrong with the file.
pub fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let blob: Blob = serde_json::from_slice(bytes).map_err(|e| format!("is not a key transfer blob: {e}"))?;
    if !blob.schema_version.starts_with("1.") {
        return Err(format!("is a key transfer blob of version {:?}: 1.0.0 is known", blob.schema_version));
    }
    if blob.header.enc != WAY {
        return Err(format!("is wrapped with {:?}: {WAY} is known", blob.header.enc));
    }
    let bare = blob.ciphertext.trim_end_matches('=');
    Base64UrlUnpadded::decode_vec(bare).map_err(|_| "has a ciphertext that is not base64url".to_owned())
}

/// Writes a file for the key exchange key that is called `kid` where the file goes.
pub fn write(kid: &str, wrapped: &[u8]) -> String {
    let blob = Blob {
        schema_version: "1.0.0".to_owned(),
        header: Header { kid: kid.to_owned(), alg: "dir".to_owned(), enc: WAY.to_owned() },
        ciphertext: Base64UrlUnpadded::encode_string(wrapped),
        generator: concat!("strongroom ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    // Strings serialise always.
    serde_json::to_string_pretty(&blob).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = write("https://contoso.vault.azure.net/keys/kek/1", &[0xfb, 0xff, 1, 2]);
        assert!(is_json(text.as_bytes()) && text.contains("\"ciphertext\": \"-_8BAg\""), "{text}");
        assert_eq!(read(text.as_bytes()), Ok(vec![0xfb, 0xff, 1, 2]));
        // Others pad.
        assert_eq!(read(text.replace("-_8BAg", "-_8BAg==").as_bytes()), Ok(vec![0xfb, 0xff, 1, 2]));
        for (from, to, why) in [
            ("-_8BAg", "-_8B Ag", "base64url"),
            ("1.0.0", "2.0.0", "version"),
            ("CKM_RSA_AES_KEY_WRAP", "none", "wrapped with"),
            ("ciphertext", "cipher", "not a key transfer blob"),
        ] {
            let error = read(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
