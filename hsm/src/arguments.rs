//! What the command line says of the audit log.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use strongroom_hsm::audit;
use strongroom_hsm::audit::sink::{Sink, Target, Trust, facility};

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
    /// The facility of syslog messages: audit (13), authpriv, daemon, local0 to local7 and others.
    #[arg(long, value_name = "NAME", default_value = "audit", value_parser = facility_of)]
    audit_facility: u8,
}

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
            false => None,
        };
        let mut targets = self.audit_sink;
        targets.sort();
        let count = targets.len();
        targets.dedup();
        anyhow::ensure!(targets.len() == count, "--audit-sink: a sink is named twice");
        let facility = self.audit_facility;
        let sinks = targets.into_iter().map(|target| Sink { target, tls: tls.clone(), facility });
        Ok(audit::Options {
            directory: self.audit_dir,
            rotate_bytes: self.audit_file_size << 20,
            keep_days: self.audit_keep_days,
            sinks: sinks.collect(),
        })
    }
}
