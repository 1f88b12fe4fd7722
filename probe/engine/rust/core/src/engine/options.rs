//! What the engine is told to do: a JSON text with every key given (`probe/engine/_native.pyi`).

use serde::Deserialize;

use crate::control::attribution::{Attribution, AttributionMap, Conditions, Prefix, parse_address};
use crate::engine::overload::SheddingMode;
use crate::source::{Clock, Filter, Instruction, LiveOptions, MAX_INSTRUCTIONS, Sharding};

/// Options of one engine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub probe_id: String,
    pub captures: Vec<Capture>,
    pub active_timeout_s: u32,
    pub client_address: ClientAddress,
    pub batch_rows: u32,
    pub batch_interval_s: u32,
    pub limits: Limits,
    /// CPUs that the captures' threads stay on, one after the other; empty: any.
    #[serde(default)]
    pub cpus: Vec<usize>,
    /// The thread that starts the captures gives up all capabilities once their sockets are open.
    #[serde(default)]
    pub drop_capabilities: bool,
    /// All but CAP_NET_RAW, so that an interface that went away can be opened when it comes back.
    #[serde(default)]
    pub keep_net_raw: bool,
    subscriber_prefixes: Vec<String>,
    ran_prefixes: Vec<String>,
    attribution: Vec<AttributionRule>,
}

/// One capture: files read one after the other as one stream, or a live interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    pub capture_point: String,
    #[serde(default)]
    pub files: Vec<String>,
    #[serde(default)]
    pub interface: Option<String>,
    pub time_offset_ns: i64,
    /// A mirror port only receives; a host that watches its own traffic sends too.
    #[serde(default)]
    pub ignore_outgoing: bool,
    /// Threads that measure flows. Of files, one that reads and one that writes join more than one; each
    /// of an interface's has a ring of its own.
    #[serde(default = "one")]
    pub workers: u16,
    /// Packets that a live capture leaves out in the kernel.
    #[serde(default)]
    filter: Option<FilterOption>,
    #[serde(default)]
    timestamps: Timestamps,
    /// Of each worker of a live capture; 0: the usual size.
    #[serde(default)]
    ring_bytes: u32,
}

/// Instructions of classic BPF, (code, jt, jf, k), for interfaces with Ethernet headers and without;
/// an empty list where the filter has no meaning for one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterOption {
    ethernet: Vec<(u16, u8, u8, u32)>,
    raw_ip: Vec<(u16, u8, u8, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Timestamps {
    #[default]
    Kernel,
    Hardware,
}

fn one() -> u16 {
    1
}

/// More share nothing out more evenly, and each learns all of the control plane.
const MAX_WORKERS: u16 = 64;

/// How much of the client's address leaves the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAddress {
    Full,
    /// /24 of IPv4, /56 of IPv6.
    Prefix,
    None,
}

/// Bounds of the engine's tables.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Flows tracked at once; beyond that the stalest is ended (`evicted`).
    pub flows: u32,
    /// IP datagrams under reassembly at once.
    pub fragments: u32,
    /// Bytes of fragments held at once.
    pub reassembly_bytes: u32,
    /// Clients remembered at once, to tell a dead server from a one-way mirror, and a scan from both.
    pub clients: u32,
    /// Packets remembered to find a mirror's copies of them; 0: none are looked for.
    #[serde(default = "default_copies")]
    pub copies: u32,
    /// Pairs of a client and a server it connected to that are remembered at once, to tell the loser
    /// of a race from a failure.
    pub pairs: u32,
    /// Names of servers remembered at once from DNS answers, by subscriber.
    pub names: u32,
    /// Sessions of the mobile network that are known at once from its control plane.
    pub bearers: u32,
    /// What is left out under overload.
    #[serde(default)]
    pub shedding: SheddingMode,
    /// Share of one core that each live capture may use, in percent.
    #[serde(default = "whole_core")]
    pub cpu_share_percent: u32,
}

/// At a million packets a second, the last 65 ms.
fn default_copies() -> u32 {
    65_536
}

fn whole_core() -> u32 {
    100
}

/// Tables of 320 MiB.
const MAX_COPIES: u32 = 1 << 24;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributionRule {
    client_prefix: Option<String>,
    vlan: Option<u16>,
    teid: Option<u32>,
    gtpu_address: Option<String>,
    subscriber: Option<String>,
    cell_id: Option<String>,
    ran_node_id: Option<String>,
    tracking_area: Option<String>,
    rat: Option<String>,
    apn: Option<String>,
}

/// The longest interval and batch age: a wheel of one-second ticks serves both.
const MAX_SECONDS: u32 = 86_400;

impl Options {
    /// Reads and checks options; the error is one line that names the key.
    pub fn parse(json: &str) -> Result<Self, String> {
        let options: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        let ranges = [
            ("active_timeout_s", self.active_timeout_s, MAX_SECONDS),
            ("batch_interval_s", self.batch_interval_s, MAX_SECONDS),
            ("batch_rows", self.batch_rows, 65_536),
            ("limits.flows", self.limits.flows, u32::MAX),
            ("limits.fragments", self.limits.fragments, u32::MAX),
            (
                "limits.reassembly_bytes",
                self.limits.reassembly_bytes,
                u32::MAX,
            ),
            ("limits.clients", self.limits.clients, u32::MAX),
            ("limits.pairs", self.limits.pairs, u32::MAX),
            ("limits.names", self.limits.names, u32::MAX),
            ("limits.bearers", self.limits.bearers, u32::MAX),
            (
                "limits.cpu_share_percent",
                self.limits.cpu_share_percent,
                100,
            ),
        ];
        for (key, value, most) in ranges {
            if !(1..=most).contains(&value) {
                return Err(format!("{key}: {value} is not between 1 and {most}"));
            }
        }
        if self.limits.copies > MAX_COPIES {
            let copies = self.limits.copies;
            return Err(format!("limits.copies: {copies} is more than {MAX_COPIES}"));
        }
        self.subscriber_prefixes()?;
        self.ran_prefixes()?;
        self.attribution_map()?;
        self.captures.iter().try_for_each(Capture::check)
    }

    /// Prefixes of the subscribers' own addresses: they tell client from server.
    pub fn subscriber_prefixes(&self) -> Result<Vec<Prefix>, String> {
        prefixes("subscriber_prefixes", &self.subscriber_prefixes)
    }

    /// Prefixes of the radio side's outer GTP-U addresses: what comes from there goes up.
    pub fn ran_prefixes(&self) -> Result<Vec<Prefix>, String> {
        prefixes("ran_prefixes", &self.ran_prefixes)
    }

    pub fn attribution_map(&self) -> Result<AttributionMap, String> {
        resolved(&self.attribution)
    }
}

/// Reads a map as the option `attribution` holds it; the error is one line that names the key.
pub fn parse_attribution(json: &str) -> Result<AttributionMap, String> {
    let rules: Vec<AttributionRule> =
        serde_json::from_str(json).map_err(|error| error.to_string())?;
    resolved(&rules)
}

fn resolved(rules: &[AttributionRule]) -> Result<AttributionMap, String> {
    let rules: Result<Vec<_>, String> = rules.iter().map(AttributionRule::resolve).collect();
    Ok(AttributionMap::new(rules?))
}

impl Capture {
    fn check(&self) -> Result<(), String> {
        if self.files.is_empty() == self.interface.is_none() {
            return Err("captures: each needs either files or an interface".into());
        }
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            let workers = self.workers;
            return Err(format!(
                "captures: {workers} workers are not between 1 and {MAX_WORKERS}"
            ));
        }
        let programs = self.filter.iter().flat_map(|of| [&of.ethernet, &of.raw_ip]);
        if programs.into_iter().any(|of| of.len() > MAX_INSTRUCTIONS) {
            return Err("captures.filter: too many instructions".into());
        }
        Ok(())
    }
}

impl FilterOption {
    fn programs(&self) -> Filter {
        let program = |of: &[(u16, u8, u8, u32)]| {
            of.iter()
                .map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k })
                .collect()
        };
        Filter {
            ethernet: program(&self.ethernet),
            raw_ip: program(&self.raw_ip),
        }
    }
}

impl Options {
    /// How to capture live, for one of the captures.
    pub fn live(&self, capture: &Capture) -> Result<LiveOptions, String> {
        let ranges = |prefixes: Vec<Prefix>| prefixes.iter().map(Prefix::range).collect();
        Ok(LiveOptions {
            time_offset_ns: capture.time_offset_ns,
            ignore_outgoing: capture.ignore_outgoing,
            workers: capture.workers.into(),
            sharding: Sharding {
                subscribers: ranges(self.subscriber_prefixes()?),
                ran: ranges(self.ran_prefixes()?),
            },
            filter: capture.filter.as_ref().map(FilterOption::programs),
            clock: match capture.timestamps {
                Timestamps::Kernel => Clock::Kernel,
                Timestamps::Hardware => Clock::Hardware,
            },
            ring_bytes: capture.ring_bytes as usize,
        })
    }
}

fn prefix(key: &str, text: &str) -> Result<Prefix, String> {
    Prefix::parse(text)
        .ok_or_else(|| format!("{key}: {text:?} is not a network prefix such as 10.0.0.0/8"))
}

fn prefixes(key: &str, texts: &[String]) -> Result<Vec<Prefix>, String> {
    texts.iter().map(|text| prefix(key, text)).collect()
}

impl AttributionRule {
    fn resolve(&self) -> Result<(Conditions, Attribution), String> {
        let client_prefix = match &self.client_prefix {
            Some(text) => Some(prefix("attribution.client_prefix", text)?),
            None => None,
        };
        let gtpu_address = match &self.gtpu_address {
            Some(text) => Some(parse_address(text).ok_or_else(|| {
                format!("attribution.gtpu_address: {text:?} is not an IP address")
            })?),
            None => None,
        };
        let conditions = Conditions {
            client_prefix,
            vlan: self.vlan,
            teid: self.teid,
            gtpu_address,
        };
        let attribution = Attribution {
            subscriber: self.subscriber.clone(),
            cell_id: self.cell_id.clone(),
            ran_node_id: self.ran_node_id.clone(),
            tracking_area: self.tracking_area.clone(),
            rat: self.rat.clone(),
            apn: self.apn.clone(),
        };
        Ok((conditions, attribution))
    }
}
