//! NGAP (TS 38.413), between gNB and AMF: signalling connections, PDU sessions with the ends of their
//! tunnels and their QoS flows, cell and tracking area, and what NAS shows in plain.

use super::identity::{Area, Cell, RanNode, Rat, Slice, Temporary};
use super::message::{Bearer, MAX_FLOWS, Malformed, Message, Procedure, Protocol, QosFlow, Role};
use super::nas;
use super::per::Reader;
use super::ran::{
    self, CauseRoots, Ends, UeNumbers, add_bearer, is_partial_reset, read_cause, read_cell,
    read_ecgi, read_enb, read_plmn,
};

/// Identifiers of elements (9.4.7).
mod id {
    pub const AMF_UE: u16 = 10;
    pub const CAUSE: u16 = 15;
    pub const S_TMSI: u16 = 26;
    pub const GLOBAL_NODE: u16 = 27;
    pub const NAS: u16 = 38;
    pub const ADMITTED: u16 = 53;
    pub const FAILED_TO_MODIFY: u16 = 54;
    pub const FAILED_IN_CONTEXT: u16 = 55;
    pub const FAILED_IN_HANDOVER: u16 = 56;
    pub const FAILED_IN_PATH_SWITCH: u16 = 57;
    pub const FAILED_TO_SETUP: u16 = 58;
    pub const HANDED_OVER: u16 = 59;
    pub const RELEASED_WITH_CONTEXT: u16 = 60;
    pub const MODIFY_CONFIRM: u16 = 62;
    pub const MODIFY_INDICATION: u16 = 63;
    pub const MODIFY_REQUEST: u16 = 64;
    pub const MODIFY_RESPONSE: u16 = 65;
    pub const RELEASED: u16 = 67;
    pub const RELEASED_BY_PATH_SWITCH: u16 = 68;
    pub const RELEASED_BY_PATH_SWITCH_FAILURE: u16 = 69;
    pub const RELEASE_RESPONSE: u16 = 70;
    pub const CONTEXT_REQUEST: u16 = 71;
    pub const CONTEXT_RESPONSE: u16 = 72;
    pub const HANDOVER_REQUEST: u16 = 73;
    pub const SETUP_REQUEST: u16 = 74;
    pub const SETUP_RESPONSE: u16 = 75;
    pub const SWITCHED_DOWN: u16 = 76;
    pub const SWITCHED: u16 = 77;
    pub const RELEASE_IN_HANDOVER: u16 = 78;
    pub const RELEASE_COMMAND: u16 = 79;
    pub const RAN_UE: u16 = 85;
    pub const RESET_TYPE: u16 = 88;
    pub const SOURCE_AMF_UE: u16 = 100;
    pub const SUPPORTED_AREAS: u16 = 102;
    pub const CONNECTIONS_RESET: u16 = 111;
    pub const UE_IDS: u16 = 114;
    pub const USER_LOCATION: u16 = 121;
    pub const FAILED_TO_CONFIRM: u16 = 131;
    pub const FAILED_WITH_CONTEXT: u16 = 132;
    pub const RELEASE_WITH_CONTEXT: u16 = 133;

    // Within the transfer of a setup or modification request.
    pub const ADDITIONAL_UP: u16 = 126;
    pub const FLOWS_TO_MODIFY: u16 = 135;
    pub const FLOWS_TO_SETUP: u16 = 136;
    pub const UP: u16 = 139;
    pub const TUNNELS_TO_MODIFY: u16 = 140;
    pub const REDUNDANT_UP: u16 = 195;
}

/// Causes of 9.3.1.2 before the extension marker.
const CAUSES: CauseRoots = [45, 2, 4, 7, 6];

/// AMF-UE-NGAP-ID and RAN-UE-NGAP-ID (9.3.3.1, 9.3.3.2).
const UE_NUMBERS: UeNumbers = UeNumbers {
    core: (1 << 40) - 1,
    access: 0xffff_ffff,
};

/// By the code of a procedure (9.4.7): what it is, and whether it has answers (8.1).
pub(super) fn procedure(code: u8) -> (Procedure, bool) {
    match code {
        4 | 18 | 46 => (Procedure::Transport, false),
        9 => (Procedure::Error, false),
        11 => (Procedure::HandoverNotify, false),
        12 => (Procedure::HandoverPreparation, true),
        13 => (Procedure::HandoverAllocation, true),
        14 => (Procedure::ContextSetup, true),
        15 => (Procedure::InitialUe, false),
        20 => (Procedure::Reset, true),
        21 => (Procedure::Setup, true),
        25 => (Procedure::PathSwitch, true),
        26 | 27 => (Procedure::ResourceModify, true),
        28 => (Procedure::ResourceRelease, true),
        29 => (Procedure::ResourceSetup, true),
        // Notify: the gNB gave sessions up, or cannot keep the quality of flows.
        30 => (Procedure::ResourceRelease, false),
        41 => (Procedure::ContextRelease, true),
        42 => (Procedure::ContextRelease, false),
        0 | 10 | 32 | 35 | 40 | 43 | 51 | 58 | 59 => (Procedure::Other(code.into()), true),
        _ => (Procedure::Other(code.into()), false),
    }
}

/// What the items of a list of PDU sessions consist of.
#[derive(Debug, Clone, Copy)]
struct Listed {
    /// An optional NAS message behind the session's identity.
    has_nas: bool,
    has_slice: bool,
    transfer: Transfer,
}

/// What is read of the octet string in an item, which is a message of its own between gNB and SMF.
#[derive(Debug, Clone, Copy)]
enum Transfer {
    /// There is none.
    None,
    /// Nothing.
    Unread,
    Request,
    /// Has this many optional fields.
    Established {
        optional: u32,
    },
    ModifyResponse,
    ModifyConfirm,
    Admitted,
    SwitchRequest,
    SwitchAcknowledge,
    HandoverCommand,
    /// Begins with a cause, and has this many optional fields.
    Cause {
        optional: u32,
        accepted: bool,
    },
}

impl Listed {
    const fn plain(transfer: Transfer) -> Self {
        Self {
            has_nas: false,
            has_slice: false,
            transfer,
        }
    }

    fn of(identifier: u16) -> Option<Self> {
        let transfer = match identifier {
            id::CONTEXT_REQUEST | id::SETUP_REQUEST => {
                return Some(Self {
                    has_nas: true,
                    has_slice: true,
                    transfer: Transfer::Request,
                });
            }
            id::HANDOVER_REQUEST => {
                return Some(Self {
                    has_slice: true,
                    ..Self::plain(Transfer::Request)
                });
            }
            id::MODIFY_REQUEST => {
                return Some(Self {
                    has_nas: true,
                    ..Self::plain(Transfer::Request)
                });
            }
            id::CONTEXT_RESPONSE | id::SETUP_RESPONSE => Transfer::Established { optional: 4 },
            id::MODIFY_INDICATION => Transfer::Established { optional: 2 },
            id::MODIFY_RESPONSE => Transfer::ModifyResponse,
            id::MODIFY_CONFIRM => Transfer::ModifyConfirm,
            id::ADMITTED => Transfer::Admitted,
            id::SWITCHED_DOWN => Transfer::SwitchRequest,
            id::SWITCHED => Transfer::SwitchAcknowledge,
            id::HANDED_OVER => Transfer::HandoverCommand,
            id::RELEASE_RESPONSE => Transfer::Unread,
            id::RELEASED_WITH_CONTEXT | id::RELEASE_WITH_CONTEXT => Transfer::None,
            id::RELEASE_COMMAND | id::RELEASED => Transfer::Cause {
                optional: 1,
                accepted: true,
            },
            id::FAILED_TO_SETUP
            | id::FAILED_IN_CONTEXT
            | id::FAILED_WITH_CONTEXT
            | id::FAILED_IN_HANDOVER
            | id::FAILED_TO_MODIFY => Transfer::Cause {
                optional: 2,
                accepted: false,
            },
            id::FAILED_IN_PATH_SWITCH
            | id::FAILED_TO_CONFIRM
            | id::RELEASE_IN_HANDOVER
            | id::RELEASED_BY_PATH_SWITCH
            | id::RELEASED_BY_PATH_SWITCH_FAILURE => Transfer::Cause {
                optional: 1,
                accepted: false,
            },
            _ => return None,
        };
        Some(Self::plain(transfer))
    }
}

/// Reads one NGAP message.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut message = ran::read(bytes, Protocol::Ngap, procedure, read_element)?;
    if let [session] = &message.bearers[..] {
        message.slice = session.slice.or(message.slice);
    }
    Ok(message)
}

fn read_element(
    identifier: u16,
    value: &mut Reader<'_>,
    accepted: bool,
    message: &mut Message,
) -> Result<(), Malformed> {
    if let Some(listed) = Listed::of(identifier) {
        return read_sessions(value, listed, message);
    }
    match identifier {
        id::CAUSE => message.cause = read_cause(value, CAUSES, accepted)?.or(message.cause),
        id::AMF_UE | id::SOURCE_AMF_UE => message.ue_ids.core = Some(UE_NUMBERS.read_core(value)?),
        id::RAN_UE => message.ue_ids.access = Some(UE_NUMBERS.read_access(value)?),
        id::UE_IDS => message.ue_ids = UE_NUMBERS.read_pair(value)?,
        id::RESET_TYPE if is_partial_reset(value)? => read_connections(value, message)?,
        id::CONNECTIONS_RESET => read_connections(value, message)?,
        id::USER_LOCATION => read_user_location(value, message)?,
        id::GLOBAL_NODE => message.location.node = read_global_node(value)?,
        id::SUPPORTED_AREAS => message.location.area = read_only_area(value)?,
        id::S_TMSI => message.identity.temporary = Some(read_s_tmsi(value)?),
        id::NAS => nas::read_5gs(value.octet_string()?, message),
        _ => {}
    }
    Ok(())
}

fn read_connections(reader: &mut Reader<'_>, message: &mut Message) -> Result<(), Malformed> {
    for _ in 0..reader.length()? {
        let preamble = UE_NUMBERS.read_connection(reader, message)?;
        reader.close(preamble)?;
    }
    Ok(())
}

/// User location information (9.3.1.16): a cell of LTE or NR and its area; a gateway for other
/// accesses has none.
fn read_user_location(reader: &mut Reader<'_>, message: &mut Message) -> Result<(), Malformed> {
    let kind = reader.bits(2)?;
    if kind > 1 {
        return Ok(());
    }
    reader.sequence(2)?;
    let (cell, rat) = match kind {
        0 => (read_ecgi(reader)?, Rat::Eutran),
        _ => {
            let (plmn, cell) = read_cell(reader, 36)?;
            (Cell::Ncgi { plmn, cell }, Rat::Nr)
        }
    };
    message.location.cell = Some(cell);
    message.location.area = Some(read_tai(reader)?);
    message.rat = Some(rat);
    Ok(())
}

/// TAI (9.3.3.11), of which what follows its code is left.
fn read_tai(reader: &mut Reader<'_>) -> Result<Area, Malformed> {
    reader.sequence(1)?;
    let plmn = read_plmn(reader)?;
    let code = read_tac(reader)?;
    Ok(Area::Tai5 { plmn, code })
}

fn read_tac(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let [a, b, c] = reader.array()?;
    Ok(u32::from_be_bytes([0, a, b, c]))
}

/// Global RAN node ID (9.3.1.5): a gNB or an eNB of the 5G core; None of any other gateway.
fn read_global_node(reader: &mut Reader<'_>) -> Result<Option<RanNode>, Malformed> {
    let kind = reader.bits(2)?;
    if kind > 1 {
        return Ok(None);
    }
    reader.sequence(1)?;
    let plmn = read_plmn(reader)?;
    if kind == 0 {
        if reader.flag()? {
            return Ok(None);
        }
        let bits = reader.integer(22, 32)? as u8;
        let id = reader.bit_string(bits.into())? as u32;
        return Ok(Some(RanNode::Gnb { plmn, id, bits }));
    }
    let Some(&bits) = [20, 18, 21].get(reader.bits(2)? as usize) else {
        return Ok(None);
    };
    read_enb(reader, plmn, bits).map(Some)
}

/// Supported TA list (9.2.6.1): the area of a base station that has only one, in one network.
fn read_only_area(reader: &mut Reader<'_>) -> Result<Option<Area>, Malformed> {
    if reader.integer(1, 256)? != 1 {
        return Ok(None);
    }
    reader.sequence(1)?;
    let code = read_tac(reader)?;
    let networks = reader.integer(1, 12)?;
    reader.sequence(1)?;
    let plmn = read_plmn(reader)?;
    Ok((networks == 1).then_some(Area::Tai5 { plmn, code }))
}

/// AMF set, AMF pointer and 5G-TMSI (9.3.3.20).
fn read_s_tmsi(reader: &mut Reader<'_>) -> Result<Temporary, Malformed> {
    reader.sequence(1)?;
    let node = reader.bits(10)? << 6 | reader.bits(6)?;
    let tmsi = u32::from_be_bytes(reader.array()?);
    let node = node as u16;
    Ok(Temporary { node, tmsi })
}

/// S-NSSAI (9.3.1.24).
fn read_slice(reader: &mut Reader<'_>) -> Result<Slice, Malformed> {
    let mut preamble = reader.sequence(2)?;
    let service_type = reader.bits(8)? as u8;
    let differentiator = match preamble.has_next() {
        true => Some(read_tac(reader)?),
        false => None,
    };
    reader.close(preamble)?;
    Ok(Slice {
        service_type,
        differentiator,
    })
}

/// A list of PDU sessions. Its items follow each other without lengths, so each is read to its end.
fn read_sessions(
    reader: &mut Reader<'_>,
    listed: Listed,
    message: &mut Message,
) -> Result<(), Malformed> {
    for _ in 0..reader.integer(1, 256)? {
        let session = read_session(reader, listed)?;
        add_bearer(message, session);
    }
    Ok(())
}

fn read_session(reader: &mut Reader<'_>, listed: Listed) -> Result<Bearer, Malformed> {
    let mut preamble = reader.sequence(1 + u32::from(listed.has_nas))?;
    let mut session = Bearer {
        id: reader.integer(0, 255)? as u8,
        ..Bearer::default()
    };
    if listed.has_nas && preamble.has_next() {
        reader.octet_string()?;
    }
    if listed.has_slice {
        session.slice = Some(read_slice(reader)?);
    }
    if !matches!(listed.transfer, Transfer::None) {
        let mut transfer = reader.open()?;
        read_transfer(&mut transfer, listed.transfer, &mut session)?;
    }
    reader.close(preamble)?;
    Ok(session)
}

fn read_transfer(
    reader: &mut Reader<'_>,
    transfer: Transfer,
    session: &mut Bearer,
) -> Result<(), Malformed> {
    match transfer {
        Transfer::None | Transfer::Unread => Ok(()),
        Transfer::Request => read_request(reader, session),
        Transfer::Established { optional } => read_established(reader, optional, session),
        Transfer::ModifyResponse => {
            let mut preamble = reader.sequence(6)?;
            read_end_if(preamble.has_next(), reader, Role::Access, session)?;
            read_end_if(preamble.has_next(), reader, Role::Core, session)
        }
        Transfer::ModifyConfirm => {
            reader.sequence(3)?;
            skip_flows(reader)?;
            read_end(reader, Role::Core, session)
        }
        Transfer::Admitted => {
            let mut preamble = reader.sequence(5)?;
            read_end(reader, Role::Access, session)?;
            read_end_if(preamble.has_next(), reader, Role::Forwarding, session)
        }
        Transfer::SwitchRequest => {
            reader.sequence(3)?;
            read_end(reader, Role::Access, session)
        }
        Transfer::SwitchAcknowledge => {
            let mut preamble = reader.sequence(3)?;
            read_end_if(preamble.has_next(), reader, Role::Core, session)
        }
        Transfer::HandoverCommand => {
            let mut preamble = reader.sequence(4)?;
            read_end_if(preamble.has_next(), reader, Role::Forwarding, session)
        }
        Transfer::Cause { optional, accepted } => {
            reader.sequence(optional)?;
            session.cause = read_cause(reader, CAUSES, accepted)?;
            Ok(())
        }
    }
}

/// What an SMF asks for (9.3.4.1, 9.3.4.3): elements, as a message has them.
fn read_request(reader: &mut Reader<'_>, session: &mut Bearer) -> Result<(), Malformed> {
    reader.container(|identifier, mut value| match identifier {
        id::UP | id::REDUNDANT_UP => read_end(&mut value, Role::Core, session),
        id::ADDITIONAL_UP => {
            let count = value.integer(1, 3)?;
            read_items(&mut value, count, |item| {
                read_end(item, Role::Core, session)
            })
        }
        id::TUNNELS_TO_MODIFY => {
            let count = value.integer(1, 4)?;
            read_items(&mut value, count, |item| {
                read_end(item, Role::Core, session)?;
                read_end(item, Role::Access, session)
            })
        }
        id::FLOWS_TO_SETUP => read_flows(&mut value, true, session),
        id::FLOWS_TO_MODIFY => read_flows(&mut value, false, session),
        _ => Ok(()),
    })?;
    if let [flow] = &session.flows[..] {
        (session.qos_class, session.priority) = (flow.qos_class, flow.priority);
    }
    Ok(())
}

/// Items that have no optional field but their extensions.
fn read_items<'a>(
    reader: &mut Reader<'a>,
    count: u64,
    mut each: impl FnMut(&mut Reader<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for _ in 0..count {
        let preamble = reader.sequence(1)?;
        each(reader)?;
        reader.close(preamble)?;
    }
    Ok(())
}

/// The gNB's side of a tunnel with its flows, then those of further tunnels (9.3.4.2, 9.3.4.6).
fn read_established(
    reader: &mut Reader<'_>,
    optional: u32,
    session: &mut Bearer,
) -> Result<(), Malformed> {
    let mut preamble = reader.sequence(optional)?;
    read_end_with_flows(reader, session)?;
    if preamble.has_next() {
        let count = reader.integer(1, 3)?;
        read_items(reader, count, |item| read_end_with_flows(item, session))?;
    }
    Ok(())
}

/// QoS flow per TNL information (9.3.2.8).
fn read_end_with_flows(reader: &mut Reader<'_>, session: &mut Bearer) -> Result<(), Malformed> {
    let preamble = reader.sequence(1)?;
    read_end(reader, Role::Access, session)?;
    for _ in 0..reader.integer(1, 64)? {
        let mut item = reader.sequence(2)?;
        read_flow_id(reader)?;
        if item.has_next() {
            reader.enumerated(2)?;
        }
        reader.close(item)?;
    }
    reader.close(preamble)
}

/// UP transport layer information (9.3.2.2); what is no GTP tunnel is stepped over.
fn read_end(reader: &mut Reader<'_>, role: Role, session: &mut Bearer) -> Result<(), Malformed> {
    if reader.flag()? {
        return skip_choice(reader);
    }
    let preamble = reader.sequence(1)?;
    Ends::read(reader)?.add_to(session, role);
    reader.close(preamble)
}

fn read_end_if(
    present: bool,
    reader: &mut Reader<'_>,
    role: Role,
    session: &mut Bearer,
) -> Result<(), Malformed> {
    match present {
        true => read_end(reader, role, session),
        false => Ok(()),
    }
}

/// The alternative of a later version: one element.
fn skip_choice(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.elements(1, |_, _| Ok(()))
}

/// QFI; None of a later version.
fn read_flow_id(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    reader.extensible_integer(0, 63)
}

/// QoS flows that were modified (9.3.4.7), of which only the identities are told.
fn skip_flows(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let count = reader.integer(1, 64)?;
    read_items(reader, count, |item| read_flow_id(item).map(|_| ()))
}

/// QoS flows to set up; to modify if their parameters are optional.
fn read_flows(
    reader: &mut Reader<'_>,
    has_parameters: bool,
    session: &mut Bearer,
) -> Result<(), Malformed> {
    for _ in 0..reader.integer(1, 64)? {
        let mut preamble = reader.sequence(if has_parameters { 2 } else { 3 })?;
        let identifier = read_flow_id(reader)?;
        let (mut qos_class, mut priority) = (None, None);
        if has_parameters || preamble.has_next() {
            (qos_class, priority) = read_parameters(reader)?;
        }
        if preamble.has_next() {
            // The E-RAB that it becomes in LTE.
            reader.extensible_integer(0, 15)?;
        }
        reader.close(preamble)?;
        if let Some(id) = identifier.filter(|_| session.flows.len() < MAX_FLOWS) {
            session.flows.push(QosFlow {
                id: id as u8,
                qos_class,
                priority,
            });
        }
    }
    Ok(())
}

/// QoS flow level QoS parameters (9.3.1.12): 5QI, allocation and retention priority.
fn read_parameters(reader: &mut Reader<'_>) -> Result<(Option<u8>, Option<u8>), Malformed> {
    let mut preamble = reader.sequence(4)?;
    let class = match reader.bits(2)? {
        0 => read_standard_class(reader)?,
        1 => read_own_class(reader)?,
        2 => skip_choice(reader).map(|()| None)?,
        _ => return Err(Malformed::Value),
    };
    let retention = reader.sequence(1)?;
    let priority = reader.integer(1, 15)? as u8;
    reader.enumerated(2)?;
    reader.enumerated(2)?;
    reader.close(retention)?;
    if preamble.has_next() {
        skip_bit_rates(reader)?;
    }
    for _ in 0..2 {
        if preamble.has_next() {
            reader.enumerated(1)?;
        }
    }
    reader.close(preamble)?;
    Ok((class.map(|class| class as u8), Some(priority)))
}

/// A 5QI with what may differ from its standard (9.3.1.28).
fn read_standard_class(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    let mut preamble = reader.sequence(4)?;
    let class = reader.extensible_integer(0, 255)?;
    for (least, greatest) in [(1, 127), (0, 4095), (0, 4095)] {
        if preamble.has_next() {
            reader.extensible_integer(least, greatest)?;
        }
    }
    reader.close(preamble)?;
    Ok(class)
}

/// An operator's own characteristics, with a 5QI or without (9.3.1.18).
fn read_own_class(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    let mut preamble = reader.sequence(5)?;
    reader.extensible_integer(1, 127)?;
    reader.extensible_integer(0, 1023)?;
    let error_rate = reader.sequence(1)?;
    reader.extensible_integer(0, 9)?;
    reader.extensible_integer(0, 9)?;
    reader.close(error_rate)?;
    let class = match preamble.has_next() {
        true => reader.extensible_integer(0, 255)?,
        false => None,
    };
    if preamble.has_next() {
        reader.enumerated(2)?;
    }
    for _ in 0..2 {
        if preamble.has_next() {
            reader.extensible_integer(0, 4095)?;
        }
    }
    reader.close(preamble)?;
    Ok(class)
}

/// GBR QoS flow information (9.3.1.10).
fn skip_bit_rates(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    const MAX_BIT_RATE: u64 = 4_000_000_000_000;
    let mut preamble = reader.sequence(4)?;
    for _ in 0..4 {
        reader.extensible_integer(0, MAX_BIT_RATE)?;
    }
    if preamble.has_next() {
        reader.enumerated(1)?;
    }
    for _ in 0..2 {
        if preamble.has_next() {
            reader.extensible_integer(0, 1000)?;
        }
    }
    reader.close(preamble)
}
