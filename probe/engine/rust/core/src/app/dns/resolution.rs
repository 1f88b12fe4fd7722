//! From a name that was asked to the addresses that an answer gives it.

use std::net::IpAddr;

use super::{DnsMessage, Name, Record, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_HTTPS, TYPE_SVCB, name};
use crate::app::reader::Reader;

/// Most addresses kept of one answer.
pub const MAX_ADDRESSES: usize = 8;
/// Most answer records looked at: answers to clients hold a dozen.
const MAX_RECORDS: usize = 32;
/// Longest chain of aliases followed, as in common resolvers (unbound 11, BIND 16).
const MAX_ALIASES: usize = 12;
/// Longest text of a name that is kept: 253 characters, unless it holds escapes.
const MAX_TEXT: usize = 253;

/// SvcParamKeys with addresses (RFC 9460 7.3).
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

/// Addresses of the name that was asked, aliases followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The name asked, not the last alias: that is what the client wants.
    pub name: Box<str>,
    addresses: [IpAddr; MAX_ADDRESSES],
    count: usize,
    /// The least time to live of the records that led to the addresses.
    pub ttl_s: u32,
}

impl Resolution {
    /// What an answer says, if it gives the name addresses that a client can connect to.
    ///
    /// Unspecified, loopback, multicast and broadcast addresses are how blocklists say no: a name
    /// for them would be one of many. Of service records (RFC 9460) the address hints count.
    pub fn of(message: &DnsMessage<'_>) -> Option<Self> {
        let asked = message.question?.name;
        let mut resolution = Self {
            name: connected_name(&asked.to_text())?,
            addresses: [IpAddr::from([0; 4]); MAX_ADDRESSES],
            count: 0,
            ttl_s: u32::MAX,
        };
        let mut chain = Chain::new(asked);
        // Aliases stand before what they lead to in nearly every answer; where they do not, the
        // second time round finds them.
        for _ in 0..2 {
            resolution.follow(message, &mut chain);
            if resolution.count > 0 {
                return Some(resolution);
            }
        }
        None
    }

    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses.get(..self.count).unwrap_or_default()
    }

    fn follow<'a>(&mut self, message: &DnsMessage<'a>, chain: &mut Chain<'a>) {
        for (owner, record) in message.answers().take(MAX_RECORDS) {
            if !chain.holds(owner) {
                continue;
            }
            let before = self.count;
            match record.kind {
                TYPE_CNAME => chain.add(message, &record),
                TYPE_A | TYPE_AAAA => record.address().into_iter().for_each(|a| self.add(a)),
                TYPE_HTTPS | TYPE_SVCB => self.add_hints(message, &record, chain),
                _ => {}
            }
            if self.count > before || record.kind == TYPE_CNAME {
                self.ttl_s = self.ttl_s.min(u32::from_be_bytes(record.ttl));
            }
        }
    }

    fn add(&mut self, address: IpAddr) {
        let known = self.addresses().contains(&address);
        if let (true, false, Some(place)) = (
            is_connectable(address),
            known,
            self.addresses.get_mut(self.count),
        ) {
            *place = address;
            self.count += 1;
        }
    }

    /// Priority 0 makes the record an alias (RFC 9460 2.4.2).
    fn add_hints<'a>(
        &mut self,
        message: &DnsMessage<'a>,
        record: &Record<'a>,
        chain: &mut Chain<'a>,
    ) {
        let mut reader = Reader::new(record.data);
        let Some(priority) = reader.u16() else { return };
        if priority == 0 {
            chain.add_name(message, record.data_at + 2);
            return;
        }
        if name::skip(&mut reader).is_none() {
            return;
        }
        // Each parameter takes 4 bytes at least, so their number is bounded by the message.
        while let (Some(key), Some(value)) = (reader.u16(), reader.vector16()) {
            match key {
                IPV4_HINT => value
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .for_each(|a| self.add((*a).into())),
                IPV6_HINT => value
                    .as_chunks::<16>()
                    .0
                    .iter()
                    .for_each(|a| self.add((*a).into())),
                _ => {}
            }
        }
    }
}

/// The name to which a client will connect: without the labels of a service (`_443._https`,
/// RFC 9460 2.3). The root and reverse names are nobody's server.
fn connected_name(asked: &str) -> Option<Box<str>> {
    let mut name = asked;
    while let (true, Some((_, parent))) = (name.starts_with('_'), name.split_once('.')) {
        name = parent;
    }
    let usable = name.len() <= MAX_TEXT && name.contains('.') && name != ".";
    (usable && !name.ends_with(".arpa")).then(|| name.into())
}

/// Whether an address can be a server's.
fn is_connectable(address: IpAddr) -> bool {
    let is_blank = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some_and(|v4| v4.octets()[0] == 0),
    };
    !(is_blank
        || address.is_unspecified()
        || address.to_canonical().is_loopback()
        || address.is_multicast())
}

/// The name asked, and the aliases that were found to stand for it.
struct Chain<'a> {
    names: [Option<Name<'a>>; MAX_ALIASES],
}

impl<'a> Chain<'a> {
    fn new(asked: Name<'a>) -> Self {
        let mut names = [None; MAX_ALIASES];
        names[0] = Some(asked);
        Self { names }
    }

    fn holds(&self, owner: Name<'a>) -> bool {
        self.names.iter().flatten().any(|known| known.is(owner))
    }

    fn add(&mut self, message: &DnsMessage<'a>, record: &Record<'a>) {
        self.add_name(message, record.data_at);
    }

    fn add_name(&mut self, message: &DnsMessage<'a>, at: usize) {
        let Some(target) = message.name_at(at).filter(|target| !self.holds(*target)) else {
            return;
        };
        if let Some(place) = self.names.iter_mut().find(|place| place.is_none()) {
            *place = Some(target);
        }
    }
}
