//! Files: Landlock leaves the store, the audit log, the socket's directory and the credentials. It also forbids TCP, but for
//! the ports of the audit log's sinks and of etcd, and signals to other processes; all as far as the kernel knows it (5.13 and newer).

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::config::Config;

/// What the C library reads to look up the name of a host.
const NAMES: [&str; 6] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/run/systemd/resolve",
];

/// Gives up all other files, for this thread and all that it starts. The directories have to exist.
///
/// # Errors
///
/// Landlock's; a kernel that does not know (all of) it is no error.
pub(super) fn give_up(config: &Config) -> Result<(), RulesetError> {
    let store = AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::ReadDir
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    let socket = AccessFs::MakeSock | AccessFs::RemoveFile;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::Signal)?
        .create()?;
    rules = allow(rules, &config.state_dir, store)?;
    rules = allow(rules, &config.audit_directory(), store)?;
    let network = config.network();
    for port in network.tcp {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if network.names {
        for name in NAMES {
            rules = allow(rules, Path::new(name), read)?;
        }
    }
    if let Some(directory) = config.socket.parent() {
        rules = allow(rules, directory, socket)?;
    }
    if let Some(credentials) = &config.credentials {
        rules = allow(rules, credentials, read)?;
    }
    // How many processors a control group leaves us.
    for directory in ["/proc/self", "/sys/fs/cgroup"] {
        rules = allow(rules, Path::new(directory), read)?;
    }
    let status = rules.restrict_self()?;
    tracing::debug!(?status, "Landlock");
    Ok(())
}

/// Allows access below a directory; nothing if it is not there.
fn allow(
    rules: RulesetCreated,
    directory: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    match PathFd::new(directory) {
        // Of a file, what can be done with files.
        Ok(descriptor) => rules.add_rule(PathBeneath::new(
            descriptor,
            if directory.is_file() { access & AccessFs::from_file(ABI::V5) } else { access },
        )),
        Err(_) => Ok(rules),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_its_own_directories_are_left() {
        let directory = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("secret"), "x").unwrap();
        let mut config = Config::of_user(1000);
        config.state_dir = directory.path().join("state");
        config.socket = directory.path().join("run/socket");
        crate::daemon::make_directories(&config).unwrap();
        // Only the thread that confines itself is confined.
        std::thread::spawn(move || {
            give_up(&config).unwrap();
            fs::write(config.state_dir.join("file"), "x").unwrap();
            fs::rename(config.state_dir.join("file"), config.state_dir.join("renamed")).unwrap();
            std::os::unix::net::UnixListener::bind(&config.socket).unwrap();
            fs::remove_file(&config.socket).unwrap();
            if fs::read("/etc/passwd").is_ok() {
                // No Landlock in this kernel: then nothing is.
                assert!(TcpListener::bind("127.0.0.1:0").is_ok());
                return;
            }
            fs::read(other.path().join("secret")).unwrap_err();
            fs::write(other.path().join("new"), "x").unwrap_err();
            std::process::Command::new("/bin/true").spawn().unwrap_err();
        })
        .join()
        .unwrap();
    }
}
