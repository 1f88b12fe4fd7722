//! How much one direction of a flow carried in an interval, and how steadily.

use crate::flow::keeper::Keeper;

const BIN_NS: u64 = 100_000_000;
const BIN_US: u32 = 100_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Volume counters of one direction in one interval.
#[derive(Debug, Clone, Copy, Default)]
pub struct Volume {
    /// IP bytes on the wire.
    pub bytes: u64,
    /// Transport payload bytes on the wire.
    pub payload: u64,
    pub packets: u32,
    active_bins: u32,
    /// Where the last bin with payload began.
    bin_ns: u64,
    /// Where the second of the last packet began.
    second_ns: u64,
    second_bytes: u64,
    peak_bytes: u64,
}

impl Volume {
    /// Keeps it, or gives it back; `last_ns` lies close to its times.
    pub fn keep(&mut self, keeper: &mut impl Keeper, last_ns: u64) {
        keeper.small(&mut self.packets);
        if self.packets == 0 {
            return;
        }
        keeper.number(&mut self.bytes);
        keeper.number(&mut self.payload);
        keeper.small(&mut self.active_bins);
        // All of it in one second, in most cases.
        let mut other_seconds = self.bytes.wrapping_sub(self.second_bytes);
        let mut beside_peak = self.bytes.wrapping_sub(self.peak_bytes);
        keeper.number(&mut other_seconds);
        keeper.number(&mut beside_peak);
        self.second_bytes = self.bytes.wrapping_sub(other_seconds);
        self.peak_bytes = self.bytes.wrapping_sub(beside_peak);
        let mut bin = self.bin_ns / BIN_NS;
        let mut second = self.second_ns / SECOND_NS;
        keeper.time(last_ns / BIN_NS, &mut bin);
        keeper.time(last_ns / SECOND_NS, &mut second);
        (self.bin_ns, self.second_ns) = (bin * BIN_NS, second * SECOND_NS);
    }

    #[inline]
    pub fn add(&mut self, ip_len: u32, payload_len: u32, time_ns: u64) {
        self.bytes += u64::from(ip_len);
        self.payload += u64::from(payload_len);
        self.packets = self.packets.saturating_add(1);
        self.add_to_second(ip_len, time_ns);
        if payload_len > 0 {
            self.mark_active(time_ns);
        }
    }

    #[inline]
    fn add_to_second(&mut self, ip_len: u32, time_ns: u64) {
        if time_ns.wrapping_sub(self.second_ns) >= SECOND_NS {
            self.second_ns = time_ns - time_ns % SECOND_NS;
            self.second_bytes = 0;
        }
        self.second_bytes += u64::from(ip_len);
        self.peak_bytes = self.peak_bytes.max(self.second_bytes);
    }

    #[inline]
    fn mark_active(&mut self, time_ns: u64) {
        if time_ns.wrapping_sub(self.bin_ns) >= BIN_NS || self.active_bins == 0 {
            self.bin_ns = time_ns - time_ns % BIN_NS;
            self.active_bins = self.active_bins.saturating_add(1);
        }
    }

    /// 100 ms for each UTC 100 ms bin with payload. Bias: rounds up, to one bin at the least.
    pub fn active_us(&self) -> u32 {
        self.active_bins.saturating_mul(BIN_US)
    }

    /// IP bytes of the best UTC second; null without packets.
    pub fn peak_bytes(&self) -> Option<u64> {
        (self.packets > 0).then_some(self.peak_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_time_counts_utc_bins_with_payload() {
        let mut volume = Volume::default();
        volume.add(100, 60, 99_999_999);
        volume.add(100, 60, 100_000_000);
        volume.add(100, 60, 150_000_000);
        volume.add(40, 0, 900_000_000);
        assert_eq!(volume.active_us(), 200_000);
        assert_eq!(
            (volume.bytes, volume.payload, volume.packets),
            (340, 180, 4)
        );
    }

    #[test]
    fn the_peak_is_the_best_utc_second() {
        let mut volume = Volume::default();
        for (length, second) in [(100, 0), (300, 1), (300, 1), (200, 2)] {
            volume.add(length, 0, second * SECOND_NS + 5);
        }
        assert_eq!(volume.peak_bytes(), Some(600));
        assert_eq!(Volume::default().peak_bytes(), None);
    }
}
