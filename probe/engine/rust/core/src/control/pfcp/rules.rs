//! Detection rules with their tunnel end at the user plane, forwarding rules with that of the peer.

use super::{element, elements, fill, values};
use crate::control::cursor::Cursor;
use crate::control::message::{Malformed, Role, Rule, TunnelEnd, UeAddresses};
use crate::decap::Address;

/// Source and destination interfaces (TS 29.244 8.2.2, 8.2.24).
pub const ACCESS: u8 = 0;
pub const CORE: u8 = 1;
pub const SGI_LAN: u8 = 2;

/// A tunnel end: an F-TEID (TS 29.244 8.2.3) or what an outer header is made of (8.2.56).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    pub teid: u32,
    pub v4: Option<Address>,
    pub v6: Option<Address>,
    /// The user plane chooses it and tells it in its answer.
    pub is_chosen_later: bool,
}

impl Tunnel {
    /// One for each address family. A TEID of 0 names no tunnel (TS 29.281 5.1), nor does an address
    /// of 0: both stand where the other end is not known yet.
    pub fn ends(self) -> impl Iterator<Item = TunnelEnd> {
        let addresses = [self.v4, self.v6].into_iter().flatten();
        let named =
            addresses.filter(|&address| address.as_v4().map_or(address.0 != 0, |v4| v4 != 0));
        let teid = self.teid;
        named
            .filter(move |_| teid != 0 && !self.is_chosen_later)
            .map(move |address| TunnelEnd { address, teid })
    }
}

/// What kind of interface the 3GPP Interface Type says (TS 29.244 8.2.118).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The radio network is at one side: S1-U, S4, S12, Iu, S11, N3.
    Radio,
    /// Between gateways: S5, S8, N9, Gn/Gp.
    Gateways,
    /// Forwarding in a handover.
    Forwarding,
}

impl Reach {
    fn of(interface_type: u8) -> Option<Self> {
        Some(match interface_type {
            0 | 2..=4 | 11..=13 | 22 => Self::Radio,
            1 | 5 | 15 | 19..=21 => Self::Gateways,
            8..=10 | 14 | 23 | 28 => Self::Forwarding,
            _ => return None,
        })
    }
}

/// A packet detection rule, or what else has its elements: a created rule, a traffic endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Detection<'a> {
    id: Option<u16>,
    forwarding: Option<u32>,
    pub interface: Option<u8>,
    reach: Option<Reach>,
    pub tunnel: Option<Tunnel>,
    /// The traffic endpoint that it shares with others.
    pub endpoint: Option<u8>,
    pub instance: Option<&'a [u8]>,
    pub ue: UeAddresses,
    pub flow: Option<u8>,
}

impl<'a> Detection<'a> {
    pub fn read(group: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for element in elements(group) {
            match element? {
                (element::PDI, information) => found.read_information(information)?,
                (kind, value) => found.on_element(kind, value)?,
            }
        }
        Ok(found)
    }

    /// Packet detection information, in which no further PDI stands (TS 29.244 7.5.2.2).
    fn read_information(&mut self, group: &'a [u8]) -> Result<(), Malformed> {
        for element in elements(group) {
            let (kind, value) = element?;
            self.on_element(kind, value)?;
        }
        Ok(())
    }

    fn on_element(&mut self, kind: u16, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut value = Cursor(bytes);
        match kind {
            element::PDR_ID => fill(&mut self.id, Some(value.u16()?)),
            element::FAR_ID => fill(&mut self.forwarding, Some(value.u32()?)),
            element::SOURCE_INTERFACE => fill(&mut self.interface, Some(value.u8()? & 0xf)),
            element::INTERFACE_TYPE => fill(&mut self.reach, Reach::of(value.u8()? & 0x3f)),
            element::F_TEID => fill(&mut self.tunnel, Some(values::f_teid(&mut value)?)),
            element::TRAFFIC_ENDPOINT_ID => fill(&mut self.endpoint, Some(value.u8()?)),
            element::NETWORK_INSTANCE => fill(&mut self.instance, Some(bytes)),
            element::UE_IP_ADDRESS => {
                values::complete_addresses(&mut self.ue, values::ue_addresses(&mut value)?);
            }
            element::QFI => fill(&mut self.flow, Some(values::flow(&mut value)?)),
            _ => {}
        }
        Ok(())
    }

    pub fn rule(&self) -> Option<Rule> {
        self.id.map(Rule::Detection)
    }

    pub fn endpoint_rule(&self) -> Option<Rule> {
        self.endpoint.map(Rule::Endpoint)
    }

    /// The forwarding rule of its packets, and who waits for what comes from this side.
    pub fn feeds(&self) -> Option<(Rule, Role)> {
        let role = match (self.interface?, self.reach) {
            (_, Some(Reach::Forwarding)) => Role::Forwarding,
            (ACCESS, _) => Role::TransitUp,
            (CORE | SGI_LAN, _) => Role::Access,
            _ => return None,
        };
        self.forwarding.map(|rule| (Rule::Forwarding(rule), role))
    }

    /// Who waits at the tunnel end of this rule: packets come to it from its source interface. Those
    /// between user plane and control plane are no device's traffic.
    pub fn local_role(&self) -> Option<Role> {
        match (self.interface?, self.reach) {
            (_, Some(Reach::Forwarding)) => Some(Role::Forwarding),
            (ACCESS, Some(Reach::Gateways)) => Some(Role::TransitUp),
            (ACCESS, _) => Some(Role::Core),
            (CORE | SGI_LAN, _) => Some(Role::TransitDown),
            _ => None,
        }
    }
}

/// A forwarding action rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarding<'a> {
    id: Option<u32>,
    action: Option<u8>,
    pub interface: Option<u8>,
    reach: Option<Reach>,
    pub tunnel: Option<Tunnel>,
    pub instance: Option<&'a [u8]>,
}

impl<'a> Forwarding<'a> {
    pub fn read(group: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for element in elements(group) {
            let (kind, bytes) = element?;
            let mut value = Cursor(bytes);
            match kind {
                element::FAR_ID => fill(&mut found.id, Some(value.u32()?)),
                element::APPLY_ACTION => fill(&mut found.action, Some(value.u8()?)),
                element::FORWARDING_PARAMETERS | element::UPDATE_FORWARDING_PARAMETERS => {
                    found.read_parameters(bytes)?;
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn read_parameters(&mut self, group: &'a [u8]) -> Result<(), Malformed> {
        for element in elements(group) {
            let (kind, bytes) = element?;
            let mut value = Cursor(bytes);
            match kind {
                element::DESTINATION_INTERFACE => {
                    fill(&mut self.interface, Some(value.u8()? & 0xf));
                }
                element::INTERFACE_TYPE => fill(&mut self.reach, Reach::of(value.u8()? & 0x3f)),
                element::NETWORK_INSTANCE => fill(&mut self.instance, Some(bytes)),
                element::OUTER_HEADER_CREATION => {
                    fill(&mut self.tunnel, values::outer_header(&mut value)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn rule(&self) -> Option<Rule> {
        self.id.map(Rule::Forwarding)
    }

    /// Whether packets go towards the core or the data network.
    pub fn leads_out(&self) -> bool {
        matches!(self.interface, Some(CORE | SGI_LAN))
    }

    /// Whether packets are dropped or kept, and not sent on (TS 29.244 8.2.26).
    pub fn is_withheld(&self) -> bool {
        const FORWARD: u8 = 0b10;
        self.tunnel.is_none() && self.action.is_some_and(|action| action & FORWARD == 0)
    }

    /// Who waits for packets that are sent to the destination interface.
    pub fn remote_role(&self) -> Option<Role> {
        match (self.interface?, self.reach) {
            (_, Some(Reach::Forwarding)) => Some(Role::Forwarding),
            (ACCESS, Some(Reach::Gateways)) => Some(Role::TransitDown),
            (ACCESS, _) => Some(Role::Access),
            (CORE | SGI_LAN, _) => Some(Role::TransitUp),
            _ => None,
        }
    }
}
