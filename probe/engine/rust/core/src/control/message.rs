//! What a message of the control plane says, whatever its protocol.

use crate::control::identity::{Area, Cell, Digits, Plmn, RanNode, Rat, Slice, Temporary};
use crate::decap::Address;

/// Most bearers (EPS bearers, E-RABs, PDU sessions, QoS flows) of one message that are kept: a session
/// has 11 at most (TS 24.301 9.3.2), and a message further ones is not believed.
pub const MAX_BEARERS: usize = 16;
/// Most tunnel ends of one bearer in one message: of six interfaces with both families of addresses.
pub const MAX_ENDS: usize = 12;
/// Most changes of rules in one message; a message with further ones is not believed.
pub const MAX_RULES: usize = 128;
/// Most QoS flows of one PDU session (TS 38.413 9.3.1.13).
pub const MAX_FLOWS: usize = 64;
/// Most signalling connections that one Reset names and that are kept (TS 36.413 9.1.8.1; NGAP allows
/// more).
pub const MAX_CONNECTIONS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Gtpv1,
    Gtpv2,
    Pfcp,
    Radius,
    S1ap,
    Ngap,
}

/// What a message is about; requests and answers of one procedure share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Procedure {
    /// A node says that it is there, or asks whether the other is; restart counters.
    Echo,
    Association,
    /// All sessions between two nodes end.
    AssociationRelease,
    CreateSession,
    ModifySession,
    DeleteSession,
    CreateBearer,
    UpdateBearer,
    DeleteBearer,
    /// The radio side of all bearers goes (the device is idle); the session stays.
    ReleaseAccess,
    /// The network has data for an idle device.
    DataNotification,
    ChangeNotification,
    /// A node tells of a session unasked (usage, errors, inactivity).
    Report,
    AccountingStart,
    AccountingInterim,
    AccountingStop,
    /// An answer, which does not say to which of the three.
    Accounting,
    Access,
    InitialUe,
    ContextSetup,
    /// Bearers (E-RABs, PDU sessions) are set up, changed or released on the radio side.
    ResourceSetup,
    ResourceModify,
    ResourceRelease,
    PathSwitch,
    HandoverPreparation,
    HandoverAllocation,
    HandoverNotify,
    ContextRelease,
    /// A base station announces itself.
    Setup,
    Reset,
    /// A base station, MME or AMF says that it could not use a message.
    Error,
    /// NAS messages and location reports on their way.
    Transport,
    Other(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Request,
    Response,
    /// Has no answer.
    Indication,
}

/// An answer's result, or a request's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// In the protocol's own numbers. S1AP and NGAP number within groups: 1000 for the radio network,
    /// 2000 transport, 3000 NAS, 4000 protocol, 5000 miscellaneous, plus the number there; 0 of an
    /// answer that states none.
    pub number: u16,
    /// Nothing was refused: an answer accepts, or the cause is the reason of a request.
    pub accepted: bool,
}

/// The ends of a user-plane tunnel, by who waits for packets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// eNB (S1-U), RNC or SGSN towards the device (Gn), gNB (N3): packets to it go down.
    Access,
    /// SGW (S1-U), GGSN (Gn), UPF (N3): packets to it go up.
    Core,
    /// SGW towards the PGW (S5/S8), UPF towards the anchor (N9): packets to it go down.
    TransitDown,
    /// PGW (S5/S8), anchor UPF (N9): packets to it go up.
    TransitUp,
    /// Forwarding in a handover.
    Forwarding,
}

/// Who waits for packets with this identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelEnd {
    pub address: Address,
    pub teid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BearerEnd {
    pub role: Role,
    pub end: TunnelEnd,
}

/// One QoS flow of a PDU session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QosFlow {
    /// QFI, as in the PDU session container of GTP-U.
    pub id: u8,
    /// 5QI.
    pub qos_class: Option<u8>,
    /// Allocation and retention priority, 1 to 15.
    pub priority: Option<u8>,
}

/// One bearer as a message tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bearer {
    /// EPS bearer, NSAPI, E-RAB or PDU session identity; 0 where the protocol has none (PFCP).
    pub id: u8,
    /// [`MAX_ENDS`] at most.
    pub ends: Vec<BearerEnd>,
    /// QCI or 5QI; of a PDU session with several QoS flows each flow has its own.
    pub qos_class: Option<u8>,
    /// Allocation and retention priority, 1 to 15.
    pub priority: Option<u8>,
    pub cause: Option<Cause>,
    /// The message asks for its end or confirms it.
    pub removed: bool,
    /// Of a PDU session in NGAP, [`MAX_FLOWS`] at most.
    pub flows: Vec<QosFlow>,
    pub slice: Option<Slice>,
}

/// A rule of a session, by the number that it keeps as long as it exists (PFCP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Which packets: may name the tunnel end that they come to.
    Detection(u16),
    /// Where they go: may name the tunnel end that they are sent to.
    Forwarding(u32),
    /// A tunnel end that several detection rules share.
    Endpoint(u8),
}

/// What a message says of a rule's tunnel end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is this; it stands in `bearers` too.
    Leads(BearerEnd),
    /// It is not told yet: the answer will tell it, or a later message. Its role is this.
    Awaits(Role),
    /// It is this, in the role that the request or an earlier message told.
    Moves(TunnelEnd),
    /// There is none any more: the rule is removed, or its packets wait for the device to come back.
    Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleChange {
    pub rule: Rule,
    pub change: Change,
}

/// What a node tells of a session unasked; of several things the gravest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// This end does not know the tunnel (any more), if it is told which.
    TunnelUnknown(Option<TunnelEnd>),
    /// Nothing was sent for as long as the session may be silent.
    Inactivity,
    /// Data for an idle device.
    DownlinkData,
    Usage,
    Other,
}

/// The node that serves the device (SGSN, SGW, AMF), as a gateway tells of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Serving {
    pub address: Option<Address>,
    pub network: Option<Plmn>,
}

/// A session's key at one node: TEID of the control plane, SEID, or what stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ControlEnd {
    pub address: Address,
    pub key: u64,
}

/// The two identities of a device's signalling connection (S1AP, NGAP): at the MME or AMF, and at
/// the base station.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UeIds {
    pub core: Option<u64>,
    pub access: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub imsi: Option<Digits>,
    /// International number without plus.
    pub msisdn: Option<Digits>,
    pub imei: Option<Digits>,
    pub temporary: Option<Temporary>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Location {
    pub cell: Option<Cell>,
    pub area: Option<Area>,
    pub node: Option<RanNode>,
}

/// Addresses of the device; of IPv6 the prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UeAddresses {
    pub v4: Option<Address>,
    /// With the length of the prefix, mostly 64.
    pub v6: Option<(Address, u8)>,
}

/// One message. What it does not say is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub protocol: Protocol,
    pub procedure: Procedure,
    pub phase: Phase,
    /// By which an answer finds its request; of RADIUS the identifier. 0 in S1AP and NGAP, whose
    /// answers are told by the UE identities.
    pub sequence: u32,
    /// The session's key at the receiver: TEID or SEID of the header; 0 where it is not known yet.
    pub receiver_key: u64,
    /// Of a GTPv2 Delete Session Request: the SGW is to pass it on, so that the session ends everywhere
    /// (Operation Indication). An SGW that the session has left is asked without.
    pub ends_everywhere: bool,
    /// The session's key at the sender: F-TEID of the control plane or F-SEID. RADIUS: a digest of
    /// NAS and accounting session.
    pub sender_end: Option<ControlEnd>,
    pub ue_ids: UeIds,
    /// What a Reset is about: these signalling connections, [`MAX_CONNECTIONS`] at most; all if empty.
    pub connections: Vec<UeIds>,
    pub cause: Option<Cause>,
    /// Why the network refused the device in a plain NAS message: EMM or 5GMM cause (TS 24.301 9.9.3.9,
    /// TS 24.501 9.11.3.2).
    pub nas_cause: Option<u8>,
    /// The device registers anew, in a plain NAS message: what it had before is over.
    pub registers: bool,
    pub identity: Identity,
    pub location: Location,
    pub rat: Option<Rat>,
    /// Lower case, without the operator part.
    pub apn: Option<Box<str>>,
    pub slice: Option<Slice>,
    pub ue: UeAddresses,
    /// The country and operator that serve the subscriber; of a guest not the home.
    pub serving_network: Option<Plmn>,
    /// The default bearer of the session that is meant, where one key stands for several sessions of a
    /// device (S11, Gn). A removal that names it and no bearers is of the whole session.
    pub linked_bearer: Option<u8>,
    /// [`MAX_BEARERS`] at most.
    pub bearers: Vec<Bearer>,
    /// [`MAX_RULES`] at most.
    pub rules: Vec<RuleChange>,
    pub report: Option<Report>,
    pub serving: Serving,
    /// Of the session, or of its first bearer.
    pub charging_id: Option<u32>,
    /// The sender, where it names itself by an address (PFCP's Node ID, RADIUS's NAS).
    pub node: Option<Address>,
    /// The sender's restart counter, or time of its start.
    pub recovery: Option<u32>,
}

impl Message {
    pub fn new(protocol: Protocol, procedure: Procedure, phase: Phase) -> Self {
        Self {
            protocol,
            procedure,
            phase,
            sequence: 0,
            receiver_key: 0,
            ends_everywhere: false,
            sender_end: None,
            ue_ids: UeIds::default(),
            connections: Vec::new(),
            cause: None,
            nas_cause: None,
            registers: false,
            identity: Identity::default(),
            location: Location::default(),
            rat: None,
            apn: None,
            slice: None,
            ue: UeAddresses::default(),
            serving_network: None,
            linked_bearer: None,
            bearers: Vec::new(),
            rules: Vec::new(),
            report: None,
            serving: Serving::default(),
            charging_id: None,
            node: None,
            recovery: None,
        }
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// The capture or the message ends within a header or an element.
    Truncated,
    /// A length that contradicts the one around it.
    Length,
    /// A version or kind of message that the protocol does not have.
    Version,
    /// A value that its element does not have.
    Value,
}

impl Malformed {
    pub const ALL: [Self; 4] = [Self::Truncated, Self::Length, Self::Version, Self::Value];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Length => "length",
            Self::Version => "version",
            Self::Value => "value",
        }
    }
}

/// An IPv6 prefix without host bits, as [`UeAddresses`] keep it. None if it is longer than an address.
pub fn prefix(address: Address, length: u8) -> Option<(Address, u8)> {
    let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    (length <= 128).then_some((Address(address.0 & !host), length))
}

/// An access point name as coded in labels (TS 23.003 9.1): lower case, without the operator part
/// (`.mnc001.mcc001.gprs`). None if it is none.
pub fn read_apn(labels: &[u8]) -> Option<Box<str>> {
    let mut name = String::new();
    let mut rest = labels;
    while let Some((&length, behind)) = rest.split_first() {
        let (label, next) = behind.split_at_checked(usize::from(length))?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        if label.is_empty() || !label.iter().all(plain) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(
            label
                .iter()
                .map(|&byte| char::from(byte.to_ascii_lowercase())),
        );
        rest = next;
    }
    without_operator(&name)
}

/// An access point name in text form, as RADIUS has it.
pub fn read_apn_text(text: &[u8]) -> Option<Box<str>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let text = str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| plain(&byte)))?;
    without_operator(&text.to_ascii_lowercase())
}

fn without_operator(name: &str) -> Option<Box<str>> {
    let network = match name.find(".mnc") {
        Some(at) if name.ends_with(".gprs") => &name[..at],
        _ => name,
    };
    (!network.is_empty() && network.len() <= 100).then(|| network.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_loses_its_host_bits() {
        let address = Address(0x2001_0db8_cafe_1234_0000_0000_0000_0002);
        let of_56 = Address(0x2001_0db8_cafe_1200_0000_0000_0000_0000);
        assert_eq!(prefix(address, 56), Some((of_56, 56)));
        assert_eq!(prefix(address, 128), Some((address, 128)));
        assert_eq!(prefix(address, 0), Some((Address(0), 0)));
        assert_eq!(prefix(address, 129), None);
    }

    #[test]
    fn the_operator_part_is_left_out_of_an_access_point_name() {
        let coded = b"\x08Internet\x06mnc001\x06mcc001\x04gprs";
        assert_eq!(read_apn(coded).as_deref(), Some("internet"));
        assert_eq!(read_apn(b"\x03ims").as_deref(), Some("ims"));
        assert_eq!(
            read_apn_text(b"IMS.mnc001.mcc001.gprs").as_deref(),
            Some("ims")
        );
        for wrong in [&b""[..], b"\x00", b"\x05ims", b"\x03i s"] {
            assert_eq!(read_apn(wrong), None, "{wrong:x?}");
        }
    }
}
