//! Where a daemon keeps its socket and its state.
//!
//! The daemon, the module and the command all ask here, so that they meet without configuration.

use std::env;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "STRONGROOM_SOCKET";

/// The environment variable that names another state directory (read by the daemon only).
pub const STATE_VARIABLE: &str = "STRONGROOM_STATE_DIR";

/// The socket of the system's daemon.
pub const SYSTEM_SOCKET: &str = "/run/strongroom/strongroomd.sock";

/// Where the system's daemon keeps its store.
pub const SYSTEM_STATE: &str = "/var/lib/strongroom";

/// The socket on which a daemon started by user id `uid` listens: the system's for root, otherwise one
/// below `$XDG_RUNTIME_DIR`, or below the state directory where there is none.
pub fn listen_socket(uid: u32) -> PathBuf {
    if let Some(path) = variable(SOCKET_VARIABLE) {
        return path;
    }
    if uid == 0 {
        return PathBuf::from(SYSTEM_SOCKET);
    }
    user_socket().unwrap_or_else(|| PathBuf::from("strongroom/strongroomd.sock"))
}

/// The socket to which a client of user id `uid` connects: the one named by [`SOCKET_VARIABLE`], else the
/// user's own daemon's if one listens there, else the system's. Not relative to the working directory, unless
/// the variable says so.
///
/// It trusts the environment: a program that runs with more rights than its user must not ask.
pub fn client_socket(uid: u32) -> PathBuf {
    if let Some(path) = variable(SOCKET_VARIABLE) {
        return path;
    }
    match user_socket() {
        Some(own) if uid != 0 => choose(own, Path::new(SYSTEM_SOCKET)),
        _ => PathBuf::from(SYSTEM_SOCKET),
    }
}

/// A daemon that was killed leaves its socket behind, which must not hide the system's daemon. If nobody listens
/// on either, the one that is there is the one that will.
fn choose(own: PathBuf, system: &Path) -> PathBuf {
    if is_listening(&own) || (own.exists() && !is_listening(system)) { own } else { system.to_owned() }
}

fn is_listening(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (Ok(address), Ok(socket)) =
        (SocketAddrUnix::new(path), net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None))
    else {
        return false;
    };
    // AGAIN: so many want to connect that they have to wait.
    matches!(net::connect(&socket, &address), Ok(()) | Err(Errno::AGAIN))
}

/// The directory in which a daemon started by user id `uid` keeps its store and its node key.
pub fn state_directory(uid: u32) -> PathBuf {
    if let Some(path) = variable(STATE_VARIABLE) {
        return path;
    }
    if uid == 0 {
        return PathBuf::from(SYSTEM_STATE);
    }
    user_state().unwrap_or_else(|| PathBuf::from("strongroom"))
}

fn user_socket() -> Option<PathBuf> {
    match directory("XDG_RUNTIME_DIR") {
        Some(directory) => Some(directory.join("strongroom/strongroomd.sock")),
        None => Some(user_state()?.join("strongroomd.sock")),
    }
}

fn user_state() -> Option<PathBuf> {
    let base = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))?;
    Some(base.join("strongroom"))
}

/// The XDG base directory specification ignores paths that are not absolute.
fn directory(name: &str) -> Option<PathBuf> {
    variable(name).filter(|path| path.is_absolute())
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_a_dead_daemon_left_does_not_hide_the_systems() {
        let directory = tempfile::tempdir().unwrap();
        let (own, system) = (directory.path().join("own"), directory.path().join("system"));
        assert_eq!(choose(own.clone(), &system), system);
        drop(UnixListener::bind(&own).unwrap());
        assert_eq!(choose(own.clone(), &system), own, "it may come back, and there is no other");
        let _listening = UnixListener::bind(&system).unwrap();
        assert_eq!(choose(own.clone(), &system), system);
        std::fs::remove_file(&own).unwrap();
        let _own_too = UnixListener::bind(&own).unwrap();
        assert_eq!(choose(own.clone(), &system), own);
    }
}
