//! A daemon whose metrics are asked for.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::running::Process;

/// The program with `--metrics` on a port that the system chooses.
pub struct Looking {
    pub process: Process,
    pub address: SocketAddr,
    pub directory: TempDir,
}

/// What a scrape has brought.
pub struct Metrics {
    pub text: String,
}

/// An answer: its status, its head, its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Looking {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Process::command(directory.path());
        command.args(["--metrics", "127.0.0.1:0"]).args(arguments).stderr(Stdio::piped());
        let mut process = Process::spawn(command, directory.path());
        let mut log = BufReader::new(process.child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log names the address");
            if let Some((_, address)) = line.split_once("are on http://") {
                break address.trim().trim_end_matches('/').parse().unwrap();
            }
        };
        // So that the daemon never waits for somebody who reads its log.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, address, directory }
    }

    pub fn ask(&self, path: &str) -> Answer {
        let host = self.address.to_string();
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).unwrap()
    }

    /// Sends these bytes; `None` if the daemon closes without an answer.
    pub fn send(&self, request: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The daemon may close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    pub fn metrics(&self) -> Metrics {
        let answer = self.ask("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
        Metrics { text: answer.body }
    }
}

impl Metrics {
    /// The value of the sample with exactly this name and these labels.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        let found = self.text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let Some(value) = found else { panic!("no {sample} in\n{}", self.text) };
        value.parse().unwrap()
    }
}
