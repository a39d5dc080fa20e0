//! The configuration files that the documentation shows, with their paths changed for one run.
//!
//! nginx-conf/ and apache-conf/ hold files for a real installation: /etc/strongroom, port 443, /var/log. A
//! run replaces exactly these texts. A text that is not there is an error, so that the files and this
//! program cannot drift apart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A configuration file on its way to a run's folder.
#[derive(Debug)]
pub struct Configuration {
    source: PathBuf,
    text: String,
}

impl Configuration {
    /// Reads a file of the repository, as in `nginx-conf/nginx-1.22.conf`.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(source: &Path) -> Result<Self> {
        let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
        Ok(Configuration { source: source.into(), text })
    }

    /// Replaces `text` wherever it stands.
    ///
    /// # Errors
    ///
    /// When it stands nowhere.
    pub fn replace(mut self, text: &str, by: &str) -> Result<Self> {
        if !self.text.contains(text) {
            bail!("{} no longer has the text {text:?} that a run replaces", self.source.display());
        }
        self.text = self.text.replace(text, by);
        Ok(self)
    }

    /// Replaces a path.
    ///
    /// # Errors
    ///
    /// When it stands nowhere.
    pub fn replace_path(self, path: &str, by: &Path) -> Result<Self> {
        self.replace(path, &by.display().to_string())
    }

    /// Writes the result.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, target: &Path) -> Result<()> {
        fs::write(target, &self.text).with_context(|| format!("cannot write {}", target.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_gone_is_an_error() {
        let configuration = Configuration { source: "a.conf".into(), text: "listen 443;".into() };
        let configuration = configuration.replace("443", "20443").unwrap();
        assert_eq!(configuration.text, "listen 20443;");
        let error = configuration.replace("listen 443", "listen 1").unwrap_err();
        assert!(error.to_string().contains("a.conf no longer has the text"), "{error}");
    }
}
