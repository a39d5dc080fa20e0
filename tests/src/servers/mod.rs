//! Servers besides nginx, Apache and HAProxy, each with its configuration from server-conf/.

pub mod lighttpd;
pub mod node;
pub mod postgresql;
pub mod python;
pub mod stunnel;

use std::path::{Path, PathBuf};

use anyhow::Result;
use strongroom_demo::command::{self, Finished};
use strongroom_demo::programs::system;
use strongroom_demo::server::{Server, Site};
use strongroom_demo::{apache, haproxy, nginx};

use crate::traffic;

/// A program that serves TLS.
#[derive(Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Starts it for a site whose key is a reference file.
    pub start: fn(&Site) -> Result<Server>,
    /// Makes one full handshake with it and a request, and verifies the certificate.
    pub request: fn(&Server, &str, &Path) -> Result<Finished>,
    /// The arguments with which the running server is told to read its configuration again; empty where a signal does it.
    pub reload: &'static [&'static str],
}

/// Those that the demo starts too.
pub const DEMONSTRATED: [Program; 3] = [
    Program { name: "nginx", start: nginx::start, request: traffic::page, reload: &["-s", "reload"] },
    Program { name: "apache", start: apache::start, request: traffic::page, reload: &["-k", "graceful"] },
    Program { name: "haproxy", start: haproxy::start, request: traffic::page, reload: &[] },
];

/// Those of this module.
pub const MORE: [Program; 5] = [
    Program { name: "stunnel", start: stunnel::start, request: traffic::page, reload: &[] },
    Program { name: "lighttpd", start: lighttpd::start, request: traffic::page, reload: &[] },
    Program { name: "postgresql", start: postgresql::start, request: postgresql::query, reload: &[] },
    Program { name: "node", start: node::start, request: traffic::page, reload: &[] },
    Program { name: "python", start: python::start, request: traffic::page, reload: &[] },
];

/// The shell and the arguments that run `program` with its process id in the site's server.pid: for programs that write
/// none.
///
/// # Errors
///
/// When there is no shell.
fn with_pid_file(site: &Site, program: &Path, arguments: &[String]) -> Result<(PathBuf, Vec<String>)> {
    let script = "echo $$ >\"$1\"; shift; exec \"$@\"";
    let pid_file = site.folder.join("server.pid");
    let mut words: Vec<String> = ["-c", script, "sh"].map(str::to_owned).into();
    words.extend([pid_file.display().to_string(), program.display().to_string()]);
    words.extend_from_slice(arguments);
    Ok((system("sh")?, words))
}

/// Makes a folder and what is in it www-data's, the user as which servers run here.
///
/// # Errors
///
/// When the file system refuses.
pub fn give_to_workers(folder: &Path) -> Result<()> {
    let mut chown = command::new(system("chown")?);
    chown.arg("-R").arg("www-data:").arg(folder);
    command::succeed(chown, traffic::HANDSHAKE).map(drop)
}
