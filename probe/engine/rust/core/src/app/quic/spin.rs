//! Round trips from the latency spin bit (RFC 9000 17.4).

use crate::flow::samples::Samples;

/// Fewer edges do not tell a connection that spins from one that sets the bit at random.
const MIN_EDGES: u32 = 16;
/// At most one edge in so many may be out of turn: packets that overtake each other make such.
const MIN_EDGES_PER_STRAY: u32 = 8;

/// Index of a side, in the order that all pairs here have.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

/// The spin bits of both sides of one connection.
///
/// The server repeats the bit that it saw last and the client inverts it, so edges pass the tap in
/// turn: the client's, a round trip to the server later the server's, a round trip to the client
/// later the client's again. A connection whose edges do not come in turn sets the bit at random,
/// as RFC 9000 allows, and one in which either side does not take part has no edges.
///
/// Bias: upwards. An edge waits for its sender to have something to send, and acknowledgments may be
/// delayed (25 ms unless agreed otherwise). A sample is left out if its sender had been silent for
/// more than half of it. A lost edge lengthens the sample; reordering may give a short one.
#[derive(Debug, Default)]
pub struct Spin {
    ends: [End; 2],
    last_edge: Option<(usize, u64)>,
    edges: u32,
    strays: u32,
    samples: [Samples; 2],
}

#[derive(Debug, Default, Clone, Copy)]
struct End {
    bit: Option<bool>,
    last_ns: u64,
}

impl Spin {
    /// Takes in a 1-RTT packet of a side.
    #[inline]
    pub fn on_packet(&mut self, side: usize, bit: bool, time_ns: u64) {
        let end = &mut self.ends[side & 1];
        let silence_ns = time_ns.saturating_sub(end.last_ns);
        end.last_ns = time_ns;
        match end.bit.replace(bit) {
            Some(before) if before != bit => self.on_edge(side & 1, bit, time_ns, silence_ns),
            _ => {}
        }
    }

    /// Packets went by unseen: an edge after them says nothing with one before.
    pub fn interrupt(&mut self) {
        self.ends = Default::default();
        self.last_edge = None;
    }

    fn on_edge(&mut self, side: usize, bit: bool, time_ns: u64, silence_ns: u64) {
        self.edges = self.edges.saturating_add(1);
        let Some((edge_side, edge_ns)) = self.last_edge.replace((side, time_ns)) else {
            return;
        };
        let Some(other) = self.ends[1 - side].bit else {
            return;
        };
        let answers_other = if side == SERVER {
            bit == other
        } else {
            bit != other
        };
        if edge_side == side || !answers_other {
            self.strays = self.strays.saturating_add(1);
            return;
        }
        let round_trip_ns = time_ns.saturating_sub(edge_ns);
        if silence_ns <= round_trip_ns / 2 {
            let us = u32::try_from(round_trip_ns / 1000).unwrap_or(u32::MAX);
            self.samples[side].add(us);
        }
    }

    /// Both sides take part, as far as the edges so far tell.
    fn is_plausible(&self) -> bool {
        self.edges >= MIN_EDGES && self.strays <= self.edges / MIN_EDGES_PER_STRAY
    }

    /// The samples since the last call, client's and server's; none while the connection does not
    /// look like one that spins.
    pub fn take(&mut self) -> [Samples; 2] {
        let samples = std::mem::take(&mut self.samples);
        if self.is_plausible() {
            samples
        } else {
            Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const TO_CLIENT: u64 = 15 * MS;
    const TO_SERVER: u64 = 5 * MS;

    /// A download seen at a tap 15 ms from the client and 5 ms from the server, there and not back.
    /// Each side sends a packet each millisecond.
    fn conversation(
        client: impl Fn(u64, bool) -> bool,
        server: impl Fn(u64, bool) -> bool,
    ) -> Spin {
        let mut spin = Spin::default();
        let (mut up, mut down) = (vec![false; 600], vec![false; 600]);
        for at in 0..600usize {
            let heard = |bits: &[bool], delay: u64| {
                at.checked_sub((delay / MS) as usize)
                    .is_some_and(|then| bits[then])
            };
            // What stands in `up` and `down` is what passes the tap at that time.
            up[at] = client(at as u64, heard(&down, 2 * TO_CLIENT));
            down[at] = server(at as u64, heard(&up, 2 * TO_SERVER));
            spin.on_packet(CLIENT, up[at], at as u64 * MS);
            spin.on_packet(SERVER, down[at], at as u64 * MS);
        }
        spin
    }

    #[test]
    fn each_sides_round_trip_is_the_time_between_its_edges() {
        let [client, server] = conversation(|_, heard| !heard, |_, heard| heard).take();
        let within = |us: Option<u32>, wanted: u64| {
            let us = u64::from(us.unwrap()) * 1000;
            assert!(us.abs_diff(wanted) <= 2 * MS, "{us} for {wanted}");
        };
        within(client.min_us(), 2 * TO_CLIENT);
        within(server.min_us(), 2 * TO_SERVER);
        assert!(client.count().unwrap() >= 10);
    }

    #[test]
    fn a_side_that_does_not_take_part_gives_nothing() {
        for samples in [
            conversation(|_, heard| !heard, |_, _| false).take(),
            conversation(|_, _| true, |_, heard| heard).take(),
        ] {
            assert_eq!(samples.map(|side| side.count()), [None, None]);
        }
    }

    #[test]
    fn a_side_that_was_silent_gives_no_sample() {
        let mut spin = Spin::default();
        for turn in 0..100u64 {
            let (bit, at) = (turn % 2 == 0, turn * 15_000 * MS);
            spin.on_packet(CLIENT, bit, at);
            spin.on_packet(SERVER, bit, at + 10 * MS);
        }
        let [client, server] = spin.take();
        assert_eq!((client.count(), server.count()), (None, None));
    }

    proptest! {
        #[test]
        fn bits_set_at_random_are_recognised(bits in prop::collection::vec(any::<(bool, bool)>(), 400)) {
            let client = |at: u64, _| bits[at as usize % 400].0;
            let server = |at: u64, _| bits[at as usize % 400].1;
            let samples = conversation(client, server).take();
            prop_assert_eq!(samples.map(|side| side.count()), [None, None]);
        }
    }
}
