//! openssl.cnf: whether it loads the provider, and with what.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{Person, flaw_of_library};
use super::{Findings, pin};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Files that include others, one in the other.
const MAX_DEPTH: usize = 8;

/// A configuration: sections with their names and values.
#[derive(Debug, Default)]
pub(super) struct Conf {
    sections: HashMap<String, Vec<(String, String)>>,
}

impl Conf {
    fn read(path: &Path) -> Result<Self, String> {
        let mut conf = Conf::default();
        conf.include(path, 0)?;
        Ok(conf)
    }

    fn include(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("includes files in more than {MAX_DEPTH} steps"));
        }
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        if metadata.is_dir() {
            let mut inside: Vec<PathBuf> = fs::read_dir(path)
                .map_err(|error| error.to_string())?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|end| end == "cnf" || end == "conf"))
                .collect();
            inside.sort();
            return inside.iter().try_for_each(|path| self.include(path, depth + 1));
        }
        if metadata.len() > MAX_FILE {
            return Err("is larger than 1 MiB".to_owned());
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut section = "default".to_owned();
        for line in text.replace("\\\n", "").lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.trim().clone_into(&mut section);
                self.sections.entry(section.clone()).or_default();
            } else if let Some(included) = line.strip_prefix(".include") {
                let included = included.trim().trim_start_matches('=').trim();
                let place = path.parent().unwrap_or(path).join(included);
                // What is not there is left out by OpenSSL, too.
                if place.exists() {
                    self.include(&place, depth + 1)?;
                }
            } else if let Some((name, value)) = line.split_once('=') {
                let value = value.trim().trim_matches('"').to_owned();
                self.sections.entry(section.clone()).or_default().push((name.trim().to_owned(), value));
            }
        }
        Ok(())
    }

    /// The last value of a name in a section.
    fn value(&self, section: &str, name: &str) -> Option<&str> {
        let lines = self.sections.get(section)?;
        lines.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn is_activated(&self, section: &str) -> bool {
        let value = self.value(section, "activate").map(str::to_ascii_lowercase);
        value.is_some_and(|value| !matches!(value.as_str(), "0" | "no" | "false" | "off"))
    }
}

/// Looks at a configuration of OpenSSL.
pub(super) fn look(path: &Path, person: Option<&Person>, findings: &mut Findings) {
    let subject = path.display().to_string();
    if !path.exists() {
        let remedy = "copy nginx-conf/openssl.cnf there, or name yours with OPENSSL_CONF or --openssl-conf";
        return findings.problem("openssl_conf_missing", &subject, "is not there", remedy);
    }
    if let Some((person, place)) = person.and_then(|person| Some((person, person.kept_out_by(path)?))) {
        findings.problem(
            "openssl_conf_unreadable",
            &subject,
            format!("{} may not read it: {} forbids it", person.name, place.display()),
            format!("chmod o+rX {}", place.display()),
        );
    }
    let conf = match Conf::read(path) {
        Ok(conf) => conf,
        Err(error) => {
            return findings.problem(
                "openssl_conf_unreadable",
                &subject,
                error,
                "make it a readable text file",
            );
        }
    };
    let Some(init) = conf.value("default", "openssl_conf") else {
        return findings.problem(
            "no_openssl_init",
            &subject,
            "has no line 'openssl_conf = openssl_init' before its first section: OpenSSL reads nothing of it",
            "add the line at the top",
        );
    };
    let Some(list) = conf.value(init, "providers").and_then(|list| conf.sections.get(list)) else {
        return findings.problem(
            "no_provider_section",
            &subject,
            format!("section [{init}] names no section with providers, or one that is not there"),
            format!("'providers = provider_sect' in [{init}], and a section [provider_sect]"),
        );
    };
    let module = |section: &str| conf.value(section, "module").unwrap_or_default().to_owned();
    let own = list
        .iter()
        .enumerate()
        .find(|(_, (name, section))| name == "strongroom" || module(section).contains("strongroom"));
    let Some((at, (_, section))) = own else {
        return findings.problem(
            "provider_not_listed",
            &subject,
            "its list of providers has no strongroom",
            "add 'strongroom = strongroom_sect' after 'default', and the section from nginx-conf/openssl.cnf",
        );
    };
    if !conf.sections.contains_key(section) {
        return findings.problem(
            "provider_section_missing",
            &subject,
            format!("has no section [{section}], which its list of providers names"),
            "add the section from nginx-conf/openssl.cnf",
        );
    }
    let before = findings.count(super::Severity::Problem);
    if !conf.is_activated(section) {
        let remedy = format!("'activate = 1' in [{section}]");
        findings.problem(
            "provider_not_activated",
            &subject,
            "the provider is listed, and not activated",
            remedy,
        );
    }
    let base = list.iter().enumerate().find(|(_, (name, section))| {
        matches!(name.as_str(), "default" | "fips") && conf.is_activated(section)
    });
    match base {
        None => findings.problem(
            "default_not_activated",
            &subject,
            "OpenSSL's own provider is not activated: once a configuration names providers, it is no longer there by itself, \
             and nothing can be hashed or verified",
            "'default = default_sect' in the list, and 'activate = 1' in [default_sect]",
        ),
        Some((place, _)) if place > at => findings.problem(
            "default_after_strongroom",
            &subject,
            "'default' comes after 'strongroom': one-time keys of handshakes would be looked for in the token first",
            "put the line 'default = ...' before the line 'strongroom = ...'",
        ),
        Some(_) => {}
    }
    let other = list.iter().find(|(name, section)| {
        (name == "pkcs11" || module(section).ends_with("pkcs11.so")) && conf.is_activated(section)
    });
    if let Some((name, _)) = other {
        findings.problem(
            "two_providers",
            &subject,
            format!("'{name}' is activated beside strongroom: each opens pkcs11: URIs, and which one does is a matter of luck"),
            format!("remove the line '{name} = ...' (docs/migration.md)"),
        );
    }
    libraries(&conf, section, path, findings);
    if let Some(value) = conf.value(section, "pkcs11-module-token-pin") {
        pin::look(value, path, person, findings);
    }
    if findings.count(super::Severity::Problem) == before {
        findings.ok("openssl_conf_sound", &subject, "loads the provider");
    }
}

fn libraries(conf: &Conf, section: &str, path: &Path, findings: &mut Findings) {
    let subject = path.display();
    let named = |name: &str| conf.value(section, name).filter(|value| !value.contains('$'));
    if let Some(module) = named("module")
        && module.starts_with('/')
        && let Some(flaw) = flaw_of_library(Path::new(module), "OSSL_provider_init")
    {
        findings.problem(
            "provider_file_wrong",
            &subject,
            format!("module = {module}, which {flaw}"),
            "name the file strongroom.so; 'openssl version -m' prints the folder for providers",
        );
    }
    if let Some(module) = named("pkcs11-module-path")
        && let Some(flaw) = flaw_of_library(Path::new(module), "C_GetFunctionList")
    {
        findings.problem(
            "module_file_wrong",
            &subject,
            format!("pkcs11-module-path = {module}, which {flaw}"),
            "name the PKCS#11 module: libstrongroom_pkcs11.so, or that of your HSM",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_comments_and_includes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openssl.cnf");
        fs::write(folder.path().join("more.cnf"), "[s]\nb = \"2\" # two\n").unwrap();
        fs::write(
            &path,
            "a = x\\\ny\n# c = 1\n.include more.cnf\n.include = none.cnf\n[ s ]\nb=3\nactivate = no\n",
        )
        .unwrap();
        let conf = Conf::read(&path).unwrap();
        assert_eq!(conf.value("default", "a"), Some("xy"));
        assert_eq!(conf.value("default", "c"), None);
        assert_eq!(conf.value("s", "b"), Some("3"));
        assert!(!conf.is_activated("s") && !conf.is_activated("t"));
        fs::write(&path, ".include openssl.cnf\n").unwrap();
        assert!(Conf::read(&path).unwrap_err().contains("steps"));
    }
}
