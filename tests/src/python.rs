//! Programs from PyPI, pinned in tests/python/, each in a virtual environment of its own below the build folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use strongroom_demo::command;
use strongroom_demo::pki::text;
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

/// The folder with the sources of a package that tests/python/`name`.txt pins, as its maintainers publish them: programs come without
/// their tests. Fetched once for all runs.
///
/// # Errors
///
/// As [`environment`].
pub fn sources(name: &str, package: &str) -> Result<PathBuf> {
    let programs = environment(name)?;
    let folder = programs.parent().context("no environment")?.to_path_buf();
    let opened = folder.join("sources").join(package);
    if !opened.is_dir() {
        let pinned = fs::read_to_string(repository("tests/python").join(name).with_extension("txt"))?;
        let only = folder.join("sources.txt");
        let lines = pinned.lines().skip_while(|line| !line.starts_with(&format!("{package}==")));
        let more = lines.clone().skip(1).take_while(|line| line.starts_with(' '));
        fs::write(&only, lines.take(1).chain(more).fold(String::new(), |all, line| all + line + "\n"))?;
        let (archives, whole) = (folder.join("archives"), folder.join("sources.new"));
        let download =
            ["download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"];
        let place = ["--dest", &text(&archives), "--requirement"];
        pip(&folder, &[&download[..], &place].concat(), &only)?;
        let archive = fs::read_dir(&archives)?.next().context("pip fetched nothing")??.path();
        fs::create_dir_all(&whole)?;
        let mut tar = command::new(system("tar")?);
        tar.args(["--extract", "--strip-components=1", "--directory"]).arg(&whole).arg("--file").arg(archive);
        command::succeed(tar, FETCH)?;
        fs::create_dir_all(folder.join("sources"))?;
        fs::rename(&whole, &opened)?;
    }
    Ok(opened)
}

fn pip(folder: &Path, arguments: &[&str], last: &Path) -> Result<String> {
    let mut pip = command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments).arg(last);
    command::succeed(pip, FETCH)
}
