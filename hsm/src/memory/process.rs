//! What the whole process gives up, so that its memory stays its own.

use rustix::process::{self, DumpableBehavior, Resource, Rlimit};

/// Forbids core dumps, reading the memory from outside (ptrace, /proc/PID/mem; root keeps the right), and
/// gaining rights by running another program. Takes as many file descriptors as are allowed. What the system
/// refuses is logged, not fatal: each is a defence behind others.
pub fn harden() {
    let steps = [
        ("PR_SET_DUMPABLE", process::set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        ("RLIMIT_CORE", process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })),
        ("PR_SET_NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true)),
        ("RLIMIT_NOFILE", raise(Resource::Nofile)),
    ];
    for (what, result) in steps {
        if let Err(error) = result {
            tracing::warn!("{what}: {error}");
        }
    }
}

fn raise(resource: Resource) -> rustix::io::Result<()> {
    let limit = process::getrlimit(resource);
    process::setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum })
}
