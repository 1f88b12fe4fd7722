//! Capture sources: where packets come from.
//!
//! [`open_files`] reads capture files (pcap, pcapng and snoop, plain or compressed) in time order;
//! [`open_reader`] reads one capture from any stream of bytes; [`open_interface`] captures live.
//! Each gives a [`Source`].

mod bpf;
mod bytes;
mod capture_file;
mod coding;
mod fanout;
mod fault;
mod frame;
mod group;
mod ledger;
mod live;
mod merge;
mod nic;
mod paths;
mod pcap;
mod pcapng;
mod record;
mod ring;
mod snoop;
mod socket;
mod span;
#[cfg(test)]
mod tests;
mod watch;
mod window;

pub use bpf::{Instruction, MAX_INSTRUCTIONS};
pub use fanout::{Range, Sharding};
pub use group::LinkState;
pub use ledger::InterfaceLedger;
pub use live::{CaptureState, Clock, Filter, LiveOptions, open_interface};
pub use merge::{open_files, open_reader};
pub use span::capture_span;

/// How the first bytes of a packet are to be read (the LINKTYPE_ registry of tcpdump.org).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkType {
    /// LINKTYPE_ETHERNET, 1.
    #[default]
    Ethernet,
    /// LINKTYPE_NULL (0) and LINKTYPE_LOOP (108): a 4-byte address family, in either byte order.
    Loopback,
    /// LINKTYPE_PPP, 9, with or without the HDLC-like framing of RFC 1662 in front.
    Ppp,
    /// LINKTYPE_RAW (101), LINKTYPE_IPV4 (228), LINKTYPE_IPV6 (229) and the historic 12 and 14.
    RawIp,
    /// LINKTYPE_LINUX_SLL, 113.
    LinuxSll,
    /// LINKTYPE_LINUX_SLL2, 276.
    LinuxSll2,
    /// A link type that is not decoded; the number is the registry's.
    Other(u32),
}

impl LinkType {
    /// Reads a number of the LINKTYPE_ registry; DLT_ values that files are known to carry too.
    pub fn from_registry(number: u32) -> Self {
        match number {
            0 | 108 => Self::Loopback,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            other => Self::Other(other),
        }
    }
}

/// One captured packet. The bytes live until the source is asked for the next one.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Nanoseconds since the Unix epoch, as captured (plus the configured offset).
    pub time_ns: u64,
    /// Which interface of the source saw the packet, counted from 0 (an index of `Source::ledger`).
    pub interface: u32,
    pub link: LinkType,
    /// Length on the wire; `data` is shorter where the capture was cut.
    pub wire_len: u32,
    pub data: &'a [u8],
}

/// What a source has to say next.
#[derive(Debug)]
pub enum Event<'a> {
    Packet(Packet<'a>),
    /// A live source saw nothing for a while; the time it is now, so that flows can age.
    Idle(u64),
    /// No packet will follow.
    End,
}

/// How far a live source is behind what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// The time by the clock that stamps packets, without the configured offset.
    pub clock_ns: u64,
    /// Share of the ring that waits to be read, in percent.
    pub waiting_percent: u8,
    /// Packets that the kernel dropped since the source was opened.
    pub dropped: u64,
    /// Age of the packet that was delivered last; 0 where none waits behind it.
    pub lag_ns: u64,
}

/// A stream of packets. `next` is called again after `Event::Packet` and `Event::Idle` only.
pub trait Source: Send {
    /// Returns the next event. An error ends the source; every packet before it was delivered.
    fn next(&mut self) -> Result<Event<'_>, SourceError>;

    /// What was counted so far, one entry per interface; entries are added, never removed.
    fn ledger(&self) -> &[InterfaceLedger];

    /// How far a live source is behind; None where nothing presses, as with files.
    fn pressure(&self) -> Option<Pressure> {
        None
    }

    /// Bytes read and bytes in all, as stored (compressed); None where the end is not known.
    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    /// How a live capture fares; None of files.
    fn capture(&self) -> Option<CaptureState> {
        None
    }
}

/// Why a source cannot be opened or read on: one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {problem}")]
pub struct SourceError {
    /// The file or interface.
    pub source_name: String,
    pub problem: String,
}
