//! GTP-U (TS 29.281) and the PDU session container (TS 38.415).

use super::link::{self, Network, Next};
use super::udp::{self, Stop};
use super::view::{Short, View, be16};
use super::{Address, TunnelDirection, Undecodable, pdu_session};

/// UDP port of GTP-U, at either end (TS 29.281 4.4.2).
pub(super) const PORT: u16 = 2152;

/// A GTP-U message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Message<'a> {
    Signal(Signal),
    Packet(Gpdu<'a>),
}

/// A message of the tunnel management itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal {
    pub message_type: u8,
    pub teid: u32,
    pub sequence: Option<u16>,
    /// Whose the tunnel end is that an Error Indication names.
    pub peer: Option<Address>,
}

/// A G-PDU: a packet in a tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gpdu<'a> {
    pub teid: u32,
    pub sequence: Option<u16>,
    pub container: Container<'a>,
    /// What `body` begins with.
    pub next: Next,
    pub body: View<'a>,
}

/// What the PDU session container says, if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Container<'a> {
    pub direction: Option<TunnelDirection>,
    pub qfi: Option<u8>,
    /// Its bytes, if they say more than these two.
    pub more: &'a [u8],
}

const VERSION_AND_TYPE: u8 = 0xf0;
/// Version 1, protocol type GTP (not GTP').
const VERSION_1_GTP: u8 = 0x30;
const OPTIONAL_FIELDS: u8 = 0x07;
const EXTENSION_FLAG: u8 = 0x04;
const SEQUENCE_FLAG: u8 = 0x02;

const ERROR_INDICATION: u8 = 26;
const G_PDU: u8 = 255;

/// Reads the GTP-U message in a UDP packet, whose header `segment` begins with.
#[inline]
pub(super) fn parse(segment: View<'_>) -> Result<Message<'_>, Stop> {
    let payload = udp::payload(segment)?;
    let header: &[u8; 8] = payload.header()?;
    let [flags, message_type, ..] = *header;
    let length = usize::from(be16(header[2], header[3]));
    let body = payload.skip(8);
    if flags & VERSION_AND_TYPE != VERSION_1_GTP || length > body.wire_len() {
        return Err(Stop::Foreign);
    }
    let teid = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let fields = Fields::without_options(body.limit(length));
    if flags & OPTIONAL_FIELDS == 0 {
        return message(message_type, teid, fields);
    }
    message(message_type, teid, options(flags, fields.body)?)
}

#[inline(always)]
fn message(message_type: u8, teid: u32, fields: Fields<'_>) -> Result<Message<'_>, Stop> {
    match message_type {
        G_PDU => gpdu(teid, fields),
        // Echo Request and Response, Error Indication, Supported Extension Headers Notification,
        // Tunnel Status, End Marker (TS 29.281 6.1).
        1 | 2 | ERROR_INDICATION | 31 | 253 | 254 => {
            Ok(Message::Signal(signal(message_type, teid, &fields)))
        }
        _ => Err(Stop::Foreign),
    }
}

/// What follows the first eight bytes of the header.
struct Fields<'a> {
    sequence: Option<u16>,
    container: Container<'a>,
    body: View<'a>,
}

impl<'a> Fields<'a> {
    #[inline]
    fn without_options(body: View<'a>) -> Self {
        Self {
            sequence: None,
            container: Container::default(),
            body,
        }
    }
}

/// Sequence number, N-PDU number and next extension header type stand there together if any of the
/// three flags is set, and each counts only if its own flag is set (TS 29.281 5.1).
fn options(flags: u8, body: View<'_>) -> Result<Fields<'_>, Stop> {
    let optional: &[u8; 4] = body.header()?;
    let mut fields = Fields::without_options(body.skip(4));
    fields.sequence = (flags & SEQUENCE_FLAG != 0).then(|| be16(optional[0], optional[1]));
    if flags & EXTENSION_FLAG != 0 {
        extensions(optional[3], &mut fields)?;
    }
    Ok(fields)
}

/// Most extension headers of one message; TS 29.281 5.2.1 defines seven types.
const MAX_EXTENSION_HEADERS: usize = 16;
const PDU_SESSION_CONTAINER: u8 = 0x85;

/// Takes the extension headers off, of which `next` is the first one's type.
fn extensions(mut next: u8, fields: &mut Fields<'_>) -> Result<(), Stop> {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if next == 0 {
            return Ok(());
        }
        let view = fields.body;
        // The length counts units of four bytes, this byte and the next type included.
        let length = usize::from(view.byte(0)?) * 4;
        if length == 0 {
            return Err(Stop::Foreign);
        }
        if next == PDU_SESSION_CONTAINER {
            fields.container = container(view.header()?, view.limit(length).data());
        }
        next = view.byte(length - 1)?;
        fields.body = view.skip(length);
    }
    Err(Stop::Undecodable(Undecodable::TooDeep))
}

/// `header` begins with the length byte, and `whole` ends with the next type, or where the capture does.
fn container<'a>(header: &[u8; 4], whole: &'a [u8]) -> Container<'a> {
    let Some(direction) = pdu_session::direction(header[1]) else {
        return Container::default();
    };
    let more = match pdu_session::announces_more(header[1]) {
        true => whole.get(1..whole.len() - 1).unwrap_or_default(),
        false => &[],
    };
    Container {
        direction: Some(direction),
        qfi: Some(header[2] & 0x3f),
        more,
    }
}

#[inline(always)]
fn gpdu(teid: u32, fields: Fields<'_>) -> Result<Message<'_>, Stop> {
    let body = fields.body;
    let next = match body.data() {
        // A frame never begins so: 0x45 would be the address of a group that nobody uses.
        [0x45, ..] => Next::Ip(Network::V4),
        _ => other_pdu(body)?,
    };
    Ok(Message::Packet(Gpdu {
        teid,
        sequence: fields.sequence,
        container: fields.container,
        next,
        body,
    }))
}

/// PDU sessions of type Ethernet (TS 23.501 5.6.10.2) carry frames without a word that says so.
fn other_pdu(body: View<'_>) -> Result<Next, Stop> {
    match link::version_or_ethernet(body) {
        Ok(Some(next)) => Ok(next),
        Ok(None) | Err(Short::Missing) => Err(Stop::Undecodable(Undecodable::GtpuNotIp)),
        Err(Short::Cut) => Err(Stop::Cut),
    }
}

#[cold]
fn signal(message_type: u8, teid: u32, fields: &Fields<'_>) -> Signal {
    let (named, peer) = match message_type {
        ERROR_INDICATION => reported_end(fields.body.data()),
        _ => (None, None),
    };
    Signal {
        message_type,
        teid: named.unwrap_or(teid),
        sequence: fields.sequence,
        peer,
    }
}

/// Information elements Tunnel Endpoint Identifier Data I, type 16, and behind it GTP-U Peer Address, type
/// 133 (TS 29.281 7.3.1, 8.3, 8.4).
fn reported_end(body: &[u8]) -> (Option<u32>, Option<Address>) {
    let Some((&[16, a, b, c, d], behind)) = body.split_first_chunk() else {
        return (None, None);
    };
    (Some(u32::from_be_bytes([a, b, c, d])), peer_address(behind))
}

fn peer_address(element: &[u8]) -> Option<Address> {
    let (&[133, high, low], behind) = element.split_first_chunk()? else {
        return None;
    };
    match be16(high, low) {
        4 => behind.first_chunk().map(|&octets| Address::v4(octets)),
        16 => behind.first_chunk().map(|&octets| Address::v6(octets)),
        _ => None,
    }
}
