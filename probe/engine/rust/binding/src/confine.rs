//! What the process may still do once its sockets are open: next to nothing.
//!
//! Capabilities belong to threads, not to the process: each thread gives up its own ([`drop_capabilities`]),
//! and those it starts later have none. System calls are filtered for all threads at once
//! ([`filter_system_calls`]): what is not on the list fails with EPERM, as if the process lacked the right
//! to it. It is not killed: a library that tries something new costs a measurement then, not the probe.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

/// capabilities(7).
const CAP_NET_RAW: u32 = 13;
/// The layout of two 32-bit words per set (capget(2)).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Leaves the calling thread without any capability, or with CAP_NET_RAW alone, and without a way to gain
/// one.
pub fn drop_capabilities(keep_net_raw: bool) -> io::Result<()> {
    forbid_new_privileges()?;
    clear_ambient();
    set_capabilities(u32::from(keep_net_raw) << CAP_NET_RAW)
}

fn set_capabilities(low: u32) -> io::Result<()> {
    let header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let word = |bits| Sets {
        effective: bits,
        permitted: bits,
        inheritable: 0,
    };
    let sets = [word(low), word(0)];
    // SAFETY: both structures live through the call and have the layout of this version.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, sets.as_ptr()) })
}

fn forbid_new_privileges() -> io::Result<()> {
    const YES: libc::c_ulong = 1;
    const NO: libc::c_ulong = 0;
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, YES, NO, NO, NO) }.into())
}

/// Kernels before 4.3 have no ambient set, and nothing to clear.
fn clear_ambient() {
    const NO: libc::c_ulong = 0;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, NO, NO, NO) };
}

/// Goes on as another user, with that user's groups and CAP_NET_RAW alone. For root, before there are
/// other threads: they would keep all capabilities.
pub fn become_user(name: &str, uid: u32, gid: u32) -> io::Result<()> {
    const YES: libc::c_ulong = 1;
    const NO: libc::c_ulong = 0;
    let name = CString::new(name)?;
    // SAFETY: numbers, and a string that lives through the call.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, YES, NO, NO, NO).into())?;
        check(libc::initgroups(name.as_ptr(), gid as _).into())?;
        check(libc::setgid(gid).into())?;
        check(libc::setuid(uid).into())?;
    }
    set_capabilities(1 << CAP_NET_RAW)
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

// ------------------------------------------------------------------------------------ system calls

/// Filters the system calls of all threads, now and later. There is no way back. With `packet_sockets`
/// those that hold CAP_NET_RAW may open them.
pub fn filter_system_calls(packet_sockets: bool) -> Result<(), String> {
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| format!("no filter for {}", std::env::consts::ARCH))?;
    let program = |rules, otherwise, matching| {
        let filter = SeccompFilter::new(rules, otherwise, matching, arch);
        let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
        program.map_err(|error| error.to_string())
    };
    let allow = SeccompAction::Allow;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    // glibc falls back to clone(2), whose flags can be looked at, if there is no clone3(2).
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let without_newer = program(newer, allow.clone(), unknown)?;
    let listed = program(rules(packet_sockets)?, refused, allow)?;
    for program in [without_newer, listed] {
        apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(packet_sockets: bool) -> Result<Rules, String> {
    let all = FILES.iter().chain(NETWORK).chain(THREADS).chain(PROCESS);
    let all = all.chain(OLD).chain([&libc::SYS_clone3]);
    let mut rules: Rules = all.map(|&call| (call, Vec::new())).collect();
    conditional(&mut rules, packet_sockets).map_err(|error| error.to_string())?;
    Ok(rules)
}

fn conditional(rules: &mut Rules, packet_sockets: bool) -> Result<(), seccompiler::BackendError> {
    let argument = |index, op, value: u64| {
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)?;
        SeccompRule::new(vec![condition])
    };
    rules.insert(libc::SYS_socket, sockets(packet_sockets)?);
    // Threads, and no processes.
    let thread = libc::CLONE_THREAD as u64;
    let threads = argument(0, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![threads]);
    // No typing into the terminal that it was started from (TIOCSTI, ioctl_tty(2)).
    let typing = argument(1, SeccompCmpOp::Ne, libc::TIOCSTI)?;
    rules.insert(libc::SYS_ioctl, vec![typing]);
    // Signals to itself: abort(3).
    let own = argument(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?;
    rules.insert(libc::SYS_tgkill, vec![own]);
    Ok(())
}

/// New sockets: those of the collector, of name resolution and of systemd. None of packets
/// unless they are asked for, none that is raw, whatever capability a thread may still hold.
fn sockets(packet_sockets: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const KIND: u64 = 0xf;
    let is = |index, op, value: libc::c_int| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value as u64)
    };
    let mut rules = Vec::new();
    let packets = packet_sockets.then_some(libc::AF_PACKET);
    for family in [libc::AF_NETLINK].into_iter().chain(packets) {
        rules.push(SeccompRule::new(vec![is(0, SeccompCmpOp::Eq, family)?])?);
    }
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let family = is(0, SeccompCmpOp::Eq, family)?;
            let kind = is(1, SeccompCmpOp::MaskedEq(KIND), kind)?;
            rules.push(SeccompRule::new(vec![family, kind])?);
        }
    }
    Ok(rules)
}

const FILES: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
];

const NETWORK: &[i64] = &[
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
];

const THREADS: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_exit,
    libc::SYS_restart_syscall,
];

const PROCESS: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpriority,
    libc::SYS_capget,
    libc::SYS_prctl,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    libc::SYS_exit_group,
];

/// Calls that newer systems have under other names only.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_getrlimit,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];
