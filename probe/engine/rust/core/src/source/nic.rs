//! An interface's own counters, those that `ip -s link` shows (RTM_GETSTATS, linux/if_link.h).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::socket;

/// What an interface counted since it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    /// Received well, whatever became of it then.
    pub received: u64,
    pub sent: u64,
    /// Received and dropped by the host before anybody saw it. Whether `received` has it too is up to
    /// the driver.
    pub dropped: u64,
    /// Not received for want of buffers.
    pub missed: u64,
}

/// Reads the counters of one interface.
#[derive(Debug)]
pub(super) struct Nic {
    socket: OwnedFd,
    interface: u32,
}

const IFLA_STATS_LINK_64: u16 = 1;
const REQUEST_LEN: usize = 28;
/// Header of netlink, and of the answer (struct if_stats_msg).
const HEADERS_LEN: usize = 16 + 12;
/// Of an attribute's type the two highest bits are flags.
const TYPE_MASK: u16 = 0x3fff;

impl Nic {
    pub fn open(interface: u32) -> io::Result<Self> {
        let socket = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        Ok(Self { socket, interface })
    }

    /// None where the system does not tell, or the interface is gone.
    pub fn read(&self) -> Option<Counters> {
        let mut answer = [0; 1024];
        let request = request(self.interface);
        let answer = socket::ask(self.socket.as_raw_fd(), &request, &mut answer).ok()?;
        counters(answer)
    }
}

fn request(interface: u32) -> [u8; REQUEST_LEN] {
    let mut request = [0; REQUEST_LEN];
    request[..4].copy_from_slice(&(REQUEST_LEN as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETSTATS.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request[20..24].copy_from_slice(&interface.to_ne_bytes());
    let mask = 1u32 << (IFLA_STATS_LINK_64 - 1);
    request[24..].copy_from_slice(&mask.to_ne_bytes());
    request
}

/// Finds struct rtnl_link_stats64 among the attributes of an answer.
fn counters(answer: &[u8]) -> Option<Counters> {
    let mut attributes = answer.get(HEADERS_LEN..)?;
    loop {
        let header: &[u8; 4] = attributes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        if kind == IFLA_STATS_LINK_64 {
            return of(attributes.get(4..len)?);
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

fn of(statistics: &[u8]) -> Option<Counters> {
    let number = |index: usize| {
        let bytes = statistics.get(index * 8..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    Some(Counters {
        received: number(0)?,
        sent: number(1)?,
        dropped: number(6)?,
        missed: number(15)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() + 4) as u16;
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn counters_are_found_among_attributes() {
        let numbers: Vec<u8> = (0..24u64).flat_map(|at| (at + 100).to_ne_bytes()).collect();
        let mut answer = vec![0; HEADERS_LEN];
        answer.extend(attribute(0, &[]));
        answer.extend(attribute(IFLA_STATS_LINK_64, &numbers));
        let found = counters(&answer).expect("counters");
        assert_eq!((found.received, found.sent), (100, 101));
        assert_eq!((found.dropped, found.missed), (106, 115));
    }

    proptest! {
        #[test]
        fn any_answer_is_counters_or_none(answer in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = counters(&answer);
        }
    }
}
