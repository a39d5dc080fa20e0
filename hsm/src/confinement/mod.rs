//! The daemon gives up what it does not need: a flaw in it does not open the rest of the machine.

mod calls;
mod files;

use crate::config::Config;

/// Confines this thread and all that it starts, for good. The directories have to exist. A step that the
/// system does not take is logged, not fatal: each is a defence behind others.
pub fn confine(config: &Config) {
    if let Err(error) = files::give_up(config) {
        tracing::warn!("the daemon is not confined to its directories: {error}");
    }
    if let Err(error) = calls::give_up(&config.network()) {
        tracing::warn!("the daemon keeps system calls that it does not need: {error}");
    }
}
