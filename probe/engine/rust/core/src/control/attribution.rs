//! Who and where, from a map that the operator wrote: client prefix, VLAN, TEID or outer GTP-U
//! address to subscriber and cell.

use std::collections::HashMap;

use crate::decap::Address;
use crate::source::Range;

/// What a rule asks of a flow; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    pub client_prefix: Option<Prefix>,
    pub vlan: Option<u16>,
    pub teid: Option<u32>,
    /// Either end of the outer header.
    pub gtpu_address: Option<Address>,
}

/// What a rule, or all matching rules together, say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// `imsi:...` or `msisdn:...`.
    pub subscriber: Option<String>,
    pub cell_id: Option<String>,
    pub ran_node_id: Option<String>,
    pub tracking_area: Option<String>,
    pub rat: Option<String>,
    pub apn: Option<String>,
}

impl Attribution {
    /// Takes what is still open from a less specific rule.
    fn complete(&mut self, other: &Self) {
        let fields = [
            (&mut self.subscriber, &other.subscriber),
            (&mut self.cell_id, &other.cell_id),
            (&mut self.ran_node_id, &other.ran_node_id),
            (&mut self.tracking_area, &other.tracking_area),
            (&mut self.rat, &other.rat),
            (&mut self.apn, &other.apn),
        ];
        for (ours, theirs) in fields {
            if ours.is_none() {
                ours.clone_from(theirs);
            }
        }
    }
}

/// An address prefix; IPv4 prefixes are kept as prefixes of the v4-mapped address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    network: u128,
    /// Of the 128-bit form.
    length: u8,
}

impl Prefix {
    /// `length` counts as written: up to 32 for IPv4, up to 128 for IPv6. None if it is longer, or
    /// if the address has bits set behind the prefix.
    pub fn new(address: Address, length: u8) -> Option<Self> {
        let length = match address.as_v4() {
            Some(_) if length > 32 => return None,
            Some(_) => length + 96,
            None => length,
        };
        let prefix = Self {
            network: address.0,
            length,
        };
        (length <= 128 && Self::cut(address, length) == prefix).then_some(prefix)
    }

    /// Reads `10.0.0.0/8` or `2001:db8::/32`; an address alone is a prefix of its full length.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address = parse_address(address)?;
        let full = if address.as_v4().is_some() { 32 } else { 128 };
        let length = if text.contains('/') {
            length.parse().ok()?
        } else {
            full
        };
        Self::new(address, length)
    }

    /// Its first address, and how many of the 128 bits count.
    pub fn range(&self) -> Range {
        Range {
            network: self.network,
            length: self.length,
        }
    }

    fn cut(address: Address, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self {
            network: address.0 & mask,
            length,
        }
    }

    pub fn contains(&self, address: Address) -> bool {
        Self::cut(address, self.length) == *self
    }
}

/// Reads an address in text form.
pub fn parse_address(text: &str) -> Option<Address> {
    match text.parse().ok()? {
        std::net::IpAddr::V4(address) => Some(Address::v4(address.octets())),
        std::net::IpAddr::V6(address) => Some(Address::v6(address.octets())),
    }
}

/// The facts of a flow that rules can ask for.
#[derive(Debug, Clone, Copy)]
pub struct FlowFacts<'a> {
    pub client: Address,
    pub vlans: &'a [u16],
    /// The tunnels that carry the flow, the one seen last first.
    pub tunnels: &'a [TunnelFacts],
}

/// The facts of one tunnel.
#[derive(Debug, Clone, Copy)]
pub struct TunnelFacts {
    pub teid: u32,
    /// Both ends of the outer header.
    pub addresses: [Address; 2],
}

#[derive(Debug, Clone)]
struct Rule {
    conditions: Conditions,
    attribution: Attribution,
}

impl Rule {
    fn matches(&self, facts: &FlowFacts<'_>) -> bool {
        let Conditions {
            client_prefix,
            vlan,
            teid,
            gtpu_address,
        } = &self.conditions;
        client_prefix.is_none_or(|prefix| prefix.contains(facts.client))
            && vlan.is_none_or(|vlan| facts.vlans.contains(&vlan))
            && ((teid.is_none() && gtpu_address.is_none())
                || facts.tunnels.iter().any(|tunnel| {
                    teid.is_none_or(|teid| tunnel.teid == teid)
                        && gtpu_address.is_none_or(|address| tunnel.addresses.contains(&address))
                }))
    }
}

/// The map: rules found by their most specific condition.
///
/// A TEID is more specific than a client prefix, a longer prefix than a shorter one, a prefix than
/// an outer address, and that than a VLAN. Each field comes from the most specific rule that has it;
/// of equals the earlier rule wins.
#[derive(Debug, Clone, Default)]
pub struct AttributionMap {
    by_teid: HashMap<u32, Vec<Rule>>,
    by_prefix: HashMap<Prefix, Vec<Rule>>,
    /// Lengths in use, longest first.
    prefix_lengths: Vec<u8>,
    by_gtpu_address: HashMap<Address, Vec<Rule>>,
    by_vlan: HashMap<u16, Vec<Rule>>,
}

impl AttributionMap {
    /// Rules without any condition are ignored: they would claim every flow.
    pub fn new(rules: impl IntoIterator<Item = (Conditions, Attribution)>) -> Self {
        let mut map = Self::default();
        for (conditions, attribution) in rules {
            map.add(Rule {
                conditions,
                attribution,
            });
        }
        map.prefix_lengths = map.by_prefix.keys().map(|prefix| prefix.length).collect();
        map.prefix_lengths
            .sort_unstable_by(|left, right| right.cmp(left));
        map.prefix_lengths.dedup();
        map
    }

    fn add(&mut self, rule: Rule) {
        let bucket = match rule.conditions {
            Conditions {
                teid: Some(teid), ..
            } => self.by_teid.entry(teid).or_default(),
            Conditions {
                client_prefix: Some(prefix),
                ..
            } => self.by_prefix.entry(prefix).or_default(),
            Conditions {
                gtpu_address: Some(address),
                ..
            } => self.by_gtpu_address.entry(address).or_default(),
            Conditions {
                vlan: Some(vlan), ..
            } => self.by_vlan.entry(vlan).or_default(),
            _ => return,
        };
        bucket.push(rule);
    }

    /// It says nothing of anybody.
    pub fn is_empty(&self) -> bool {
        self.by_teid.is_empty()
            && self.by_prefix.is_empty()
            && self.by_gtpu_address.is_empty()
            && self.by_vlan.is_empty()
    }

    /// What the map says of a flow. Looked up once per flow and tunnel, not per packet.
    pub fn look_up(&self, facts: &FlowFacts<'_>) -> Attribution {
        let mut found = Attribution::default();
        let by_teid = facts
            .tunnels
            .iter()
            .filter_map(|tunnel| self.by_teid.get(&tunnel.teid));
        let by_prefix = self
            .prefix_lengths
            .iter()
            .filter_map(|&length| self.by_prefix.get(&Prefix::cut(facts.client, length)));
        let by_address = facts
            .tunnels
            .iter()
            .flat_map(|tunnel| &tunnel.addresses)
            .filter_map(|address| self.by_gtpu_address.get(address));
        let by_vlan = facts.vlans.iter().filter_map(|vlan| self.by_vlan.get(vlan));
        let rules = by_teid
            .chain(by_prefix)
            .chain(by_address)
            .chain(by_vlan)
            .flatten();
        for rule in rules.filter(|rule| rule.matches(facts)) {
            found.complete(&rule.attribution);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        parse_address(text).expect("a valid address")
    }

    fn cell(name: &str) -> Attribution {
        Attribution {
            cell_id: Some(name.into()),
            ..Attribution::default()
        }
    }

    fn facts(client: &str) -> FlowFacts<'static> {
        FlowFacts {
            client: address(client),
            vlans: &[],
            tunnels: &[],
        }
    }

    fn tunnel(teid: u32, end: &str) -> TunnelFacts {
        TunnelFacts {
            teid,
            addresses: [address(end), address("192.0.2.1")],
        }
    }

    fn prefix_rule(prefix: &str, name: &str) -> (Conditions, Attribution) {
        let client_prefix = Prefix::parse(prefix);
        assert!(client_prefix.is_some(), "{prefix}");
        (
            Conditions {
                client_prefix,
                ..Conditions::default()
            },
            cell(name),
        )
    }

    #[test]
    fn the_longest_prefix_wins() {
        let map = AttributionMap::new([
            prefix_rule("0.0.0.0/0", "any"),
            prefix_rule("10.0.0.0/8", "wide"),
            prefix_rule("10.1.2.0/24", "narrow"),
            prefix_rule("2001:db8::/32", "six"),
        ]);
        let found = |client| map.look_up(&facts(client)).cell_id;
        assert_eq!(found("10.1.2.3").as_deref(), Some("narrow"));
        assert_eq!(found("10.9.2.3").as_deref(), Some("wide"));
        assert_eq!(found("192.0.2.1").as_deref(), Some("any"));
        assert_eq!(found("2001:db8::1").as_deref(), Some("six"));
        assert_eq!(found("2001:db9::1"), None);
    }

    #[test]
    fn each_field_comes_from_the_most_specific_rule_that_has_it() {
        let subscriber = Attribution {
            subscriber: Some("imsi:1".into()),
            ..Default::default()
        };
        let map = AttributionMap::new([
            (
                Conditions {
                    vlan: Some(7),
                    ..Default::default()
                },
                cell("of the vlan"),
            ),
            (
                Conditions {
                    teid: Some(9),
                    ..Default::default()
                },
                subscriber,
            ),
        ]);
        let found = map.look_up(&FlowFacts {
            vlans: &[7],
            tunnels: &[tunnel(9, "192.0.2.8")],
            ..facts("10.0.0.1")
        });
        assert_eq!(found.subscriber.as_deref(), Some("imsi:1"));
        assert_eq!(found.cell_id.as_deref(), Some("of the vlan"));
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let gateway = address("192.0.2.9");
        let both = Conditions {
            teid: Some(9),
            gtpu_address: Some(gateway),
            ..Conditions::default()
        };
        let map = AttributionMap::new([(both, cell("a"))]);
        let found = |tunnels: &[TunnelFacts]| {
            let facts = FlowFacts {
                tunnels,
                ..facts("10.0.0.1")
            };
            map.look_up(&facts).cell_id
        };
        assert_eq!(found(&[tunnel(9, "192.0.2.8")]), None);
        // Each condition holds of a tunnel, but both of neither.
        assert_eq!(
            found(&[tunnel(9, "192.0.2.8"), tunnel(8, "192.0.2.9")]),
            None
        );
        assert_eq!(found(&[tunnel(9, "192.0.2.9")]).as_deref(), Some("a"));
    }

    #[test]
    fn a_prefix_with_host_bits_or_a_wrong_length_is_refused() {
        for text in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "2001:db8::/129",
            "10.0.0.0/",
            "x/8",
            "2001:db8::1/32",
        ] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
        assert!(Prefix::parse("10.0.0.1").is_some());
    }
}
