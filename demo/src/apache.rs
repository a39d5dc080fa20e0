//! Apache, with the site from apache-conf/ and Debian's own module configuration around it.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::configuration::Configuration;
use crate::programs::{repository, system};
use crate::run_folder::is_root;
use crate::server::{Server, Site, Start, free_port};

/// The modules that Debian enables and that the site needs.
const MODULES: [&str; 8] =
    ["mpm_event", "authz_core", "authz_host", "mime", "dir", "setenvif", "socache_shmcb", "ssl"];

/// Prepares the configuration and returns it with the port that it names.
///
/// # Errors
///
/// When apache-conf/ lacks a text that is replaced, or a file cannot be written.
pub fn configure(site: &Site) -> Result<(PathBuf, u16)> {
    fs::create_dir_all(&site.folder)?;
    let pages = site.write_page("<!doctype html><title>Apache</title><p>A page from Apache.\n")?;
    let port = free_port()?;
    let site_file = site.folder.join("strongroom.conf");
    let mut configuration = Configuration::read(&repository("apache-conf/strongroom.conf"))?
        .replace("Listen 443", &format!("Listen 127.0.0.1:{port}"))?
        .replace("<VirtualHost *:443>", &format!("<VirtualHost 127.0.0.1:{port}>"))?
        .replace_path("/var/log/apache2", &site.folder)?
        .replace_path("/var/www/html", &pages)?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("pkcs11:token=tls;object=web;type=private", engine_uri(site).unwrap_or(&site.key))?;
    if site.verbose {
        configuration = configuration.replace("#LogLevel warn ssl:info", "LogLevel warn ssl:info")?;
    }
    configuration.write(&site_file)?;

    // What /etc/apache2/apache2.conf does, with the run's folders.
    let folder = site.folder.display();
    let mut text = format!(
        "ServerRoot /etc/apache2\nServerName localhost\nDefine APACHE_RUN_DIR {folder}\n\
         DefaultRuntimeDir {folder}\nMutex file:{folder} default\nPidFile {folder}/server.pid\n\
         ErrorLog {folder}/error.log\nLogLevel warn\n"
    );
    if is_root() {
        text.push_str("User www-data\nGroup www-data\n");
    }
    for module in MODULES {
        text.push_str(&format!("IncludeOptional mods-available/{module}.load\n"));
        text.push_str(&format!("IncludeOptional mods-available/{module}.conf\n"));
    }
    if engine_uri(site).is_some() {
        text.push_str("SSLCryptoDevice pkcs11\n");
    }
    text.push_str(&format!("Include {}\n", site_file.display()));
    if let Some(workers) = site.workers {
        // What is said last counts. One process: nothing is divided between more than there are.
        text.push_str(&format!(
            "StartServers 1\nServerLimit 1\nThreadsPerChild {workers}\nThreadLimit {workers}\n\
             MaxRequestWorkers {workers}\nMinSpareThreads 1\nMaxSpareThreads {workers}\n"
        ));
    }
    text.push_str(&site.directives);
    let file = site.folder.join("apache2.conf");
    fs::write(&file, text)?;
    Ok((file, port))
}

/// Starts Apache for a site.
///
/// # Errors
///
/// When it does not start: with what Apache said.
pub fn start(site: &Site) -> Result<Server> {
    let (file, port) = configure(site)?;
    let arguments = vec!["-f".to_owned(), file.display().to_string()];
    let how: (Start, &[&str]) = match site.start {
        Start::Foreground => (Start::Foreground, &["-DFOREGROUND"]),
        Start::Daemon => (Start::Daemon, &["-k", "start"]),
    };
    let mut site = site.clone();
    if engine_uri(&site).is_none() {
        // Debian's Apache gives a pkcs11: URI to libp11's engine first, where that is installed.
        let nothing = site.folder.join("no-engines");
        site.environment = site.environment.with("OPENSSL_ENGINES", nothing);
    }
    Server::start("apache2", system("apache2")?, arguments, how, &site, port)
}

/// The URI of a key that OpenSSL's engine `pkcs11` is to open; nginx's notation says so.
fn engine_uri(site: &Site) -> Option<&str> {
    site.key.strip_prefix("engine:pkcs11:")
}
