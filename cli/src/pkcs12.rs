//! PKCS#12 files (RFC 7292): keys with their certificates, as `openssl pkcs12 -export` and Windows write them.

use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error as Reason;
use zeroize::Zeroizing;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Archive {
    /// PKCS#8 of its private keys, each with the name that it has there.
    pub keys: Vec<(String, Zeroizing<Vec<u8>>)>,
    /// Its certificates in DER, in the order of the file.
    pub certificates: Vec<Vec<u8>>,
}

/// Why a file is not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The passphrase is wrong, or the file was changed: that is the same to its MAC.
    Passphrase,
    /// It is damaged, or made in a way that is not known.
    Malformed(String),
}

/// Whether DER is a PFX and not one of the other files that hold keys: its version is 3, where theirs are 0 or 1.
pub fn is_pkcs12(der: &[u8]) -> bool {
    let content = match der {
        [0x30, 0..=0x80, rest @ ..] => rest,
        [0x30, length @ 0x81..=0x84, rest @ ..] => rest.get(usize::from(length & 0x7f)..).unwrap_or_default(),
        _ => return false,
    };
    content.starts_with(&[0x02, 0x01, 0x03])
}

/// Opens a file. Takes as long as the file's iterations demand, of which a million at most are done.
///
/// # Errors
///
/// [`Error`].
pub fn open(der: &[u8], passphrase: &str) -> Result<Archive, Error> {
    let archive = Pkcs12Archive::from_pkcs12(der, passphrase).map_err(|reason| match reason {
        Reason::MacError(_) | Reason::UnpadError | Reason::Pkcs5Error(_) => Error::Passphrase,
        other => Error::Malformed(other.to_string()),
    })?;
    let keys = archive.keys.iter().map(|bag| {
        (bag.friendly_name.clone().unwrap_or_default(), Zeroizing::new(bag.key.as_der().to_vec()))
    });
    Ok(Archive {
        keys: keys.collect(),
        certificates: archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pfx_is_told_from_keys() {
        assert!(is_pkcs12(&[0x30, 0x82, 9, 9, 2, 1, 3, 0x30]));
        assert!(is_pkcs12(&[0x30, 0x80, 2, 1, 3]) && is_pkcs12(&[0x30, 3, 2, 1, 3]));
        for other in
            [&[][..], &[0x30], &[0x30, 0x84], &[0x30, 0x82, 9, 9, 2, 1, 0, 0x30], &[0x31, 3, 2, 1, 3]]
        {
            assert!(!is_pkcs12(other), "{other:?}");
        }
        assert!(matches!(open(&[0x30, 3, 2, 1, 3], ""), Err(Error::Malformed(_))));
    }
}
