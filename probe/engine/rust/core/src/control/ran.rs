//! What S1AP (TS 36.413) and NGAP (TS 38.413) have in common: the frame of a message, causes, and the
//! ends of tunnels.

use super::identity::Plmn;
use super::message::{
    Bearer, BearerEnd, Cause, MAX_BEARERS, MAX_ENDS, Malformed, Message, Phase, Procedure, Role,
    TunnelEnd,
};
use super::per::Reader;
use crate::decap::Address;

/// How a message relates to its procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Initiating,
    Successful,
    Unsuccessful,
}

/// The frame of a message (9.3.3 of both).
pub(super) struct Pdu<'a> {
    pub kind: Kind,
    pub code: u8,
    pub value: Reader<'a>,
}

impl<'a> Pdu<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = match (reader.flag()?, reader.bits(2)?) {
            (false, 0) => Kind::Initiating,
            (false, 1) => Kind::Successful,
            (false, 2) => Kind::Unsuccessful,
            _ => return Err(Malformed::Version),
        };
        let code = reader.octets(1)?[0];
        reader.bits(2)?;
        let value = reader.open()?;
        Ok(Self { kind, code, value })
    }

    /// A message of this procedure, which has answers or not, without its elements.
    pub fn message(
        &self,
        empty: impl Fn(Procedure, Phase) -> Message,
        procedure: (Procedure, bool),
    ) -> Message {
        let (procedure, has_answer) = procedure;
        let (phase, cause) = match self.kind {
            Kind::Initiating if has_answer => (Phase::Request, None),
            Kind::Initiating => (Phase::Indication, None),
            Kind::Successful => (Phase::Response, Some(ACCEPTED)),
            Kind::Unsuccessful => (Phase::Response, Some(REFUSED)),
        };
        Message {
            cause,
            ..empty(procedure, phase)
        }
    }

    /// Whether a cause in this message says why something was refused; else why something is done.
    pub fn is_refusal(&self, procedure: Procedure) -> bool {
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
