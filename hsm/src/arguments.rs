//! What the command line says of the audit log, of clients of the network, and of a cluster's etcd.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use strongroom_hsm::audit;
use strongroom_hsm::audit::sink::{Sink, Target, Trust, facility};
use strongroom_hsm::network::{Clients, Listener, Options};
use strongroom_hsm::store::etcd;
use strongroom_hsm::vault;
use zeroize::Zeroizing;

/// The audit log: docs/audit.md.
#[derive(Debug, Args)]
#[command(next_help_heading = "Audit log")]
pub struct Audit {
    /// Where the audit log's files are [default: the folder 'audit' in the state directory].
    #[arg(long, value_name = "DIRECTORY", env = "STRONGROOM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    /// Delete the audit log's files after so many days, when all sinks have got them [default: never].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..), env = "STRONGROOM_AUDIT_KEEP_DAYS")]
    audit_keep_days: Option<u32>,
    /// Begin a new file of the audit log after so many MiB; and each day.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024), default_value_t = 64)]
    audit_file_size: u64,
    /// Send the audit log's entries here, too: 'journald', 'syslog+udp://HOST:514' or 'syslog+tls://HOST:6514'. May be
    /// given several times.
    #[arg(long, value_name = "SINK", env = "STRONGROOM_AUDIT_SINK", value_delimiter = ',')]
    audit_sink: Vec<Target>,
    /// Certificates of the authorities that syslog servers are trusted by, PEM [default: the system's].
    #[arg(long, value_name = "FILE", env = "STRONGROOM_AUDIT_CA")]
    audit_ca: Option<PathBuf>,
    /// The certificate that the daemon shows to syslog servers, with its chain, PEM.
    #[arg(long, value_name = "FILE", env = "STRONGROOM_AUDIT_CERTIFICATE", requires = "audit_key")]
    audit_certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", env = "STRONGROOM_AUDIT_KEY", requires = "audit_certificate")]
    audit_key: Option<PathBuf>,
    /// The facility of syslog messages: audit (13), authpriv, daemon, local0 to local7 and others [default: audit].
    #[arg(long, value_name = "NAME", value_parser = facility_of)]
    audit_facility: Option<u8>,
}

/// "log audit" (RFC 5424, 6.2.1).
const AUDIT: u8 = 13;

fn facility_of(name: &str) -> Result<u8, String> {
    facility(name)
        .ok_or_else(|| "no facility: audit, authpriv, auth, daemon, user, local0 to local7 …".to_owned())
}

impl Audit {
    /// Reads the files that are named: later the daemon may not.
    ///
    /// # Errors
    ///
    /// Those of the files.
    pub fn options(self) -> anyhow::Result<audit::Options> {
        let is_tls = self.audit_sink.iter().any(|target| matches!(target, Target::Tls(_)));
        let tls = match is_tls {
            true => {
                let own = self.audit_certificate.zip(self.audit_key);
                Some(Trust { authorities: self.audit_ca, own }.config().context("--audit-sink over TLS")?)
            }
            false => {
                let given = [&self.audit_ca, &self.audit_certificate, &self.audit_key];
                let mut named = ["--audit-ca", "--audit-certificate", "--audit-key"].into_iter().zip(given);
                if let Some((option, _)) = named.find(|(_, file)| file.is_some()) {
                    anyhow::bail!(
                        "{option} is for a sink over TLS, and there is none: --audit-sink syslog+tls://HOST:6514"
                    );
                }
                None
            }
        };
        let is_syslog = self.audit_sink.iter().any(|target| !matches!(target, Target::Journald(_)));
        anyhow::ensure!(
            is_syslog || self.audit_facility.is_none(),
            "--audit-facility is for a syslog server, and there is none: --audit-sink syslog+udp://HOST:514"
        );
        let mut targets = self.audit_sink;
        targets.sort();
        let count = targets.len();
        targets.dedup();
        anyhow::ensure!(targets.len() == count, "--audit-sink: a sink is named twice");
        let facility = self.audit_facility.unwrap_or(AUDIT);
        let sinks = targets.into_iter().map(|target| Sink { target, tls: tls.clone(), facility });
        Ok(audit::Options {
            directory: self.audit_dir,
            rotate_bytes: self.audit_file_size << 20,
            keep_days: self.audit_keep_days,
            sinks: sinks.collect(),
        })
    }
}

/// Clients of the network: docs/network.md.
#[derive(Debug, Args)]
#[command(next_help_heading = "Clients of the network")]
pub struct Network {
    /// Serve clients on other machines too, over TLS 1.3, on an address like 10.0.0.1:9820 (IPv6 in brackets). May be given
    /// several times. The node shows the certificate that a partition's owner has signed ('strongroom node request').
    /// Off by default.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "STRONGROOM_TLS",
        value_delimiter = ',',
        requires = "tls_client_ca"
    )]
    tls: Vec<SocketAddr>,
    /// The certificates (PEM) of the authorities that sign clients' certificates. Read at the start.
    #[arg(long, value_name = "FILE", env = "STRONGROOM_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Which clients of --tls may connect: those with a certificate ('required'), or others as well, who act by log-in
    /// only ('optional') [default: required].
    #[arg(long, value_enum, value_name = "WHICH", env = "STRONGROOM_TLS_CERTIFICATES")]
    tls_certificates: Option<Certificates>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Certificates {
    /// A client without one is refused.
    Required,
    /// A client without one may log in with a password.
    Optional,
}

impl Network {
    /// Opens the sockets and reads the authorities: later the daemon may not.
    ///
    /// # Errors
    ///
    /// Those of the files and of the system.
    pub fn listeners(&self) -> anyhow::Result<Vec<Listener>> {
        if self.tls.is_empty() {
            let given = [
                ("--tls-client-ca", self.tls_client_ca.is_some()),
                ("--tls-certificates", self.tls_certificates.is_some()),
            ];
            if let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                anyhow::bail!(
                    "{option} is for clients of the network, and there is no address for them: --tls 10.0.0.1:9820"
                );
            }
        }
        // Without one --tls is refused.
        let Some(authority) = &self.tls_client_ca else { return Ok(Vec::new()) };
        let clients = match self.tls_certificates {
            None | Some(Certificates::Required) => Clients::WithCertificate,
            Some(Certificates::Optional) => Clients::All,
        };
        let open = |address: &SocketAddr| {
            Ok(Listener::open(&Options { address: *address, authority: authority.clone(), clients })?)
        };
        self.tls.iter().map(open).collect()
    }
}

/// A cluster's etcd: docs/cluster.md.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Cluster {
    /// The members of the etcd in which a cluster's nodes keep their partitions, sealed: https://HOST:2379, all of them.
    #[arg(
        long,
        value_name = "URL",
        env = "STRONGROOM_ETCD",
        value_delimiter = ',',
        value_parser = member,
        requires_all = ["etcd_ca", "etcd_cert", "etcd_key"]
    )]
    etcd: Vec<String>,
    /// The certificates (PEM) of the authority that signs those of etcd's members. Read at the start.
    #[arg(long, value_name = "FILE", env = "STRONGROOM_ETCD_CA")]
    etcd_ca: Option<PathBuf>,
    /// The certificate that the node shows to etcd, PEM. Read at the start.
    #[arg(long, value_name = "FILE", env = "STRONGROOM_ETCD_CERT")]
    etcd_cert: Option<PathBuf>,
    /// Its private key, PEM. Read at the start.
    #[arg(long, value_name = "FILE", env = "STRONGROOM_ETCD_KEY")]
    etcd_key: Option<PathBuf>,
    /// For how many seconds keys are used while no majority of etcd's members answers; 0: not at all. Changes are refused
    /// meanwhile in any case.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "STRONGROOM_CLUSTER_LEASE",
        default_value_t = vault::USUAL_LEASE.as_secs(),
        value_parser = clap::value_parser!(u64).range(..=30 * 24 * 3600)
    )]
    cluster_lease: u64,
}

/// Only over TLS: who can write there can put back what was there earlier, and who can read counts the changes.
fn member(text: &str) -> Result<String, String> {
    match etcd::host_and_port(text) {
        Some(_) if text.starts_with("https://") => Ok(text.to_owned()),
        _ => Err("not like https://HOST:2379".to_owned()),
    }
}

/// For how long a member of etcd that answers is looked for.
const PATIENCE: Duration = Duration::from_secs(10);

fn pem(
    option: &str,
    path: &Path,
    what: &str,
    holds: fn(&[u8]) -> bool,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let file = || format!("{option} {}", path.display());
    let pem = Zeroizing::new(std::fs::read(path).with_context(file)?);
    anyhow::ensure!(holds(&pem), "{}: there is no {what} in it, in PEM", file());
    Ok(pem)
}

fn certificates(option: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let holds = |pem: &[u8]| {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        all.is_ok_and(|all| !all.is_empty())
    };
    Ok(pem(option, path, "certificate", holds)?.to_vec())
}

fn private_key(option: &str, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    pem(option, path, "private key", |pem| PrivateKeyDer::from_pem_slice(pem).is_ok())
}

impl Cluster {
    /// Reads the files that are named: later the daemon may not. Whether they fit each other and etcd shows when it is asked.
    ///
    /// # Errors
    ///
    /// Those of the files, if they are no PEM too; and for a file without `--etcd`.
    pub fn options(self) -> anyhow::Result<Option<vault::Cluster>> {
        if self.etcd.is_empty() {
            let given = [
                ("--etcd-ca", &self.etcd_ca),
                ("--etcd-cert", &self.etcd_cert),
                ("--etcd-key", &self.etcd_key),
            ];
            if let Some((option, _)) = given.into_iter().find(|(_, file)| file.is_some()) {
                anyhow::bail!(
                    "{option} is for a cluster's etcd, and no member of it is named: --etcd https://10.0.0.1:2379"
                );
            }
        }
        // Without one --etcd is refused.
        let files = self.etcd_ca.zip(self.etcd_cert).zip(self.etcd_key);
        let Some(((authority, certificate), key)) = files.filter(|_| !self.etcd.is_empty()) else {
            return Ok(None);
        };
        let client = (certificates("--etcd-cert", &certificate)?, private_key("--etcd-key", &key)?);
        let tls = etcd::Tls { authority: certificates("--etcd-ca", &authority)?, client: Some(client) };
        let etcd = etcd::Options {
            endpoints: self.etcd,
            cluster: String::new(),
            tls: Some(tls),
            patience: PATIENCE,
        };
        Ok(Some(vault::Cluster { etcd, lease: Duration::from_secs(self.cluster_lease) }))
    }
}
