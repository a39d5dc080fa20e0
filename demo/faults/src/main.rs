//! The command `strongroom-faults`.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use strongroom_demo::process::stop_on_signals;
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::is_root;
use strongroom_faults::cluster::Cluster;
use strongroom_faults::fault::Fault;
use strongroom_faults::inside;
use strongroom_faults::network::Network;
use strongroom_faults::options::{Command, Options};
use strongroom_faults::picture::Timeline;
use strongroom_faults::results::Results;
use strongroom_faults::traffic::Web;
use strongroom_faults::trial::Stage;
use strongroom_faults::{keys, markdown};
use strongroom_load::picture;

fn main() -> ExitCode {
    // Wrong options end the process in here, with code 2.
    let options = Options::parse();
    let done = match &options.command {
        Some(Command::MakeKeys(wanted)) => keys::make(wanted).map(|()| Vec::new()),
        None => run(&options),
    };
    match done {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(broken) => {
            broken.iter().for_each(|promise| say(&format!("broken: {promise}")));
            ExitCode::from(1)
        }
        Err(error) => {
            say(&format!("strongroom-faults: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn run(options: &Options) -> Result<Vec<String>> {
    ensure!(is_root(), "only root may make the hosts");
    let out = options.out.as_deref().context("--out is missing")?;
    fs::create_dir_all(out.join("logs")).with_context(|| out.display().to_string())?;
    if !inside::is_inside() {
        Programs::find()?;
        return Err(inside::enter());
    }
    stop_on_signals()?;
    inside::make_folder()?;
    let folder = Path::new(inside::FOLDER);
    let done = befall(options, folder, out);
    keep_logs(folder, &out.join("logs"))?;
    done
}

fn befall(options: &Options, folder: &Path, out: &Path) -> Result<Vec<String>> {
    let programs = Programs::find()?;
    let started = std::time::SystemTime::now();
    let network = Network::make(options.seed)?;
    let (cluster, client) = Cluster::make(&programs, network, folder)?;
    let web = Web::start(&programs, &cluster, options, folder)?;
    let mut stage = Stage { programs, cluster, client, web, folder: folder.into() };
    let mut results = Results {
        started: humantime::format_rfc3339_seconds(started).to_string(),
        processors: std::thread::available_parallelism()?.get(),
        seed: options.seed,
        connections: options.connections,
        key_type: options.key_type.clone(),
        stall_ms: u64::try_from(options.stall.as_millis())?,
        outcomes: Vec::new(),
    };
    let faults = if options.faults.is_empty() { Fault::all() } else { options.faults.clone() };
    let mut random = fastrand::Rng::with_seed(options.seed);
    for fault in faults {
        say(&format!("{} times: {}", options.times, fault.title()));
        results.outcomes.push(stage.run(fault, options, &mut random)?);
        write(&results, out)?;
        if results.outcomes.last().is_some_and(|outcome| outcome.not_whole.is_some()) {
            break;
        }
    }
    std::io::stdout().write_all(markdown::table(&results).as_bytes())?;
    Ok(results.broken())
}

/// After each fault: what was found so far is not lost if the next one goes wrong.
fn write(results: &Results, out: &Path) -> Result<()> {
    let json = serde_json::to_string(results)? + "\n";
    fs::write(out.join("faults.json"), json)?;
    fs::write(out.join("faults.md"), markdown::document(results))?;
    picture::save(&Timeline(results), &out.join("faults.svg")).context("the timeline")
}

/// What the programs said, out of the folder that ends with this process.
fn keep_logs(folder: &Path, to: &Path) -> Result<()> {
    let logs = ["node1/strongroomd.log", "node2/strongroomd.log", "node3/strongroomd.log", "web/error.log"];
    let mut files: Vec<_> = logs.iter().map(|name| folder.join(name)).collect();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        files.extend(
            file.extension().is_some_and(|ending| ending == "log" || ending == "errors").then_some(file),
        );
    }
    for file in files.iter().filter(|file| file.exists()) {
        let name = file.strip_prefix(folder)?.to_string_lossy().replace('/', "-");
        fs::copy(file, to.join(name)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
