//! What was remarkable about a session besides its failure: codes in its evidence.

use crate::flow::keeper::Keeper;

macro_rules! notes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Something that was seen, told once in the interval in which it was.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Note { $($(#[$doc])* $variant),+ }

        impl Note {
            const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

notes! {
    /// An answer did not fit into a datagram (TC bit): its client has to ask again over TCP.
    DnsTruncated = "dns_truncated",
    /// The question was asked before, here or in another flow, and not answered.
    DnsQueryRepeated = "dns_query_repeated",
    /// What this flow asked in vain was answered in another flow.
    DnsAnsweredElsewhere = "dns_answered_elsewhere",
    /// Content was left unread under overload: its names may be missing.
    ContentUnread = "content_unread",
    /// Round trips were left unmeasured under overload, but for the handshake's.
    RoundTripsUnsampled = "round_trips_unsampled",
    /// The client went on sending for a second or more, and nothing came back.
    UdpUnanswered = "udp_unanswered",
    /// A reset did not end the connection: it was made by another, and missed.
    ResetIgnored = "reset_ignored",
    IcmpNetworkUnreachable = "icmp_network_unreachable",
    IcmpHostUnreachable = "icmp_host_unreachable",
    IcmpProtocolUnreachable = "icmp_protocol_unreachable",
    IcmpPortUnreachable = "icmp_port_unreachable",
    IcmpProhibited = "icmp_prohibited",
    IcmpTimeExceeded = "icmp_time_exceeded",
    IcmpPacketTooBig = "icmp_packet_too_big",
    IcmpReassemblyTimeout = "icmp_reassembly_timeout",
    IcmpParameterProblem = "icmp_parameter_problem",
    /// What was sent back to the opener could not be delivered: it is gone, or has closed its port.
    IcmpAnswerUndelivered = "icmp_answer_undelivered",
}

/// A set of notes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notes(u32);

impl Notes {
    /// Keeps them, or gives them back.
    pub fn keep(&mut self, keeper: &mut impl Keeper) {
        keeper.small(&mut self.0);
    }

    pub fn add(&mut self, note: Note) {
        self.0 |= 1 << note as u32;
    }

    pub fn add_all(&mut self, notes: Self) {
        self.0 |= notes.0;
    }

    fn holds(self, note: Note) -> bool {
        self.0 >> note as u32 & 1 == 1
    }

    /// `evidence` with the codes of these notes behind it. Allocates only if there are any.
    pub fn behind(self, evidence: Option<&str>) -> Option<std::borrow::Cow<'_, str>> {
        if self == Self::default() {
            return evidence.map(Into::into);
        }
        let known = evidence.unwrap_or_default();
        let mut codes: Vec<&str> = known.split(',').filter(|code| !code.is_empty()).collect();
        for note in Note::ALL.iter().filter(|note| self.holds(**note)) {
            if !codes.contains(&note.as_str()) {
                codes.push(note.as_str());
            }
        }
        Some(codes.join(",").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stand_once_and_behind_the_evidence() {
        let mut notes = Notes::default();
        assert_eq!(notes.behind(None), None);
        assert_eq!(notes.behind(Some("rcode")).as_deref(), Some("rcode"));
        notes.add(Note::IcmpPacketTooBig);
        notes.add(Note::DnsTruncated);
        notes.add(Note::DnsTruncated);
        let both = "dns_truncated,icmp_packet_too_big";
        assert_eq!(notes.behind(None).as_deref(), Some(both));
        let told = notes.behind(Some("icmp_packet_too_big"));
        assert_eq!(told.as_deref(), Some("icmp_packet_too_big,dns_truncated"));
    }
}
