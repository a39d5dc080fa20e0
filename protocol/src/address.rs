//! Where a daemon keeps its socket and its state.
//!
//! The daemon, the module and the command all ask here, so that they meet without configuration.

use std::env;
use std::path::PathBuf;

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
    if uid == 0 { PathBuf::from(SYSTEM_SOCKET) } else { user_socket() }
}

/// The socket to which a client of user id `uid` connects: the one named by [`SOCKET_VARIABLE`], else the
/// user's own daemon's if it is there, else the system's.
pub fn client_socket(uid: u32) -> PathBuf {
    if let Some(path) = variable(SOCKET_VARIABLE) {
        return path;
    }
    if uid != 0 {
        let own = user_socket();
        if own.exists() {
            return own;
        }
    }
    PathBuf::from(SYSTEM_SOCKET)
}

/// The directory in which a daemon started by user id `uid` keeps its store and its node key.
pub fn state_directory(uid: u32) -> PathBuf {
    if let Some(path) = variable(STATE_VARIABLE) {
        return path;
    }
    if uid == 0 { PathBuf::from(SYSTEM_STATE) } else { user_state() }
}

fn user_socket() -> PathBuf {
    match variable("XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("strongroom/strongroomd.sock"),
        None => user_state().join("strongroomd.sock"),
    }
}

fn user_state() -> PathBuf {
    let base = variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("."));
    base.join("strongroom")
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
