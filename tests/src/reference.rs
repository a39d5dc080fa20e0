//! PEM reference files for any URI, also for those that our own command would not write.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use strongroom_demo::environment::Environment;
use strongroom_demo::pki::{run_openssl, text};

/// Writes the reference file of `uri` to `file`, in the format that pkcs11-provider defined. It is written
/// here a second time, independently of `strongroom key reference`, so that a mistake there shows.
///
/// # Errors
///
/// When the file cannot be written or the URI is longer than 200 bytes.
pub fn write(uri: &str, file: &Path) -> Result<PathBuf> {
    let mut body = field(0x1a, b"PKCS#11 Provider URI v1.0")?;
    body.extend(field(0x0c, uri.as_bytes())?);
    let der = file.with_extension("der");
    fs::write(&der, field(0x30, &body)?)?;
    let base64 = run_openssl(&Environment::plain(), "base64 -in {}", &[&text(&der)])?;
    let label = "PKCS#11 PROVIDER URI";
    fs::write(file, format!("-----BEGIN {label}-----\n{base64}-----END {label}-----\n"))?;
    Ok(file.into())
}

/// DER: tag, length, content.
fn field(tag: u8, content: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(content.len()).context("the URI is too long for a test")?;
    let mut field = vec![tag];
    if length >= 128 {
        field.push(0x81);
    }
    field.push(length);
    field.extend_from_slice(content);
    Ok(field)
}
