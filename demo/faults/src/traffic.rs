//! nginx, and its visitors.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use strongroom_demo::environment::openssl_configuration;
use strongroom_demo::nginx;
use strongroom_demo::pki::{Authority, text};
use strongroom_demo::process::{Process, wait_for};
use strongroom_demo::programs::Programs;
use strongroom_demo::server::{Server, Site};
use strongroom_load::Report;

use crate::cluster::{Cluster, PARTITION};
use crate::network::{Host, WEB};
use crate::options::Options;

/// Width of the report's slices: what a stall is told by.
pub const SLICE: Duration = Duration::from_millis(50);

/// How long the load generator may take to end.
const END: Duration = Duration::from_secs(60);

/// nginx with a key that the nodes have, and who certified it.
#[derive(Debug)]
pub struct Web {
    /// nginx.
    pub server: Server,
    authority: PathBuf,
}

impl Web {
    /// Starts it on this program's host.
    ///
    /// # Errors
    ///
    /// With what a program said.
    pub fn start(programs: &Programs, cluster: &Cluster, options: &Options, folder: &Path) -> Result<Self> {
        let reference = cluster.make_web_key(&options.key_type)?;
        let openssl = openssl_configuration(programs, &programs.module(), None, &folder.join("openssl.cnf"))?;
        let client = cluster.client_environment().with("OPENSSL_CONF", openssl);
        let visitors = folder.join("visitors");
        fs::create_dir_all(&visitors)?;
        let authority = Authority::in_file(&visitors)?;
        let key = format!("pkcs11:token={PARTITION};object=web;type=private");
        // A node that is asked may be a moment behind the one that has made the key.
        let certificate =
            wait_for("the web server's certificate", END, || authority.certify(&client, &key, "web"))?;
        let folder = folder.join("web");
        fs::create_dir_all(&folder)?;
        let site = Site::new(folder, &certificate, &text(&reference), &client).with_workers(options.workers);
        let (file, port) = nginx::configure(&site)?;
        // Visitors come from another host.
        let configuration = fs::read_to_string(&file)?;
        let listen = format!("listen 127.0.0.1:{port}");
        ensure!(configuration.contains(&listen), "{} has no {listen:?}", file.display());
        fs::write(&file, configuration.replace(&listen, &format!("listen {port}")))?;
        let server = nginx::start_configured(&site, &file, port)?;
        Ok(Web { server, authority: authority.certificate() })
    }
}

/// Visitors.
#[derive(Debug)]
pub struct Load {
    process: Process,
    report: PathBuf,
}

impl Load {
    /// Starts them on a host.
    ///
    /// # Errors
    ///
    /// When the load generator cannot be started.
    pub fn start(
        programs: &Programs,
        web: &Web,
        host: &Host,
        connections: u32,
        name: &str,
        folder: &Path,
    ) -> Result<Self> {
        let report = folder.join(format!("load-{name}.json"));
        let mut command = host.command(&programs.load())?;
        command.args(["--concurrency", &connections.to_string(), "--duration", "1000h", "--json", "--ca"]);
        command.arg(&web.authority).args(["--server-name", "localhost", "--interval"]);
        command.args([format!("{}ms", SLICE.as_millis()), format!("{WEB}:{}", web.server.port)]);
        let errors = File::create(folder.join(format!("load-{name}.errors")))?;
        command.stdin(Stdio::null()).stdout(File::create(&report)?).stderr(errors);
        Ok(Load { process: Process::spawn("strongroom-load", command)?, report })
    }

    /// Ends them, and says how they fared, and when they began.
    ///
    /// # Errors
    ///
    /// When the load generator does not end, or could not begin.
    pub fn finish(mut self) -> Result<(Report, SystemTime)> {
        self.process.signal(Signal::INT)?;
        self.process.wait(END)?;
        let report: Report =
            serde_json::from_reader(File::open(&self.report)?).context("the load generator's report")?;
        let begun = humantime::parse_rfc3339(&report.started).context("when the load began")?;
        Ok((report, begun))
    }
}
