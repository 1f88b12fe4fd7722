//! What S1AP (TS 36.413) and NGAP (TS 38.413) have in common: the frame of a message, causes, the
//! numbers of devices, cells, and the ends of tunnels.

use super::identity::{Cell, Plmn, RanNode};
use super::message::{
    Bearer, BearerEnd, Cause, MAX_BEARERS, MAX_CONNECTIONS, MAX_ENDS, Malformed, Message, Phase,
    Procedure, Protocol, Role, TunnelEnd, UeIds,
};
use super::per::{Preamble, Reader};
use crate::decap::Address;

/// Reads a message. `procedure` tells what a code stands for, and whether it has answers; `read_element`
/// takes an element by its identifier, and is told whether a cause is of something that is accepted.
pub(super) fn read(
    bytes: &[u8],
    protocol: Protocol,
    procedure: impl Fn(u8) -> (Procedure, bool),
    read_element: impl Fn(u16, &mut Reader<'_>, bool, &mut Message) -> Result<(), Malformed>,
) -> Result<Message, Malformed> {
    let mut pdu = Pdu::read(bytes)?;
    let (procedure, has_answer) = procedure(pdu.code);
    let mut message = pdu.message(protocol, procedure, has_answer);
    let accepted = !pdu.is_refusal(procedure);
    pdu.elements.container(|identifier, mut value| {
        read_element(identifier, &mut value, accepted, &mut message)
    })?;
    Ok(message)
}

/// How a message relates to its procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initiating,
    Successful,
    Unsuccessful,
}

/// The frame of a message (9.3.3 of both).
struct Pdu<'a> {
    kind: Kind,
    code: u8,
    elements: Reader<'a>,
}

impl<'a> Pdu<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = match (reader.flag()?, reader.bits(2)?) {
            (false, 0) => Kind::Initiating,
            (false, 1) => Kind::Successful,
            (false, 2) => Kind::Unsuccessful,
            _ => return Err(Malformed::Version),
        };
        let code = reader.octets(1)?[0];
        reader.bits(2)?;
        let elements = reader.open()?;
        Ok(Self {
            kind,
            code,
            elements,
        })
    }

    /// The message without its elements.
    fn message(&self, protocol: Protocol, procedure: Procedure, has_answer: bool) -> Message {
        let (phase, cause) = match self.kind {
            Kind::Initiating if has_answer => (Phase::Request, None),
            Kind::Initiating => (Phase::Indication, None),
            Kind::Successful => (Phase::Response, Some(ACCEPTED)),
            Kind::Unsuccessful => (Phase::Response, Some(REFUSED)),
        };
        Message {
            cause,
            ..Message::new(protocol, procedure, phase)
        }
    }

    /// Whether a cause in this message says why something was refused; else why something is done.
    fn is_refusal(&self, procedure: Procedure) -> bool {
        self.kind == Kind::Unsuccessful || procedure == Procedure::Error
    }
}

/// A successful outcome, which states no cause.
const ACCEPTED: Cause = Cause {
    number: 0,
    accepted: true,
};

/// An unsuccessful outcome, as long as it has not stated its cause.
const REFUSED: Cause = Cause {
    number: 0,
    accepted: false,
};

/// Values of the five groups of causes that every version knows, in the order of the groups.
pub(super) type CauseRoots = [u64; 5];

/// Group and value of a cause as one number in decimal digits: 1021 is value 21 of the first group.
/// The groups are radio network, transport, NAS, protocol and miscellaneous (TS 36.413 9.2.1.3,
/// TS 38.413 9.3.1.2).
const GROUP: u64 = 1000;

/// A cause behind its choice of a group; None if the group, or a value beyond 999, is of a later version.
pub(super) fn read_cause(
    reader: &mut Reader<'_>,
    roots: CauseRoots,
    accepted: bool,
) -> Result<Option<Cause>, Malformed> {
    let group = reader.bits(3)?;
    let Some(&root) = roots.get(group as usize) else {
        return Ok(None);
    };
    let value = reader.enumerated(root)?;
    let number = u16::try_from((group + 1) * GROUP + value).ok();
    let known = number.filter(|_| value < GROUP);
    Ok(known.map(|number| Cause { number, accepted }))
}

pub(super) fn read_plmn(reader: &mut Reader<'_>) -> Result<Plmn, Malformed> {
    Plmn::read(reader.array()?).ok_or(Malformed::Value)
}

/// A network's cell, whose identity has this many bits (TS 36.413 9.2.1.38, TS 38.413 9.3.1.7 and 9.3.1.9).
pub(super) fn read_cell(reader: &mut Reader<'_>, bits: u32) -> Result<(Plmn, u64), Malformed> {
    let preamble = reader.sequence(1)?;
    let plmn = read_plmn(reader)?;
    let cell = reader.bit_string(bits)?;
    reader.close(preamble)?;
    Ok((plmn, cell))
}

pub(super) fn read_ecgi(reader: &mut Reader<'_>) -> Result<Cell, Malformed> {
    let (plmn, cell) = read_cell(reader, 28)?;
    let cell = cell as u32;
    Ok(Cell::Ecgi { plmn, cell })
}

/// An eNB, whose identity has this many bits, behind its network.
pub(super) fn read_enb(
    reader: &mut Reader<'_>,
    plmn: Plmn,
    bits: u8,
) -> Result<RanNode, Malformed> {
    let id = reader.bit_string(bits.into())? as u32;
    Ok(RanNode::Enb { plmn, id, bits })
}

/// The greatest numbers that core and access have for a device's connection.
pub(super) struct UeNumbers {
    pub core: u64,
    pub access: u64,
}

impl UeNumbers {
    pub fn read_core(&self, reader: &mut Reader<'_>) -> Result<u64, Malformed> {
        reader.integer(0, self.core)
    }

    pub fn read_access(&self, reader: &mut Reader<'_>) -> Result<u64, Malformed> {
        reader.integer(0, self.access)
    }

    /// Both numbers or the core's (TS 36.413 9.2.3.18, TS 38.413 9.2.2.5); none of a later version.
    pub fn read_pair(&self, reader: &mut Reader<'_>) -> Result<UeIds, Malformed> {
        let has_access = match reader.bits(2)? {
            0 => true,
            1 => false,
            _ => return Ok(UeIds::default()),
        };
        if has_access {
            reader.sequence(1)?;
        }
        self.read_present(reader, [true, has_access])
    }

    /// An item of a list of connections, of which each number is optional.
    pub fn read_connection(
        &self,
        reader: &mut Reader<'_>,
        message: &mut Message,
    ) -> Result<Preamble, Malformed> {
        let mut preamble = reader.sequence(3)?;
        let present = [preamble.has_next(), preamble.has_next()];
        let connection = self.read_present(reader, present)?;
        if message.connections.len() < MAX_CONNECTIONS {
            message.connections.push(connection);
        }
        Ok(preamble)
    }

    fn read_present(
        &self,
        reader: &mut Reader<'_>,
        [has_core, has_access]: [bool; 2],
    ) -> Result<UeIds, Malformed> {
        Ok(UeIds {
            core: has_core.then(|| self.read_core(reader)).transpose()?,
            access: has_access.then(|| self.read_access(reader)).transpose()?,
        })
    }
}

/// Whether a reset is of the connections that follow, and not of the whole interface (TS 36.413 9.1.8.1,
/// TS 38.413 9.2.6.11).
pub(super) fn is_partial_reset(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    Ok(reader.bits(2)? == 1)
}

/// Where a tunnel ends: an IPv4 or IPv6 address, or both (TS 36.414 5.3, TS 38.414 5.3).
pub(super) struct Ends {
    addresses: [Option<Address>; 2],
    teid: u32,
}

impl Ends {
    /// A transport layer address, then a TEID.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let addresses = read_addresses(reader)?;
        let teid = read_teid(reader)?;
        Ok(Self { addresses, teid })
    }

    /// The two where each is optional.
    pub fn read_optional(
        reader: &mut Reader<'_>,
        has_address: bool,
        has_teid: bool,
    ) -> Result<Option<Self>, Malformed> {
        let addresses = has_address.then(|| read_addresses(reader)).transpose()?;
        let teid = has_teid.then(|| read_teid(reader)).transpose()?;
        let both = addresses.zip(teid);
        Ok(both.map(|(addresses, teid)| Self { addresses, teid }))
    }

    pub fn add_to(&self, bearer: &mut Bearer, role: Role) {
        for address in self.addresses.into_iter().flatten() {
            let end = TunnelEnd {
                address,
                teid: self.teid,
            };
            if bearer.ends.len() < MAX_ENDS {
                bearer.ends.push(BearerEnd { role, end });
            }
        }
    }
}

fn read_teid(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    reader.array().map(u32::from_be_bytes)
}

/// A bit string of 1 to 160 bits, extensible, of which 32, 128 and both together mean something.
fn read_addresses(reader: &mut Reader<'_>) -> Result<[Option<Address>; 2], Malformed> {
    if reader.flag()? {
        return Err(Malformed::Value);
    }
    Ok(match reader.integer(1, 160)? {
        32 => [Some(Address::v4(reader.array()?)), None],
        128 => [None, Some(Address::v6(reader.array()?))],
        160 => [
            Some(Address::v4(reader.array()?)),
            Some(Address::v6(reader.array()?)),
        ],
        _ => return Err(Malformed::Value),
    })
}

/// Keeps a bearer, if there are not too many.
pub(super) fn add_bearer(message: &mut Message, bearer: Bearer) {
    if message.bearers.len() < MAX_BEARERS {
        message.bearers.push(bearer);
    }
}
