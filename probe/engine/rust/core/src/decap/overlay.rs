//! Overlays in UDP: VXLAN (RFC 7348), VXLAN-GPE, GENEVE (RFC 8926) and Teredo (RFC 4380).
//!
//! Clients may use these ports too. What does not have every fixed bit of its header right, and room
//! for what it announces, is an ordinary UDP packet.

use std::ops::RangeInclusive;

use super::link::{Network, Next};
use super::udp::{self, Stop};
use super::view::{View, be16};
use super::{Layer, Number24};

const VXLAN: u16 = 4789;
/// Linux's own before IANA assigned one, still its default.
const VXLAN_OF_LINUX: u16 = 8472;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const TEREDO: u16 = 3544;

/// From the least of these ports to the greatest.
pub(super) const PORTS: RangeInclusive<u16> = TEREDO..=VXLAN_OF_LINUX;

/// Whether a UDP packet with this port at either end may be an overlay's. Source ports of VXLAN and
/// GENEVE need only spread load (RFC 7348 5), but some ends answer from the port.
pub(super) fn is_port(port: u16) -> bool {
    matches!(port, VXLAN | VXLAN_OF_LINUX | VXLAN_GPE | GENEVE | TEREDO)
}

/// An overlay's layer, and what it carries.
pub(super) struct Overlay<'a> {
    pub layer: Layer,
    pub next: Next,
    pub body: View<'a>,
}

/// Reads the overlay in a UDP packet, whose header `segment` begins with.
pub(super) fn parse(segment: View<'_>) -> Result<Overlay<'_>, Stop> {
    let (source, destination) = udp::ports(segment.data()).ok_or(Stop::Foreign)?;
    let payload = udp::payload(segment)?;
    match if is_port(destination) {
        destination
    } else {
        source
    } {
        VXLAN | VXLAN_OF_LINUX => vxlan(payload),
        VXLAN_GPE => vxlan_gpe(payload),
        GENEVE => geneve(payload),
        _ => teredo(payload),
    }
}

/// Destination, source and EtherType.
const ETHERNET_HEADER: usize = 14;

fn frame(layer: Layer, body: View<'_>) -> Result<Overlay<'_>, Stop> {
    if body.wire_len() < ETHERNET_HEADER {
        return Err(Stop::Foreign);
    }
    let next = Next::Ethernet;
    Ok(Overlay { layer, next, body })
}

/// Flags, of which I is set; VNI; the rest is zero, but for the group policy's bits and group
/// (draft-smith-vxlan-group-policy), which count where its flag G is set.
fn vxlan(payload: View<'_>) -> Result<Overlay<'_>, Stop> {
    const GROUP_POLICY: u8 = 0x80;
    const VNI_VALID: u8 = 0x08;
    let header: &[u8; 8] = payload.header()?;
    let known = match header[0] {
        VNI_VALID => header[1..4] == [0; 3],
        flags => flags == VNI_VALID | GROUP_POLICY && header[1] & !0x48 == 0,
    };
    if !known || header[7] != 0 {
        return Err(Stop::Foreign);
    }
    frame(Layer::Vxlan(vni(header)), payload.skip(8))
}

/// As VXLAN, with the next protocol in the fourth byte (draft-ietf-nvo3-vxlan-gpe 3.1), a frame
/// where it is 0. Not every sender sets the flag P that announces it.
fn vxlan_gpe(payload: View<'_>) -> Result<Overlay<'_>, Stop> {
    const VNI_VALID: u8 = 0x08;
    const PROTOCOL_AND_BROADCAST: u8 = 0x06;
    let header: &[u8; 8] = payload.header()?;
    if header[0] & !PROTOCOL_AND_BROADCAST != VNI_VALID || header[1..3] != [0; 2] || header[7] != 0
    {
        return Err(Stop::Foreign);
    }
    let (layer, body) = (Layer::Vxlan(vni(header)), payload.skip(8));
    let next = match header[3] {
        1 => Next::Ip(Network::V4),
        2 => Next::Ip(Network::V6),
        0 | 3 => return frame(layer, body),
        5 => Next::Mpls,
        _ => return Err(Stop::Foreign),
    };
    Ok(Overlay { layer, next, body })
}

fn vni(header: &[u8; 8]) -> Number24 {
    Number24::from([header[4], header[5], header[6]])
}

/// Version 0 and the length of the options in units of four bytes; control and critical flags; an
/// EtherType; VNI (RFC 8926 3.4).
fn geneve(payload: View<'_>) -> Result<Overlay<'_>, Stop> {
    const TRANSPARENT_ETHERNET: u16 = 0x6558;
    const RESERVED: u8 = 0x3f;
    let header: &[u8; 8] = payload.header()?;
    let (layer, length) = (Layer::Geneve(vni(header)), 8 + usize::from(header[0]) * 4);
    // A version other than 0 would make the options longer than they can be.
    let fits = header[0] < 0x40 && length <= payload.wire_len();
    if !fits || header[1] & RESERVED != 0 || header[7] != 0 {
        return Err(Stop::Foreign);
    }
    let body = payload.skip(length);
    match be16(header[2], header[3]) {
        TRANSPARENT_ETHERNET => frame(layer, body),
        0..=0x05ff => Err(Stop::Foreign),
        kind => Ok(Overlay {
            layer,
            next: Next::EtherType(kind),
            body,
        }),
    }
}

/// An IPv6 packet, after an authentication and an origin indication where they are there (5.1.1). Its
/// length has to be right, and one of its addresses a Teredo address.
fn teredo(payload: View<'_>) -> Result<Overlay<'_>, Stop> {
    const AUTHENTICATION: u8 = 1;
    const ORIGIN: u8 = 0;
    let mut body = payload;
    if let [0, AUTHENTICATION, id, value, ..] = body.data() {
        body = body.skip(4 + usize::from(*id) + usize::from(*value) + 9);
    }
    if let [0, ORIGIN, ..] = body.data() {
        body = body.skip(8);
    }
    let header: &[u8; 40] = body.header()?;
    let whole = usize::from(be16(header[4], header[5])) + header.len() == body.wire_len();
    if header[0] >> 4 != 6 || !whole || ![8, 24].iter().any(|&at| is_teredo(header, at)) {
        return Err(Stop::Foreign);
    }
    Ok(Overlay {
        layer: Layer::Teredo,
        next: Next::Ip(Network::V6),
        body,
    })
}

/// 2001::/32 (RFC 4380 2.6).
fn is_teredo(header: &[u8; 40], at: usize) -> bool {
    header[at..at + 4] == [0x20, 0x01, 0, 0]
}
