//! PFCP (TS 29.244): what an SMF, SGW-C or PGW-C tells its user plane, on N4, Sxa and Sxb.
//!
//! A session is a set of rules: detection rules name the tunnel ends at the user plane, forwarding rules
//! those of its peers (gNB, eNB, SGW, another UPF). Their ends have no bearer identity: all bearers of a
//! message have number 0, and belong together by their session. No cell is told here.

use crate::control::cursor::Cursor;
use crate::control::identity::Rat;
use crate::control::message::{
    Bearer, BearerEnd, Change, MAX_BEARERS, MAX_ENDS, MAX_RULES, Malformed, Message, Phase,
    Procedure, Protocol, Report, Role, Rule, RuleChange, TunnelEnd, read_apn, read_apn_text,
};

mod roles;
mod rules;
mod values;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

pub use roles::Roles;
use rules::{Detection, Forwarding, Tunnel};

/// UDP port of either side's requests (TS 29.244 4.2.2).
pub const PORT: u16 = 8805;

/// Information elements (TS 29.244 8.1.2).
mod element {
    pub const CREATE_PDR: u16 = 1;
    pub const PDI: u16 = 2;
    pub const CREATE_FAR: u16 = 3;
    pub const FORWARDING_PARAMETERS: u16 = 4;
    pub const CREATE_QER: u16 = 7;
    pub const CREATED_PDR: u16 = 8;
    pub const UPDATE_PDR: u16 = 9;
    pub const UPDATE_FAR: u16 = 10;
    pub const UPDATE_FORWARDING_PARAMETERS: u16 = 11;
    pub const UPDATE_QER: u16 = 14;
    pub const REMOVE_PDR: u16 = 15;
    pub const REMOVE_FAR: u16 = 16;
    pub const CAUSE: u16 = 19;
    pub const SOURCE_INTERFACE: u16 = 20;
    pub const F_TEID: u16 = 21;
    pub const NETWORK_INSTANCE: u16 = 22;
    pub const REPORT_TYPE: u16 = 39;
    pub const DESTINATION_INTERFACE: u16 = 42;
    pub const APPLY_ACTION: u16 = 44;
    pub const PDR_ID: u16 = 56;
    pub const F_SEID: u16 = 57;
    pub const NODE_ID: u16 = 60;
    pub const OUTER_HEADER_CREATION: u16 = 84;
    pub const UE_IP_ADDRESS: u16 = 93;
    pub const RECOVERY_TIME_STAMP: u16 = 96;
    pub const ERROR_INDICATION_REPORT: u16 = 99;
    pub const FAR_ID: u16 = 108;
    pub const QFI: u16 = 124;
    pub const CREATE_TRAFFIC_ENDPOINT: u16 = 127;
    pub const CREATED_TRAFFIC_ENDPOINT: u16 = 128;
    pub const UPDATE_TRAFFIC_ENDPOINT: u16 = 129;
    pub const REMOVE_TRAFFIC_ENDPOINT: u16 = 130;
    pub const TRAFFIC_ENDPOINT_ID: u16 = 131;
    pub const USER_ID: u16 = 141;
    pub const APN_DNN: u16 = 159;
    pub const INTERFACE_TYPE: u16 = 160;
    pub const UPDATED_PDR: u16 = 256;
    pub const S_NSSAI: u16 = 257;
    pub const RAT_TYPE: u16 = 275;
    /// Of vendors' elements, whose value begins with the vendor (TS 29.244 8.1.1).
    pub const VENDOR: u16 = 0x8000;
}

/// The first message of a datagram. Bytes behind its stated length are not looked at.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    Header::take(&mut Cursor(bytes))?.read()
}

/// All messages of a datagram: one, unless its header says that another follows (TS 29.244 7.2.2).
/// A malformed message is the last.
pub fn read_all(datagram: &[u8]) -> impl Iterator<Item = Result<Message, Malformed>> {
    let mut rest = Some(Cursor(datagram));
    std::iter::from_fn(move || {
        let mut cursor = rest.take()?;
        let header = Header::take(&mut cursor);
        let message = header.and_then(|header| header.read());
        let follows = message.is_ok() && header.is_ok_and(|header| header.follows);
        rest = follows.then_some(cursor);
        Some(message)
    })
}

/// The fixed part of a message (TS 29.244 7.2.2).
#[derive(Debug, Clone, Copy)]
struct Header<'a> {
    kind: u8,
    session: u64,
    sequence: u32,
    /// Whether another message stands behind this one.
    follows: bool,
    elements: &'a [u8],
}

impl<'a> Header<'a> {
    fn take(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let (flags, kind, length) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
        if flags >> 5 != 1 {
            return Err(Malformed::Version);
        }
        let mut body = Cursor(cursor.take(length.into())?);
        let for_session = flags & 0b1 != 0;
        let session = for_session.then(|| body.u64()).transpose()?;
        let sequence = body.u24()?;
        body.u8()?; // Message priority.
        Ok(Self {
            kind,
            session: session.unwrap_or(0),
            sequence,
            follows: flags & 0b100 != 0,
            elements: body.0,
        })
    }

    fn read(&self) -> Result<Message, Malformed> {
        let (procedure, phase) = procedure(self.kind);
        let mut message = Message::new(Protocol::Pfcp, procedure, phase);
        message.receiver_key = self.session;
        message.sequence = self.sequence;
        let mut reading = Reading::new(message);
        for element in elements(self.elements) {
            let (kind, value) = element?;
            reading.on_element(kind, value)?;
        }
        reading.finish()
    }
}

/// TS 29.244 7.3.
fn procedure(kind: u8) -> (Procedure, Phase) {
    let procedure = match kind {
        1 | 2 => Procedure::Echo,
        5 | 6 => Procedure::Association,
        9 | 10 => Procedure::AssociationRelease,
        50 | 51 => Procedure::CreateSession,
        52 | 53 => Procedure::ModifySession,
        54 | 55 => Procedure::DeleteSession,
        56 | 57 => Procedure::Report,
        // Answers of others, whose requests have the number before.
        4 | 8 | 13 | 15 | 17 => Procedure::Other(u16::from(kind) - 1),
        _ => Procedure::Other(kind.into()),
    };
    (procedure, phase(kind))
}

fn phase(kind: u8) -> Phase {
    match kind {
        2 | 4 | 6 | 8 | 10 | 11 | 13 | 15 | 17 | 51 | 53 | 55 | 57 => Phase::Response,
        _ => Phase::Request,
    }
}

/// The elements of a message or of a group; those of vendors are left out (TS 29.244 8.1.1).
fn elements(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    let mut rest = Cursor(bytes);
    let mut next = move || -> Result<Option<(u16, &[u8])>, Malformed> {
        while !rest.0.is_empty() {
            let (kind, length) = (rest.u16()?, rest.u16()?);
            let value = rest.take(length.into()).map_err(|_| Malformed::Length)?;
            if kind & element::VENDOR == 0 {
                return Ok(Some((kind, value)));
            }
        }
        Ok(None)
    };
    let mut is_whole = true;
    std::iter::from_fn(move || {
        let element = is_whole.then(&mut next)?;
        is_whole = element.is_ok();
        element.transpose()
    })
}

/// A message while its elements are read.
struct Reading<'a> {
    message: Message,
    names: Names<'a>,
    flows: Flows,
    /// Detection rules whose tunnel end stands in a shared endpoint, which may come later.
    sharing: Vec<Detection<'a>>,
    endpoints: Vec<Detection<'a>>,
    /// Forwarding rules by what comes to them, which tells where they lead if they do not.
    fed: Vec<(Rule, Role)>,
}

impl<'a> Reading<'a> {
    fn new(message: Message) -> Self {
        Self {
            message,
            names: Names::default(),
            flows: Flows::default(),
            sharing: Vec::new(),
            endpoints: Vec::new(),
            fed: Vec::new(),
        }
    }

    /// Of an element that is there twice without need the first counts (TS 29.244 7.6).
    fn on_element(&mut self, kind: u16, value: &'a [u8]) -> Result<(), Malformed> {
        match kind {
            element::CREATE_PDR | element::UPDATE_PDR => self.on_detection(value)?,
            element::CREATED_PDR | element::UPDATED_PDR => self.on_created(value)?,
            element::CREATE_FAR | element::UPDATE_FAR => self.on_forwarding(kind, value)?,
            element::REMOVE_PDR => self.on_removed(Detection::read(value)?.rule())?,
            element::REMOVE_FAR => self.on_removed(Forwarding::read(value)?.rule())?,
            element::REMOVE_TRAFFIC_ENDPOINT => {
                self.on_removed(Detection::read(value)?.endpoint_rule())?;
            }
            element::CREATE_TRAFFIC_ENDPOINT | element::UPDATE_TRAFFIC_ENDPOINT => {
                self.on_endpoint(value)?;
            }
            element::CREATED_TRAFFIC_ENDPOINT => self.on_created(value)?,
            element::CREATE_QER | element::UPDATE_QER => self.flows.read(value)?,
            element::APN_DNN => self.names.name = self.names.name.or(Some(value)),
            _ => self.on_value(kind, Cursor(value))?,
        }
        Ok(())
    }

    fn on_value(&mut self, kind: u16, mut value: Cursor<'_>) -> Result<(), Malformed> {
        let message = &mut self.message;
        match kind {
            element::CAUSE => fill(&mut message.cause, values::cause(&mut value)?),
            element::F_SEID => fill(&mut message.sender_end, values::f_seid(&mut value)?),
            element::NODE_ID => fill(&mut message.node, values::node_id(&mut value)?),
            element::RECOVERY_TIME_STAMP => fill(&mut message.recovery, Some(value.u32()?)),
            element::REPORT_TYPE => fill(&mut message.report, values::report(&mut value)?),
            element::ERROR_INDICATION_REPORT => {
                message.report = Some(Report::TunnelUnknown(unknown_tunnel(value.0)?));
            }
            element::S_NSSAI => fill(&mut message.slice, Some(values::slice(&mut value)?)),
            element::RAT_TYPE => fill(&mut message.rat, Rat::read(value.u8()?)),
            element::USER_ID => values::user_id(&mut message.identity, &mut value)?,
            _ => {}
        }
        Ok(())
    }

    fn on_detection(&mut self, value: &'a [u8]) -> Result<(), Malformed> {
        let detection = Detection::read(value)?;
        self.learn(&detection);
        if detection.endpoint.is_some() {
            push(&mut self.sharing, detection)?;
        }
        if let Some(fed) = detection.feeds() {
            push(&mut self.fed, fed)?;
        }
        self.add_local(detection.rule(), &detection, detection.local_role())
    }

    fn learn(&mut self, detection: &Detection<'a>) {
        values::complete_addresses(&mut self.message.ue, detection.ue);
        self.names.add(detection.interface, detection.instance);
        self.flows.add(detection.flow);
    }

    fn on_endpoint(&mut self, value: &'a [u8]) -> Result<(), Malformed> {
        let endpoint = Detection::read(value)?;
        self.learn(&endpoint);
        push(&mut self.endpoints, endpoint)
    }

    /// The end that the user plane has at `detection`.
    fn add_local(
        &mut self,
        rule: Option<Rule>,
        detection: &Detection<'_>,
        role: Option<Role>,
    ) -> Result<(), Malformed> {
        let (Some(rule), Some(tunnel), Some(role)) = (rule, detection.tunnel, role) else {
            return Ok(());
        };
        if tunnel.is_chosen_later {
            return self.add_change(rule, Change::Awaits(role));
        }
        let mut ends = tunnel.ends();
        ends.try_for_each(|end| self.add(rule, BearerEnd { role, end }))
    }

    /// What the user plane chose; it does not say for which side.
    fn on_created(&mut self, value: &'a [u8]) -> Result<(), Malformed> {
        let created = Detection::read(value)?;
        values::complete_addresses(&mut self.message.ue, created.ue);
        let Some(rule) = created.rule().or(created.endpoint_rule()) else {
            return Ok(());
        };
        let mut ends = created.tunnel.into_iter().flat_map(Tunnel::ends);
        ends.try_for_each(|end| self.add_change(rule, Change::Moves(end)))
    }

    fn on_forwarding(&mut self, kind: u16, value: &'a [u8]) -> Result<(), Malformed> {
        let forwarding = Forwarding::read(value)?;
        let instance = forwarding.instance.filter(|_| forwarding.leads_out());
        self.names.add(forwarding.interface, instance);
        let Some(rule) = forwarding.rule() else {
            return Ok(());
        };
        if kind == element::UPDATE_FAR && forwarding.is_withheld() {
            return self.add_change(rule, Change::Ends);
        }
        let mut ends = forwarding.tunnel.into_iter().flat_map(Tunnel::ends);
        match forwarding.remote_role() {
            Some(role) if forwarding.tunnel.is_none() => {
                self.add_change(rule, Change::Awaits(role))
            }
            Some(role) => ends.try_for_each(|end| self.add(rule, BearerEnd { role, end })),
            None if forwarding.interface.is_none() => {
                ends.try_for_each(|end| self.add_change(rule, Change::Moves(end)))
            }
            None => Ok(()),
        }
    }

    fn on_removed(&mut self, rule: Option<Rule>) -> Result<(), Malformed> {
        rule.map_or(Ok(()), |rule| self.add_change(rule, Change::Ends))
    }

    fn add(&mut self, rule: Rule, end: BearerEnd) -> Result<(), Malformed> {
        add_end(&mut self.message, end)?;
        self.add_change(rule, Change::Leads(end))
    }

    fn add_change(&mut self, rule: Rule, change: Change) -> Result<(), Malformed> {
        let change = RuleChange { rule, change };
        if self.message.rules.contains(&change) {
            return Ok(());
        }
        push(&mut self.message.rules, change)
    }

    /// An endpoint's side is told by itself, or by the detection rules that share it.
    fn add_endpoints(&mut self) -> Result<(), Malformed> {
        for endpoint in std::mem::take(&mut self.endpoints) {
            let sharing = self.sharing.iter();
            let mut of_sharing = sharing.filter(|rule| rule.endpoint == endpoint.endpoint);
            let role = endpoint
                .local_role()
                .or_else(|| of_sharing.find_map(Detection::local_role));
            self.add_local(endpoint.endpoint_rule(), &endpoint, role)?;
        }
        Ok(())
    }

    /// A forwarding rule that does not say where it leads leads away from where its packets come from:
    /// that of an idle or new device has no destination until the radio side is there.
    fn add_fed(&mut self) -> Result<(), Malformed> {
        for (rule, role) in std::mem::take(&mut self.fed) {
            let mut others = self.message.rules.iter();
            if others.all(|other| other.rule != rule) {
                self.add_change(rule, Change::Awaits(role))?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Message, Malformed> {
        self.add_endpoints()?;
        self.add_fed()?;
        Roles::default().settle(&mut self.message);
        self.message.apn = self.names.access_point();
        let flow = self.flows.only();
        for bearer in &mut self.message.bearers {
            bearer.qos_class = flow;
        }
        Ok(self.message)
    }
}

/// The first value stays.
fn fill<T>(field: &mut Option<T>, value: Option<T>) {
    if field.is_none() {
        *field = value;
    }
}

/// Keeps what one message says of rules bounded.
fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), Malformed> {
    if list.len() == MAX_RULES {
        return Err(Malformed::Value);
    }
    list.push(item);
    Ok(())
}

/// Adds an end that is not there yet.
fn add_end(message: &mut Message, end: BearerEnd) -> Result<(), Malformed> {
    let bearers = &mut message.bearers;
    if bearers.iter().any(|bearer| bearer.ends.contains(&end)) {
        return Ok(());
    }
    if bearers
        .last()
        .is_none_or(|last| last.ends.len() == MAX_ENDS)
    {
        if bearers.len() == MAX_BEARERS {
            return Err(Malformed::Value);
        }
        bearers.push(Bearer::default());
    }
    if let Some(last) = bearers.last_mut() {
        last.ends.push(end);
    }
    Ok(())
}

/// Which tunnel an error indication was about (TS 29.244 7.5.8.4).
fn unknown_tunnel(group: &[u8]) -> Result<Option<TunnelEnd>, Malformed> {
    let report = Detection::read(group)?;
    Ok(report.tunnel.and_then(|tunnel| tunnel.ends().next()))
}

/// Names from which the access point's is taken.
#[derive(Default)]
struct Names<'a> {
    /// Of the APN/DNN element.
    name: Option<&'a [u8]>,
    /// Network instance towards the core or the data network.
    outer: Option<&'a [u8]>,
    /// Network instance towards the device, often one of the transport network's own.
    inner: Option<&'a [u8]>,
}

impl<'a> Names<'a> {
    fn add(&mut self, interface: Option<u8>, instance: Option<&'a [u8]>) {
        match interface {
            Some(rules::CORE | rules::SGI_LAN) => fill(&mut self.outer, instance),
            _ => fill(&mut self.inner, instance),
        }
    }

    /// A network instance is a domain name in labels or in text (TS 29.244 8.2.4).
    fn access_point(&self) -> Option<Box<str>> {
        let name = self.name.or(self.outer).or(self.inner)?;
        read_apn(name).or_else(|| read_apn_text(name))
    }
}

/// QoS flow identifiers that a message tells.
#[derive(Default)]
struct Flows {
    first: Option<u8>,
    is_several: bool,
}

impl Flows {
    fn add(&mut self, flow: Option<u8>) {
        let Some(flow) = flow else { return };
        self.is_several |= self.first.is_some_and(|first| first != flow);
        self.first = Some(flow);
    }

    /// From a QoS enforcement rule.
    fn read(&mut self, group: &[u8]) -> Result<(), Malformed> {
        for element in elements(group) {
            if let (element::QFI, value) = element? {
                self.add(Some(values::flow(&mut Cursor(value))?));
            }
        }
        Ok(())
    }

    /// The flow of the tunnel, if it carries no other.
    fn only(&self) -> Option<u8> {
        self.first.filter(|_| !self.is_several)
    }
}
