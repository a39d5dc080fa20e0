//! Which tests name a function, a mechanism or an attribute: found in the tests' sources.

use std::fs;
use std::path::{Path, PathBuf};

/// The sources of the tests, by the names that the page shows.
pub struct Tests(Vec<(String, String)>);

impl Tests {
    /// Reads the module's own tests (beside the code too) and those that run other people's programs.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files = Vec::new();
        for folder in ["pkcs11/tests", "pkcs11/src", "tests/tests", "tests/src"] {
            collect(&root.join(folder), &mut files);
        }
        files.sort();
        let own = Path::new("pkcs11/tests/mirror");
        let mut tests = Vec::new();
        for file in files {
            let name = file.strip_prefix(root).unwrap();
            if name.starts_with(own) {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let shown = name.to_str().unwrap();
            match shown.starts_with("pkcs11/src") {
                true => {
                    if let Some((_, text)) = text.split_once("#[cfg(test)]") {
                        tests.push((shown.to_owned(), text.to_owned()));
                    }
                }
                false => tests.push((shown.to_owned(), text)),
            }
        }
        Tests(tests)
    }

    /// At most three files that name it; the module's own first.
    pub fn naming(&self, name: &str) -> Vec<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = |text: &str| {
            text.match_indices(name).any(|(at, _)| {
                !text[..at].ends_with(is_name) && !text[at + name.len()..].starts_with(is_name)
            })
        };
        let found = self.0.iter().filter(|(_, text)| names(text));
        let short = |(file, _): &(String, String)| {
            let short = file.strip_prefix("pkcs11/tests/").or(file.strip_prefix("pkcs11/")).unwrap_or(file);
            short.trim_end_matches(".rs").to_owned()
        };
        found.map(short).take(3).collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
