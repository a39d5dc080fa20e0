//! The daemon: its socket, its version, its partitions, its state directory.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use strongroom_protocol::address;
use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::node::Address;
use strongroom_protocol::v1::{
    AuditDescription, DescribeAudit, PartitionInfo, Status, StatusReply, request::Op,
};

use super::Findings;
use crate::args::Global;
use crate::commands::seal::left_behind;
use crate::failure::Failure;
use crate::session::{self, answer};

/// What answers, and what it has.
pub(super) struct Node {
    pub(super) connection: Connection,
    pub(super) partitions: Vec<PartitionInfo>,
}

/// Looks at each node that is named; the first that answers is returned.
pub(super) fn look(global: &Global, findings: &mut Findings) -> Option<Node> {
    state_directory(findings);
    let nodes = match session::nodes(global) {
        Ok(nodes) => nodes,
        Err(failure) => {
            let remedy = "correct client.conf or the environment: 'strongroom --help' says what they name";
            findings.problem("settings_wrong", "the client's settings", failure.to_string(), remedy);
            return None;
        }
    };
    let mut first = None;
    for node in &nodes {
        let is_there = match &node.address {
            Address::Unix(socket) => socket_is_there(socket, findings),
            Address::Tls { .. } => true,
        };
        let answering = if is_there { greet(node, findings) } else { None };
        first = first.or(answering);
    }
    first
}

/// Whether somebody listens on a socket.
fn socket_is_there(socket: &Path, findings: &mut Findings) -> bool {
    let subject = socket.display();
    let start = "start it: 'systemctl start strongroomd', or 'strongroomd'; another socket is named with --socket or \
                 STRONGROOM_SOCKET";
    match fs::symlink_metadata(socket) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let remedy = "name the daemon's socket with --socket or STRONGROOM_SOCKET";
            findings.problem("not_a_socket", subject, "is there, and is no socket", remedy);
            return false;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.problem("daemon_not_running", subject, "is not there: strongroomd does not run", start);
            return false;
        }
        _ => {}
    }
    if let Err(error) = UnixStream::connect(socket) {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => findings.problem(
                "socket_stale",
                subject,
                "nobody listens: the daemon that made it has ended without removing it",
                start,
            ),
            io::ErrorKind::PermissionDenied => findings.problem(
                "socket_not_permitted",
                subject,
                "you may not connect",
                "start strongroomd with --socket-mode 666 (who may use keys is decided by log-ins), and let others enter \
                 the socket's folder (mode 755)",
            ),
            _ => findings.problem("socket_unusable", subject, error.to_string(), start),
        }
        return false;
    }
    true
}

fn greet(node: &strongroom_protocol::node::Node, findings: &mut Findings) -> Option<Node> {
    let subject = &node.address;
    match ask(node) {
        Ok((mut node, status)) => {
            findings.ok("daemon_running", subject, format!("strongroomd {} answers", status.daemon));
            versions(&status, findings);
            memory(&status, findings);
            for what in &status.also_opened_by {
                let (title, remedy) = left_behind(what);
                let found =
                    format!("is unsealed by: {}; but {title}, and opens the store, too", status.sealed_with);
                findings.warn("node_key_left_behind", "strongroomd", found, remedy);
            }
            partitions(&node.partitions, findings);
            if let Ok(audited) = described(&mut node.connection) {
                audit(&audited, findings);
            }
            Some(node)
        }
        Err(failure) => {
            findings.problem("daemon_silent", subject, failure.to_string(), "look into the daemon's log");
            None
        }
    }
}

fn ask(node: &strongroom_protocol::node::Node) -> Result<(Node, StatusReply), Failure> {
    let mut connection = Connection::open_node(node, "strongroom", Deadlines::default())?;
    let status = answer!(connection.call(0, Op::Status(Status {})), Status)?;
    let partitions = session::partitions(&mut connection)?;
    Ok((Node { connection, partitions }, status))
}

fn described(connection: &mut Connection) -> Result<AuditDescription, Failure> {
    answer!(connection.call(0, Op::DescribeAudit(DescribeAudit {})), AuditDescription)
}

/// Who is not root is not told of sinks.
fn audit(described: &AuditDescription, findings: &mut Findings) {
    if !described.healthy {
        findings.problem(
            "audit_log_not_written",
            &described.directory,
            "the audit log cannot be written: changes are refused",
            "free space on its disk, or repair it: the daemon's log says why",
        );
    }
    for sink in described.sinks.iter().filter(|sink| !sink.connected && sink.failures > 0) {
        findings.warn(
            "audit_sink_failing",
            &sink.address,
            format!("does not get the audit log ({} entries wait): {}", sink.lag, sink.error),
            "see to it that it can be reached; nothing is lost meanwhile: docs/audit.md",
        );
    }
}

fn versions(status: &StatusReply, findings: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    if status.daemon != own {
        findings.warn(
            "daemon_version_differs",
            "strongroomd",
            format!("is of release {}, this command of {own}", status.daemon),
            "install one release of all parts, and restart the daemon",
        );
    }
}

fn memory(status: &StatusReply, findings: &mut Findings) {
    if status.memory == "unlocked" {
        findings.problem(
            "memory_unlocked",
            "strongroomd",
            "keys lie in memory that can be swapped to the disk",
            "LimitMEMLOCK=infinity in its unit, and restart it",
        );
    }
}

fn partitions(partitions: &[PartitionInfo], findings: &mut Findings) {
    if partitions.is_empty() {
        findings.warn("no_partition", "strongroomd", "has no partition", "make one: 'strongroom init LABEL'");
    }
    for partition in partitions {
        let subject = format!("partition {:?}", partition.label);
        if !partition.damaged.is_empty() {
            findings.problem("partition_damaged", subject, &partition.damaged, "restore it from a backup");
            continue;
        }
        match partition.locked_users {
            0 => findings.ok("partition_sound", subject, format!("{} objects", partition.objects)),
            count => findings.problem(
                "users_locked",
                subject,
                format!("{count} of its users are locked after wrong passwords: a program has a wrong PIN"),
                "correct the PIN, then 'strongroom user list' and 'strongroom user unlock NAME'",
            ),
        }
    }
}

fn state_directory(findings: &mut Findings) {
    let directory = address::state_directory(rustix::process::getuid().as_raw());
    let Ok(metadata) = fs::metadata(&directory) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        findings.problem(
            "state_directory_open",
            directory.display(),
            format!("is open to other users (mode {mode:o}): strongroomd does not start"),
            format!("chmod 700 {}", directory.display()),
        );
    }
}
