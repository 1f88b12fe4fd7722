//! The rings of all workers of one interface: opened together, and again when the interface comes back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::LinkType;
use super::bpf::{self, Instruction};
use super::fanout;
use super::fault::Fault;
use super::live::{Clock, LiveOptions};
use super::ring::{self, Port, Ring};
use super::socket;
use super::watch::Watch;

/// ARPHRD_RAWIP, which libc does not name.
const HARDWARE_RAW_IP: u16 = 519;

/// What can be said of an interface from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    Up,
    /// Up, with no cable or no peer.
    NoCarrier,
    Down,
    /// There is no interface of that name.
    #[default]
    Gone,
}

impl LinkState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::NoCarrier => "no_carrier",
            Self::Down => "down",
            Self::Gone => "gone",
        }
    }

    pub(super) fn of(name: &str) -> Self {
        let Ok(flags) = socket::flags(name) else {
            return Self::Gone;
        };
        match (flags & libc::IFF_UP != 0, flags & libc::IFF_RUNNING != 0) {
            (true, true) => Self::Up,
            (true, false) => Self::NoCarrier,
            (false, _) => Self::Down,
        }
    }
}

/// What a worker reads from.
#[derive(Debug)]
pub(super) struct Rings {
    pub interface: u32,
    pub link: LinkType,
    pub data: Ring,
    /// The control plane, of which the lead finds all in its own ring.
    pub control: Option<Ring>,
    /// The lead watches over all.
    pub watch: Option<Watch>,
}

/// What the workers of one interface share.
#[derive(Debug)]
pub(super) struct Group {
    pub name: String,
    pub options: LiveOptions,
    opened: Mutex<Opened>,
}

/// Rings that no worker has taken yet.
#[derive(Debug, Default)]
struct Opened {
    /// How often rings were opened.
    generation: u64,
    waiting: Vec<Option<Rings>>,
}

impl Group {
    /// An interface that is not there is an error; one that is down is waited for.
    pub fn open(name: &str, options: LiveOptions) -> Result<Self, Fault> {
        let group = Self {
            name: name.to_owned(),
            options,
            opened: Mutex::default(),
        };
        match LinkState::of(name) {
            LinkState::Gone => return Err(Fault::Plain("there is no such interface")),
            LinkState::Down => {}
            LinkState::Up | LinkState::NoCarrier => group.open_rings()?,
        }
        Ok(group)
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        // A worker that panicked leaves whole rings behind.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker's rings, if they were opened later than those of `generation`.
    pub fn take(&self, worker: usize, generation: u64) -> Option<(u64, Rings)> {
        let mut opened = self.opened();
        if opened.generation <= generation {
            return None;
        }
        let rings = opened.waiting.get_mut(worker)?.take()?;
        Some((opened.generation, rings))
    }

    /// Opens new rings for all workers, who take them as they find the old ones dead.
    pub fn open_rings(&self) -> Result<(), Fault> {
        let rings = Plan::of(&self.name, &self.options)?.open()?;
        let mut opened = self.opened();
        opened.generation += 1;
        opened.waiting = rings.into_iter().map(Some).collect();
        Ok(())
    }
}

/// How rings are to be opened on an interface as it is now.
struct Plan<'a> {
    options: &'a LiveOptions,
    port: Port,
    link: LinkType,
    filter: Option<&'a [Instruction]>,
    counts_sent: bool,
}

impl<'a> Plan<'a> {
    fn of(name: &str, options: &'a LiveOptions) -> Result<Self, Fault> {
        let missing = Fault::Plain("there is no such interface");
        let interface = socket::index(name).ok_or(missing)?;
        let step = "read the interface's type";
        let hardware =
            socket::hardware_type(name).map_err(|error| Fault::Capture { step, error })?;
        let link = link_type(hardware)?;
        let ignore_outgoing = options.ignore_outgoing || hardware == libc::ARPHRD_LOOPBACK;
        if options.clock == Clock::Hardware {
            check_hardware_time(name)?;
        }
        let filter = options.filter.as_ref().map(|filter| filter.of(link));
        Ok(Self {
            options,
            port: Port {
                interface,
                ignore_outgoing,
                hardware_time: options.clock == Clock::Hardware,
            },
            link,
            filter: filter.transpose()?,
            counts_sent: !ignore_outgoing,
        })
    }

    /// Opens the rings, lets them share the packets, and only then has them listen: no packet reaches
    /// a worker whose it is not.
    fn open(&self) -> Result<Vec<Rings>, Fault> {
        let workers = self.options.workers.max(1);
        let data: Result<Vec<_>, Fault> = (0..workers)
            .map(|_| Ring::of_blocks(self.port, self.options.blocks()))
            .collect();
        let data = data?;
        if workers > 1 {
            self.share(&data)?;
        }
        let control = self.control(workers)?;
        for ring in &data {
            ring::listen(ring.fd(), self.filter)?;
        }
        let filtered = self.filter.is_some();
        let mut watch = Some(Watch::open(self.port, &data, self.counts_sent, filtered)?);
        let rings = data.into_iter().zip(control).map(|(data, control)| Rings {
            interface: self.port.interface,
            link: self.link,
            data,
            control,
            watch: watch.take(),
        });
        Ok(rings.collect())
    }

    fn share(&self, rings: &[Ring]) -> Result<(), Fault> {
        let workers = rings.len() as u32;
        let program = fanout::shard(self.link, &self.options.sharding, workers).ok_or(TOO_MANY)?;
        let mut group = None;
        for ring in rings {
            group = Some(ring.share(group, self.port.ignore_outgoing, &program)?);
        }
        Ok(())
    }

    /// A ring of the control plane for each worker but the lead.
    fn control(&self, workers: u32) -> Result<Vec<Option<Ring>>, Fault> {
        if workers == 1 {
            return Ok(vec![None]);
        }
        let control = fanout::control(self.link, &self.options.sharding).ok_or(TOO_MANY)?;
        let program = match self.filter {
            Some(filter) => bpf::both(filter, &control).ok_or(TOO_LONG)?,
            None => control,
        };
        let mut rings = vec![None];
        for _ in 1..workers {
            let ring = Ring::of_packets(self.port)?;
            ring::listen(ring.fd(), Some(&program))?;
            rings.push(Some(ring));
        }
        Ok(rings)
    }
}

const TOO_MANY: Fault = Fault::Plain("too many prefixes for the kernel to share out packets by");
const TOO_LONG: Fault = Fault::Plain("filter and prefixes are too long together for the kernel");

fn link_type(hardware: u16) -> Result<LinkType, Fault> {
    match hardware {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(LinkType::Ethernet),
        libc::ARPHRD_NONE | HARDWARE_RAW_IP => Ok(LinkType::RawIp),
        other => Err(Fault::Unsupported(format!("hardware type {other}"))),
    }
}

/// Has the card stamp packets, or finds that it does so already: switching it on takes CAP_NET_ADMIN.
fn check_hardware_time(name: &str) -> Result<(), Fault> {
    let stamps = |switch_on| socket::stamps_all(name, switch_on).unwrap_or(false);
    if stamps(false) || stamps(true) {
        return Ok(());
    }
    Err(Fault::Plain(
        "the card does not stamp all packets (timestamps: hardware); if it can, switch that on with \
         hwstamp_ctl -r 1 -i and its name",
    ))
}
