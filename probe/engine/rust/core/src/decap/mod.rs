//! From a link-layer frame to the innermost IP packet and the tunnels around it.
//!
//! A frame is read from the outside in: `link` (Ethernet, cooked, PPP, ..., VLAN tags), `ip` (headers,
//! options, extension headers), `fragment` (bounded reassembly), `gtpu`, and again from `ip` on for
//! what a tunnel carries. `decoder` is the loop over these. A new encapsulation is one more arm where
//! its protocol number is known: an EtherType in `link`, an IP protocol or UDP port in `decoder`.

mod counters;
mod decoder;
mod fragment;
mod gtpu;
mod ip;
mod link;
mod quote;
mod text;
mod view;

pub use counters::{Counters, Undecodable};
pub use decoder::Decoder;
pub use fragment::FragmentLimits;
pub use quote::Quote;
pub use text::encapsulation;

/// An IP address as 128 bits; IPv4 is kept v4-mapped (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub u128);

impl Address {
    const V4_PREFIX: u128 = 0xffff_0000_0000;

    pub fn v4(octets: [u8; 4]) -> Self {
        Self(Self::V4_PREFIX | u128::from(u32::from_be_bytes(octets)))
    }

    pub fn v6(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    /// Multicast (224.0.0.0/4, ff00::/8) or the limited broadcast: no single host answers for it.
    pub fn is_group(self) -> bool {
        match self.as_v4() {
            Some(v4) => v4 >> 28 == 0xe || v4 == u32::MAX,
            None => self.0 >> 120 == 0xff,
        }
    }

    /// The IPv4 address, where this is one.
    pub fn as_v4(self) -> Option<u32> {
        (self.0 >> 32 == Self::V4_PREFIX >> 32).then_some(self.0 as u32)
    }
}

impl From<std::net::IpAddr> for Address {
    fn from(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(v4) => Self::v4(v4.octets()),
            std::net::IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

/// The protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
    /// ICMP and ICMPv6.
    Icmp,
    Other(u8),
}

/// One step of the way from the link layer to the innermost IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layer {
    #[default]
    None,
    /// An 802.1Q or 802.1ad tag.
    Vlan(u16),
    Gtpu,
}

/// Most layers kept of one packet; a packet nested deeper is undecodable (`too_deep`).
pub const MAX_LAYERS: usize = 8;

/// Direction that a tunnel header states: PDU session container, TS 38.415 5.5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelDirection {
    Up,
    Down,
}

/// The innermost GTP-U header around a packet (TS 29.281 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    pub source: Address,
    pub destination: Address,
    pub teid: u32,
    /// Stated by the PDU session container, if there is one.
    pub direction: Option<TunnelDirection>,
    /// QoS flow identifier of the PDU session container.
    pub qfi: Option<u8>,
}

/// The innermost IP packet.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a> {
    pub source: Address,
    pub destination: Address,
    pub transport: Transport,
    /// From the transport header on, without link-layer padding; cut where the capture was cut.
    pub segment: &'a [u8],
    /// Length of the whole segment on the wire, by the IP header (of all fragments together).
    pub segment_len: u32,
    /// Bytes of the innermost IP packet on the wire, headers included (of all fragments together).
    pub ip_len: u32,
    pub ttl: u8,
    /// Layers from the outside in; unused ones are `Layer::None`.
    pub layers: [Layer; MAX_LAYERS],
    pub tunnel: Option<Tunnel>,
}

/// A GTP-U message other than a G-PDU (TS 29.281 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelSignal {
    pub source: Address,
    pub destination: Address,
    pub message_type: u8,
    /// Of the header; of an Error Indication, the unknown TEID that it reports (7.3.1), where stated.
    pub teid: u32,
    pub sequence: Option<u16>,
}

/// What a frame turned out to be.
#[derive(Debug, Clone, Copy)]
pub enum Decoded<'a> {
    Inner(Inner<'a>),
    TunnelSignal(TunnelSignal),
    /// A fragment that was kept: its packet is not complete yet.
    Held,
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod tests;
