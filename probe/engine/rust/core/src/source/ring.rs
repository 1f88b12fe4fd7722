//! The kernel's packet ring, TPACKET_V3 (Documentation/networking/packet_mmap.rst).
//!
//! The kernel fills blocks of packets in memory that it shares with us, and hands each block over
//! by its status word; we read it in place and hand it back. Only this module is unsafe: it gives
//! out a block's bytes while they are ours, and nothing else.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::{self, offset_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use super::fault::Fault;
use crate::memory::exclude_from_dumps;

/// Bytes of a block: holds the longest packet that receive offload makes, many times.
pub(super) const BLOCK_LEN: usize = 1024 * 1024;
/// After so long the kernel hands over a block that is not full, in milliseconds.
pub(super) const RETIRE_MS: u32 = 50;
/// Room that the kernel leaves before each packet, for the VLAN tag that it took out.
pub(super) const VLAN_TAG_LEN: usize = 4;
/// TPACKET_V3 packs packets of any length; the kernel only checks that frames divide a block.
const FRAME_LEN: usize = 2048;

/// Offset of a block's status word; the rest of its header follows.
const STATUS_AT: usize = offset_of!(libc::tpacket_block_desc, hdr);

/// A packet socket on one interface, and its ring.
#[derive(Debug)]
pub(super) struct Ring {
    socket: OwnedFd,
    map: Map,
    blocks: usize,
}

/// What a wait for the next block ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Ready,
    TimedOut,
    /// The interface went down or away.
    Disturbed,
}

impl Ring {
    /// Opens a ring of `blocks` blocks on an interface that is up.
    pub fn open(interface: u32, blocks: usize, ignore_outgoing: bool) -> Result<Self, Fault> {
        // Without a protocol the socket sees nothing before it is bound to its interface.
        let socket = open_socket(libc::AF_PACKET, libc::SOCK_RAW).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => {
                    Fault::Plain("no permission to capture: the process needs CAP_NET_RAW")
                }
                _ => step("open a packet socket")(error),
            }
        })?;
        let fd = socket.as_raw_fd();
        set_up(fd, ignore_outgoing)?;
        let map = map_ring(fd, blocks).map_err(step("set up a capture ring"))?;
        join(fd, interface)?;
        Ok(Self {
            socket,
            map,
            blocks,
        })
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The bytes of a block, while it is ours.
    #[inline]
    pub fn block(&mut self, index: usize) -> Option<&mut [u8]> {
        let status = self.status(index)?.load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block lies within the map (`status` checked the index), which lives as long
        // as self. Its status says that it is ours, so the kernel does not write to it until
        // `release`, which needs self unborrowed, as does any other access through this ring.
        Some(unsafe {
            slice::from_raw_parts_mut(self.map.start.as_ptr().add(index * BLOCK_LEN), BLOCK_LEN)
        })
    }

    /// How many blocks the kernel has handed over and not got back.
    pub fn waiting(&self) -> usize {
        let is_ours = |&index: &usize| {
            let status = self.status(index).map(|it| it.load(Ordering::Relaxed));
            status.is_some_and(|status| status & libc::TP_STATUS_USER != 0)
        };
        (0..self.blocks).filter(is_ours).count()
    }

    /// Hands a block back to the kernel.
    pub fn release(&mut self, index: usize) {
        if let Some(status) = self.status(index) {
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    #[inline]
    fn status(&self, index: usize) -> Option<&AtomicU32> {
        if index >= self.blocks {
            return None;
        }
        // SAFETY: the word lies within the map, is aligned to 4 bytes (blocks are pages, STATUS_AT
        // is a field's offset), and kernel and we access it as one word.
        Some(unsafe {
            let at = index * BLOCK_LEN + STATUS_AT;
            AtomicU32::from_ptr(self.map.start.as_ptr().add(at).cast())
        })
    }

    /// Waits until a block is handed over, or for so many milliseconds.
    pub fn wait(&self, timeout_ms: i32) -> Result<Wait, Fault> {
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, which lives through the call.
        let ready = unsafe { libc::poll(&mut poll, 1, timeout_ms) };
        match (ready, poll.revents) {
            (0, _) => Ok(Wait::TimedOut),
            (-1, _) => interrupted_or_fault(io::Error::last_os_error()),
            (_, events) if events & libc::POLLERR != 0 => {
                take_error(self.socket.as_raw_fd())?;
                Ok(Wait::Disturbed)
            }
            _ => Ok(Wait::Ready),
        }
    }

    /// Packets that the kernel dropped for want of room since this was last called.
    pub fn take_drops(&self) -> Result<u32, Fault> {
        let statistics: libc::tpacket_stats_v3 = get_option(
            self.socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
        )
        .map_err(step("read capture statistics"))?;
        Ok(statistics.tp_drops)
    }
}

/// A signal ends a wait early; the caller looks around and waits again.
fn interrupted_or_fault(error: io::Error) -> Result<Wait, Fault> {
    if error.kind() == io::ErrorKind::Interrupted {
        return Ok(Wait::Ready);
    }
    Err(step("wait for packets")(error))
}

/// Index of the interface of that name in this network namespace.
pub(super) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that ends with NUL and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Hardware type (ARPHRD_) of the interface of that name.
pub(super) fn hardware_type(name: &str) -> io::Result<u16> {
    // SAFETY: ifreq is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    // Any socket takes requests about interfaces; this kind needs no capability.
    let socket = open_socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    // SAFETY: SIOCGIFHWADDR reads the name and writes an address within the request.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &mut request) })?;
    // SAFETY: the call succeeded, so it wrote this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

fn step(step: &'static str) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::Capture { step, error }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn open_socket(domain: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_up(fd: RawFd, ignore_outgoing: bool) -> Result<(), Fault> {
    let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
    set_option(fd, libc::PACKET_VERSION, &version).map_err(step("use TPACKET_V3"))?;
    let reserve = VLAN_TAG_LEN as libc::c_uint;
    set_option(fd, libc::PACKET_RESERVE, &reserve).map_err(step("reserve room for VLAN tags"))?;
    let ignore = libc::c_int::from(ignore_outgoing);
    set_option(fd, libc::PACKET_IGNORE_OUTGOING, &ignore).map_err(step("ignore what is sent"))
}

fn map_ring(fd: RawFd, blocks: usize) -> io::Result<Map> {
    let request = libc::tpacket_req3 {
        tp_block_size: BLOCK_LEN as _,
        tp_block_nr: blocks as _,
        tp_frame_size: FRAME_LEN as _,
        tp_frame_nr: (blocks * (BLOCK_LEN / FRAME_LEN)) as _,
        tp_retire_blk_tov: RETIRE_MS,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set_option(fd, libc::PACKET_RX_RING, &request)?;
    Map::new(fd, blocks * BLOCK_LEN)
}

/// Begins to capture, in promiscuous mode for as long as the socket lives.
fn join(fd: RawFd, interface: u32) -> Result<(), Fault> {
    let membership = libc::packet_mreq {
        mr_ifindex: interface as _,
        mr_type: libc::PACKET_MR_PROMISC as _,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(fd, libc::PACKET_ADD_MEMBERSHIP, &membership)
        .map_err(step("set promiscuous mode"))?;
    bind(fd, interface).map_err(step("bind to the interface"))?;
    // The kernel binds to an interface that is down, and reports it this way.
    match take_error(fd)? {
        libc::ENETDOWN => Err(Fault::Plain("the interface is down")),
        _ => Ok(()),
    }
}

fn bind(fd: RawFd, interface: u32) -> io::Result<()> {
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
fn set_option<T>(fd: RawFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call, and `len` is its length.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_PACKET, name, ptr::from_ref(value).cast(), len) };
    check(result)?;
    Ok(())
}

/// Types whose every bit pattern is a value.
///
/// # Safety
///
/// That must be so for each type that implements this.
unsafe trait PlainData {}
// SAFETY: an integer.
unsafe impl PlainData for libc::c_int {}
// SAFETY: three integers.
unsafe impl PlainData for libc::tpacket_stats_v3 {}

fn get_option<T: PlainData>(fd: RawFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    // SAFETY: all zeros is a value of plain data.
    let mut value: T = unsafe { mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    let into = ptr::from_mut(&mut value).cast();
    // SAFETY: the value lives through the call, and `len` is its length; the kernel writes no more.
    check(unsafe { libc::getsockopt(fd, level, name, into, &mut len) })?;
    Ok(value)
}

/// Takes the error that is pending on the socket, an errno or 0.
fn take_error(fd: RawFd) -> Result<libc::c_int, Fault> {
    get_option(fd, libc::SOL_SOCKET, libc::SO_ERROR).map_err(step("read the socket's state"))
}

/// Memory shared with the kernel, unmapped when dropped.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone on our side, from whichever thread it is used.
unsafe impl Send for Map {}

impl Map {
    fn new(fd: RawFd, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        exclude_from_dumps(start.cast(), len);
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
