//! GTPv2-C (TS 29.274): S11, S4, S5/S8 and their like.
//!
//! Message and element types are those of tables 6.1-1 and 8.1-1. Elements are told by type and
//! instance; of repeated ones the first counts, and unknown ones are passed over (7.7.8 to 7.7.10). What
//! is too short for its own form makes the message malformed; a value that is out of range is left out.

use crate::control::gtp::{byte, elements, first, take, take_slice};
use crate::control::identity::{Digits, Plmn, Rat};
use crate::control::message::{
    Bearer, BearerEnd, Cause, ControlEnd, Location, MAX_BEARERS, MAX_ENDS, Malformed, Message,
    Phase, Procedure, Protocol, Role, TunnelEnd, UeAddresses, read_apn,
};
use crate::control::{gtp, location};
use crate::decap::Address;

/// Reads one message; a piggybacked one behind it is left out.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    read_first(bytes).map(|(message, _)| message)
}

/// Reads one message, and gives the bytes of the message that it carries piggyback (5.5.1).
pub fn read_first(bytes: &[u8]) -> Result<(Message, Option<&[u8]>), Malformed> {
    let (header, body, rest) = Header::read(bytes)?;
    let mut message = header.message();
    for element in elements(body, split) {
        read_element(&mut message, &element?)?;
    }
    message.sender_end = sender_end(&message, body)?;
    Ok((message, header.piggyback.then_some(rest)))
}

#[derive(Debug, Clone, Copy)]
struct Header {
    piggyback: bool,
    kind: u8,
    teid: u32,
    sequence: u32,
}

impl Header {
    /// Header, elements, and what is behind the message (5.1, 5.5): the length counts from the fifth byte.
    fn read(bytes: &[u8]) -> Result<(Self, &[u8], &[u8]), Malformed> {
        let Some((&[flags, kind, high, low], behind)) = bytes.split_first_chunk() else {
            return Err(Malformed::Truncated);
        };
        if flags >> 5 != 2 {
            return Err(Malformed::Version);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (mut elements, rest) = behind
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        let teid = match flags & 0x08 {
            0 => 0,
            _ => u32::from_be_bytes(*take(&mut elements)?),
        };
        let &[a, b, c, _spare] = take(&mut elements)?;
        let header = Self {
            piggyback: flags & 0x10 != 0,
            kind,
            teid,
            sequence: u32::from_be_bytes([0, a, b, c]),
        };
        Ok((header, elements, rest))
    }

    fn message(&self) -> Message {
        let (procedure, phase) = procedure(self.kind);
        let mut message = Message::new(Protocol::Gtpv2, procedure, phase);
        message.sequence = self.sequence;
        message.receiver_key = self.teid.into();
        message
    }
}

/// What messages of a type are about (table 6.1-1). A type without answer, or that nobody knows to have
/// one, is an indication: none is waited for.
fn procedure(kind: u8) -> (Procedure, Phase) {
    use Phase::{Indication, Request, Response};
    match kind {
        1 => (Procedure::Echo, Request),
        2 => (Procedure::Echo, Response),
        32 => (Procedure::CreateSession, Request),
        33 => (Procedure::CreateSession, Response),
        // Modify Bearer, and Modify Access Bearers.
        34 | 211 => (Procedure::ModifySession, Request),
        35 | 212 => (Procedure::ModifySession, Response),
        36 => (Procedure::DeleteSession, Request),
        37 => (Procedure::DeleteSession, Response),
        38 => (Procedure::ChangeNotification, Request),
        39 => (Procedure::ChangeNotification, Response),
        95 => (Procedure::CreateBearer, Request),
        96 => (Procedure::CreateBearer, Response),
        97 => (Procedure::UpdateBearer, Request),
        98 => (Procedure::UpdateBearer, Response),
        99 => (Procedure::DeleteBearer, Request),
        100 => (Procedure::DeleteBearer, Response),
        170 => (Procedure::ReleaseAccess, Request),
        171 => (Procedure::ReleaseAccess, Response),
        176 => (Procedure::DataNotification, Request),
        177 => (Procedure::DataNotification, Response),
        _ => match request_of(kind) {
            Some(request) if request == kind => (Procedure::Other(kind.into()), Request),
            Some(request) => (Procedure::Other(request.into()), Response),
            None => (Procedure::Other(kind.into()), Indication),
        },
    }
}

const CREATE_FORWARDING: u8 = 160;
const CREATE_INDIRECT_FORWARDING: u8 = 166;

/// The request of a pair of further types.
fn request_of(kind: u8) -> Option<u8> {
    match kind {
        40 | 101 | 103 | 128 | 130 | 133 | 135 | 137 | 139 | 149 | 153 | 155 | 158 | 160 | 162
        | 164 | 166 | 168 | 179 | 200 => Some(kind),
        41 | 102 | 104 | 129 | 131 | 134 | 136 | 138 | 140 | 150 | 154 | 156 | 159 | 161 | 163
        | 165 | 167 | 169 | 180 | 201 => Some(kind - 1),
        _ => None,
    }
}

const IMSI: u8 = 1;
const CAUSE: u8 = 2;
const RECOVERY: u8 = 3;
const INDICATION: u8 = 77;
const APN: u8 = 71;
const BEARER_ID: u8 = 73;
const DEVICE_ID: u8 = 75;
const MSISDN: u8 = 76;
const PDN_ADDRESS: u8 = 79;
const BEARER_QOS: u8 = 80;
const RAT: u8 = 82;
const SERVING_NETWORK: u8 = 83;
const USER_LOCATION: u8 = 86;
const F_TEID: u8 = 87;
const BEARER_CONTEXT: u8 = 93;

/// One information element (8.2.1).
#[derive(Debug, Clone, Copy)]
struct Element<'a> {
    kind: u8,
    instance: u8,
    value: &'a [u8],
}

fn split<'a>(rest: &mut &'a [u8]) -> Result<Element<'a>, Malformed> {
    let &[kind, high, low, instance] = take(rest)?;
    let length = u16::from_be_bytes([high, low]).into();
    Ok(Element {
        kind,
        instance: instance & 0xf,
        value: take_slice(rest, length)?,
    })
}

fn read_element(message: &mut Message, element: &Element<'_>) -> Result<(), Malformed> {
    let value = element.value;
    match (element.kind, element.instance) {
        (IMSI, 0) => first(&mut message.identity.imsi, Some(gtp::imsi(value)?)),
        (MSISDN, 0) => first(&mut message.identity.msisdn, Digits::from_bcd(value)),
        (DEVICE_ID, 0) => first(&mut message.identity.imei, Digits::from_bcd(value)),
        (CAUSE, 0) => first(&mut message.cause, Some(cause(value, message.phase)?)),
        // Flag OI (8.12).
        (INDICATION, 0) => message.ends_everywhere = byte(value)? & 0x08 != 0,
        (RECOVERY, 0) => first(&mut message.recovery, Some(byte(value)?.into())),
        (APN, 0) => first(&mut message.apn, read_apn(value)),
        (RAT, 0) => first(&mut message.rat, Rat::read(byte(value)?)),
        (SERVING_NETWORK, 0) => {
            first(
                &mut message.serving_network,
                Plmn::read(*take(&mut { value })?),
            );
        }
        (PDN_ADDRESS, 0) => message.ue = pdn_address(value)?,
        (USER_LOCATION, 0) => message.location = user_location(value)?,
        (BEARER_ID, instance) => read_bearer_id(message, instance, byte(value)? & 0xf)?,
        (BEARER_CONTEXT, instance) => read_bearer_context(message, instance, value)?,
        _ => {}
    }
    Ok(())
}

/// A cause (8.4): 16 to 63 accept in an answer, from 64 on they refuse, below they are reasons of a
/// request.
fn cause(value: &[u8], phase: Phase) -> Result<Cause, Malformed> {
    let number = u16::from(byte(value)?);
    let reason = number < 16 && phase != Phase::Response;
    Ok(Cause {
        number,
        accepted: reason || (16..64).contains(&number),
    })
}

/// Addresses of the device (8.14): of an IPv6 address the prefix alone is the network's to give.
fn pdn_address(mut value: &[u8]) -> Result<UeAddresses, Malformed> {
    const V4: u8 = 1;
    const V6: u8 = 2;
    const BOTH: u8 = 3;
    let mut found = UeAddresses::default();
    let kind = take::<1>(&mut value)?[0] & 7;
    if matches!(kind, V6 | BOTH) {
        let &[length] = take(&mut value)?;
        found.v6 = gtp::device_v6(*take(&mut value)?, length);
    }
    if matches!(kind, V4 | BOTH) {
        found.v4 = gtp::device_v4(*take(&mut value)?);
    }
    Ok(found)
}

/// Where the device is (8.21): flags say which identities follow, in this order. The cell of the newest
/// radio technology is the one, and a tracking area is closer than a routing or location area.
fn user_location(mut value: &[u8]) -> Result<Location, Malformed> {
    let &[flags] = take(&mut value)?;
    let mut identity = |bit: u8, length: usize| -> Result<&[u8], Malformed> {
        let length = if flags & 1 << bit != 0 { length } else { 0 };
        take_slice(&mut value, length)
    };
    let (cgi, sai, rai) = (identity(0, 7)?, identity(1, 7)?, identity(2, 7)?);
    let (tai, ecgi, lai) = (identity(3, 5)?, identity(4, 7)?, identity(5, 5)?);
    let (macro_enb, extended_enb) = (identity(6, 6)?, identity(7, 6)?);
    let old_cell = location::cgi(cgi).or_else(|| location::sai(sai));
    let old_area = [rai, lai, cgi, sai].into_iter().find_map(location::lai);
    Ok(Location {
        cell: location::ecgi(ecgi).or(old_cell),
        area: location::tai(tai).or(old_area),
        node: location::macro_enb(macro_enb).or_else(|| location::extended_enb(extended_enb)),
    })
}

/// A fully qualified TEID (8.22): by either family of address, or both, or none.
#[derive(Debug, Clone, Copy)]
struct FullTeid {
    interface: u8,
    teid: u32,
    addresses: [Option<Address>; 2],
}

impl FullTeid {
    fn read(mut value: &[u8]) -> Result<Self, Malformed> {
        let rest = &mut value;
        let flags = take::<1>(rest)?[0];
        let teid = u32::from_be_bytes(*take(rest)?);
        let v4 = if flags & 0x80 != 0 {
            Some(Address::v4(*take(rest)?))
        } else {
            None
        };
        let v6 = if flags & 0x40 != 0 {
            Some(Address::v6(*take(rest)?))
        } else {
            None
        };
        Ok(Self {
            interface: flags & 0x3f,
            teid,
            addresses: [v4, v6],
        })
    }

    /// Addresses at which somebody waits: none where the TEID is still open.
    fn addresses(&self) -> impl Iterator<Item = Address> {
        let known = self.teid != 0;
        self.addresses.into_iter().flatten().filter(move |_| known)
    }

    /// Who waits for packets there, if it is an end of the user plane (table 8.22-1).
    fn role(&self) -> Option<Role> {
        Some(match self.interface {
            // eNB, RNC, S4-SGSN, ePDG, TWAN, MME with data over signalling (S11-U).
            0 | 2 | 15 | 31 | 34 | 38 => Role::Access,
            // SGW on S1-U, S12, S4 and S11-U; PGW on S2b-U and S2a.
            1 | 3 | 16 | 33 | 37 | 39 => Role::Core,
            4 => Role::TransitDown,
            5 => Role::TransitUp,
            19..=23 | 28 => Role::Forwarding,
            _ => return None,
        })
    }
}

/// The sender's end of the control plane is instance 0. A PGW that answers to a Create Session Request
/// has instance 1, which in an SGW's answer stands beside 0 and is the PGW's (table 7.2.2-1).
fn sender_end(message: &Message, body: &[u8]) -> Result<Option<ControlEnd>, Malformed> {
    let answers_create =
        (message.procedure, message.phase) == (Procedure::CreateSession, Phase::Response);
    match control_end(body, 0)? {
        None if answers_create => control_end(body, 1),
        end => Ok(end),
    }
}

/// Of both families of addresses the first is taken.
fn control_end(body: &[u8], instance: u8) -> Result<Option<ControlEnd>, Malformed> {
    for element in elements(body, split) {
        let element = element?;
        if (element.kind, element.instance) == (F_TEID, instance) {
            let full = FullTeid::read(element.value)?;
            let key = full.teid.into();
            let address = full.addresses().next().filter(|_| full.role().is_none());
            return Ok(address.map(|address| ControlEnd { address, key }));
        }
    }
    Ok(None)
}

/// A bearer identity outside of a context: the linked one, in a Downlink Data Notification the one with
/// data, and from instance 1 on those that a Delete Bearer Request removes (tables 7.2.9.2-1, 7.2.11.1-1).
fn read_bearer_id(message: &mut Message, instance: u8, id: u8) -> Result<(), Malformed> {
    let removed = match (message.procedure, instance) {
        (Procedure::DataNotification, 0) => false,
        (Procedure::DeleteBearer, 1) => true,
        (_, 0) => {
            first(&mut message.linked_bearer, Some(id));
            return Ok(());
        }
        _ => return Ok(()),
    };
    add_bearer(
        message,
        Bearer {
            id,
            removed,
            ..Bearer::default()
        },
    )
}

fn add_bearer(message: &mut Message, bearer: Bearer) -> Result<(), Malformed> {
    if message.bearers.len() == MAX_BEARERS {
        return Err(Malformed::Value);
    }
    message.bearers.push(bearer);
    Ok(())
}

fn read_bearer_context(message: &mut Message, instance: u8, group: &[u8]) -> Result<(), Malformed> {
    let mut bearer = Bearer::default();
    let mut id = None;
    for element in elements(group, split) {
        let Element {
            kind,
            instance,
            value,
        } = element?;
        match (kind, instance) {
            (BEARER_ID, 0) => first(&mut id, Some(byte(value)? & 0xf)),
            (CAUSE, 0) => first(&mut bearer.cause, Some(cause(value, message.phase)?)),
            (BEARER_QOS, 0) => read_qos(&mut bearer, value)?,
            (F_TEID, _) => add_ends(&mut bearer, &FullTeid::read(value)?, message.procedure)?,
            _ => {}
        }
    }
    bearer.id = id.unwrap_or(0);
    bearer.removed = is_removed(message, instance, &bearer);
    add_bearer(message, bearer)
}

/// Instance 1 is for bearers to be removed or marked for it (tables 7.2.1-1 to 7.2.8-1); the answer to a
/// Delete Bearer Request confirms each by its cause. Contexts in that request are of failures.
fn is_removed(message: &Message, instance: u8, bearer: &Bearer) -> bool {
    match (message.procedure, message.phase) {
        (Procedure::CreateSession | Procedure::ModifySession, _) => instance == 1,
        (Procedure::DeleteBearer, Phase::Response) => {
            bearer.cause.is_none_or(|cause| cause.accepted)
        }
        _ => false,
    }
}

/// Priority, then class; the rates behind them are left out (8.15).
fn read_qos(bearer: &mut Bearer, mut value: &[u8]) -> Result<(), Malformed> {
    let &[arp, class] = take(&mut value)?;
    first(&mut bearer.priority, gtp::priority(arp));
    first(
        &mut bearer.qos_class,
        Some(class).filter(|&class| class > 0),
    );
    Ok(())
}

fn add_ends(bearer: &mut Bearer, full: &FullTeid, procedure: Procedure) -> Result<(), Malformed> {
    let Some(role) = full.role() else {
        return Ok(());
    };
    let teid = full.teid;
    for address in full.addresses() {
        if bearer.ends.len() == MAX_ENDS {
            return Err(Malformed::Value);
        }
        let role = if is_forwarding(procedure) {
            Role::Forwarding
        } else {
            role
        };
        let end = TunnelEnd { address, teid };
        bearer.ends.push(BearerEnd { role, end });
    }
    Ok(())
}

/// Messages about forwarding tunnels know no others, whatever interface they name.
fn is_forwarding(procedure: Procedure) -> bool {
    [CREATE_FORWARDING, CREATE_INDIRECT_FORWARDING]
        .map(|kind| Procedure::Other(kind.into()))
        .contains(&procedure)
}

#[cfg(test)]
#[path = "gtpv2_tests.rs"]
mod tests;
