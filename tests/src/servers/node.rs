//! Node.js, which carries its own copy of libcrypto, with the program from server-conf/.

use anyhow::{Context, Result};
use std::fs;
use strongroom_demo::configuration::Configuration;
use strongroom_demo::environment::Environment;
use strongroom_demo::programs::{repository, system};
use strongroom_demo::run_folder::is_root;
use strongroom_demo::server::{Server, Site, Start, free_port};

/// Starts Node.js for a site.
///
/// # Errors
///
/// When it does not start: with what Node.js said.
pub fn start(site: &Site) -> Result<Server> {
    fs::create_dir_all(&site.folder)?;
    let port = free_port()?;
    let mut program = Configuration::read(&repository("server-conf/node.js"))?
        .replace("listen(443,", &format!("listen({port}, '127.0.0.1',"))?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("readFileSync('/etc/strongroom/web.ref.pem')", &format!("readFileSync('{}')", site.key))?;
    if !is_root() {
        program = program.replace("process.setgid('www-data');", "")?;
    }
    let file = site.folder.join("node.js");
    program.write(&file)?;
    let configuration = openssl_configuration(&site.environment).context("no OPENSSL_CONF for Node.js")?;
    let arguments = [
        format!("--openssl-config={configuration}"),
        "--openssl-shared-config".to_owned(),
        file.display().to_string(),
    ];
    let (shell, arguments) = super::with_pid_file(site, &system("node")?, &arguments)?;
    Server::start("node", shell, arguments, (Start::Foreground, &[]), site, port)
}

/// OPENSSL_CONF's value.
fn openssl_configuration(environment: &Environment) -> Option<String> {
    environment.value("OPENSSL_CONF").map(|value| value.to_string_lossy().into_owned())
}
