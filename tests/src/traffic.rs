//! Handshakes with a server, one or many.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use strongroom_demo::command::{self, Finished};
use strongroom_demo::environment::Environment;
use strongroom_demo::load::{self, Amount};
use strongroom_demo::pki::{openssl, text};
use strongroom_demo::process::Process;
use strongroom_demo::programs::{Programs, system};
use strongroom_demo::server::Server;
use strongroom_load::Report;

/// How long one handshake may take, the partition's and the connection's deadlines included.
pub const HANDSHAKE: Duration = Duration::from_secs(30);

/// How long a load may take at most.
const LOAD: Duration = Duration::from_secs(180);

/// Makes one handshake with openssl's client, as the system has it, which verifies the certificate.
/// `version` is `-tls1_2` or `-tls1_3`. A failed handshake is no error here.
///
/// # Errors
///
/// When the client cannot start or does not end.
pub fn handshake(port: u16, version: &str, ca: &Path) -> Result<Finished> {
    let client = openssl(
        &Environment::plain(),
        "s_client -connect {} -servername localhost -verify_return_error -brief -CAfile {} {}",
        &[&format!("127.0.0.1:{port}"), &text(ca), version],
    )?;
    command::run(client, HANDSHAKE)
}

/// The certificate that a server shows, PEM, as openssl's client has it after a handshake that it verified.
///
/// # Errors
///
/// When there is no handshake.
pub fn certificate(port: u16, ca: &Path) -> Result<String> {
    let client = openssl(
        &Environment::plain(),
        "s_client -connect {} -servername localhost -verify_return_error -CAfile {}",
        &[&format!("127.0.0.1:{port}"), &text(ca)],
    )?;
    let said = command::succeed(client, HANDSHAKE)?;
    let (_, after) = said.split_once("-----BEGIN CERTIFICATE-----").context("no certificate")?;
    let (inside, _) = after.split_once("-----END CERTIFICATE-----").context("half a certificate")?;
    Ok(format!("-----BEGIN CERTIFICATE-----{inside}-----END CERTIFICATE-----\n"))
}

/// Fetches the page with curl, which makes a full handshake and verifies the certificate and the name. A failure is no
/// error here.
///
/// # Errors
///
/// When curl cannot start or does not end.
pub fn page(server: &Server, version: &str, ca: &Path) -> Result<Finished> {
    let mut curl = command::new(system("curl")?);
    Environment::plain().apply(&mut curl);
    // Up to the version, and from it.
    let (least, most) = if version == "-tls1_2" { ("--tlsv1.2", "1.2") } else { ("--tlsv1.3", "1.3") };
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", least, "--tls-max", most, "--cacert"])
        .arg(ca);
    curl.args(["--resolve", &format!("localhost:{}:127.0.0.1", server.port)]);
    curl.arg(format!("https://{}/", server.address()));
    command::run(curl, HANDSHAKE)
}

/// A load that runs beside the test.
#[derive(Debug)]
pub struct Load {
    process: Process,
    output: File,
    /// When it was started.
    pub started: Instant,
}

impl Load {
    /// Starts a load.
    ///
    /// # Errors
    ///
    /// When the load generator cannot start.
    pub fn start(
        programs: &Programs,
        server: &Server,
        ca: &Path,
        amount: Amount,
        extra: &[&str],
    ) -> Result<Self> {
        let folder = ca.parent().context("the certificate has no folder")?;
        let path = folder.join(format!("load-{}.json", server.port));
        let mut command = load::command(programs, server, ca, amount, extra);
        command.stdin(std::process::Stdio::null()).stdout(File::create(&path)?);
        command.stderr(std::process::Stdio::null());
        let started = Instant::now();
        let process = Process::spawn("strongroom-load", command)?;
        Ok(Load { process, output: File::open(path)?, started })
    }

    /// Whether it is still making handshakes.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Ends it now and returns the report. What is under way is finished.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn end(self) -> Result<Report> {
        self.process.signal(Signal::INT)?;
        self.finish()
    }

    /// Waits for the end and returns the report.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn finish(mut self) -> Result<Report> {
        self.process.wait(LOAD)?;
        serde_json::from_reader(&self.output).context("the load generator's report")
    }
}

/// Makes so many handshakes and returns the report.
///
/// # Errors
///
/// When the load generator cannot start or does not end.
pub fn handshakes(
    programs: &Programs,
    server: &Server,
    ca: &Path,
    count: u64,
    extra: &[&str],
) -> Result<Report> {
    load::run(programs, server, ca, Amount::Count(count), extra, LOAD)
}
