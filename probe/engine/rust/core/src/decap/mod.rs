//! From a link-layer frame to the innermost IP packet and the tunnels around it.
//!
//! A frame is read from the outside in: `link` (Ethernet, cooked, PPP, ...) and below it `tags` (VLAN
//! and its kin), `mpls`, `pppoe`; then `ip` (headers, options, extension headers), `fragment` (bounded
//! reassembly), what IP carries (`gre`, `overlay`, `gtpu`, another IP header), and again from there on.
//! `decoder` is the loop over IP, `link` the one over what stands between two IP headers: each header
//! says what comes `Next`. A new encapsulation is one more arm where its protocol number is known: an
//! EtherType in `link`, an IP protocol or UDP port in `decoder`.

mod counters;
mod decoder;
mod fragment;
mod gre;
mod gtpu;
mod ip;
mod link;
mod mpls;
mod overlay;
mod pdu_session;
mod pppoe;
mod quote;
mod tags;
mod text;
mod udp;
mod view;

pub use counters::{Counters, Undecodable};
pub use decoder::Decoder;
pub use fragment::FragmentLimits;
pub use pdu_session::{MalformedSession, PduSession, Stamps};
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
    /// An 802.1Q or 802.1ad tag, 802.1ah's B-TAG among them.
    Vlan(u16),
    /// A fabric extender's tag.
    VnTag,
    /// A provider backbone's service instance (802.1ah), by its I-SID.
    Pbb(Number24),
    /// A label stack, by the label at its bottom, which names the service.
    Mpls(Number24),
    /// A PPPoE session (RFC 2516), by its identifier.
    Pppoe(u16),
    /// Another IP header (RFC 2003, RFC 4213, RFC 2473).
    Ip,
    Gre,
    /// A mirrored frame on its way, by the session identifier; type I has none.
    Erspan(u16),
    /// A VXLAN or VXLAN-GPE segment, by its VNI.
    Vxlan(Number24),
    /// By its VNI.
    Geneve(Number24),
    Teredo,
    Gtpu,
}

impl Layer {
    /// Kind and number in 32 bits, another one for each layer.
    pub fn word(self) -> u32 {
        let (kind, number) = match self {
            Self::None => (0, 0),
            Self::Vlan(identifier) => (1, identifier.into()),
            Self::VnTag => (2, 0),
            Self::Pbb(service) => (3, service.get()),
            Self::Mpls(label) => (4, label.get()),
            Self::Pppoe(session) => (5, session.into()),
            Self::Ip => (6, 0),
            Self::Gre => (7, 0),
            Self::Erspan(session) => (8, session.into()),
            Self::Vxlan(network) => (9, network.get()),
            Self::Geneve(network) => (10, network.get()),
            Self::Teredo => (11, 0),
            Self::Gtpu => (12, 0),
        };
        kind << 24 | number
    }
}

/// A number of 24 bits, in bytes so that a `Layer` takes no more than four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number24([u8; 3]);

impl Number24 {
    /// The low 24 bits of `number`.
    pub fn new(number: u32) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        Self([a, b, c])
    }

    pub fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }
}

impl From<[u8; 3]> for Number24 {
    fn from(bytes: [u8; 3]) -> Self {
        Self(bytes)
    }
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
    /// The number of `transport` in the IP header.
    pub protocol: u8,
    /// From the transport header on, without link-layer padding; cut where the capture was cut.
    pub segment: &'a [u8],
    /// Length of the whole segment on the wire, by the IP header (of all fragments together).
    pub segment_len: u32,
    /// Bytes of the innermost IP packet on the wire, headers included (of all fragments together).
    pub ip_len: u32,
    pub ttl: u8,
    /// The identification field of IPv4 (RFC 791 3.1; RFC 6864), 0 for IPv6.
    pub identification: u16,
    /// What stands between the frame and the packet; None where it stands in the frame itself.
    pub encapsulation: Option<&'a Encapsulation>,
    /// The PDU session container, see [`TunnelMarks::container`].
    pub container: &'a [u8],
}

impl<'a> Inner<'a> {
    /// The layers around the packet, from the outside in; unused ones are `Layer::None`.
    #[inline]
    pub fn layers(&self) -> &'a [Layer] {
        self.encapsulation.map_or(&[], |around| &around.layers)
    }

    #[inline]
    pub fn tunnel(&self) -> Option<&'a Tunnel> {
        self.encapsulation?.tunnel.as_ref()
    }

    #[inline]
    pub fn marks(&self) -> TunnelMarks<'a> {
        TunnelMarks {
            sequence: self.encapsulation.and_then(|around| around.sequence),
            container: self.container,
        }
    }
}

/// The way from the frame to the innermost IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encapsulation {
    /// From the outside in; unused ones are `Layer::None`.
    pub layers: [Layer; MAX_LAYERS],
    /// The innermost GTP-U tunnel.
    pub tunnel: Option<Tunnel>,
    /// The number of the packet in that tunnel, where the S flag is set (TS 29.281 5.1).
    pub sequence: Option<u16>,
}

/// What the innermost GTP-U header says of this very packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelMarks<'a> {
    /// The number of the packet in its tunnel, where the S flag is set (TS 29.281 5.1).
    pub sequence: Option<u16>,
    /// The PDU session container, for [`PduSession::read`], if it says more than direction and QFI; else
    /// empty.
    pub container: &'a [u8],
}

impl TunnelMarks<'_> {
    pub fn is_empty(&self) -> bool {
        self.sequence.is_none() && self.container.is_empty()
    }
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
    /// Of an Error Indication: the address of the end that it is about, where stated (7.3.1).
    pub peer: Option<Address>,
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
pub(crate) mod frames;
#[cfg(test)]
mod tests;
