//! Pages of documentation that are run: each command in a `console` block is given to a shell, with a real daemon around it,
//! must succeed, and must print what stands below it.
//!
//! In what is shown, a line `...` stands for any number of lines, and `…` within a line for any text. A block goes on in the shell
//! of the block before. What a reader need not type stands in a comment: `<!-- run: COMMAND -->`. The first commands
//! are those of docs/programs.md, which make a partition.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command;
use strongroom_demo::configuration::Configuration;
use strongroom_demo::daemon::Daemon;
use strongroom_demo::environment::openssl_configuration;
use strongroom_demo::pki::text;
use strongroom_demo::programs::{Programs, repository, system};
use strongroom_demo::run_folder::{RunFolder, is_root};
use strongroom_demo::server::free_port;

/// Where the pages say that our module is, and the folder with openssl.cnf and the PIN.
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libstrongroom_pkcs11.so";
const CONFIGURATION: &str = "/etc/strongroom";

/// Where the pages say that our files for other programs are.
const SOURCES: &str = "/usr/share/doc/strongroom";

/// The port on which the pages' servers listen; a test has a free one in its place.
const PORT: &str = "8443";

/// How long all commands of a page may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What the shell says between two commands, with the exit status of the first.
const MARK: &str = "~~ the command is over";

/// What a page's commands may use besides: functions that wait for a server, and for a command to succeed.
const PRELUDE: &str = r#"
eventually() {
    for ((second = 0; second < 600; second++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "this did not come about: $*"
    return 1
}
listening() {
    for ((second = 0; second < 600; second++)); do
        if (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.1
    done
    echo "nobody listens on port $1"
    return 1
}
"#;

/// `nobody`, and its group.
const NOBODY: u32 = 65534;

/// A command of a page and what the page shows below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Example {
    command: String,
    shown: Vec<String>,
}

/// A page of docs/, and how it is run.
#[derive(Debug)]
pub struct Page {
    name: &'static str,
    as_nobody: bool,
    folders: Vec<PathBuf>,
}

impl Page {
    /// The page docs/`name`.
    pub fn new(name: &'static str) -> Self {
        Page { name, as_nobody: false, folders: Vec::new() }
    }

    /// Another user than root runs the commands: p11-kit shows root the system's modules only.
    #[must_use]
    pub fn as_nobody(mut self) -> Self {
        self.as_nobody = true;
        self
    }

    /// Puts a folder in front of the search path.
    #[must_use]
    pub fn with_programs(mut self, folder: PathBuf) -> Self {
        self.folders.push(folder);
        self
    }

    /// Runs the page in a folder of its own, beside a daemon of its own.
    ///
    /// # Errors
    ///
    /// With each command that failed or did not print what the page shows.
    pub fn run(&self) -> Result<()> {
        let programs = Programs::find()?;
        let run = RunFolder::new()?;
        let daemon = Daemon::start(&programs, run.path())?;
        let (work, libraries) = (run.folder("work")?, run.folder("libraries")?);
        // Where whoever runs the commands may read them.
        let module = libraries.join("libstrongroom_pkcs11.so");
        fs::copy(programs.module(), &module)?;

        Configuration::read(&repository("p11-kit/strongroom.module"))?
            .replace_path(MODULE, &module)?
            .write(&libraries.join("strongroom.module"))?;
        let configuration = run.folder("work/etc")?;
        let pin = format!("file:{}", text(&configuration.join("pin")));
        openssl_configuration(&programs, &module, Some(&pin), &configuration.join("openssl.cnf"))?;
        let placed = [
            (MODULE, text(&module)),
            (CONFIGURATION, text(&configuration)),
            (SOURCES, text(&libraries)),
            (PORT, free_port()?.to_string()),
        ];
        let before = examples(&read("programs.md")?)?;
        let own = examples(&read(self.name)?)?;
        ensure!(!own.is_empty(), "docs/{} has no commands", self.name);

        let first = script(&before, &placed);
        let script_file = run.path().join("page.sh");
        fs::write(&script_file, [PRELUDE, &script(&own, &placed)].concat())?;
        let shell = text(&system("bash")?);
        let mut then = format!("exec {shell} --norc {}", text(&script_file));
        if self.as_nobody && is_root() {
            chown(&work, Some(NOBODY), Some(NOBODY))?;
            then = format!(
                "chown -R {NOBODY}:{NOBODY} . && exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- \
                 {shell} --norc {}",
                text(&script_file),
            );
        }
        fs::set_permissions(&script_file, Permissions::from_mode(0o644))?;

        let output = run.path().join("printed");
        let mut bash = command::new(&shell);
        let mut folders = self.folders.clone();
        folders.push(programs.strongroom().parent().context("the programs have no folder")?.to_path_buf());
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        folders.extend(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
        bash.current_dir(&work)
            .env("PATH", std::env::join_paths(folders)?)
            .env("STRONGROOM_SOCKET", daemon.socket())
            .env("HOME", &work)
            .env("LC_ALL", "C.UTF-8")
            .args(["--norc", "-c", &format!("exec >{} 2>&1\n{PRELUDE}{first}{then}", text(&output))]);
        for variable in ["OPENSSL_CONF", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SOFTHSM2_CONF"] {
            bash.env_remove(variable);
        }
        let finished = command::run(bash, LIMIT);
        let printed = String::from_utf8_lossy(&fs::read(&output)?).into_owned();
        finished.with_context(|| printed.clone())?;
        report(self.name, &[before, own].concat(), &printed, &placed)
    }
}

fn read(name: &str) -> Result<String> {
    let file = repository("docs").join(name);
    fs::read_to_string(&file).with_context(|| text(&file))
}

/// The commands of a page, in order; hidden ones may print anything.
fn examples(page: &str) -> Result<Vec<Example>> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if let Some(hidden) = line.strip_prefix("<!-- run: ") {
            let command = hidden.strip_suffix(" -->").context("a comment that goes on")?.to_owned();
            found.push(Example { command, shown: vec!["...".into()] });
        } else if !inside {
            inside = line == "```console";
        } else if line == "```" {
            inside = false;
        } else if let Some(command) = line.strip_prefix("$ ") {
            found.push(Example { command: command.into(), shown: Vec::new() });
        } else {
            let last = found.last_mut().context("what no command prints")?;
            match line
                .strip_prefix("> ")
                .or(Some("").filter(|_| line == ">"))
                .filter(|_| last.shown.is_empty())
            {
                Some(more) => last.command.push_str(&format!("\n{more}")),
                None => last.shown.push(line.into()),
            }
        }
    }
    Ok(found)
}

fn script(examples: &[Example], placed: &[(&str, String)]) -> String {
    let mut script = String::new();
    for example in examples {
        let command =
            placed.iter().fold(example.command.clone(), |command, (said, here)| command.replace(said, here));
        script.push_str(&format!("{command}\necho \"{MARK} $?\"\n"));
    }
    script
}

/// Compares what was printed, with the marks in it, with what the page shows.
fn report(name: &str, examples: &[Example], printed: &str, placed: &[(&str, String)]) -> Result<()> {
    let mut rest = printed;
    let mut wrong = String::new();
    for example in examples {
        let (text, after) = rest.split_once(MARK).unwrap_or((rest, " none\n"));
        let (status, after) = after.split_once('\n').unwrap_or((after, ""));
        rest = after;
        let text = placed.iter().fold(text.to_owned(), |text, (said, here)| text.replace(here, said));
        let lines: Vec<&str> = text.lines().collect();
        if status.trim() != "0" || !fits(&example.shown, &lines) {
            let shown = example.shown.join("\n");
            wrong.push_str(&format!(
                "$ {}\n-- shown:\n{shown}\n-- printed (exit status{status}):\n{text}\n",
                example.command
            ));
        }
    }
    ensure!(wrong.is_empty(), "docs/{name}:\n{wrong}");
    Ok(())
}

/// Whether lines are those that are shown, of which `...` is any number.
fn fits(shown: &[String], printed: &[&str]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((first, others)), _) if first == "..." => {
            fits(others, printed) || printed.split_first().is_some_and(|(_, rest)| fits(shown, rest))
        }
        (Some((first, others)), Some((line, rest))) => line_fits(first, line) && fits(others, rest),
        _ => false,
    }
}

/// Whether a line is the one that is shown, in which `…` is any text. Spaces at the end do not matter.
fn line_fits(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (shown.trim_end(), printed.trim_end());
    let Some((start, others)) = shown.split_once('…') else {
        return shown == printed;
    };
    let Some(mut rest) = printed.strip_prefix(start) else {
        return false;
    };
    let mut parts = others.split('…').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_on_over_lines_and_may_be_hidden() {
        let page =
            "text\n```console\n$ cat <<E\n> a\n> E\na\n```\n<!-- run: true -->\n```\n$ not this\n```\n";
        let found = examples(page).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            (found[0].command.as_str(), &found[0].shown[..]),
            ("cat <<E\na\nE", &["a".to_owned()][..])
        );
        assert_eq!(found[1].command, "true");
    }

    #[test]
    fn what_is_shown_may_leave_out() {
        let shown = ["a".to_owned(), "...".to_owned(), "b … d".to_owned()];
        assert!(fits(&shown, &["a", "x", "y", "b c d  "]));
        assert!(fits(&shown, &["a", "b  d"]));
        for wrong in [&["a"][..], &["a", "b c"], &["a", "b c d", "e"], &["b c d"]] {
            assert!(!fits(&shown, wrong), "{wrong:?}");
        }
        assert!(line_fits("…: OK", "web.pem: OK") && !line_fits("…: OK", "web.pem: OK?"));
        assert!(line_fits("a…b…c", "a1b2c") && !line_fits("a…b…c", "a1c"));
    }

    #[test]
    fn a_command_that_fails_is_reported() {
        let example = |shown: &[&str]| Example {
            command: "x".into(),
            shown: shown.iter().map(|line| (*line).to_owned()).collect(),
        };
        let run = |examples: &[Example], printed: &str| report("page.md", examples, printed, &[]);
        let ok = format!("one\n{MARK} 0\n");
        assert!(run(&[example(&["one"])], &ok).is_ok());
        assert!(run(&[example(&["..."])], &ok.replace(" 0", " 1")).is_err());
        assert!(run(&[example(&["two"])], &ok).is_err());
        // The shell itself ended.
        assert!(run(&[example(&["one"]), example(&["..."])], &ok).is_err());
    }
}
