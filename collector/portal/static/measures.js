// Ratios and rates of one aggregate of the HTTP interface; null where there is nothing to divide by.

export const throughputDown = (sums) => rate(sums.payload_down, sums.active_us_down);
export const throughputUp = (sums) => rate(sums.payload_up, sums.active_us_up);

export function retransmissionShare(sums) {
  return ratio(
    sums.retransmitted_packets_up + sums.retransmitted_packets_down,
    sums.packets_up + sums.packets_down,
  );
}

export const volume = (sums) => sums.bytes_up + sums.bytes_down;

function ratio(part, whole) {
  return whole > 0 ? part / whole : null;
}

/** Bits per second while data flowed. */
function rate(payload, activeUs) {
  return activeUs > 0 ? (8e6 * payload) / activeUs : null;
}
