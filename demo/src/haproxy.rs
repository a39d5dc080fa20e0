//! HAProxy, with the configuration from haproxy-conf/.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::configuration::Configuration;
use crate::programs::{repository, system};
use crate::run_folder::is_root;
use crate::server::{Server, Site, Start, free_port};

/// Prepares the configuration and returns it with the port that it names.
///
/// # Errors
///
/// When haproxy-conf/ lacks a text that is replaced, or a file cannot be read or written.
pub fn configure(site: &Site) -> Result<(PathBuf, u16)> {
    fs::create_dir_all(&site.folder)?;
    let port = free_port()?;
    let bundle = site.folder.join("web.pem");
    let mut configuration = Configuration::read(&repository("haproxy-conf/haproxy.cfg"))?
        .replace("bind :443", &format!("bind 127.0.0.1:{port}"))?
        .replace_path("/etc/strongroom/web.pem", &bundle)?;
    if let Some(engine) = site.key.strip_prefix("engine:") {
        // Engines are for the whole process; there is no notation for one key.
        let name = engine.split(':').next().unwrap_or_default();
        configuration = configuration.replace("global\n", &format!("global\n    ssl-engine {name}\n"))?;
        fs::copy(&site.certificate, &bundle)?;
    } else {
        let mut pem = fs::read(&site.certificate)
            .with_context(|| format!("cannot read {}", site.certificate.display()))?;
        pem.extend(fs::read(&site.key).with_context(|| format!("cannot read {}", site.key))?);
        fs::write(&bundle, pem)?;
    }
    if let Some(workers) = site.workers {
        configuration = configuration.set("nbthread", &workers.to_string())?;
    }
    if !is_root() {
        configuration = configuration
            .replace("    user www-data\n", "    # Without root HAProxy keeps the user.\n")?
            .replace("    group www-data\n", "")?;
    }
    let file = site.folder.join("haproxy.cfg");
    configuration.write(&file)?;
    Ok((file, port))
}

/// Starts HAProxy for a site, as a master with one worker, as Debian's unit does.
///
/// # Errors
///
/// When it does not start: with what HAProxy said.
pub fn start(site: &Site) -> Result<Server> {
    let (file, port) = configure(site)?;
    start_configured(site, &file, port)
}

/// Starts HAProxy with a configuration that [`configure`] made, and that was changed since.
///
/// # Errors
///
/// When it does not start: with what HAProxy said.
pub fn start_configured(site: &Site, file: &Path, port: u16) -> Result<Server> {
    let pid_file = site.folder.join("server.pid").display().to_string();
    let arguments = vec!["-f".to_owned(), file.display().to_string()];
    let how: (Start, &[&str]) = match site.start {
        Start::Foreground => (Start::Foreground, &["-W", "-p", &pid_file]),
        Start::Daemon => (Start::Daemon, &["-W", "-D", "-p", &pid_file]),
    };
    Server::start("haproxy", system("haproxy")?, arguments, how, site, port)
}
