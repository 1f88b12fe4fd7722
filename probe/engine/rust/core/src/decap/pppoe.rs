//! PPPoE sessions (RFC 2516) and PPP (RFC 1661).

use super::link::{Layers, Network, Next, Step, header};
use super::view::{View, be16};
use super::{Layer, Undecodable};

const VERSION_AND_TYPE: u8 = 0x11;
const SESSION_DATA: u8 = 0;

/// Passes the header of a session: version and type, code, session, length of what follows (4).
///
/// The length leaves the padding out; like IP's it may state more than a sliced frame holds.
pub(super) fn session<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let header: &[u8; 6] = header(view)?;
    if header[0] != VERSION_AND_TYPE || header[1] != SESSION_DATA {
        return Err(Undecodable::MalformedTunnel);
    }
    layers.push(Layer::Pppoe(be16(header[2], header[3])))?;
    let length = usize::from(be16(header[4], header[5]));
    Ok((Next::Ppp, view.skip(6).with_len(length)))
}

/// PPP, after the address and control bytes of RFC 1662 3.1 where they were not compressed away. An
/// odd first byte is a protocol field compressed to one byte (RFC 1661 6.5).
pub(super) fn ppp(view: View<'_>) -> Step<'_> {
    let view = match view.data() {
        [0xff, 0x03, ..] => view.skip(2),
        _ => view,
    };
    let (protocol, size) = match view.data() {
        [first, ..] if first & 1 == 1 => (u16::from(*first), 1),
        [first, second, ..] => (be16(*first, *second), 2),
        _ => return Err(Undecodable::TruncatedLink),
    };
    let next = match protocol {
        0x0021 => Next::Ip(Network::V4),
        0x0057 => Next::Ip(Network::V6),
        // MPLS, unicast and multicast (RFC 3032 4.3).
        0x0281 | 0x0283 => Next::Mpls,
        // Header compression (Van Jacobson's, RFC 2507's, ROHC), multilink, encryption, compression.
        0x002d | 0x002f | 0x0003 | 0x0005 | 0x0061..=0x0069 | 0x003d | 0x0053 | 0x00fd => {
            return Err(Undecodable::UnsupportedEncapsulation);
        }
        _ => return Err(Undecodable::NotIp),
    };
    Ok((next, view.skip(size)))
}
