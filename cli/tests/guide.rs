//! Pages in docs/ show what the command prints: this runs them and compares. With UPDATE_GUIDE=1 it writes
//! what was printed into the page instead.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test's panic is its report")]

mod harness;

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use harness::Daemon;

/// Where the page's commands write; the test has a directory of its own in its place.
const HOME: &str = "/root/";

/// Where the pages say that metrics are to be had; the test has a free port in its place.
const METRICS: &str = "127.0.0.1:9823";

/// Folders of the repository that the pages name.
const FOLDERS: [&str; 2] = ["monitoring/strongroom", "hsm/strongroom"];

/// A line of the page that is a command, with the output below it.
struct Example {
    command: String,
    shown: Vec<String>,
}

/// Runs a command of the page; standard output and standard error together, as a terminal shows them.
fn run(daemon: &Daemon, command: &str) -> Vec<String> {
    let home = daemon.directory.path().join("home");
    let binaries = Path::new(env!("CARGO_BIN_EXE_strongroom")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), env::var("PATH").unwrap());
    let home = format!("{}/", home.display());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    let mut places = vec![(HOME.to_owned(), home)];
    places.extend(FOLDERS.map(|folder| (folder.to_owned(), format!("{repository}/{folder}"))));
    let port = daemon.environment.iter().find(|(name, _)| *name == "STRONGROOM_METRICS");
    places.extend(port.map(|(_, port)| (METRICS.to_owned(), port.clone())));
    let command = places.iter().fold(command.to_owned(), |command, (said, here)| command.replace(said, here));
    let output = Command::new("bash")
        .args(["--norc", "-c", &format!("exec 2>&1; {command}")])
        .env("PATH", path)
        .env("STRONGROOM_SOCKET", daemon.socket())
        .current_dir(daemon.directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = places.iter().fold(text, |text, (said, here)| text.replace(here, said));
    text.lines().map(str::to_owned).collect()
}

/// Takes out of a line what is different each time: ids, serials, moments, and how wide columns are.
fn steady(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        // Memory: a key's numbers have a byte more or less.
        if word.strip_suffix(['K', 'M', 'G']).is_some_and(|size| size.parse::<f64>().is_ok()) {
            words.push("SIZE".to_owned());
            continue;
        }
        let varies = |part: &str| part.len() >= 12 && part.bytes().all(|c| c.is_ascii_hexdigit());
        let moment =
            |part: &str| part.len() == 20 && part.ends_with('Z') && part.as_bytes().get(10) == Some(&b'T');
        let parts = word.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != ':');
        let shown: String = parts
            .map(|part| {
                let bare = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                let rest = &part[bare.len()..];
                let bare = bare.strip_prefix("id:").unwrap_or(bare);
                if varies(bare) {
                    format!("HEX{rest}")
                } else if moment(bare) {
                    format!("TIME{rest}")
                } else {
                    part.to_owned()
                }
            })
            .collect();
        // PEM as a JSON string.
        let pem = shown.contains("-----\\n");
        words.push(if pem { "PEM".to_owned() } else { percent_encoded_id(&shown) });
    }
    words.join(" ")
}

fn percent_encoded_id(word: &str) -> String {
    match word.split_once(";id=%") {
        Some((before, id)) if id.len() > 30 => {
            format!("{before};id=ID{}", id.trim_start_matches(|c: char| c == '%' || c.is_ascii_hexdigit()))
        }
        _ => word.to_owned(),
    }
}

/// Lines without what varies, and without the inside of PEM blocks.
fn compared(lines: &[String]) -> Vec<String> {
    let mut inside = false;
    let mut kept = Vec::new();
    for line in lines {
        let ends = line.starts_with("-----END ");
        if !inside || ends {
            kept.push(steady(line));
        }
        inside = !ends && (inside || line.starts_with("-----BEGIN "));
    }
    kept
}

#[test]
fn the_guide_shows_what_the_command_prints() {
    page("cli.md", 20);
}

#[test]
fn keys_are_imported_and_exported_as_the_page_says() {
    page("import.md", 20);
}

#[test]
fn a_node_is_sealed_and_unsealed_as_the_page_says() {
    page("seal.md", 15);
}

#[test]
fn keys_live_as_the_page_says() {
    page("key-life.md", 20);
}

/// The owner's part is played by the real openssl.
#[test]
fn roles_are_as_the_page_says() {
    page("roles.md", 20);
}

#[test]
fn backups_are_made_and_restored_as_the_page_says() {
    page("backup.md", 15);
}

#[test]
fn fips_state_2_refuses_as_the_page_says() {
    page("fips.md", 5);
}

#[test]
fn the_audit_log_is_as_the_page_says() {
    page("audit.md", 10);
}

#[test]
fn a_node_is_looked_after_as_the_page_says() {
    // Below those that the kernel gives to outgoing connections: nobody takes it before the daemon does.
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (first..first + 2_000).find(free).unwrap();
    page_with("operations.md", 10, vec![("STRONGROOM_METRICS", format!("127.0.0.1:{port}"))]);
}

/// Runs a page of docs/, which has more examples than `least`.
fn page(name: &str, least: usize) {
    page_with(name, least, Vec::new());
}

fn page_with(name: &str, least: usize, environment: Vec<(&'static str, String)>) {
    if !rustix::process::getuid().is_root() {
        eprintln!("not run: the guide's reader is root");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let page = fs::read_to_string(&path).unwrap();
    let update = env::var_os("UPDATE_GUIDE").is_some();
    let mut daemon = Daemon::start();
    if !environment.is_empty() {
        daemon.environment = environment;
        daemon.restart();
    }
    let (mut written, mut wrong, mut count) = (String::new(), String::new(), 0);
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        written.push_str(&format!("{line}\n"));
        if line != "```console" {
            continue;
        }
        while let Some(command) = lines.next_if(|line| *line != "```") {
            let mut example =
                Example { command: command.strip_prefix("$ ").unwrap().to_owned(), shown: Vec::new() };
            while let Some(shown) = lines.next_if(|line| *line != "```" && !line.starts_with("$ ")) {
                example.shown.push(shown.to_owned());
            }
            let printed = run(&daemon, &example.command);
            count += 1;
            let same = example.shown == ["..."] || compared(&example.shown) == compared(&printed);
            if !same {
                wrong.push_str(&format!(
                    "$ {}\nshown {:#?}\nprinted {:#?}\n",
                    example.command, example.shown, printed
                ));
            }
            let kept = if same { &example.shown } else { &printed };
            written.push_str(&format!("$ {}\n", example.command));
            kept.iter().for_each(|line| written.push_str(&format!("{line}\n")));
        }
    }
    if update {
        fs::write(&path, written).unwrap();
    } else {
        assert!(wrong.is_empty(), "docs/{name} is not what is printed; UPDATE_GUIDE=1 renews it:\n{wrong}");
    }
    assert!(count > least, "the page has lost its examples: {count}");
}
