//! What stands before an IP header: the link layer, and the loop over tags, labels and sessions.

use super::view::{Short, View, be16};
use super::{Encapsulation, Layer, Tunnel, Undecodable, gre, mpls, pppoe, tags};
use crate::source::{LinkType, Packet};

/// Which IP header comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    V4,
    V6,
}

/// What a header says, or lets guess, of what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Ip(Network),
    /// IP of the version in the first four bits.
    Version,
    /// An Ethernet frame from its destination address on.
    Ethernet,
    EtherType(u16),
    /// PPP from its protocol field on, or from the framing of RFC 1662 3.1.
    Ppp,
    /// A label stack.
    Mpls,
}

/// The layers passed so far. Kept from packet to packet, so that one without layers writes nothing
/// here but the depth.
#[derive(Debug, Default)]
pub(super) struct Layers {
    passed: Encapsulation,
    /// Without layers, `passed` is an earlier packet's.
    depth: usize,
}

impl Layers {
    /// Begins a packet.
    #[inline]
    pub fn begin(&mut self) {
        self.depth = 0;
    }

    #[inline]
    pub fn passed(&self) -> Option<&Encapsulation> {
        (self.depth > 0).then_some(&self.passed)
    }

    #[inline]
    pub fn push(&mut self, layer: Layer) -> Result<(), Undecodable> {
        if self.depth == 0 {
            self.passed = Encapsulation::default();
        }
        let place = self.passed.layers.get_mut(self.depth);
        *place.ok_or(Undecodable::TooDeep)? = layer;
        self.depth += 1;
        Ok(())
    }

    #[inline]
    pub fn push_tunnel(
        &mut self,
        tunnel: Tunnel,
        sequence: Option<u16>,
    ) -> Result<(), Undecodable> {
        self.push(Layer::Gtpu)?;
        self.passed.tunnel = Some(tunnel);
        self.passed.sequence = sequence;
        Ok(())
    }
}

type Found<'a> = Result<(Network, View<'a>), Undecodable>;

/// The first IP header of an Ethernet frame without tags, which is nearly every frame.
#[inline]
pub(super) fn plain<'a>(packet: &Packet<'a>) -> Option<(Network, View<'a>)> {
    let header: &[u8; 14] = packet.data.first_chunk()?;
    if packet.link != LinkType::Ethernet {
        return None;
    }
    let view = View::new(packet.data, packet.wire_len as usize).skip(14);
    match be16(header[12], header[13]) {
        ETHERTYPE_IPV4 => Some((Network::V4, view)),
        ETHERTYPE_IPV6 => Some((Network::V6, view)),
        _ => None,
    }
}

/// Takes the link layer off: the first IP header, and the tags and labels before it into `layers`.
pub(super) fn strip<'a>(packet: &Packet<'a>, layers: &mut Layers) -> Found<'a> {
    let view = View::new(packet.data, packet.wire_len as usize);
    let (next, view) = match packet.link {
        LinkType::Ethernet => (Next::Ethernet, view),
        LinkType::LinuxSll => cooked(view)?,
        LinkType::LinuxSll2 => cooked_v2(view)?,
        LinkType::RawIp => (Next::Version, view),
        LinkType::Loopback => loopback(view)?,
        LinkType::Ppp => (Next::Ppp, view),
        LinkType::Other(_) => return Err(Undecodable::LinkTypeUnknown),
    };
    descend(next, view, layers)
}

/// What follows a header, and where.
pub(super) type Step<'a> = Result<(Next, View<'a>), Undecodable>;

/// Goes on to the next IP header. Ends, as each step takes bytes off or fails.
pub(super) fn descend<'a>(mut next: Next, mut view: View<'a>, layers: &mut Layers) -> Found<'a> {
    loop {
        (next, view) = match next {
            Next::Ip(network) => return Ok((network, view)),
            Next::Version => version(view)?,
            Next::Ethernet => ethernet(view)?,
            Next::EtherType(kind) => ethertype(kind, view, layers)?,
            Next::Ppp => pppoe::ppp(view)?,
            Next::Mpls => mpls::stack(view, layers)?,
        };
    }
}

pub(super) fn header<const N: usize>(view: View<'_>) -> Result<&[u8; N], Undecodable> {
    view.header().map_err(|_| Undecodable::TruncatedLink)
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const MAX_802_3_LENGTH: u16 = 0x05dc;

fn version(view: View<'_>) -> Step<'_> {
    let [first] = header(view)?;
    match first >> 4 {
        4 => Ok((Next::Ip(Network::V4), view)),
        6 => Ok((Next::Ip(Network::V6), view)),
        _ => Err(Undecodable::NotIp),
    }
}

fn ethernet(view: View<'_>) -> Step<'_> {
    let header: &[u8; 14] = header(view)?;
    let kind = be16(header[12], header[13]);
    Ok((Next::EtherType(kind), view.skip(14)))
}

/// Passes the header that an EtherType announces.
fn ethertype<'a>(kind: u16, view: View<'a>, layers: &mut Layers) -> Step<'a> {
    match kind {
        ETHERTYPE_IPV4 => Ok((Next::Ip(Network::V4), view)),
        ETHERTYPE_IPV6 => Ok((Next::Ip(Network::V6), view)),
        // 802.1Q, 802.1ad (and the B-TAG of 802.1ah), and the older QinQ tag.
        0x8100 | 0x88a8 | 0x9100 => tags::vlan(view, layers),
        0x88e7 => tags::service_instance(view, layers),
        0x8926 => tags::vn_tag(view, layers),
        0x8909 => tags::cisco_metadata(view),
        // MPLS, unicast and multicast (RFC 5332).
        0x8847 | 0x8848 => Ok((Next::Mpls, view)),
        0x8864 => pppoe::session(view, layers),
        // MACsec, service chains (RFC 8300), TRILL, FabricPath.
        0x88e5 | 0x894f | 0x22f3 | 0x8903 => Err(Undecodable::UnsupportedEncapsulation),
        0..=MAX_802_3_LENGTH => snap(view),
        _ => Err(Undecodable::NotIp),
    }
}

/// The EtherType of a SNAP header (RFC 1042) in an 802.3 frame, whose own length adds nothing to IP's.
fn snap(view: View<'_>) -> Step<'_> {
    match view.header::<8>() {
        Ok([0xaa, 0xaa, 0x03, 0, 0, 0, high, low]) if be16(*high, *low) > MAX_802_3_LENGTH => {
            Ok((Next::EtherType(be16(*high, *low)), view.skip(8)))
        }
        _ => Err(Undecodable::NotIp),
    }
}

/// LINKTYPE_LINUX_SLL: packet type, ARPHRD, address length and address, protocol.
fn cooked(view: View<'_>) -> Step<'_> {
    let header: &[u8; 16] = header(view)?;
    let kind = be16(header[14], header[15]);
    cooked_payload(be16(header[2], header[3]), kind, view.skip(16))
}

/// LINKTYPE_LINUX_SLL2: protocol first, then interface, ARPHRD, packet type, address.
fn cooked_v2(view: View<'_>) -> Step<'_> {
    let header: &[u8; 20] = header(view)?;
    let kind = be16(header[0], header[1]);
    cooked_payload(be16(header[8], header[9]), kind, view.skip(20))
}

/// Where the device is one of these, the protocol field is not an EtherType (LINKTYPE_LINUX_SLL).
const ARPHRD_FRAD: u16 = 770;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_IEEE80211_RADIOTAP: u16 = 803;
const ARPHRD_NETLINK: u16 = 824;

fn cooked_payload(arphrd: u16, kind: u16, view: View<'_>) -> Step<'_> {
    match arphrd {
        ARPHRD_FRAD | ARPHRD_IEEE80211_RADIOTAP | ARPHRD_NETLINK => Err(Undecodable::NotIp),
        // The kernel has taken the GRE header off; the field is that header's protocol type.
        ARPHRD_IPGRE => gre::payload(kind, view),
        _ => Ok((Next::EtherType(kind), view)),
    }
}

/// LINKTYPE_NULL writes the address family in the capturing host's byte order, LINKTYPE_LOOP in
/// network byte order; families are small, so a great number is one in the other order.
fn loopback(view: View<'_>) -> Step<'_> {
    let family = u32::from_le_bytes(*header(view)?);
    let family = if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    match family {
        2 => Ok((Next::Ip(Network::V4), view.skip(4))),
        // AF_INET6: Linux 10, Windows 23, NetBSD and OpenBSD 24, FreeBSD 28, macOS 30.
        10 | 23 | 24 | 28 | 30 => Ok((Next::Ip(Network::V6), view.skip(4))),
        _ => Err(Undecodable::NotIp),
    }
}

/// What a payload without a protocol number is: IP, a frame, or none that can be told (RFC 4928).
///
/// 0x45 is IPv4: as a frame's first byte it would be the address of a group that nobody uses. Else a
/// frame whose destination address begins with 4 or 6 looks like IP. It is taken for a frame if it has
/// an EtherType of IP or of a tag in its place, and the length of the IP header would be wrong.
pub(super) fn version_or_ethernet(view: View<'_>) -> Result<Option<Next>, Short> {
    let (network, length) = match view.byte(0)? {
        0x45 => return Ok(Some(Next::Ip(Network::V4))),
        first if first >> 4 == 4 => (Some(Next::Ip(Network::V4)), length_at(view, 2)),
        first if first >> 4 == 6 => (
            Some(Next::Ip(Network::V6)),
            length_at(view, 4).map(|length| length + 40),
        ),
        _ => (None, None),
    };
    if length != Some(view.wire_len()) && has_frame_type(view, 12) {
        return Ok(Some(Next::Ethernet));
    }
    Ok(network)
}

fn length_at(view: View<'_>, at: usize) -> Option<usize> {
    let [high, low] = view.skip(at).data().first_chunk()?;
    Some(usize::from(be16(*high, *low)))
}

/// Whether an EtherType of IP or of what may lead to it (or ARP) stands at `at`, and fits what follows.
pub(super) fn has_frame_type(view: View<'_>, at: usize) -> bool {
    let Some([high, low, first]) = view.skip(at).data().first_chunk() else {
        return false;
    };
    match be16(*high, *low) {
        ETHERTYPE_IPV4 => first >> 4 == 4,
        ETHERTYPE_IPV6 => first >> 4 == 6,
        0x0806 | 0x8100 | 0x88a8 | 0x8847 | 0x8863 | 0x8864 => true,
        _ => false,
    }
}
