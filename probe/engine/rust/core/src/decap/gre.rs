//! GRE (RFC 2784, RFC 2890), PPTP's enhanced GRE (RFC 2637), and ERSPAN
//! (draft-foschiano-erspan), which mirrors frames in GRE.

use super::link::{Layers, Network, Next, Step};
use super::view::{Short, View, be16};
use super::{Layer, Undecodable};

const CHECKSUM: u8 = 0x80;
/// Source routes of RFC 1701, which RFC 2784 has done away with.
const ROUTING: u8 = 0x40;
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
const VERSION: u8 = 0x07;
/// In the second byte, of version 1 alone (RFC 2637 4.1).
const ACKNOWLEDGMENT: u8 = 0x80;

const PPP: u16 = 0x880b;
const ERSPAN: u16 = 0x88be;
const ERSPAN_TYPE_3: u16 = 0x22eb;

/// A header of the outer packet that is not there whole.
fn header<const N: usize>(view: View<'_>) -> Result<&[u8; N], Undecodable> {
    view.header().map_err(|short| match short {
        Short::Cut => Undecodable::TruncatedTunnel,
        Short::Missing => Undecodable::MalformedTunnel,
    })
}

/// What follows the first `count` bytes, all of which have to be there.
fn after(count: usize, view: View<'_>) -> Result<View<'_>, Undecodable> {
    if count > view.wire_len() {
        return Err(Undecodable::MalformedTunnel);
    }
    if count > view.data().len() {
        return Err(Undecodable::TruncatedTunnel);
    }
    Ok(view.skip(count))
}

/// Passes the GRE header that `view` begins with, and an ERSPAN header behind it.
pub(super) fn tunnel<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let [flags, more_flags, high, low] = *header(view)?;
    let protocol = be16(high, low);
    let body = match more_flags & VERSION {
        0 if flags & ROUTING == 0 => after(4 + 4 * words(flags, CHECKSUM | KEY | SEQUENCE), view)?,
        1 if flags & (CHECKSUM | ROUTING) == 0 && protocol == PPP => pptp(view)?,
        _ => return Err(Undecodable::UnsupportedEncapsulation),
    };
    match protocol {
        ERSPAN if flags & SEQUENCE == 0 => mirrored(0, body, layers),
        ERSPAN => erspan(body, layers),
        ERSPAN_TYPE_3 => erspan_type_3(body, layers),
        _ => {
            layers.push(Layer::Gre)?;
            payload(protocol, body)
        }
    }
}

/// How many of the optional words that `which` names are there.
fn words(flags: u8, which: u8) -> usize {
    (flags & which).count_ones() as usize
}

/// The payload of enhanced GRE: the key's high half has its length, and 0 is an acknowledgment alone.
fn pptp(view: View<'_>) -> Result<View<'_>, Undecodable> {
    let header: &[u8; 8] = header(view)?;
    let length = usize::from(be16(header[4], header[5]));
    let options = words(header[0], SEQUENCE) + words(header[1], ACKNOWLEDGMENT);
    let body = after(8 + 4 * options, view)?;
    if header[0] & KEY == 0 || length > body.wire_len() {
        return Err(Undecodable::MalformedTunnel);
    }
    if length == 0 {
        return Err(Undecodable::NotIp);
    }
    Ok(body.limit(length))
}

/// What a GRE protocol type announces: an EtherType, with these exceptions (IANA, RFC 1701 8).
pub(super) fn payload(protocol: u16, view: View<'_>) -> Step<'_> {
    const TRANSPARENT_ETHERNET: u16 = 0x6558;
    const WCCP: u16 = 0x883e;
    const CISCO_METADATA: u16 = 0x8909;
    match protocol {
        TRANSPARENT_ETHERNET => Ok((Next::Ethernet, view)),
        PPP => Ok((Next::Ppp, view)),
        WCCP => wccp(view),
        CISCO_METADATA => cisco_metadata(view),
        // A keep-alive's answer (0), and lengths of 802.3, which no GRE header has.
        0..=0x05ff => Err(Undecodable::NotIp),
        _ => Ok((Next::EtherType(protocol), view)),
    }
}

/// A redirected IPv4 packet, in WCCP's version 2 behind four bytes of its own.
fn wccp(view: View<'_>) -> Step<'_> {
    let [first] = *header(view)?;
    let own = if first >> 4 == 4 { 0 } else { 4 };
    Ok((Next::Ip(Network::V4), view.skip(own)))
}

/// Here the EtherType stands before the security group's tag, unlike in a frame.
fn cisco_metadata(view: View<'_>) -> Step<'_> {
    let tag: &[u8; 8] = header(view)?;
    Ok((Next::EtherType(be16(tag[0], tag[1])), view.skip(8)))
}

/// Type II: version 1, VLAN, class, truncation, session; 12 bits reserved, 20 of port index.
fn erspan<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let header: &[u8; 8] = header(view)?;
    if header[0] >> 4 != 1 {
        return Err(Undecodable::MalformedTunnel);
    }
    mirrored(session(header[2], header[3]), view.skip(8), layers)
}

const BAD_FRAME: u8 = 3;
const IP_PACKET: u8 = 2;

/// Type III: as type II, with the state of the frame in place of its encapsulation, then a timestamp,
/// a security group, frame type and hardware, and perhaps eight bytes of the platform's own.
fn erspan_type_3<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let header: &[u8; 12] = header(view)?;
    if header[0] >> 4 != 2 {
        return Err(Undecodable::MalformedTunnel);
    }
    if header[2] >> 3 & 0x03 == BAD_FRAME {
        return Err(Undecodable::DamagedFrame);
    }
    let platform = 8 * usize::from(header[11] & 1);
    let body = after(12 + platform, view)?;
    let (next, body) = mirrored(session(header[2], header[3]), body, layers)?;
    match header[10] >> 2 & 0x1f {
        0 => Ok((next, body)),
        IP_PACKET => Ok((Next::Version, body)),
        _ => Err(Undecodable::NotIp),
    }
}

fn session(high: u8, low: u8) -> u16 {
    be16(high, low) & 0x03ff
}

fn mirrored<'a>(session: u16, frame: View<'a>, layers: &mut Layers) -> Step<'a> {
    layers.push(Layer::Erspan(session))?;
    Ok((Next::Ethernet, frame))
}
