//! GTPv1-C (TS 29.060): Gn and Gp, between SGSN and GGSN.
//!
//! Message and element types are those of 7.1 and 7.7. Elements below 128 have a length fixed by their
//! type, the others carry it: behind an unknown one of the former nothing can be read (11.1.8). Of
//! repeated ones the first counts, but for GSN addresses and NSAPIs, whose order tells what they are.

use crate::control::gtp::{byte, elements, first, take, take_slice};
use crate::control::identity::{Digits, Plmn, Rat};
use crate::control::message::{
    Bearer, BearerEnd, Cause, ControlEnd, Location, Malformed, Message, Phase, Procedure, Protocol,
    Role, TunnelEnd, UeAddresses, read_apn,
};
use crate::control::{gtp, location};
use crate::decap::Address;

/// Reads one message; what is behind it in its datagram is left out.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    let (mut message, rest) = read_header(bytes)?;
    let mut parts = Parts::default();
    for element in elements(rest, split) {
        let (kind, value) = element?;
        if !parts.read_element(kind, value)? {
            read_element(&mut message, kind, value)?;
        }
    }
    parts.complete(&mut message);
    Ok(message)
}

/// The message by its header (6), and its elements. The length counts from the ninth byte, the sequence
/// number included.
fn read_header(bytes: &[u8]) -> Result<(Message, &[u8]), Malformed> {
    let Some((&[flags, kind, high, low, a, b, c, d], behind)) = bytes.split_first_chunk() else {
        return Err(Malformed::Truncated);
    };
    if flags >> 4 != 0b0011 {
        return Err(Malformed::Version);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let mut rest = behind.get(..length).ok_or(Malformed::Truncated)?;
    let (procedure, phase) = procedure(kind);
    let mut message = Message::new(Protocol::Gtpv1, procedure, phase);
    message.receiver_key = u32::from_be_bytes([a, b, c, d]).into();
    if flags & 0x07 != 0 {
        let &[high, low, _n_pdu, mut extension] = take(&mut rest)?;
        if flags & 0x02 != 0 {
            message.sequence = u16::from_be_bytes([high, low]).into();
        }
        while flags & 0x04 != 0 && extension != 0 {
            extension = skip_extension(&mut rest)?;
        }
    }
    Ok((message, rest))
}

/// Passes over an extension header, whose length counts units of 4 bytes and is never 0 (6.1), and gives
/// the type of the next.
fn skip_extension(rest: &mut &[u8]) -> Result<u8, Malformed> {
    let length = usize::from(byte(rest)?) * 4;
    let header = take_slice(rest, length)?;
    header.last().copied().ok_or(Malformed::Length)
}

/// What messages of a type are about (table 1). Errors and what a peer does not support are told
/// without an answer.
fn procedure(kind: u8) -> (Procedure, Phase) {
    use Phase::{Indication, Request, Response};
    match kind {
        1 => (Procedure::Echo, Request),
        2 => (Procedure::Echo, Response),
        16 => (Procedure::CreateSession, Request),
        17 => (Procedure::CreateSession, Response),
        18 => (Procedure::ModifySession, Request),
        19 => (Procedure::ModifySession, Response),
        20 => (Procedure::DeleteSession, Request),
        21 => (Procedure::DeleteSession, Response),
        128 => (Procedure::ChangeNotification, Request),
        129 => (Procedure::ChangeNotification, Response),
        22 | 27 | 29 | 32 | 34 | 36 | 48 | 50 | 53 | 56 => (Procedure::Other(kind.into()), Request),
        23 | 28 | 30 | 33 | 35 | 37 | 49 | 51 | 54 | 57 => {
            (Procedure::Other(u16::from(kind) - 1), Response)
        }
        _ => (Procedure::Other(kind.into()), Indication),
    }
}

const CAUSE: u8 = 1;
const IMSI: u8 = 2;
const ROUTING_AREA: u8 = 3;
const RECOVERY: u8 = 14;
const TEID_DATA: u8 = 16;
const TEID_CONTROL: u8 = 17;
const TEARDOWN: u8 = 19;
const NSAPI: u8 = 20;
const CHARGING_ID: u8 = 127;
const END_USER_ADDRESS: u8 = 128;
const APN: u8 = 131;
const GSN_ADDRESS: u8 = 133;
const MSISDN: u8 = 134;
const QOS_PROFILE: u8 = 135;
const EXTENSION_HEADER_LIST: u8 = 141;
const RAT: u8 = 151;
const USER_LOCATION: u8 = 152;
const IMEI: u8 = 154;
const EVOLVED_ARP: u8 = 191;

/// Bytes of an element whose type fixes them (table 37).
fn fixed_length(kind: u8) -> Option<usize> {
    Some(match kind {
        // Cause, Reordering Required, MAP Cause, MS Validated, Recovery, Selection Mode.
        CAUSE | 8 | 11 | 13 | RECOVERY | 15 => 1,
        // Teardown, NSAPI, RANAP Cause, Radio Priorities, MS Not Reachable, Packet Transfer Command.
        TEARDOWN..=21 | 23 | 24 | 29 | 126 => 1,
        IMSI => 8,
        ROUTING_AREA => 6,
        // TLLI, P-TMSI.
        4 | 5 | TEID_DATA | TEID_CONTROL | CHARGING_ID => 4,
        // Authentication Triplet.
        9 => 28,
        // P-TMSI Signature.
        12 => 3,
        // TEID Data II, with its NSAPI.
        18 => 5,
        // RAB Context.
        22 => 9,
        // Packet Flow, Charging Characteristics, Trace Reference, Trace Type.
        25..=28 => 2,
        _ => return None,
    })
}

/// Type and value of the next element.
fn split<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8]), Malformed> {
    let &[kind] = take(rest)?;
    let length = read_length(rest, kind)?;
    Ok((kind, take_slice(rest, length)?))
}

fn read_length(rest: &mut &[u8], kind: u8) -> Result<usize, Malformed> {
    match kind {
        0..128 => fixed_length(kind).ok_or(Malformed::Value),
        // The only one whose length has one byte (7.7.40).
        EXTENSION_HEADER_LIST => take::<1>(rest).map(|&[length]| length.into()),
        _ => take(rest).map(|&length| u16::from_be_bytes(length).into()),
    }
}

fn read_element(message: &mut Message, kind: u8, value: &[u8]) -> Result<(), Malformed> {
    match kind {
        CAUSE => first(&mut message.cause, Some(cause(byte(value)?, message.phase))),
        IMSI => first(&mut message.identity.imsi, Some(gtp::imsi(value)?)),
        ROUTING_AREA => read_routing_area(message, value)?,
        RECOVERY => first(&mut message.recovery, Some(byte(value)?.into())),
        END_USER_ADDRESS => message.ue = end_user_address(value)?,
        APN => first(&mut message.apn, read_apn(value)),
        MSISDN => first(&mut message.identity.msisdn, msisdn(value)?),
        RAT => first(&mut message.rat, Rat::read(byte(value)?)),
        USER_LOCATION => read_user_location(message, value)?,
        IMEI => first(&mut message.identity.imei, Digits::from_bcd(value)),
        _ => {}
    }
    Ok(())
}

/// A cause (7.7.1): 128 to 191 accept in an answer, from 192 on they refuse, below 128 they are reasons
/// of a request.
fn cause(number: u8, phase: Phase) -> Cause {
    let reason = number < 128 && phase != Phase::Response;
    Cause {
        number: number.into(),
        accepted: reason || (128..192).contains(&number),
    }
}

/// Network and area that serve the device (7.7.3). An SGSN that tells the network alone fills the area
/// with a code that is none.
fn read_routing_area(message: &mut Message, mut value: &[u8]) -> Result<(), Malformed> {
    let area: &[u8; 5] = take(&mut value)?;
    let &[a, b, c, ..] = area;
    first(&mut message.serving_network, Plmn::read([a, b, c]));
    first(&mut message.location.area, location::lai(area));
    Ok(())
}

/// Where the device is (7.7.51): a cell, a service area, or no more than a routing area. Its area is
/// closer than that of the routing area element, which may be of before a move.
fn read_user_location(message: &mut Message, value: &[u8]) -> Result<(), Malformed> {
    let kind = byte(value)?;
    if kind <= 2 {
        take::<8>(&mut { value })?;
        let Location { cell, area, .. } = location::typed(value);
        first(&mut message.location.cell, cell);
        message.location.area = area.or(message.location.area);
    }
    Ok(())
}

/// A number (7.7.33, coded as TS 29.002 17.7.8 has it): its nature and plan, then its digits. Of a
/// national number the country is not known.
fn msisdn(value: &[u8]) -> Result<Option<Digits>, Malformed> {
    const UNKNOWN: u8 = 0;
    const INTERNATIONAL: u8 = 1;
    let nature = byte(value)? >> 4 & 7;
    let digits = value.get(1..).and_then(Digits::from_bcd);
    Ok(digits.filter(|_| matches!(nature, UNKNOWN | INTERNATIONAL)))
}

/// Addresses of the device (7.7.27), of IPv6 a prefix of 64 bits (TS 23.060 9.2.1.1). What the network
/// is still to give is not there, and of a pair the length tells which is.
fn end_user_address(mut value: &[u8]) -> Result<UeAddresses, Malformed> {
    const IETF: u8 = 1;
    const V4: u8 = 0x21;
    const V6: u8 = 0x57;
    const BOTH: u8 = 0x8d;
    let mut found = UeAddresses::default();
    let &[organisation, number] = take(&mut value)?;
    if organisation & 0xf != IETF || value.is_empty() {
        return Ok(found);
    }
    if number == V4 || (number == BOTH && value.len() != 16) {
        found.v4 = gtp::device_v4(*take(&mut value)?);
    }
    if number == V6 || (number == BOTH && !value.is_empty()) {
        found.v6 = gtp::device_v6(*take(&mut value)?, 64);
    }
    Ok(found)
}

/// What several elements of a message say together.
#[derive(Debug, Default)]
struct Parts {
    data_teid: Option<u32>,
    control_teid: Option<u32>,
    /// Of the control plane, then of the user plane; further ones are the same ends by their other
    /// family of addresses.
    addresses: [Option<Address>; 4],
    /// The one that is meant, then the linked one.
    nsapis: [Option<u8>; 2],
    teardown: bool,
    charging_id: bool,
    qos_class: Option<u8>,
    priority: Option<u8>,
}

impl Parts {
    /// Says if the element is one of these.
    fn read_element(&mut self, kind: u8, mut value: &[u8]) -> Result<bool, Malformed> {
        match kind {
            TEID_DATA => first(&mut self.data_teid, Some(teid(value)?)),
            TEID_CONTROL => first(&mut self.control_teid, Some(teid(value)?)),
            TEARDOWN => self.teardown = byte(value)? & 1 != 0,
            NSAPI => fill(&mut self.nsapis, byte(value)? & 0xf),
            CHARGING_ID => self.charging_id = true,
            GSN_ADDRESS => fill(&mut self.addresses, gsn_address(value)?),
            QOS_PROFILE => first(&mut self.qos_class, qos_class(value)),
            EVOLVED_ARP => {
                let &[arp] = take(&mut value)?;
                first(&mut self.priority, gtp::priority(arp));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Where a context is set up or changed, its bearer; where one is removed, which.
    fn complete(&self, message: &mut Message) {
        message.sender_end = self.sender_end();
        let [nsapi, linked] = self.nsapis;
        match message.procedure {
            Procedure::CreateSession | Procedure::ModifySession => {
                message.linked_bearer = linked;
                message.bearers.extend(self.bearer(message));
            }
            Procedure::DeleteSession if self.teardown => message.linked_bearer = nsapi,
            Procedure::DeleteSession => message.bearers.extend(nsapi.map(|id| Bearer {
                id,
                removed: true,
                ..Bearer::default()
            })),
            _ => {}
        }
    }

    fn sender_end(&self) -> Option<ControlEnd> {
        let key = self.control_teid.filter(|&teid| teid != 0)?.into();
        let [address, ..] = self.addresses;
        address.map(|address| ControlEnd { address, key })
    }

    /// None where the message tells nothing of it, as in a refusal.
    fn bearer(&self, message: &Message) -> Option<Bearer> {
        let bearer = Bearer {
            id: self.nsapis[0].unwrap_or(0),
            ends: self.ends(message),
            qos_class: self.qos_class,
            priority: self.priority,
            ..Bearer::default()
        };
        (bearer != Bearer::default()).then_some(bearer)
    }

    fn ends(&self, message: &Message) -> Vec<BearerEnd> {
        let Some(teid) = self.data_teid.filter(|&teid| teid != 0) else {
            return Vec::new();
        };
        let role = self.role(message);
        self.user_addresses()
            .into_iter()
            .flatten()
            .map(|address| TunnelEnd { address, teid })
            .map(|end| BearerEnd { role, end })
            .collect()
    }

    /// The address of the user plane stands behind that of the control plane, unless the message tells
    /// nothing of the control plane.
    fn user_addresses(&self) -> [Option<Address>; 2] {
        match self.addresses {
            [only, None, ..] if self.control_teid.is_none() => [only, None],
            [_, user, _, alternative] => [user, alternative],
        }
    }

    /// Requests with tunnel ends are of the SGSN, answers of the GGSN; but an SGSN that answers to an
    /// update tells of the user plane only (tables 9 and 10: neither control plane nor charging).
    fn role(&self, message: &Message) -> Role {
        let of_sgsn = message.procedure == Procedure::ModifySession
            && self.control_teid.is_none()
            && self.addresses[1].is_none()
            && !self.charging_id;
        match message.phase {
            Phase::Response if !of_sgsn => Role::Core,
            _ => Role::Access,
        }
    }
}

fn teid(mut value: &[u8]) -> Result<u32, Malformed> {
    take(&mut value).map(|&teid| u32::from_be_bytes(teid))
}

/// Puts a repeated element behind those before it; what finds no place is left out.
fn fill<T>(places: &mut [Option<T>], value: T) {
    if let Some(place) = places.iter_mut().find(|place| place.is_none()) {
        *place = Some(value);
    }
}

fn gsn_address(value: &[u8]) -> Result<Address, Malformed> {
    match value.len() {
        4 => Ok(Address::v4(*take(&mut { value })?)),
        16 => Ok(Address::v6(*take(&mut { value })?)),
        _ => Err(Malformed::Length),
    }
}

/// The QCI that a QoS profile stands for (TS 23.401 table E.3; TS 24.008 10.5.6.5 behind the byte of
/// allocation and retention priority). None if the profile is of before the traffic classes.
fn qos_class(profile: &[u8]) -> Option<u8> {
    const CONVERSATIONAL: u8 = 1;
    const STREAMING: u8 = 2;
    const INTERACTIVE: u8 = 3;
    const BACKGROUND: u8 = 4;
    /// 150 ms in the coding of transfer delays.
    const DELAY_150_MS: u8 = 15;
    let delay_and_handling = *profile.get(9)?;
    let signalling_and_source = profile.get(12).copied().unwrap_or(0);
    let is_speech = signalling_and_source & 0xf == 1;
    let is_signalling = signalling_and_source & 0x10 != 0;
    Some(match (profile[4] >> 5, delay_and_handling & 3) {
        (CONVERSATIONAL, _) if is_speech => 1,
        (CONVERSATIONAL, _) if delay_and_handling >> 2 >= DELAY_150_MS => 2,
        (CONVERSATIONAL, _) => 3,
        (STREAMING, _) => 4,
        (INTERACTIVE, 1) if is_signalling => 5,
        (INTERACTIVE, handling @ 1..=3) => 5 + handling,
        (BACKGROUND, _) => 9,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "gtpv1_tests.rs"]
mod tests;
