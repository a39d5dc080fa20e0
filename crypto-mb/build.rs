//! Finds Intel's crypto_mb and links it; without it the crate says at run time that it is not there.
//!
//! `STRONGROOM_CRYPTO_MB` names the static library; `off` builds without. Otherwise it is where `demo/install`
//! puts it: `tools/crypto-mb/libcrypto_mb.a` in cargo's target directory, wherever that is.

#![allow(clippy::print_stdout)] // Cargo's instructions.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const OVERRIDE: &str = "STRONGROOM_CRYPTO_MB";
const PLACE: &str = "tools/crypto-mb";
const FILE: &str = "libcrypto_mb.a";

/// What the library wants of OpenSSL, for functions that take OpenSSL's numbers. Nothing here calls those, but
/// they share objects with those that are called.
const OF_OPENSSL: [&str; 5] = ["BN_bin2bn", "BN_bn2lebinpad", "BN_is_word", "BN_num_bits", "ECDSA_SIG_get0"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(crypto_mb)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-env-changed=OBJCOPY");
    let target = (env::var("CARGO_CFG_TARGET_ARCH"), env::var("CARGO_CFG_TARGET_OS"));
    if target != (Ok("x86_64".to_owned()), Ok("linux".to_owned())) {
        return;
    }
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let Some(library) = find(&out) else { return };
    match without_openssl(&library, &out.join(FILE)) {
        Ok(()) => {
            println!("cargo::rustc-link-search=native={}", out.display());
            println!("cargo::rustc-link-lib=static=crypto_mb");
            println!("cargo::rustc-cfg=crypto_mb");
        }
        Err(error) => println!("cargo::warning=built without crypto_mb: {error}"),
    }
}

/// The library, if there is one. Tells cargo what to look at, so that it is noticed when it comes or goes.
fn find(out: &Path) -> Option<PathBuf> {
    if let Some(named) = env::var_os(OVERRIDE).filter(|named| !named.is_empty()) {
        if named == "off" {
            return None;
        }
        let named = PathBuf::from(named);
        println!("cargo::rerun-if-changed={}", named.display());
        if !named.is_file() {
            println!("cargo::warning=built without crypto_mb: {OVERRIDE} is {}, no file", named.display());
            return None;
        }
        return Some(named);
    }
    // OUT_DIR is TARGET-DIRECTORY[/TRIPLE]/PROFILE/build/PACKAGE/out.
    let above = out.ancestors().nth(4)?;
    let has_triple = above.file_name() == env::var_os("TARGET").as_deref();
    let target = if has_triple { above.parent()? } else { above };
    let place = target.join(PLACE);
    // A file that is not there would be "changed" at every build; a directory changes when something comes.
    std::fs::create_dir_all(&place).ok()?;
    println!("cargo::rerun-if-changed={}", place.display());
    Some(place.join(FILE)).filter(|file| file.is_file())
}

/// Copies the library with its references to OpenSSL made weak and renamed, so that they bind to nothing.
fn without_openssl(library: &Path, copy: &Path) -> Result<(), String> {
    let objcopy = env::var("OBJCOPY").unwrap_or_else(|_| "objcopy".to_owned());
    let mut command = Command::new(&objcopy);
    for name in OF_OPENSSL {
        // objcopy renames first.
        command.arg(format!("--redefine-sym={name}=strongroom_crypto_mb_has_no_{name}"));
        command.arg(format!("--weaken-symbol=strongroom_crypto_mb_has_no_{name}"));
    }
    let done =
        command.arg(library).arg(copy).output().map_err(|error| {
            format!("'{objcopy}' (of binutils): {error}; install it, or name one in OBJCOPY")
        })?;
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("'{objcopy} {}': {}", library.display(), String::from_utf8_lossy(&done.stderr).trim()))
    }
}
