//! S1AP (TS 36.413), between eNB and MME: signalling connections, E-RABs and the ends of their tunnels,
//! cell and tracking area, and what NAS shows in plain.

use super::identity::{Area, Cell, RanNode, Rat, Temporary};
use super::message::{Bearer, Cause, Malformed, Message, Procedure, Protocol, Role};
use super::nas;
use super::per::{Preamble, Reader};
use super::ran::{
    self, CauseRoots, Ends, UeNumbers, add_bearer, is_partial_reset, read_cause, read_ecgi,
    read_enb, read_plmn,
};

/// Identifiers of elements (9.3.7).
mod id {
    pub const MME_UE: u16 = 0;
    pub const CAUSE: u16 = 2;
    pub const ENB_UE: u16 = 8;
    pub const FORWARDING: u16 = 12;
    pub const RELEASE_IN_HANDOVER: u16 = 13;
    pub const SETUP_REQUEST: u16 = 16;
    pub const ADMITTED: u16 = 18;
    pub const FAILED_IN_HANDOVER: u16 = 19;
    pub const SWITCHED_DOWN: u16 = 22;
    pub const CONTEXT_REQUEST: u16 = 24;
    pub const NAS: u16 = 26;
    pub const SETUP_RESPONSE: u16 = 28;
    pub const FAILED_TO_SETUP: u16 = 29;
    pub const MODIFY_REQUEST: u16 = 30;
    pub const MODIFY_RESPONSE: u16 = 31;
    pub const FAILED_TO_MODIFY: u16 = 32;
    pub const TO_BE_RELEASED: u16 = 33;
    pub const FAILED_TO_RELEASE: u16 = 34;
    pub const FAILED_IN_CONTEXT: u16 = 48;
    pub const CONTEXT_RESPONSE: u16 = 51;
    pub const HANDOVER_REQUEST: u16 = 53;
    pub const GLOBAL_ENB: u16 = 59;
    pub const SUPPORTED_AREAS: u16 = 64;
    pub const TAI: u16 = 67;
    pub const RELEASE_COMPLETE: u16 = 69;
    pub const SOURCE_MME_UE: u16 = 88;
    pub const RESET_TYPE: u16 = 92;
    pub const CONNECTIONS_RESET: u16 = 93;
    pub const SWITCHED_UP: u16 = 95;
    pub const S_TMSI: u16 = 96;
    pub const UE_IDS: u16 = 99;
    pub const ECGI: u16 = 100;
    pub const RELEASED: u16 = 110;
    pub const USER_LOCATION: u16 = 189;
    pub const MODIFY_INDICATION: u16 = 199;
    pub const UNMODIFIED: u16 = 201;
    pub const MODIFY_CONFIRM: u16 = 203;
    pub const FAILED_TO_CONFIRM: u16 = 205;
    pub const RELEASED_AT_CONFIRM: u16 = 210;
}

/// Causes of 9.2.1.3 before the extension marker.
const CAUSES: CauseRoots = [36, 2, 4, 7, 6];

/// MME-UE-S1AP-ID and eNB-UE-S1AP-ID (9.2.3.3, 9.2.3.4).
const UE_NUMBERS: UeNumbers = UeNumbers {
    core: 0xffff_ffff,
    access: 0xff_ffff,
};

/// By the code of a procedure (9.3.7): what it is, and whether it has answers (8.1).
pub(super) fn procedure(code: u8) -> (Procedure, bool) {
    match code {
        0 => (Procedure::HandoverPreparation, true),
        1 => (Procedure::HandoverAllocation, true),
        2 => (Procedure::HandoverNotify, false),
        3 => (Procedure::PathSwitch, true),
        5 => (Procedure::ResourceSetup, true),
        6 => (Procedure::ResourceModify, true),
        7 => (Procedure::ResourceRelease, true),
        8 => (Procedure::ResourceRelease, false),
        9 => (Procedure::ContextSetup, true),
        11 | 13 | 33 => (Procedure::Transport, false),
        12 => (Procedure::InitialUe, false),
        14 => (Procedure::Reset, true),
        15 => (Procedure::Error, false),
        17 => (Procedure::Setup, true),
        18 => (Procedure::ContextRelease, false),
        23 => (Procedure::ContextRelease, true),
        // Modification indication: the eNB moves tunnels to another radio node (dual connectivity).
        50 => (Procedure::ResourceModify, true),
        4 | 21 | 29 | 30 | 36 | 43 | 53 | 55 | 56 => (Procedure::Other(code.into()), true),
        _ => (Procedure::Other(code.into()), false),
    }
}

/// What a list of E-RABs says of each.
enum Listed {
    Id,
    /// Quality only.
    Quality,
    /// Quality, then the MME's side of the tunnel, with this many optional fields.
    QualityAndEnd {
        optional: u32,
    },
    End(Role),
    /// The MME's side of the tunnel, then quality.
    EndAndQuality,
    /// The end at the target eNB, then those for forwarding.
    Admitted,
    Forwarding,
    /// Why it was refused, failed or is released.
    Cause {
        accepted: bool,
    },
}

impl Listed {
    fn of(identifier: u16, procedure: Procedure) -> Option<Self> {
        Some(match identifier {
            id::CONTEXT_REQUEST => Self::QualityAndEnd { optional: 2 },
            id::SETUP_REQUEST => Self::QualityAndEnd { optional: 1 },
            id::HANDOVER_REQUEST => Self::EndAndQuality,
            id::CONTEXT_RESPONSE | id::SETUP_RESPONSE | id::SWITCHED_DOWN => {
                Self::End(Role::Access)
            }
            id::MODIFY_INDICATION | id::UNMODIFIED => Self::End(Role::Access),
            id::SWITCHED_UP => Self::End(Role::Core),
            id::ADMITTED => Self::Admitted,
            id::FORWARDING => Self::Forwarding,
            id::MODIFY_REQUEST => Self::Quality,
            id::MODIFY_RESPONSE | id::MODIFY_CONFIRM | id::RELEASE_COMPLETE => Self::Id,
            id::TO_BE_RELEASED | id::RELEASED => Self::Cause {
                accepted: procedure == Procedure::ResourceRelease,
            },
            id::FAILED_TO_SETUP
            | id::FAILED_IN_CONTEXT
            | id::FAILED_IN_HANDOVER
            | id::FAILED_TO_MODIFY
            | id::FAILED_TO_RELEASE
            | id::FAILED_TO_CONFIRM
            | id::RELEASED_AT_CONFIRM
            | id::RELEASE_IN_HANDOVER => Self::Cause { accepted: false },
            _ => return None,
        })
    }

    /// Optional fields of an item.
    fn optional(&self) -> u32 {
        match *self {
            Self::QualityAndEnd { optional } => optional,
            Self::Admitted | Self::Forwarding => 5,
            _ => 1,
        }
    }
}

/// Reads one S1AP message.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    ran::read(bytes, Protocol::S1ap, procedure, read_element)
}

fn read_element(
    identifier: u16,
    value: &mut Reader<'_>,
    accepted: bool,
    message: &mut Message,
) -> Result<(), Malformed> {
    if let Some(listed) = Listed::of(identifier, message.procedure) {
        return read_bearers(value, &listed, message);
    }
    match identifier {
        id::CAUSE => message.cause = read_group_and_cause(value, accepted)?.or(message.cause),
        id::MME_UE | id::SOURCE_MME_UE => message.ue_ids.core = Some(UE_NUMBERS.read_core(value)?),
        id::ENB_UE => message.ue_ids.access = Some(UE_NUMBERS.read_access(value)?),
        id::UE_IDS => message.ue_ids = UE_NUMBERS.read_pair(value)?,
        id::RESET_TYPE if is_partial_reset(value)? => read_connections(value, message)?,
        id::CONNECTIONS_RESET => read_connections(value, message)?,
        id::TAI => message.location.area = Some(read_tai(value)?),
        id::ECGI => set_cell(message, read_ecgi(value)?),
        id::USER_LOCATION => read_user_location(value, message)?,
        id::GLOBAL_ENB => message.location.node = read_global_enb(value)?,
        id::SUPPORTED_AREAS => message.location.area = read_only_area(value)?,
        id::S_TMSI => message.identity.temporary = Some(read_s_tmsi(value)?),
        id::NAS => nas::read_eps(value.octet_string()?, message),
        _ => {}
    }
    Ok(())
}

/// Connections, each an element of its own.
fn read_connections(reader: &mut Reader<'_>, message: &mut Message) -> Result<(), Malformed> {
    let count = reader.integer(1, 256)?;
    reader.elements(count, |_, mut item| {
        UE_NUMBERS.read_connection(&mut item, message).map(|_| ())
    })
}

/// TAI (9.2.3.16).
fn read_tai(reader: &mut Reader<'_>) -> Result<Area, Malformed> {
    let preamble = reader.sequence(1)?;
    let plmn = read_plmn(reader)?;
    let code = read_tac(reader)?;
    reader.close(preamble)?;
    Ok(Area::Tai { plmn, code })
}

/// Two bytes that begin anywhere (X.691 17.6).
fn read_tac(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    Ok(reader.bits(16)? as u16)
}

/// E-UTRAN for NB-IoT and LTE-M too, which a cell's identity does not tell.
fn set_cell(message: &mut Message, cell: Cell) {
    message.location.cell = Some(cell);
    message.rat = Some(Rat::Eutran);
}

/// Cell and area (9.2.1.93).
fn read_user_location(reader: &mut Reader<'_>, message: &mut Message) -> Result<(), Malformed> {
    reader.sequence(1)?;
    set_cell(message, read_ecgi(reader)?);
    message.location.area = Some(read_tai(reader)?);
    Ok(())
}

/// Global eNB ID (9.2.1.37); None of a kind of a later version.
fn read_global_enb(reader: &mut Reader<'_>) -> Result<Option<RanNode>, Malformed> {
    reader.sequence(1)?;
    let plmn = read_plmn(reader)?;
    if !reader.flag()? {
        let bits = if reader.flag()? { 28 } else { 20 };
        return read_enb(reader, plmn, bits).map(Some);
    }
    // Kinds behind the extension marker: a small number, then an open type.
    let kind = reader.bits(7)?;
    let mut value = reader.open()?;
    match kind {
        0 => read_enb(&mut value, plmn, 18).map(Some),
        1 => read_enb(&mut value, plmn, 21).map(Some),
        _ => Ok(None),
    }
}

/// Supported TAs (9.1.8.4): the area of an eNB that has only one, in one network.
fn read_only_area(reader: &mut Reader<'_>) -> Result<Option<Area>, Malformed> {
    if reader.integer(1, 256)? != 1 {
        return Ok(None);
    }
    reader.sequence(1)?;
    let code = read_tac(reader)?;
    let networks = reader.integer(1, 6)?;
    let plmn = read_plmn(reader)?;
    Ok((networks == 1).then_some(Area::Tai { plmn, code }))
}

/// MME code and M-TMSI (9.2.3.6).
fn read_s_tmsi(reader: &mut Reader<'_>) -> Result<Temporary, Malformed> {
    reader.sequence(1)?;
    let node = reader.bits(8)? as u16;
    let tmsi = u32::from_be_bytes(reader.array()?);
    Ok(Temporary { node, tmsi })
}

/// A cause of 9.2.1.3, whose choice of a group is extensible.
fn read_group_and_cause(
    reader: &mut Reader<'_>,
    accepted: bool,
) -> Result<Option<Cause>, Malformed> {
    match reader.flag()? {
        true => Ok(None),
        false => read_cause(reader, CAUSES, accepted),
    }
}

/// A list of E-RABs, each an element of its own.
fn read_bearers(
    reader: &mut Reader<'_>,
    listed: &Listed,
    message: &mut Message,
) -> Result<(), Malformed> {
    let count = reader.integer(1, 256)?;
    reader.elements(count, |_, mut item| {
        if let Some(bearer) = read_bearer(&mut item, listed)? {
            add_bearer(message, bearer);
        }
        Ok(())
    })
}

/// One E-RAB; None if its identity is of a later version.
fn read_bearer(reader: &mut Reader<'_>, listed: &Listed) -> Result<Option<Bearer>, Malformed> {
    let mut preamble = reader.sequence(listed.optional())?;
    let Some(id) = reader.extensible_integer(0, 15)? else {
        return Ok(None);
    };
    let mut bearer = Bearer {
        id: id as u8,
        ..Bearer::default()
    };
    match *listed {
        Listed::Id => {}
        Listed::Quality => read_quality(reader, &mut bearer)?,
        Listed::QualityAndEnd { .. } => {
            read_quality(reader, &mut bearer)?;
            Ends::read(reader)?.add_to(&mut bearer, Role::Core);
        }
        Listed::End(role) => Ends::read(reader)?.add_to(&mut bearer, role),
        Listed::EndAndQuality => {
            Ends::read(reader)?.add_to(&mut bearer, Role::Core);
            read_quality(reader, &mut bearer)?;
        }
        Listed::Admitted => {
            Ends::read(reader)?.add_to(&mut bearer, Role::Access);
            read_forwarding(reader, &mut preamble, &mut bearer)?;
        }
        Listed::Forwarding => read_forwarding(reader, &mut preamble, &mut bearer)?,
        Listed::Cause { accepted } => bearer.cause = read_group_and_cause(reader, accepted)?,
    }
    Ok(Some(bearer))
}

/// Ends for forwarding down, then up; each address and TEID is optional.
fn read_forwarding(
    reader: &mut Reader<'_>,
    preamble: &mut Preamble,
    bearer: &mut Bearer,
) -> Result<(), Malformed> {
    let present = [(); 4].map(|()| preamble.has_next());
    for [address, teid] in [[present[0], present[1]], [present[2], present[3]]] {
        if let Some(ends) = Ends::read_optional(reader, address, teid)? {
            ends.add_to(bearer, Role::Forwarding);
        }
    }
    Ok(())
}

/// E-RAB level QoS parameters (9.2.1.15): QCI, allocation and retention priority, bit rates.
fn read_quality(reader: &mut Reader<'_>, bearer: &mut Bearer) -> Result<(), Malformed> {
    const MAX_BIT_RATE: u64 = 10_000_000_000;
    let mut preamble = reader.sequence(2)?;
    bearer.qos_class = Some(reader.integer(0, 255)? as u8);
    let retention = reader.sequence(1)?;
    let priority = reader.integer(0, 15)? as u8;
    bearer.priority = (priority > 0).then_some(priority);
    reader.bits(2)?;
    reader.close(retention)?;
    if preamble.has_next() {
        let rates = reader.sequence(1)?;
        for _ in 0..4 {
            reader.integer(0, MAX_BIT_RATE)?;
        }
        reader.close(rates)?;
    }
    reader.close(preamble)
}
