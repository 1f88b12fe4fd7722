//! The kernel's packet rings (Documentation/networking/packet_mmap.rst).
//!
//! The kernel fills units of memory that it shares with us, and hands each over by its status word; we
//! read it in place and hand it back. A unit is a block of packets (TPACKET_V3) or one packet
//! (TPACKET_V2), which is there at once where a block waits to be full. Only this module and `socket`
//! are unsafe: this one gives out a unit's bytes while they are ours, and nothing else.
#![allow(unsafe_code)]

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use super::bpf::Instruction;
use super::fault::Fault;
use super::socket::{self, set_option, set_option_of, set_program};
use crate::memory::exclude_from_dumps;

/// Bytes of a block: holds the longest packet that receive offload makes, many times.
pub(super) const BLOCK_LEN: usize = 1024 * 1024;
/// After so long the kernel hands over a block that is not full, in milliseconds.
pub(super) const RETIRE_MS: u32 = 50;
/// Room that the kernel leaves before each packet, for the VLAN tag that it took out.
pub(super) const VLAN_TAG_LEN: usize = 4;
/// TPACKET_V3 packs packets of any length; the kernel only checks that frames divide a block.
const FRAME_LEN: usize = 2048;
/// Room of one packet in a ring of single ones: what is longer is cut. Holds a jumbo frame.
const SINGLE_LEN: usize = 16 * 1024;
/// 16 MiB of single packets.
const SINGLE_BLOCKS: usize = 16;

/// Offset of a block's status word; the rest of its header follows.
const BLOCK_STATUS_AT: usize = offset_of!(libc::tpacket_block_desc, hdr);
const SINGLE_STATUS_AT: usize = offset_of!(libc::tpacket2_hdr, tp_status);

/// PACKET_FANOUT_FLAG_IGNORE_OUTGOING of linux/if_packet.h, since Linux 5.11.
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;

/// What all sockets of one capture have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port {
    pub interface: u32,
    pub ignore_outgoing: bool,
    /// Have the card's time for a packet where it has one.
    pub hardware_time: bool,
}

/// A packet socket on one interface, and its ring.
#[derive(Debug)]
pub(super) struct Ring {
    socket: OwnedFd,
    map: Map,
    unit_len: usize,
    status_at: usize,
    units: usize,
}

/// What a wait for the next unit ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Ready,
    TimedOut,
    /// The interface went down or away.
    Disturbed,
}

/// What a socket counted since that was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// That came through the socket's filter, with those dropped.
    pub packets: u64,
    /// For want of room.
    pub dropped: u64,
}

impl Ring {
    /// Opens a ring of blocks on an interface that is up. It is deaf until `listen`.
    pub fn of_blocks(port: Port, blocks: usize) -> Result<Self, Fault> {
        let version = libc::tpacket_versions::TPACKET_V3;
        Self::open(port, version, |fd| {
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
            Ok((
                Map::new(fd, blocks * BLOCK_LEN)?,
                BLOCK_LEN,
                BLOCK_STATUS_AT,
            ))
        })
    }

    /// Opens a ring of single packets; deaf until `listen`.
    pub fn of_packets(port: Port) -> Result<Self, Fault> {
        let version = libc::tpacket_versions::TPACKET_V2;
        Self::open(port, version, |fd| {
            let request = libc::tpacket_req {
                tp_block_size: BLOCK_LEN as _,
                tp_block_nr: SINGLE_BLOCKS as _,
                tp_frame_size: SINGLE_LEN as _,
                tp_frame_nr: (SINGLE_BLOCKS * (BLOCK_LEN / SINGLE_LEN)) as _,
            };
            set_option(fd, libc::PACKET_RX_RING, &request)?;
            let map = Map::new(fd, SINGLE_BLOCKS * BLOCK_LEN)?;
            Ok((map, SINGLE_LEN, SINGLE_STATUS_AT))
        })
    }

    fn open(
        port: Port,
        version: libc::tpacket_versions,
        map: impl FnOnce(RawFd) -> io::Result<(Map, usize, usize)>,
    ) -> Result<Self, Fault> {
        let socket = open_deaf()?;
        let fd = socket.as_raw_fd();
        set_up(fd, port, version)?;
        let (map, unit_len, status_at) = map(fd).map_err(step("set up a capture ring"))?;
        join(fd, port.interface)?;
        Ok(Self {
            socket,
            units: map.len / unit_len,
            map,
            unit_len,
            status_at,
        })
    }

    pub fn units(&self) -> usize {
        self.units
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Another handle of the socket, to ask it what it counted.
    pub fn handle(&self) -> Result<OwnedFd, Fault> {
        let handle = self.socket.try_clone();
        handle.map_err(step("share a packet socket"))
    }

    /// Joins the other rings that share out an interface's packets, or, without a group, founds one.
    /// Returns the group. The first ring to join is the program's 0, and so on.
    pub fn share(
        &self,
        group: Option<u16>,
        ignore_outgoing: bool,
        program: &[Instruction],
    ) -> Result<u16, Fault> {
        let share = step("share out packets (PACKET_FANOUT)");
        let mut kind = libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_DEFRAG;
        if ignore_outgoing {
            kind |= FANOUT_IGNORE_OUTGOING;
        }
        if group.is_none() {
            kind |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
        }
        let value = u32::from(group.unwrap_or(0)) | kind << 16;
        set_option(self.fd(), libc::PACKET_FANOUT, &value).map_err(&share)?;
        if let Some(group) = group {
            return Ok(group);
        }
        let (level, name) = (libc::SOL_PACKET, libc::PACKET_FANOUT_DATA);
        set_program(self.fd(), level, name, program).map_err(&share)?;
        let founded: libc::c_int =
            socket::option(self.fd(), libc::SOL_PACKET, libc::PACKET_FANOUT).map_err(&share)?;
        Ok(founded as u16)
    }

    /// The bytes of a unit, while it is ours.
    #[inline]
    pub fn unit(&mut self, index: usize) -> Option<&mut [u8]> {
        let status = self.status(index)?.load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the unit lies within the map (`status` checked the index), which lives as long
        // as self. Its status says that it is ours, so the kernel does not write to it until
        // `release`, which needs self unborrowed, as does any other access through this ring.
        Some(unsafe {
            let start = self.map.start.as_ptr().add(index * self.unit_len);
            slice::from_raw_parts_mut(start, self.unit_len)
        })
    }

    /// How many units the kernel has handed over and not got back.
    pub fn waiting(&self) -> usize {
        let is_ours = |&index: &usize| {
            let status = self.status(index).map(|it| it.load(Ordering::Relaxed));
            status.is_some_and(|status| status & libc::TP_STATUS_USER != 0)
        };
        (0..self.units).filter(is_ours).count()
    }

    /// Hands a unit back to the kernel.
    pub fn release(&mut self, index: usize) {
        if let Some(status) = self.status(index) {
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    #[inline]
    fn status(&self, index: usize) -> Option<&AtomicU32> {
        if index >= self.units {
            return None;
        }
        // SAFETY: the word lies within the map, is aligned to 4 bytes (units are of whole pages,
        // `status_at` is a field's offset), and kernel and we access it as one word.
        Some(unsafe {
            let at = index * self.unit_len + self.status_at;
            AtomicU32::from_ptr(self.map.start.as_ptr().add(at).cast())
        })
    }

    /// Waits until this ring, or `other`, has a unit for us, or for so many milliseconds.
    pub fn wait(&self, other: Option<&Self>, timeout_ms: i32) -> Result<Wait, Fault> {
        let sockets = [self.fd(), other.map_or(-1, Self::fd)];
        let events = match socket::poll(sockets, timeout_ms) {
            Ok(events) => events,
            // A signal ends a wait early; the caller looks around and waits again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Wait::Ready),
            Err(error) => return Err(step("wait for packets")(error)),
        };
        let mut disturbed = false;
        for (fd, events) in sockets.into_iter().zip(events) {
            if events & libc::POLLERR != 0 {
                take_error(fd)?;
                disturbed = true;
            }
        }
        Ok(match events {
            _ if disturbed => Wait::Disturbed,
            [0, 0] => Wait::TimedOut,
            _ => Wait::Ready,
        })
    }
}

/// Has a socket take what the filter takes from now on, or everything.
pub(super) fn listen(fd: RawFd, filter: Option<&[Instruction]>) -> Result<(), Fault> {
    let set = match filter {
        Some(filter) => attach(fd, filter),
        None => {
            let ignored: libc::c_int = 0;
            set_option_of(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &ignored)
        }
    };
    set.map_err(step("set the capture filter"))
}

/// Has a socket take nothing more; what it has remains.
pub(super) fn deafen(fd: RawFd) -> Result<(), Fault> {
    let nothing = Instruction {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    attach(fd, &[nothing]).map_err(step("set the capture filter"))
}

fn attach(fd: RawFd, filter: &[Instruction]) -> io::Result<()> {
    set_program(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter)
}

/// What a ring of blocks counted since this was last called, by the socket's handle.
pub(super) fn take_counted(fd: RawFd) -> Result<Counted, Fault> {
    let counted: libc::tpacket_stats_v3 =
        socket::option(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS)
            .map_err(step("read capture statistics"))?;
    Ok(Counted {
        packets: counted.tp_packets.into(),
        dropped: counted.tp_drops.into(),
    })
}

/// The same of a socket without a ring of blocks.
pub(super) fn take_counted_singly(fd: RawFd) -> Result<Counted, Fault> {
    let counted: libc::tpacket_stats =
        socket::option(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS)
            .map_err(step("read capture statistics"))?;
    Ok(Counted {
        packets: counted.tp_packets.into(),
        dropped: counted.tp_drops.into(),
    })
}

/// Opens a socket that counts the packets of an interface and has no room to keep them: to a full
/// socket the kernel adds one to a counter, and copies nothing.
pub(super) fn open_counter(port: Port) -> Result<OwnedFd, Fault> {
    let socket = open_deaf()?;
    let fd = socket.as_raw_fd();
    ignore_outgoing(fd, port)?;
    let least: libc::c_int = 1;
    set_option_of(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &least)
        .map_err(step("set up a counting socket"))?;
    join(fd, port.interface)?;
    Ok(socket)
}

/// Opens a packet socket that takes nothing until it is told to. Without a protocol it sees nothing
/// before it is bound to its interface, and then its filter stops everything.
fn open_deaf() -> Result<OwnedFd, Fault> {
    let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Fault::Plain("no permission to capture: the process needs CAP_NET_RAW")
            }
            _ => step("open a packet socket")(error),
        }
    })?;
    deafen(socket.as_raw_fd())?;
    Ok(socket)
}

fn step(step: &'static str) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::Capture { step, error }
}

fn set_up(fd: RawFd, port: Port, version: libc::tpacket_versions) -> Result<(), Fault> {
    let version = version as libc::c_int;
    set_option(fd, libc::PACKET_VERSION, &version).map_err(step("choose the ring's version"))?;
    let reserve = VLAN_TAG_LEN as libc::c_uint;
    set_option(fd, libc::PACKET_RESERVE, &reserve).map_err(step("reserve room for VLAN tags"))?;
    // The kernel stamps a packet once, when it comes: all rings have the same time for it.
    let on: libc::c_int = 1;
    set_option_of(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &on)
        .map_err(step("have packets stamped"))?;
    if port.hardware_time {
        let raw = libc::SOF_TIMESTAMPING_RAW_HARDWARE as libc::c_int;
        set_option(fd, libc::PACKET_TIMESTAMP, &raw).map_err(step("use hardware timestamps"))?;
    }
    ignore_outgoing(fd, port)
}

fn ignore_outgoing(fd: RawFd, port: Port) -> Result<(), Fault> {
    let ignore = libc::c_int::from(port.ignore_outgoing);
    set_option(fd, libc::PACKET_IGNORE_OUTGOING, &ignore).map_err(step("ignore what is sent"))
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
    socket::bind(fd, interface).map_err(step("bind to the interface"))?;
    // The kernel binds to an interface that is down, and reports it this way.
    match take_error(fd)? {
        libc::ENETDOWN => Err(Fault::Plain("the interface is down")),
        _ => Ok(()),
    }
}

/// Sends frames as they are.
#[cfg(test)]
pub(super) fn send(interface: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    let index = socket::index(interface).ok_or(io::ErrorKind::NotFound)?;
    let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    socket::bind(socket.as_raw_fd(), index)?;
    let mut frames = frames.iter();
    frames.try_for_each(|frame| socket::send(socket.as_raw_fd(), frame))
}

/// Takes the error that is pending on the socket, an errno or 0.
fn take_error(fd: RawFd) -> Result<libc::c_int, Fault> {
    socket::option(fd, libc::SOL_SOCKET, libc::SO_ERROR).map_err(step("read the socket's state"))
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
