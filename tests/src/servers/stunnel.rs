//! stunnel, with the configuration from server-conf/, before a page that this module serves without TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Result;
use strongroom_demo::configuration::Configuration;
use strongroom_demo::programs::{repository, system};
use strongroom_demo::run_folder::is_root;
use strongroom_demo::server::{Server, Site, Start, free_port};

/// Prepares the configuration, in which all paths are as they are before a change of the root.
///
/// # Errors
///
/// When server-conf/ lacks a text that is replaced, or a file cannot be written.
pub fn configure(site: &Site) -> Result<(PathBuf, u16)> {
    fs::create_dir_all(&site.folder)?;
    let port = free_port()?;
    let mut configuration = Configuration::read(&repository("server-conf/stunnel.conf"))?
        .replace_path("/run/stunnel4/stunnel.pid", &site.folder.join("server.pid"))?
        .replace_path("/var/log/stunnel4/stunnel.log", &site.folder.join("error.log"))?
        .replace("accept = 443", &format!("accept = 127.0.0.1:{port}"))?
        .replace("127.0.0.1:80", &backend()?)?
        .replace_path("/etc/strongroom/web.crt", &site.certificate)?
        .replace("key = /etc/strongroom/web.ref.pem", &format!("key = {}", site.key))?;
    configuration = if is_root() {
        configuration
            .replace("setuid = stunnel4", "setuid = www-data")?
            .replace("setgid = stunnel4", "setgid = www-data")?
    } else {
        configuration.replace("setuid = stunnel4\n", "")?.replace("setgid = stunnel4\n", "")?
    };
    if site.start == Start::Foreground {
        configuration = configuration.replace("\nsetuid", "\nforeground = yes\nsetuid")?;
    }
    let file = site.folder.join("stunnel.conf");
    configuration.write(&file)?;
    Ok((file, port))
}

/// Starts stunnel for a site.
///
/// # Errors
///
/// When it does not start: with what stunnel said.
pub fn start(site: &Site) -> Result<Server> {
    let (file, port) = configure(site)?;
    start_configured(site, &file, port)
}

/// Starts stunnel with a configuration that [`configure`] made, and that was changed since.
///
/// # Errors
///
/// When it does not start: with what stunnel said.
pub fn start_configured(site: &Site, file: &Path, port: u16) -> Result<Server> {
    if is_root() {
        super::give_to_workers(&site.folder)?;
    }
    let arguments = vec![file.display().to_string()];
    Server::start("stunnel", system("stunnel4")?, arguments, (site.start, &[]), site, port)
}

/// A page for whoever connects, as long as this program runs; returns its address.
fn backend() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || answer(connection));
        }
    });
    Ok(address)
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let page = "<!doctype html><title>stunnel</title><p>A page behind stunnel.\n";
    let mut request = [0; 4096];
    if connection.read(&mut request)? == 0 {
        return Ok(());
    }
    let length = page.len();
    write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}")
}
