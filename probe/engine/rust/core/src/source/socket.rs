//! System calls of packet sockets and of interfaces, behind functions that are safe to call.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::bpf::Instruction;

pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

pub(super) fn open(
    domain: libc::c_int,
    kind: libc::c_int,
    protocol: libc::c_int,
) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a packet socket to an interface; from now on it gets packets.
pub(super) fn bind(fd: RawFd, interface: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data, for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as _;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface as _;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives through the call, and `len` is its length.
    check(unsafe { libc::bind(fd, ptr::from_ref(&address).cast(), len) })?;
    Ok(())
}

/// Sets an option of packet sockets.
pub(super) fn set_option<T>(fd: RawFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_option_of(fd, libc::SOL_PACKET, name, value)
}

pub(super) fn set_option_of<T>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call, and `len` is its length.
    check(unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(value).cast(), len) })?;
    Ok(())
}

/// Sets an option whose value is a program.
pub(super) fn set_program(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    program: &[Instruction],
) -> io::Result<()> {
    // The kernel reads the program during the call only, and does not write to it.
    let value = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut().cast(),
    };
    set_option_of(fd, level, name, &value)
}

/// Types whose every bit pattern is a value.
///
/// # Safety
///
/// That must be so for each type that implements this.
pub(super) unsafe trait PlainData {}
// SAFETY: an integer.
unsafe impl PlainData for libc::c_int {}
// SAFETY: three integers.
unsafe impl PlainData for libc::tpacket_stats_v3 {}
// SAFETY: two integers.
unsafe impl PlainData for libc::tpacket_stats {}

pub(super) fn option<T: PlainData>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<T> {
    // SAFETY: all zeros is a value of plain data.
    let mut value: T = unsafe { mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    let into = ptr::from_mut(&mut value).cast();
    // SAFETY: the value lives through the call, and `len` is its length; the kernel writes no more.
    check(unsafe { libc::getsockopt(fd, level, name, into, &mut len) })?;
    Ok(value)
}

/// Waits until one of the sockets has something to read or an error, or for so many milliseconds.
/// Returns the events of each.
pub(super) fn poll<const N: usize>(
    sockets: [RawFd; N],
    timeout_ms: i32,
) -> io::Result<[libc::c_short; N]> {
    let mut polled = sockets.map(|fd| libc::pollfd {
        fd, // negative ones are passed over
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: N entries, which live through the call.
    check(unsafe { libc::poll(polled.as_mut_ptr(), N as _, timeout_ms) })?;
    Ok(polled.map(|socket| socket.revents))
}

pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes live through the call, and their length is passed.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends `request` and receives an answer into `answer`; returns what of it came.
pub(super) fn ask<'a>(fd: RawFd, request: &[u8], answer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    send(fd, request)?;
    // SAFETY: the bytes live through the call, and their length is passed.
    let got = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    Ok(&answer[..got.min(answer.len())])
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    request
}

/// Any socket takes requests about interfaces; this kind needs no capability.
fn any_socket() -> io::Result<OwnedFd> {
    open(libc::AF_INET, libc::SOCK_DGRAM, 0)
}

/// Hardware type (ARPHRD_) of the interface of that name.
pub(super) fn hardware_type(name: &str) -> io::Result<u16> {
    let (socket, mut request) = (any_socket()?, request(name));
    // SAFETY: SIOCGIFHWADDR reads the name and writes an address within the request.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &mut request) })?;
    // SAFETY: the call succeeded, so it wrote this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

/// Flags (IFF_) of the interface of that name.
pub(super) fn flags(name: &str) -> io::Result<libc::c_int> {
    let (socket, mut request) = (any_socket()?, request(name));
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags within the request.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request) })?;
    // SAFETY: the call succeeded, so it wrote this member of the union.
    Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// Index of the interface of that name in this network namespace.
pub(super) fn index(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a string that ends with NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Whether the card stamps all packets that it receives; `switch_on` has it do so, which takes
/// CAP_NET_ADMIN.
pub(super) fn stamps_all(name: &str, switch_on: bool) -> io::Result<bool> {
    let (socket, mut request) = (any_socket()?, request(name));
    let mut config = libc::hwtstamp_config {
        flags: 0,
        tx_type: 0,
        rx_filter: libc::HWTSTAMP_FILTER_ALL as libc::c_int,
    };
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut config).cast();
    let command = if switch_on {
        libc::SIOCSHWTSTAMP
    } else {
        libc::SIOCGHWTSTAMP
    };
    // SAFETY: both read the name and read and write the configuration, which lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), command as _, &mut request) })?;
    Ok(config.rx_filter == libc::HWTSTAMP_FILTER_ALL as libc::c_int)
}
