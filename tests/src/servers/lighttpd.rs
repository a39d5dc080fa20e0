//! lighttpd, with the configuration from server-conf/.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use strongroom_demo::configuration::Configuration;
use strongroom_demo::programs::{repository, system};
use strongroom_demo::run_folder::is_root;
use strongroom_demo::server::{Server, Site, Start, free_port};

/// Prepares the configuration and returns it with the port that it names.
///
/// # Errors
///
/// When server-conf/ lacks a text that is replaced, or a file cannot be written.
pub fn configure(site: &Site) -> Result<(PathBuf, u16)> {
    fs::create_dir_all(&site.folder)?;
    let pages = site.write_page("<!doctype html><title>lighttpd</title><p>A page from lighttpd.\n")?;
    let port = free_port()?;
    let mut configuration = Configuration::read(&repository("server-conf/lighttpd.conf"))?
        .replace_path("/run/lighttpd.pid", &site.folder.join("server.pid"))?
        .replace_path("/var/log/lighttpd/error.log", &site.folder.join("error.log"))?
        .replace_path("/var/www/html", &pages)?
        .replace("= 443\n", &format!("= {port}\nserver.bind          = \"127.0.0.1\"\n"))?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("\"/etc/strongroom/web.ref.pem\"", &format!("\"{}\"", site.key))?;
    if let Some(workers) = site.workers {
        configuration = configuration.replace("= 16\n", &format!("= {workers}\n"))?;
    }
    if !is_root() {
        configuration = configuration
            .replace("server.username      = \"www-data\"\n", "")?
            .replace("server.groupname     = \"www-data\"\n", "")?;
    }
    let file = site.folder.join("lighttpd.conf");
    configuration.write(&file)?;
    Ok((file, port))
}

/// Starts lighttpd for a site.
///
/// # Errors
///
/// When it does not start: with what lighttpd said.
pub fn start(site: &Site) -> Result<Server> {
    let (file, port) = configure(site)?;
    if is_root() {
        super::give_to_workers(&site.folder)?;
    }
    let arguments = vec!["-f".to_owned(), file.display().to_string()];
    let how: (Start, &[&str]) = match site.start {
        Start::Foreground => (Start::Foreground, &["-D"]),
        Start::Daemon => (Start::Daemon, &[]),
    };
    Server::start("lighttpd", system("lighttpd")?, arguments, how, site, port)
}
