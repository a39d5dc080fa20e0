//! Certificates of owners and nodes, as files.

use std::path::Path;

use strongroom_owner::{Certificate, CertificateError, OwnerCertificate};

use crate::failure::{Exit, Failure};
use crate::pem_file;

/// Reads an owner's certificate.
///
/// # Errors
///
/// If the file holds none.
pub fn read_owner(path: &Path) -> Result<OwnerCertificate, Failure> {
    OwnerCertificate::parse(&read_certificate(path)?).map_err(|error| wrong(path, error))
}

/// Reads a certificate that an owner has signed.
///
/// # Errors
///
/// If the file holds none.
pub fn read_signed(path: &Path) -> Result<Certificate, Failure> {
    Certificate::parse(&read_certificate(path)?).map_err(|error| wrong(path, error))
}

fn read_certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let blocks = pem_file::read(path)?;
    let Some(block) = blocks.into_iter().find(|block| block.label == "CERTIFICATE") else {
        let message = format!("{} holds no certificate", path.display());
        return Err(Failure::new(Exit::Failed, "pem", message));
    };
    match block.content {
        Ok(der) => Ok(der.to_vec()),
        Err(what) => {
            Err(Failure::new(Exit::Failed, "pem", format!("the certificate in {} {what}", path.display())))
        }
    }
}

fn wrong(path: &Path, error: CertificateError) -> Failure {
    Failure::new(Exit::Failed, "certificate_wrong", format!("the certificate in {} {error}", path.display()))
}
