//! A real server: nginx with a folder, a port and certificates of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running nginx, which ends with the value.
pub struct Server {
    folder: TempDir,
    process: Child,
    /// Where it has everything.
    pub port: u16,
    /// Where it keeps no sessions and has no tickets, and only TLS 1.2.
    pub forgetful: u16,
}

impl Server {
    /// Starts nginx with an ECDSA and an RSA certificate, from a CA each.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path(), "ec", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        certificate(folder.path(), "rsa", &["-newkey", "rsa:2048"]);
        let (port, forgetful) = (free_port(), free_port());
        let certificates = "ssl_certificate ec.pem; ssl_certificate_key ec.key;
                ssl_certificate rsa.pem; ssl_certificate_key rsa.key;";
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log debug;
            events {{ worker_connections 512; }}
            http {{
                log_format handshakes '$ssl_session_reused $ssl_protocol $status $request_uri';
                access_log access.log handshakes;
                client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
                uwsgi_temp_path tmp; scgi_temp_path tmp;
                {certificates}
                ssl_protocols TLSv1.2 TLSv1.3;
                server {{
                    listen 127.0.0.1:{port} ssl;
                    location / {{ return 200 'ok'; }}
                    location /missing {{ return 404; }}
                }}
                server {{
                    listen 127.0.0.1:{forgetful} ssl;
                    ssl_protocols TLSv1.2; ssl_session_tickets off; ssl_session_cache off;
                }}
            }}"
        );
        fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
        let output = fs::File::create(folder.path().join("output")).unwrap();
        let mut process = Command::new("/usr/sbin/nginx")
            .args(["-c", "nginx.conf", "-p"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("nginx (Debian package nginx-core) must be installed");
        // nginx writes its process id when it listens.
        let patience = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(folder.path().join("nginx.pid")).unwrap_or_default().is_empty() {
            if let Some(status) = process.try_wait().unwrap() {
                let output = fs::read_to_string(folder.path().join("output")).unwrap();
                panic!("nginx ended with {status}: {output}");
            }
            assert!(Instant::now() < patience, "nginx does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { folder, process, port, forgetful }
    }

    /// A file in the server's folder, which tests may use for theirs too.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The CA of one certificate (`ec`, `rsa`), or of both (`all`).
    pub fn ca(&self, name: &str) -> String {
        if name == "all" {
            let both = ["ec", "rsa"].map(|name| fs::read_to_string(self.ca(name)).unwrap());
            fs::write(self.path("all-ca.pem"), both.concat()).unwrap();
        }
        self.path(&format!("{name}-ca.pem")).to_str().unwrap().to_owned()
    }

    /// The lines of the access log, when there are at least `lines`: nginx writes one when a request is done,
    /// which may be after the client is.
    pub fn requests(&self, lines: usize) -> Vec<String> {
        settled(lines as u64, || self.read("access.log").lines().count() as u64);
        self.read("access.log").lines().map(str::to_owned).collect()
    }

    /// How many handshakes of a version (`TLSv1.3`) there were, when they are at least `expected`.
    pub fn handshakes(&self, version: &str, expected: u64) -> u64 {
        // Debian's nginx is built with its debugging log.
        let line = format!(" SSL: {version}, cipher: ");
        settled(expected, || self.read("error.log").matches(&line).count() as u64)
    }

    /// How many of all handshakes resumed a session, when they are at least `expected`.
    pub fn resumed(&self, expected: u64) -> u64 {
        settled(expected, || self.read("error.log").matches(" SSL reused session").count() as u64)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

/// Waits for a number that another process brings about, but not for ever.
fn settled(expected: u64, number: impl Fn() -> u64) -> u64 {
    let patience = Instant::now() + Duration::from_secs(5);
    while number() < expected && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    number()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Makes NAME-ca.pem, and NAME.pem and NAME.key for localhost that it signed.
fn certificate(folder: &Path, name: &str, key: &[&str]) {
    let file = |end: &str| format!("{name}{end}");
    let (ca, ca_key, pem, own_key) = (file("-ca.pem"), file("-ca.key"), file(".pem"), file(".key"));
    let subject = format!("/CN={name} test CA");
    let common = ["req", "-x509", "-nodes", "-sha256", "-days", "2"];
    openssl(folder, &[&common[..], key, &["-subj", &subject, "-keyout", &ca_key, "-out", &ca]].concat());
    let request = file(".csr");
    let own = ["req", "-new", "-nodes", "-subj", "/CN=localhost", "-keyout", &own_key, "-out", &request];
    openssl(folder, &[&own[..], key].concat());
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
    openssl(folder, &[&sign[..], &["-days", "2", "-sha256", "-extfile", "names", "-out", &pem]].concat());
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
