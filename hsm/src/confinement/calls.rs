//! System calls: a seccomp filter refuses (EPERM) those that the daemon never makes and that an intruder would.
//!
//! A list of what is refused, not of what is allowed: the C library and the runtime may use other calls in
//! their next release, and a partition must not stop for that. The service's unit has the stricter list.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::audit::Network;

/// Running programs, looking into other processes, changing the kernel or the file systems, and what has been
/// the way in before.
const REFUSED: [libc::c_long; 34] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
];

/// Sorts of sockets that the network has besides streams and datagrams: raw, reliably delivered, sequenced, packets.
const OTHER_SORTS: [libc::c_int; 4] = [libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, SOCK_PACKET];

/// Linux's obsolete way to get packets.
const SOCK_PACKET: libc::c_int = 10;

/// The bits of a socket's sort.
const SORT: u64 = 0xf;

/// The sockets that are refused: all but those of this machine, and what the audit log's sinks and etcd need.
fn refused_sockets(network: &Network) -> Result<Vec<SeccompRule>, Error> {
    let family = |op, family: libc::c_int| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, u64::try_from(family).unwrap_or_default())
    };
    let not_unix = || family(SeccompCmpOp::Ne, libc::AF_UNIX);
    if network.tcp.is_empty() && !network.udp {
        return Ok(vec![SeccompRule::new(vec![not_unix()?])?]);
    }
    let foreign = vec![
        not_unix()?,
        family(SeccompCmpOp::Ne, libc::AF_INET)?,
        family(SeccompCmpOp::Ne, libc::AF_INET6)?,
    ];
    let mut rules = vec![SeccompRule::new(foreign)?];
    let mut sorts = OTHER_SORTS.to_vec();
    if network.tcp.is_empty() {
        sorts.push(libc::SOCK_STREAM);
    }
    if !network.udp {
        sorts.push(libc::SOCK_DGRAM);
    }
    for sort in sorts {
        let sort = u64::try_from(sort).unwrap_or_default();
        let is_sort = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(SORT), sort)?;
        rules.push(SeccompRule::new(vec![not_unix()?, is_sort])?);
    }
    Ok(rules)
}

/// Gives up these calls, for this thread and all that it starts; and sockets but those that are needed.
///
/// # Errors
///
/// If the kernel has no seccomp, or the processor is one that the filter does not know.
pub(super) fn give_up(network: &Network) -> Result<(), Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, refused_sockets(network)?);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process::Command;

    use super::*;

    #[test]
    fn programs_and_networks_are_given_up() {
        // Only the thread that gives up is confined.
        std::thread::spawn(|| {
            Command::new("/bin/true").status().unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap();
            give_up(&Network::default()).unwrap();
            Command::new("/bin/true").status().unwrap_err();
            TcpListener::bind("127.0.0.1:0").unwrap_err();
            UnixStream::pair().unwrap();
            UnixDatagram::unbound().unwrap();
            // The kernel's crypto: a family that nobody thinks of.
            let alg = rustix::net::AddressFamily::from_raw(libc::AF_ALG as u16);
            let made = rustix::net::socket(alg, rustix::net::SocketType::SEQPACKET, None);
            assert_eq!(made.unwrap_err(), rustix::io::Errno::PERM);
            std::thread::spawn(|| Command::new("/bin/true").status().unwrap_err()).join().unwrap();
        })
        .join()
        .unwrap();
        Command::new("/bin/true").status().unwrap();
    }
    #[test]
    fn of_the_network_only_what_sinks_need_is_left() {
        let makes = |network: Network, sort: rustix::net::SocketType| {
            std::thread::spawn(move || {
                give_up(&network).unwrap();
                UnixStream::pair().unwrap();
                let alg = rustix::net::AddressFamily::from_raw(libc::AF_ALG as u16);
                rustix::net::socket(alg, rustix::net::SocketType::SEQPACKET, None).unwrap_err();
                let families = [rustix::net::AddressFamily::INET, rustix::net::AddressFamily::INET6];
                families.map(|family| rustix::net::socket(family, sort, None).is_ok())
            })
            .join()
            .unwrap()
        };
        use rustix::net::SocketType;
        let tls = Network { tcp: vec![6514], ..Network::default() };
        let udp = Network { udp: true, ..Network::default() };
        assert_eq!(makes(tls.clone(), SocketType::STREAM), [true; 2]);
        assert_eq!(makes(tls.clone(), SocketType::DGRAM), [false; 2]);
        assert_eq!(makes(udp.clone(), SocketType::DGRAM), [true; 2]);
        assert_eq!(makes(udp, SocketType::STREAM), [false; 2]);
        assert_eq!(makes(tls, SocketType::RAW), [false; 2]);
    }
}
