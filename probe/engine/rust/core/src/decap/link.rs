//! Link-layer headers, down to the first IP header.

use super::view::{View, be16};
use super::{Layer, MAX_LAYERS, Undecodable};
use crate::source::{LinkType, Packet};

/// Which IP header comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    V4,
    V6,
}

/// The layers passed so far, from the outside in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Layers {
    pub list: [Layer; MAX_LAYERS],
    depth: usize,
}

impl Layers {
    pub fn push(&mut self, layer: Layer) -> Result<(), Undecodable> {
        let place = self.list.get_mut(self.depth);
        *place.ok_or(Undecodable::TooDeep)? = layer;
        self.depth += 1;
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

/// Takes the link layer off: the first IP header, and the VLAN tags before it into `layers`.
pub(super) fn strip<'a>(packet: &Packet<'a>, layers: &mut Layers) -> Found<'a> {
    let view = View::new(packet.data, packet.wire_len as usize);
    match packet.link {
        LinkType::Ethernet => ethernet(view, layers),
        LinkType::LinuxSll => cooked(view, layers),
        LinkType::LinuxSll2 => cooked_v2(view, layers),
        LinkType::RawIp => raw(view),
        LinkType::Loopback => loopback(view),
        LinkType::Ppp => ppp(view),
        LinkType::Other(_) => Err(Undecodable::LinkTypeUnknown),
    }
}

fn header<const N: usize>(view: View<'_>) -> Result<&[u8; N], Undecodable> {
    view.header().map_err(|_| Undecodable::TruncatedLink)
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

fn ethernet<'a>(view: View<'a>, layers: &mut Layers) -> Found<'a> {
    let header: &[u8; 14] = header(view)?;
    ethertype(be16(header[12], header[13]), view.skip(14), layers)
}

/// LINKTYPE_LINUX_SLL: packet type, ARPHRD, address length and address, protocol.
fn cooked<'a>(view: View<'a>, layers: &mut Layers) -> Found<'a> {
    let header: &[u8; 16] = header(view)?;
    let kind = be16(header[14], header[15]);
    cooked_payload(be16(header[2], header[3]), kind, view.skip(16), layers)
}

/// LINKTYPE_LINUX_SLL2: protocol first, then interface, ARPHRD, packet type, address.
fn cooked_v2<'a>(view: View<'a>, layers: &mut Layers) -> Found<'a> {
    let header: &[u8; 20] = header(view)?;
    let kind = be16(header[0], header[1]);
    cooked_payload(be16(header[8], header[9]), kind, view.skip(20), layers)
}

/// Where the device is one of these, the protocol field is not an EtherType (LINKTYPE_LINUX_SLL).
const ARPHRD_FRAD: u16 = 770;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_IEEE80211_RADIOTAP: u16 = 803;
const ARPHRD_NETLINK: u16 = 824;

fn cooked_payload<'a>(arphrd: u16, kind: u16, view: View<'a>, layers: &mut Layers) -> Found<'a> {
    match arphrd {
        ARPHRD_FRAD | ARPHRD_IPGRE | ARPHRD_IEEE80211_RADIOTAP | ARPHRD_NETLINK => {
            Err(Undecodable::NotIp)
        }
        _ => ethertype(kind, view, layers),
    }
}

const MAX_802_3_LENGTH: u16 = 0x05dc;

/// Passes VLAN tags and a SNAP header, down to the IP header.
fn ethertype<'a>(mut kind: u16, mut view: View<'a>, layers: &mut Layers) -> Found<'a> {
    loop {
        match kind {
            ETHERTYPE_IPV4 => return Ok((Network::V4, view)),
            ETHERTYPE_IPV6 => return Ok((Network::V6, view)),
            // 802.1Q, 802.1ad and the older QinQ tag; the low 12 bits are the VLAN identifier.
            0x8100 | 0x88a8 | 0x9100 => {
                let tag: &[u8; 4] = header(view)?;
                layers.push(Layer::Vlan(be16(tag[0], tag[1]) & 0x0fff))?;
                (kind, view) = (be16(tag[2], tag[3]), view.skip(4));
            }
            // MPLS unicast and multicast, PPPoE session.
            0x8847 | 0x8848 | 0x8864 => return Err(Undecodable::UnsupportedEncapsulation),
            0..=MAX_802_3_LENGTH => (kind, view) = snap(view)?,
            _ => return Err(Undecodable::NotIp),
        }
    }
}

/// The EtherType of a SNAP header (RFC 1042) in an 802.3 frame, whose own length adds nothing to IP's.
fn snap(view: View<'_>) -> Result<(u16, View<'_>), Undecodable> {
    match view.header::<8>() {
        Ok([0xaa, 0xaa, 0x03, 0, 0, 0, high, low]) if be16(*high, *low) > MAX_802_3_LENGTH => {
            Ok((be16(*high, *low), view.skip(8)))
        }
        _ => Err(Undecodable::NotIp),
    }
}

fn raw(view: View<'_>) -> Found<'_> {
    let [first] = header(view)?;
    match first >> 4 {
        4 => Ok((Network::V4, view)),
        6 => Ok((Network::V6, view)),
        _ => Err(Undecodable::NotIp),
    }
}

/// LINKTYPE_NULL writes the address family in the capturing host's byte order, LINKTYPE_LOOP in
/// network byte order; families are small, so a great number is one in the other order.
fn loopback(view: View<'_>) -> Found<'_> {
    let family = u32::from_le_bytes(*header(view)?);
    let family = if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    match family {
        2 => Ok((Network::V4, view.skip(4))),
        // AF_INET6: Linux 10, Windows 23, NetBSD and OpenBSD 24, FreeBSD 28, macOS 30.
        10 | 23 | 24 | 28 | 30 => Ok((Network::V6, view.skip(4))),
        _ => Err(Undecodable::NotIp),
    }
}

/// PPP (RFC 1661), after the address and control bytes of RFC 1662 3.1 where they were not
/// compressed away. An odd first byte is a protocol field compressed to one byte (RFC 1661 6.5).
fn ppp(view: View<'_>) -> Found<'_> {
    let view = match view.data() {
        [0xff, 0x03, ..] => view.skip(2),
        _ => view,
    };
    let (protocol, size) = match view.data() {
        [first, ..] if first & 1 == 1 => (u16::from(*first), 1),
        [first, second, ..] => (be16(*first, *second), 2),
        _ => return Err(Undecodable::TruncatedLink),
    };
    match protocol {
        0x0021 => Ok((Network::V4, view.skip(size))),
        0x0057 => Ok((Network::V6, view.skip(size))),
        _ => Err(Undecodable::NotIp),
    }
}
