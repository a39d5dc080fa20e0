//! Programs from PyPI, pinned in tests/python/, each in a virtual environment of its own below the build folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use strongroom_demo::command;
use strongroom_demo::programs::{repository, system};

/// How long pip may take to fetch what a program needs.
const FETCH: Duration = Duration::from_secs(300);

/// The folder with the programs of an environment that has what tests/python/`name`.txt pins. It is made once for all runs.
///
/// # Errors
///
/// When PyPI or its mirror does not give the packages: with what pip said.
pub fn environment(name: &str) -> Result<PathBuf> {
    let pinned = repository("tests/python").join(name).with_extension("txt");
    let folder = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository("target"), PathBuf::from)
        .join("tools")
        .join(name);
    // What the environment was made from; written last.
    let made = folder.join("requirements.txt");
    let wanted = fs::read(&pinned)?;
    if !fs::read(&made).is_ok_and(|had| had == wanted) {
        let mut create = command::new(system("python3")?);
        create.args(["-m", "venv", "--clear"]).arg(&folder);
        command::succeed(create, FETCH)?;
        pip(&folder, &["install", "--only-binary", ":all:", "--require-hashes", "--requirement"], &pinned)?;
        fs::write(&made, wanted)?;
    }
    Ok(folder.join("bin"))
}

fn pip(folder: &Path, arguments: &[&str], last: &Path) -> Result<String> {
    let mut pip = command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments).arg(last);
    command::succeed(pip, FETCH)
}
