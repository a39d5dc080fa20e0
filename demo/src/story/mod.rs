//! What the demo shows, step by step.

pub mod kept;
pub mod measure;
pub mod proof;
pub mod screen;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command;
use strongroom_demo::environment::Environment;
use strongroom_demo::partition::Partition;
use strongroom_demo::pki::{Authority, KeyKind, key_file, openssl, text};
use strongroom_demo::process;
use strongroom_demo::programs::Programs;
use strongroom_demo::run_folder::{RunFolder, is_root};
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{apache, nginx};

use screen::Screen;

/// How long one command of the story may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The partition's name in all commands.
const LABEL: &str = "demo";

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds; the table shows medians over them.
    pub rounds: u32,
    /// Load on each server in each round.
    pub load: Duration,
    /// Load on each server before the first round.
    pub warm_up: Duration,
}

/// The partition, the authority and the programs of one run.
pub struct Stage {
    /// The programs that were built.
    pub programs: Programs,
    /// The run's files. Declared before the processes that use them: they are stopped first.
    pub partition: Partition,
    /// Signs all certificates, with a key in the partition.
    pub authority: Authority,
    /// Where everything lies.
    pub folder: RunFolder,
}

/// Shows everything, and stops all of it unless there is a file to `keep` a note in.
///
/// # Errors
///
/// At the first thing that does not work.
pub fn tell(effort: Effort, keep: Option<&Path>, markdown: bool) -> Result<()> {
    if let Some(note) = keep {
        kept::refuse_second(note)?;
        process::keep_children();
    }
    let mut screen = Screen::new("Strongroom: TLS with a key that the web server never has");
    if !is_root() {
        screen.say("(Not as root: the web servers' workers run as you, not as www-data.)");
    }
    let (stage, web) = prepare(&mut screen)?;
    let servers = serve(&mut screen, &stage, &web)?;
    measure::side_by_side(&mut screen, &stage, effort, markdown)?;
    proof::search_memory(&mut screen, &stage)?;
    if let Some(note) = keep {
        kept::leave(&mut screen, stage, servers, note)
    } else {
        drop(servers);
        drop(stage);
        screen.gap();
        screen.say("Everything is stopped. `./demo/run --keep` leaves it running for you to try.");
        Ok(())
    }
}

/// The key that nginx and Apache share at first, and its certificate.
struct Web {
    uri: String,
    certificate: std::path::PathBuf,
}

fn prepare(screen: &mut Screen) -> Result<(Stage, Web)> {
    let programs = Programs::find()?;
    let folder = RunFolder::new()?;
    let path = text(folder.path());

    screen.step("Start a partition: the process that keeps the keys");
    let partition = Partition::create(&programs, folder.path(), LABEL)?;
    screen.say(&format!("strongroomd is running (process {})", partition.daemon.id().unwrap_or_default()));
    screen.command(&partition.daemon.strongroom(Partition::init_command(LABEL, folder.path())), &path);

    screen.step("Make keys in it: they are born there and never leave");
    for (name, kind) in [("ca", KeyKind::P256), ("web", KeyKind::Rsa2048)] {
        screen.command(&partition.daemon.strongroom(["key", "generate", name, "--type", kind.name()]), &path);
        partition.manage(&["key", "generate", name, "--type", kind.name()])?;
    }
    if let Some(grant) = Partition::grant_command("web", "tls-server") {
        screen.command(&partition.daemon.strongroom(grant), &path);
        partition.grant("web", "tls-server")?;
    }
    screen.command(&partition.daemon.strongroom(["key", "list"]), &path);
    screen.say(&partition.daemon.manage(&["key", "list"])?);

    screen.step("Get a certificate: openssl signs with these keys by their names");
    let uri = partition.short_uri("web");
    let environment = partition.environment();
    screen.say(&format!("OPENSSL_CONF names a configuration with the provider; the key is {uri}"));
    let authority = Authority::with_key(folder.path(), &environment, &partition.short_uri("ca"))?;
    screen.command(
        &openssl(&environment, "req -new -key {} -subj /CN=localhost -out web.csr", &[&uri])?,
        &path,
    );
    screen.command(
        &openssl(
            &environment,
            "x509 -req -in web.csr -CA ca.pem -CAkey {} -out web.crt",
            &[&partition.short_uri("ca")],
        )?,
        &path,
    );
    let certificate = authority.certify(&environment, &uri, "web")?;
    let verified = pki_verify(&authority, &certificate)?;
    screen.good(&format!("openssl verify: {verified}"));
    Ok((Stage { programs, partition, authority, folder }, Web { uri, certificate }))
}

/// Verifies with OpenSSL as the system has it: nothing of ours takes part.
fn pki_verify(authority: &Authority, certificate: &Path) -> Result<String> {
    let verify = openssl(
        &Environment::plain(),
        "verify -CAfile {} {}",
        &[&text(&authority.certificate()), &text(certificate)],
    )?;
    let said = command::succeed(verify, LIMIT)?;
    Ok(said.rsplit(": ").next().unwrap_or_default().trim().to_owned())
}

/// nginx and Apache with the key in the partition.
pub struct Servers {
    /// nginx, by a reference file.
    pub nginx: Server,
    /// Apache, by the URI.
    pub apache: Server,
}

fn serve(screen: &mut Screen, stage: &Stage, web: &Web) -> Result<Servers> {
    screen.step("Serve pages with it: nginx and Apache");
    let environment = stage.partition.environment();
    let reference = text(&stage.partition.reference("web")?);
    let path = text(stage.folder.path());

    let site = Site::new(stage.folder.folder("nginx")?, &web.certificate, &reference, &environment);
    let nginx = nginx::start(&site)?;
    screen.say(&format!("nginx:  ssl_certificate_key {};", reference.replace(&format!("{path}/"), "")));
    let site = Site::new(stage.folder.folder("apache")?, &web.certificate, &web.uri, &environment);
    let apache = apache::start(&site)?;
    screen.say(&format!("Apache: SSLCertificateKeyFile \"{}\"", web.uri));
    for (server, page) in [(&nginx, "A page from nginx."), (&apache, "A page from Apache.")] {
        let mut curl = curl(server, &stage.authority);
        screen.command(&curl, &path);
        curl.args(["--write-out", "\nverified: %{ssl_verify_result}"]);
        let fetched = command::succeed(curl, LIMIT)?;
        ensure!(fetched.contains(page), "curl fetched another page: {fetched}");
        ensure!(fetched.ends_with("verified: 0"), "curl did not verify the certificate: {fetched}");
        screen.good(page);
    }
    Ok(Servers { nginx, apache })
}

/// The curl command that fetches the page of a server and verifies its certificate.
pub fn curl(server: &Server, authority: &Authority) -> std::process::Command {
    let mut curl = command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(authority.certificate());
    curl.arg(format!("https://{}/", server.address()));
    curl
}

/// A pair of sites: the key in a file and a key of the same kind in the partition.
pub struct Pair {
    /// The site whose key lies in a file.
    pub file: Site,
    /// The site whose key lies in the partition.
    pub partition: Site,
}

/// Which server a pair is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// nginx
    Nginx,
    /// Apache
    Apache,
}

impl Program {
    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Program::Nginx => "nginx",
            Program::Apache => "Apache",
        }
    }

    /// Starts it for a site.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(self, site: &Site) -> Result<Server> {
        match self {
            Program::Nginx => nginx::start(site),
            Program::Apache => apache::start(site),
        }
        .with_context(|| format!("{} with {}", self.title(), site.key))
    }
}

impl Stage {
    /// Prepares a pair of sites. With `import` both have the very same key, made in the file; otherwise the
    /// partition makes its own.
    ///
    /// # Errors
    ///
    /// When a key or certificate cannot be made.
    pub fn pair(&self, program: Program, kind: KeyKind, import: bool) -> Result<Pair> {
        let purpose = if import { "proof" } else { "load" };
        let name = format!("{purpose}-{}-{}", program.title().to_lowercase(), kind.name());
        let folder = self.folder.path();
        let key = folder.join(format!("{name}.key"));
        key_file(kind, &key)?;
        if import {
            self.partition.import(&key, &name)?;
        } else {
            self.partition.generate(kind, &name)?;
        }
        let plain = Environment::plain();
        let environment = self.partition.environment();
        let uri = self.partition.uri(&name)?;
        let file_certificate = self.authority.certify(&plain, &text(&key), &format!("{name}-file"))?;
        let certificate = self.authority.certify(&environment, &uri, &format!("{name}-partition"))?;
        let reference = text(&self.partition.reference(&name)?);
        let of_partition = if program == Program::Nginx { reference } else { uri };
        Ok(Pair {
            file: Site::new(
                self.folder.folder(&format!("{name}-file"))?,
                &file_certificate,
                &text(&key),
                &plain,
            ),
            partition: Site::new(
                self.folder.folder(&format!("{name}-partition"))?,
                &certificate,
                &of_partition,
                &environment,
            ),
        })
    }
}
