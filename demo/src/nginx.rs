//! nginx, with the configuration from nginx-conf/.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::configuration::Configuration;
use crate::programs::{repository, system};
use crate::run_folder::is_root;
use crate::server::{Server, Site, Start, free_port};

/// Prepares the configuration and returns it with the port that it names.
///
/// # Errors
///
/// When nginx-conf/ lacks a text that is replaced, or a file cannot be written.
pub fn configure(site: &Site) -> Result<(PathBuf, u16)> {
    fs::create_dir_all(&site.folder)?;
    let pages = site.write_page("<!doctype html><title>nginx</title><p>A page from nginx.\n")?;
    let port = free_port()?;
    let uri = site.key.starts_with("pkcs11:");
    let source = repository(if uri { "nginx-conf/nginx-1.29.conf" } else { "nginx-conf/nginx-1.22.conf" });
    let mut configuration = Configuration::read(&source)?
        .replace_path("/run/nginx.pid", &site.folder.join("server.pid"))?
        .replace_path("/var/log/nginx", &site.folder)?
        .replace_path("/var/www/html", &pages)?
        .replace("listen 443", &format!("listen 127.0.0.1:{port}"))?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("http {\n", &format!("http {{\n{}{}\n", temporary_folders(&site.folder), site.directives))?;
    configuration = if uri {
        configuration.replace("pkcs11:token=tls;object=web;type=private", &site.key)?
    } else {
        configuration.replace(
            "ssl_certificate_key /etc/strongroom/web.ref.pem",
            &format!("ssl_certificate_key {}", site.key),
        )?
    };
    if site.key.starts_with("engine:") {
        // A URI has semicolons, which would end the directive.
        configuration = configuration.replace(&site.key, &format!("\"{}\"", site.key))?;
    }
    if let Some(workers) = site.workers {
        configuration = configuration.set("worker_processes", &workers.to_string())?;
    }
    if !is_root() {
        configuration =
            configuration.replace("user www-data;", "# Without root the workers keep the user.")?;
    }
    // Other tokens than Strongroom's read their own variables, again after each fork.
    for name in site.environment.names().filter(|name| !["OPENSSL_CONF", "STRONGROOM_SOCKET"].contains(name))
    {
        let added = format!("\nenv OPENSSL_CONF;\nenv {name};\n");
        configuration = configuration.replace("\nenv OPENSSL_CONF;\n", &added)?;
    }
    let file = site.folder.join("nginx.conf");
    configuration.write(&file)?;
    Ok((file, port))
}

/// Starts nginx for a site.
///
/// # Errors
///
/// When it does not start: with what nginx said.
pub fn start(site: &Site) -> Result<Server> {
    start_program(system("nginx")?, site)
}

/// The same with another nginx than the system's.
///
/// # Errors
///
/// When it does not start: with what nginx said.
pub fn start_program(program: PathBuf, site: &Site) -> Result<Server> {
    let (file, port) = configure(site)?;
    start_as(program, site, &file, port)
}

/// Starts nginx with a configuration that [`configure`] made, and that was changed since.
///
/// # Errors
///
/// When it does not start: with what nginx said.
pub fn start_configured(site: &Site, file: &Path, port: u16) -> Result<Server> {
    start_as(system("nginx")?, site, file, port)
}

fn start_as(program: PathBuf, site: &Site, file: &Path, port: u16) -> Result<Server> {
    let arguments = vec!["-c".to_owned(), file.display().to_string()];
    let how: (Start, &[&str]) = match site.start {
        Start::Foreground => (Start::Foreground, &["-g", "daemon off;"]),
        Start::Daemon => (Start::Daemon, &[]),
    };
    Server::start("nginx", program, arguments, how, site, port)
}

/// Bodies of requests and answers too large for memory: Debian's nginx keeps them where only root can write.
fn temporary_folders(folder: &Path) -> String {
    let mut text = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text.push_str(&format!("    {kind}_temp_path {}/{kind};\n", folder.display()));
    }
    text
}
