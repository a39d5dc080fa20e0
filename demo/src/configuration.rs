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

    /// Gives a directive that stands on a line of its own, as in `worker_processes auto;`, another value.
    ///
    /// # Errors
    ///
    /// When no line has it.
    pub fn set(mut self, directive: &str, value: &str) -> Result<Self> {
        let mut found = false;
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            let indent = line.len() - line.trim_start().len();
            match line.trim_start().strip_prefix(directive) {
                Some(rest) if rest.starts_with(' ') => {
                    found = true;
                    let end = if rest.trim_end().ends_with(';') { ";" } else { "" };
                    text.extend(std::iter::repeat_n(' ', indent));
                    text.push_str(&format!("{directive} {value}{end}\n"));
                }
                _ => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        if !found {
            bail!("{} no longer has a line with {directive:?}", self.source.display());
        }
        self.text = text;
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

    #[test]
    fn a_directive_gets_another_value() {
        let text = "# worker_processes is\nworker_processes auto;\n  nbthread 4\n".into();
        let configuration = Configuration { source: "a.conf".into(), text };
        let configuration =
            configuration.set("worker_processes", "16").unwrap().set("nbthread", "2").unwrap();
        assert_eq!(configuration.text, "# worker_processes is\nworker_processes 16;\n  nbthread 2\n");
        assert!(configuration.set("worker", "1").is_err());
    }
}
