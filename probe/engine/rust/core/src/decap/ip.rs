//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use super::link::Network;
use super::view::{Short, View, be16};
use super::{Address, Transport, Undecodable};

/// An IP packet, or a fragment of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram<'a> {
    pub source: Address,
    pub destination: Address,
    pub ttl: u8,
    /// Of IPv4; 0 for IPv6.
    pub identification: u16,
    /// Bytes on the wire with all headers, as the header states them: may be more than there are.
    pub ip_len: usize,
    pub upper: Upper<'a>,
}

/// What an IP header and its extension headers carry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upper<'a> {
    /// The IP protocol number of `payload`.
    pub protocol: u8,
    pub payload: View<'a>,
    /// Set if `payload` is only a part.
    pub fragment: Option<Fragment>,
}

/// Which part of a datagram a fragment holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    pub identification: u32,
    /// In bytes; a multiple of 8, at most 65,528.
    pub offset: usize,
    /// Whether another part follows this one.
    pub more: bool,
}

impl From<Short> for Undecodable {
    fn from(short: Short) -> Self {
        match short {
            Short::Cut => Self::TruncatedIp,
            Short::Missing => Self::MalformedIp,
        }
    }
}

/// The packet that an IP header begins.
#[inline(always)]
pub(super) fn read(network: Network, view: View<'_>) -> Result<Datagram<'_>, Undecodable> {
    match network {
        Network::V4 => v4(view),
        Network::V6 => v6(view),
    }
}

/// The packet that an IPv4 header begins.
#[inline(always)]
pub(super) fn v4(view: View<'_>) -> Result<Datagram<'_>, Undecodable> {
    let header: &[u8; 20] = view.header()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(Undecodable::MalformedIp);
    }
    let ip_len = stated_len(be16(header[2], header[3]), 0, view);
    if ip_len < header_len {
        return Err(Undecodable::MalformedIp);
    }
    Ok(Datagram {
        source: Address::v4([header[12], header[13], header[14], header[15]]),
        destination: Address::v4([header[16], header[17], header[18], header[19]]),
        ttl: header[8],
        identification: be16(header[4], header[5]),
        ip_len,
        upper: v4_upper(header, view.with_len(ip_len).skip(header_len))?,
    })
}

/// Bytes that the length field states, `fixed` bytes included that it does not count. Zero stands
/// for a segment that the host has not yet divided (segmentation offload, jumbograms of RFC 2675):
/// then all of the frame is the packet.
#[inline]
fn stated_len(field: u16, fixed: usize, view: View<'_>) -> usize {
    match field {
        0 => view.wire_len(),
        length => usize::from(length) + fixed,
    }
}

#[inline]
fn v4_upper<'a>(header: &[u8; 20], payload: View<'a>) -> Result<Upper<'a>, Undecodable> {
    // Without the reserved bit and Don't Fragment: More Fragments and the offset in units of 8 bytes.
    let position = be16(header[6], header[7]) & 0x3fff;
    let fragment = (position != 0).then(|| Fragment {
        identification: be16(header[4], header[5]).into(),
        offset: usize::from(position & 0x1fff) * 8,
        more: position & 0x2000 != 0,
    });
    Ok(match header[9] {
        AUTHENTICATION if fragment.is_none() => after_authentication(payload)?,
        protocol => Upper {
            protocol,
            payload,
            fragment,
        },
    })
}

/// The packet that an IPv6 header begins.
#[inline(always)]
pub(super) fn v6(view: View<'_>) -> Result<Datagram<'_>, Undecodable> {
    let header: &[u8; 40] = view.header()?;
    if header[0] >> 4 != 6 {
        return Err(Undecodable::MalformedIp);
    }
    let ip_len = stated_len(be16(header[4], header[5]), header.len(), view);
    let payload = view.with_len(ip_len).skip(header.len());
    Ok(Datagram {
        source: v6_address(header, 8),
        destination: v6_address(header, 24),
        ttl: header[7],
        identification: 0,
        ip_len,
        upper: v6_upper(header[6], payload)?,
    })
}

#[inline]
fn v6_address(header: &[u8; 40], at: usize) -> Address {
    Address::v6(std::array::from_fn(|index| header[at + index]))
}

/// IP headers inside IP (RFC 2003; RFC 4213 and RFC 2473).
pub(super) const IPV4: u8 = 4;
pub(super) const IPV6: u8 = 41;
pub(super) const GRE: u8 = 47;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Follows the extension headers from the one of type `next` on, which `payload` begins with.
#[inline]
pub(super) fn v6_upper(next: u8, payload: View<'_>) -> Result<Upper<'_>, Undecodable> {
    Ok(match next {
        TCP | UDP => Upper {
            protocol: next,
            payload,
            fragment: None,
        },
        _ => extensions(next, payload)?,
    })
}

/// Most extension headers of one packet: RFC 8200 4.1 has at most seven, in any sensible packet.
const MAX_EXTENSION_HEADERS: usize = 16;

fn extensions(mut next: u8, mut view: View<'_>) -> Result<Upper<'_>, Undecodable> {
    for _ in 0..MAX_EXTENSION_HEADERS {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                (usize::from(view.byte(1)?) + 1) * 8
            }
            AUTHENTICATION => authentication_len(view)?,
            FRAGMENT => {
                let (protocol, fragment) = fragment_header(view.header()?);
                if fragment.more || fragment.offset != 0 {
                    let (payload, fragment) = (view.skip(8), Some(fragment));
                    return Ok(Upper {
                        protocol,
                        payload,
                        fragment,
                    });
                }
                // An atomic fragment is a whole packet (RFC 6946).
                8
            }
            protocol => {
                return Ok(Upper {
                    protocol,
                    payload: view,
                    fragment: None,
                });
            }
        };
        (next, view) = after(length, view)?;
    }
    Err(Undecodable::TooDeep)
}

/// The type of the header that follows one of `length` bytes, and what begins there.
fn after(length: usize, view: View<'_>) -> Result<(u8, View<'_>), Undecodable> {
    if length > view.wire_len() {
        return Err(Undecodable::MalformedIp);
    }
    Ok((view.byte(0)?, view.skip(length)))
}

fn fragment_header(header: &[u8; 8]) -> (u8, Fragment) {
    let position = be16(header[2], header[3]);
    let fragment = Fragment {
        identification: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        offset: usize::from(position & 0xfff8),
        more: position & 1 != 0,
    };
    (header[0], fragment)
}

/// The length field counts 32-bit words, less two (RFC 4302 2.2).
fn authentication_len(view: View<'_>) -> Result<usize, Undecodable> {
    Ok((usize::from(view.byte(1)?) + 2) * 4)
}

/// What an authentication header after an IPv4 header protects.
#[cold]
fn after_authentication(view: View<'_>) -> Result<Upper<'_>, Undecodable> {
    let (protocol, payload) = after(authentication_len(view)?, view)?;
    Ok(Upper {
        protocol,
        payload,
        fragment: None,
    })
}

impl From<u8> for Transport {
    #[inline]
    fn from(protocol: u8) -> Self {
        match protocol {
            TCP => Self::Tcp,
            UDP => Self::Udp,
            132 => Self::Sctp,
            1 | 58 => Self::Icmp,
            other => Self::Other(other),
        }
    }
}
