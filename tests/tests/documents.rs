//! The documents name tests: they exist.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

/// The functions in the test files of a folder, as `file::function`.
fn tests_in(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|path| {
            let file = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("fn ")?.split_once('('));
            names.map(|(name, _)| format!("{file}::{name}")).collect::<Vec<_>>()
        })
        .collect()
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
