//! docs/pkcs11-mirror.md: the standard's functions, mechanisms and attributes, what the module does with each, and where
//! that is tested. The page is made from the code; this compares. UPDATE_GUIDE=1 writes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attributes;
mod classes;
mod keys;
mod tests;

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use cryptoki_sys::*;
use strongroom_pkcs11::{entry, lists, mechanism};
use tests::Tests;

const PAGE: &str = "docs/pkcs11-mirror.md";

const HEAD: &str = "# PKCS#11 in a mirror

What the module does with each function, mechanism, object class and attribute of PKCS#11, made from its code by
`pkcs11/tests/mirror/`. [docs/pkcs11.md](pkcs11.md) says how to use it. The last column names tests: `module/…` are in
`pkcs11/tests/`, `src/…` beside the code, `tests/…` run other people's programs.
";

/// What no test names.
const UNTESTED: &[&str] = &[];

#[test]
fn the_page_says_what_the_code_does() {
    let tests = Tests::read();
    let (functions, mut untested) = functions(&tests);
    let (mechanisms, more) = mechanisms(&tests);
    untested.extend(more);
    let (attributes, more) = attributes::table(&tests);
    untested.extend(more);
    let (classes, more) = classes::table(&tests);
    untested.extend(more);
    let page = format!(
        "{HEAD}\n## Functions\n\n{functions}\n## Mechanisms\n\nSizes are in bits, of AES in bytes.\n\n{mechanisms}\n\
         ## Object classes\n\n{classes}\n## Attributes\n\n**r**: can be read. **x**: is there, and is never shown (`CKR_ATTRIBUTE_SENSITIVE`). **c**: can be given \
         when an object of the class is made.\n**s**: can be changed later (`C_SetAttributeValue`). Nothing: \
         `CKR_ATTRIBUTE_TYPE_INVALID`, or `CKR_ATTRIBUTE_READ_ONLY` for what is only read.\n\n{attributes}"
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(PAGE);
    if env::var_os("UPDATE_GUIDE").is_some() {
        fs::write(path, &page).unwrap();
    } else {
        let written = fs::read_to_string(path).unwrap_or_default();
        let how = "UPDATE_GUIDE=1 cargo test -p strongroom-pkcs11 --test mirror";
        let changed = page.lines().find(|line| !written.contains(line));
        assert!(page == written, "{PAGE} is not what the code says ({changed:?}); '{how}' renews it");
    }
    // Only ever fewer.
    let more: Vec<_> = untested.iter().filter(|name| !UNTESTED.contains(name)).collect();
    let fewer: Vec<_> = UNTESTED.iter().filter(|name| !untested.contains(name)).collect();
    assert!(more.is_empty() && fewer.is_empty(), "no test names {more:?}; some test names {fewer:?} now");
}

/// The first sentence of the documentation of a function of `pkcs11/src/api/`.
fn said_of(path: &str) -> String {
    let (module, name) = path.rsplit_once("::").unwrap();
    let file = format!(
        "{}/src/{}.rs",
        env!("CARGO_MANIFEST_DIR"),
        match module {
            "lists" => "lists".to_owned(),
            module => format!("api/{module}"),
        }
    );
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let at = text.find(&format!("pub unsafe fn {name}(")).unwrap_or_else(|| panic!("{name} in {file}"));
    let lines: Vec<_> = text[..at].lines().rev().collect();
    let said: Vec<_> = lines
        .into_iter()
        .skip_while(|line| line.starts_with("#["))
        .map_while(|line| line.strip_prefix("///"))
        .map(str::trim)
        .collect();
    let said = said.into_iter().rev().collect::<Vec<_>>().join(" ");
    let said = said.split_once(" # ").map_or(said.as_str(), |(said, _)| said);
    // "`C_Foo`: what it does."; of two functions, "`C_Foo` and `C_Bar`, which …".
    let said = said.split_once("`: ").map_or("", |(_, said)| said);
    said.trim_end_matches('.').replace('|', "\\|")
}

fn functions(tests: &Tests) -> (String, Vec<&'static str>) {
    let mut table = String::from("| function | since | what we do | tests |\n|---|---|---|---|\n");
    let mut untested = Vec::new();
    let all = [entry::BEFORE_INITIALIZE, entry::AFTER_INITIALIZE, entry::UNSUPPORTED].concat();
    for (version, names) in lists::NAMES {
        for name in names {
            let function = all.iter().find(|function| function.name == *name).unwrap();
            let what = match function.path.map(said_of) {
                None => "`CKR_FUNCTION_NOT_SUPPORTED`".to_owned(),
                Some(said) if said.is_empty() => "as the standard has it".to_owned(),
                Some(said) => said,
            };
            let found = tests.naming(name);
            if found.is_empty() {
                untested.push(function.name);
            }
            writeln!(table, "| `{name}` | {version} | {what} | {} |", found.join(", ")).unwrap();
        }
    }
    (table, untested)
}

fn mechanisms(tests: &Tests) -> (String, Vec<&'static str>) {
    const USES: [(CK_FLAGS, &str); 18] = [
        (CKF_ENCRYPT, "encrypt"),
        (CKF_DECRYPT, "decrypt"),
        (CKF_DIGEST, "digest"),
        (CKF_SIGN, "sign"),
        (CKF_SIGN_RECOVER, "sign with recovery"),
        (CKF_VERIFY, "verify"),
        (CKF_VERIFY_RECOVER, "verify with recovery"),
        (CKF_GENERATE, "generate"),
        (CKF_GENERATE_KEY_PAIR, "generate a pair"),
        (CKF_WRAP, "wrap"),
        (CKF_UNWRAP, "unwrap"),
        (CKF_DERIVE, "derive"),
        (CKF_ENCAPSULATE, "encapsulate"),
        (CKF_DECAPSULATE, "decapsulate"),
        (CKF_MESSAGE_ENCRYPT, "encrypt messages"),
        (CKF_MESSAGE_DECRYPT, "decrypt messages"),
        (CKF_MESSAGE_SIGN, "sign messages"),
        (CKF_MESSAGE_VERIFY, "verify messages"),
    ];
    let mut table = String::from("| mechanism | uses | keys | where | tests |\n|---|---|---|---|---|\n");
    let mut untested = Vec::new();
    for entry in mechanism::MECHANISMS {
        let info = entry.info();
        let uses: Vec<_> =
            USES.iter().filter(|(flag, _)| info.flags & flag != 0).map(|(_, name)| *name).collect();
        let keys = match (info.ulMinKeySize, info.ulMaxKeySize) {
            (0, 0) => String::new(),
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        };
        let place = if info.flags & CKF_HW != 0 { "partition" } else { "process" };
        let found = tests.naming(entry.name);
        if found.is_empty() {
            untested.push(entry.name);
        }
        let (uses, found) = (uses.join(", "), found.join(", "));
        writeln!(table, "| `{}` | {uses} | {keys} | {place} | {found} |", entry.name).unwrap();
    }
    (table, untested)
}
