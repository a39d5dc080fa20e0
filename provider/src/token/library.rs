//! Whether the module is the one that a URI asks for.

use std::fs;
use std::path::Path;

use super::module::Module;
use super::slot::unpadded;
use crate::error::{Error, Result};
use strongroom_uri::Uri;

/// The URI's `library-` attributes, `module-name` and `module-path` must fit the module. Which one is loaded is openssl.cnf's to
/// say: a URI may come from elsewhere and must not load code. One that asks for another module is refused, since the
/// token that it means is not to be had.
///
/// # Errors
///
/// [`Error::NoToken`] if it is another.
pub fn check(module: &Module, uri: &Uri) -> Result<()> {
    let refused = |found: String| Err(Error::NoToken { uri: uri.to_string(), found, away: false });
    let used = module.path.display();
    if let Some(name) = &uri.module_name
        && !is_named(&module.path, name)
    {
        return refused(format!(
            "it asks for module-name={name} and the module is {used}, by pkcs11-module-path in openssl.cnf"
        ));
    }
    if let Some(path) = &uri.module_path
        && !is_at(&module.path, Path::new(path))
    {
        return refused(format!(
            "it asks for module-path={path} and the module is {used}, by pkcs11-module-path in openssl.cnf"
        ));
    }
    if uri.library_manufacturer.is_none()
        && uri.library_description.is_none()
        && uri.library_version.is_none()
    {
        return Ok(());
    }
    let info = module.info().map_err(|rv| Error::token("C_GetInfo", "the module", rv))?;
    let (manufacturer, description) = (unpadded(&info.manufacturerID), unpadded(&info.libraryDescription));
    let version = (info.libraryVersion.major, info.libraryVersion.minor);
    let fits = |wanted: &Option<String>, is: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.trim_end_matches(' ') == is)
    };
    if fits(&uri.library_manufacturer, &manufacturer)
        && fits(&uri.library_description, &description)
        && uri.library_version.is_none_or(|wanted| wanted == version)
    {
        return Ok(());
    }
    refused(format!(
        "the module's library is \"{description}\" {}.{} by \"{manufacturer}\"",
        version.0, version.1
    ))
}

/// Whether a module's file has this name, without `lib` and what follows the first dot (RFC 7512, section 2.3).
fn is_named(module: &Path, name: &str) -> bool {
    let Some(file) = module.file_name().and_then(|file| file.to_str()) else { return false };
    let stem = file.split('.').next().unwrap_or(file);
    stem == name || stem.strip_prefix("lib") == Some(name)
}

/// Whether a path is the module's, or that of a folder that it is in.
fn is_at(module: &Path, path: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (target, path) = (real(module), real(path));
    // The module may be a link to a file in another folder.
    let folders = [module.parent().map(real), target.parent().map(Path::to_owned)];
    target == path || folders.iter().flatten().any(|folder| *folder == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_its_file() {
        let module = Path::new("/usr/lib/softhsm/libsofthsm2.so.1");
        assert!(is_named(module, "softhsm2") && is_named(module, "libsofthsm2"));
        assert!(!is_named(module, "softhsm") && !is_named(module, "libsofthsm2.so"));
        assert!(is_named(Path::new("p11-kit-proxy.so"), "p11-kit-proxy"));
        assert!(is_at(module, module) && is_at(module, Path::new("/usr/lib/softhsm")));
        assert!(
            !is_at(module, Path::new("/usr/lib")) && !is_at(module, Path::new("/usr/lib/softhsm/other.so"))
        );
    }
}
