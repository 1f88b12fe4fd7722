//! What became of every packet, by interface and reason.

use std::fmt;

/// Why a packet's innermost IP packet cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// As wide as a register: it shares its place in a `Result` with whole words then, not with half of one.
#[repr(u64)]
pub enum Undecodable {
    /// The link type is not one of those that are read.
    LinkTypeUnknown,
    /// The frame ends inside a header of the link layer, tags, labels and PPPoE included.
    TruncatedLink,
    /// Not an IP packet: ARP, LLDP, spanning tree, ...
    NotIp,
    /// IP may be inside, but below a layer that is not read: encrypted or compressed (MACsec, PPP
    /// with MPPE or header compression), source routed GRE, a service chain's header, ...
    UnsupportedEncapsulation,
    /// The capture was cut inside the IP header or an extension header.
    TruncatedIp,
    /// The IP header or an extension header contradicts itself.
    MalformedIp,
    /// A tunnelled IP header states more bytes than the packet around it holds.
    BadLength,
    /// The capture was cut before the end of the GTP-U header.
    TruncatedGtpu,
    /// A G-PDU that carries neither an IP packet nor a frame: PPP, or nothing at all.
    GtpuNotIp,
    /// The capture was cut inside the header of another tunnel (GRE, ERSPAN, VXLAN, GENEVE).
    TruncatedTunnel,
    /// The header of a tunnel contradicts itself or the packet around it.
    MalformedTunnel,
    /// A frame that was damaged before the switch mirrored it, as ERSPAN says.
    DamagedFrame,
    /// More tags, tunnels, extension headers or reassemblies than are followed.
    TooDeep,
    /// A fragment that no datagram can have: empty, not a multiple of 8, or past byte 65,535.
    FragmentMalformed,
    /// A fragment of a datagram whose fragments overlap or disagree (RFC 5722).
    FragmentOverlap,
    /// A fragment whose datagram was not complete in time.
    FragmentTimeout,
    /// A fragment given up because one of `FragmentLimits` was reached.
    FragmentLimit,
}

impl Undecodable {
    /// Every reason, in the order of `Counters::undecodable`.
    pub const ALL: [Self; 17] = [
        Self::LinkTypeUnknown,
        Self::TruncatedLink,
        Self::NotIp,
        Self::UnsupportedEncapsulation,
        Self::TruncatedIp,
        Self::MalformedIp,
        Self::BadLength,
        Self::TruncatedGtpu,
        Self::GtpuNotIp,
        Self::TruncatedTunnel,
        Self::MalformedTunnel,
        Self::DamagedFrame,
        Self::TooDeep,
        Self::FragmentMalformed,
        Self::FragmentOverlap,
        Self::FragmentTimeout,
        Self::FragmentLimit,
    ];

    /// The word that the ledger uses.
    pub fn reason(self) -> &'static str {
        match self {
            Self::LinkTypeUnknown => "link_type_unknown",
            Self::TruncatedLink => "truncated_link",
            Self::NotIp => "not_ip",
            Self::UnsupportedEncapsulation => "unsupported_encapsulation",
            Self::TruncatedIp => "truncated_ip",
            Self::MalformedIp => "malformed_ip",
            Self::BadLength => "bad_length",
            Self::TruncatedGtpu => "truncated_gtpu",
            Self::GtpuNotIp => "gtpu_not_ip",
            Self::TruncatedTunnel => "truncated_tunnel",
            Self::MalformedTunnel => "malformed_tunnel",
            Self::DamagedFrame => "damaged_frame",
            Self::TooDeep => "too_deep",
            Self::FragmentMalformed => "fragment_malformed",
            Self::FragmentOverlap => "fragment_overlap",
            Self::FragmentTimeout => "fragment_timeout",
            Self::FragmentLimit => "fragment_limit",
        }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

/// Captured packets of one interface since the start. Every packet given to the decoder is in
/// exactly one of `decoded`, `held` and `undecodable`; a fragment moves from `held` to one of the
/// others when its datagram is complete or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub decoded: u64,
    /// Fragments whose datagram is not complete yet: a level, not a sum.
    pub held: u64,
    /// In the order of `Undecodable::ALL`.
    pub undecodable: [u64; Undecodable::ALL.len()],
    /// Datagrams put together from fragments (a count of datagrams, not of packets).
    pub reassembled: u64,
}

impl Counters {
    pub fn undecodable_for(&self, reason: Undecodable) -> u64 {
        self.undecodable[reason as usize]
    }

    /// All packets given to the decoder.
    pub fn packets(&self) -> u64 {
        self.decoded + self.held + self.undecodable.iter().sum::<u64>()
    }

    pub(super) fn fail(&mut self, reason: Undecodable, packets: u64) {
        self.undecodable[reason as usize] += packets;
    }

    /// Gives up packets that were held.
    pub(super) fn lose(&mut self, reason: Undecodable, packets: u64) {
        self.release(packets);
        self.fail(reason, packets);
    }

    pub(super) fn hold(&mut self, packets: u64) {
        self.held += packets;
    }

    pub(super) fn release(&mut self, packets: u64) {
        self.held -= packets;
    }
}

/// Interfaces counted apart; a source with more shares the last entry among the rest.
const MAX_INTERFACES: usize = 4096;

/// The counters of every interface.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    interfaces: Vec<Counters>,
}

impl Ledger {
    #[inline]
    pub fn of(&mut self, interface: u32) -> &mut Counters {
        let index = interface as usize;
        if index < self.interfaces.len() {
            return &mut self.interfaces[index];
        }
        self.new_entry(index)
    }

    #[cold]
    fn new_entry(&mut self, index: usize) -> &mut Counters {
        let index = index.min(MAX_INTERFACES - 1);
        let count = self.interfaces.len().max(index + 1);
        self.interfaces.resize(count, Counters::default());
        &mut self.interfaces[index]
    }

    pub fn all(&self) -> &[Counters] {
        &self.interfaces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_its_own_counter() {
        let words: std::collections::BTreeSet<_> =
            Undecodable::ALL.iter().map(|each| each.reason()).collect();
        assert_eq!(words.len(), Undecodable::ALL.len());
        for (index, reason) in Undecodable::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn an_absurd_interface_number_allocates_no_more_than_the_bound() {
        let mut ledger = Ledger::default();
        ledger.of(u32::MAX).decoded += 1;
        ledger.of(u32::MAX - 1).decoded += 1;
        assert_eq!(ledger.all().len(), MAX_INTERFACES);
        assert_eq!(ledger.all()[MAX_INTERFACES - 1].decoded, 2);
    }
}
