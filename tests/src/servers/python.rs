//! Python's ssl module, with the program from server-conf/.

use std::fs;

use anyhow::Result;
use strongroom_demo::configuration::Configuration;
use strongroom_demo::programs::{repository, system};
use strongroom_demo::server::{Server, Site, Start, free_port};

/// Starts Python for a site.
///
/// # Errors
///
/// When it does not start: with what Python said.
pub fn start(site: &Site) -> Result<Server> {
    fs::create_dir_all(&site.folder)?;
    let port = free_port()?;
    let file = site.folder.join("server.py");
    Configuration::read(&repository("server-conf/server.py"))?
        .replace("(\"\", 443)", &format!("(\"127.0.0.1\", {port})"))?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("keyfile=\"/etc/strongroom/web.ref.pem\"", &format!("keyfile=\"{}\"", site.key))?
        .write(&file)?;
    let arguments = [file.display().to_string()];
    let (shell, arguments) = super::with_pid_file(site, &system("python3")?, &arguments)?;
    Server::start("python3", shell, arguments, (Start::Foreground, &[]), site, port)
}
