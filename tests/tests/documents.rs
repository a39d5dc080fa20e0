//! The documents name tests: they exist.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The functions in the test files of a folder, as `file::function`; those in a folder within it have that folder's name.
fn tests_in(folder: &Path) -> Vec<String> {
    let named = |path: PathBuf| (path.file_stem().unwrap().to_string_lossy().into_owned(), path);
    let mut found = Vec::new();
    for (name, path) in paths(folder).map(named) {
        let files = if path.is_dir() { paths(&path).collect() } else { vec![path] };
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
            let text = fs::read_to_string(file).unwrap();
            let functions = text.lines().filter_map(|line| line.strip_prefix("fn ")?.split_once('('));
            found.extend(functions.map(|(function, _)| format!("{name}::{function}")));
        }
    }
    found
}

fn paths(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
}

#[test]
fn the_comparison_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let known = [tests_in(&root.join("tests/tests")), tests_in(&root.join("provider/tests"))].concat();
    let page = fs::read_to_string(root.join("docs/comparison.md")).unwrap();
    // The modules of a source file, in which unit tests are, are marked with a letter after the name.
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(2));
    let mut named = 0;
    for cell in cells {
        let mut file = String::new();
        for (quoted, after) in cell.split('`').skip(1).step_by(2).zip(cell.split('`').skip(2).step_by(2)) {
            let Some((first, name)) = quoted.split_once("::") else { continue };
            if after.starts_with('ᵘ') {
                continue;
            }
            // "…" stands for the file before it.
            if first != "…" {
                first.clone_into(&mut file);
            }
            let is_there = match name {
                "*" => known.iter().any(|test| test.starts_with(&format!("{file}::"))),
                name => known.contains(&format!("{file}::{name}")),
            };
            assert!(is_there, "{file}::{name}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}
