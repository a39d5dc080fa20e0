//! PostgreSQL, with the configuration from server-conf/, on a cluster of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_demo::command::{self, Finished};
use strongroom_demo::configuration::Configuration;
use strongroom_demo::environment::Environment;
use strongroom_demo::process::wait_for;
use strongroom_demo::programs::{repository, system};
use strongroom_demo::run_folder::is_root;
use strongroom_demo::server::{START, Server, Site, Start, free_port};

use crate::traffic::HANDSHAKE;

/// How long a new cluster may take.
const INIT: Duration = Duration::from_secs(60);

/// Starts PostgreSQL for a site, as www-data: it refuses to run as root.
///
/// # Errors
///
/// When it does not start: with what PostgreSQL said.
pub fn start(site: &Site) -> Result<Server> {
    fs::create_dir_all(&site.folder)?;
    let port = free_port()?;
    let data = site.folder.join("data");
    if !data.exists() {
        if is_root() {
            super::give_to_workers(&site.folder)?;
        }
        let mut initdb = as_worker(&program("initdb")?);
        initdb.args(["--auth=trust", "--username=tls", "--no-sync", "-D"]).arg(&data);
        command::succeed(initdb, INIT)?;
    }
    let configuration = data.join("strongroom.conf");
    // PostgreSQL takes a key only from its own user's file.
    let key = data.join("postgresql.ref.pem");
    fs::copy(&site.key, &key).with_context(|| format!("cannot read {}", site.key))?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    Configuration::read(&repository("server-conf/postgresql.conf"))?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("'/etc/strongroom/postgresql.ref.pem'", &format!("'{}'", key.display()))?
        .write(&configuration)?;
    fs::write(
        data.join("postgresql.conf"),
        format!(
            "include '{}'\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             shared_buffers = 16MB\nmax_connections = 300\n",
            configuration.display(),
            site.folder.display()
        ),
    )?;
    if is_root() {
        super::give_to_workers(&site.folder)?;
    }
    let command = as_worker(&program("postgres")?);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    words.extend(["-D".to_owned(), data.display().to_string()]);
    let program = PathBuf::from(words.remove(0));
    let (shell, arguments) = super::with_pid_file(site, &program, &words)?;
    let server = Server::start("postgres", shell, arguments, (Start::Foreground, &[]), site, port)?;
    // It listens before it serves.
    wait_for("PostgreSQL", START, || {
        let said = server.said();
        ensure!(said.contains("ready to accept connections"), "{said}");
        Ok(())
    })?;
    Ok(server)
}

/// Connects with psql, which verifies the certificate and the name, and asks which version of TLS it is.
///
/// # Errors
///
/// When psql cannot start or does not end.
pub fn query(server: &Server, version: &str, ca: &Path) -> Result<Finished> {
    let version = if version == "-tls1_2" { "TLSv1.2" } else { "TLSv1.3" };
    let mut psql = command::new(program("psql")?);
    Environment::plain().apply(&mut psql);
    psql.arg("--no-psqlrc").arg(format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=tls dbname=postgres sslmode=verify-full sslrootcert={} \
         ssl_min_protocol_version={version} ssl_max_protocol_version={version}",
        server.port,
        ca.display()
    ));
    psql.args(["-At", "-c", "select version from pg_stat_ssl where pid = pg_backend_pid()"]);
    command::run(psql, HANDSHAKE)
}

/// A command that runs as www-data if this is root.
fn as_worker(program: &Path) -> std::process::Command {
    if !is_root() {
        return command::new(program);
    }
    let mut command = std::process::Command::new("setpriv");
    // The user first: a change of the user clears what is sent at the parent's end.
    command.args(["--reuid=www-data", "--regid=www-data", "--clear-groups", "--pdeathsig", "TERM", "--"]);
    command.arg(program);
    command
}

/// One of the programs that Debian keeps beside each other's versions.
fn program(name: &str) -> Result<PathBuf> {
    let file = programs()?.join(name);
    if file.exists() { Ok(file) } else { system(name) }
}

/// The folder with the newest version's programs.
///
/// # Errors
///
/// When PostgreSQL is not installed.
pub fn programs() -> Result<PathBuf> {
    let versions =
        fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed; 'demo/install tests'")?;
    let newest = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists());
    newest.max().context("no version of PostgreSQL in /usr/lib/postgresql; 'demo/install tests'")
}
