//! What the headers of a session's tunnels said in an interval (see `control::tunnels`).

use crate::control::numbering::Counted;
use crate::control::tunnels::Measured;
use crate::flow::samples::Samples;

/// Of one session and interval.
#[derive(Debug, Clone, Default)]
pub struct Tunnelled {
    /// Packets up and down. A tunnel counts for all its sessions together: a gap is told by the packet
    /// behind it, whose session need not be the one that lost.
    pub counted: [Counted; 2],
    /// Delay in the RAN and over the air, up and down, as the RAN reports it.
    pub ran_delay: [Samples; 2],
    /// Round trip between tap and base station.
    pub n3_rtt: Samples,
}

impl Tunnelled {
    pub fn add(&mut self, is_down: bool, measured: &Measured) {
        self.counted[usize::from(is_down)].add(measured.counted);
        let delays = [measured.up_delay_us, measured.down_delay_us];
        for (samples, delay_us) in self.ran_delay.iter_mut().zip(delays) {
            delay_us.into_iter().for_each(|us| samples.add(us));
        }
        let rtt_us = measured.n3_rtt_us;
        rtt_us.into_iter().for_each(|us| self.n3_rtt.add(us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_kept_apart() {
        let measured = |packets, up_delay_us, down_delay_us| Measured {
            counted: Counted {
                packets,
                ..Counted::default()
            },
            up_delay_us,
            down_delay_us,
            n3_rtt_us: None,
        };
        let mut tunnelled = Tunnelled::default();
        // Both delays are told on the way up.
        tunnelled.add(false, &measured(1, Some(15_000), Some(12_000)));
        tunnelled.add(true, &measured(2, None, None));
        assert_eq!(tunnelled.counted.map(|one| one.packets), [1, 2]);
        let least = tunnelled.ran_delay.each_ref().map(Samples::min_us);
        assert_eq!(least, [Some(15_000), Some(12_000)]);
        assert_eq!(tunnelled.n3_rtt.count(), None);
    }
}
