//! Connections that go on where the tap does not see them, or not at all.

use super::Case;
use super::stop::{end, is_long};
use crate::engine::failure::Verdict;
use crate::flow::Direction;

/// Judges data of which the tap saw neither an acknowledgment nor another copy.
///
/// Whoever has data outstanding sends it again after a few seconds at most (RFC 6298 2 and 5), and
/// the copy takes the way of the original. If none comes, the sender is gone, the packets take
/// another way, or the capture holds a part of them only: the silence says nothing.
pub fn lost(case: &Case<'_>) -> Option<Verdict> {
    if !case.tcp.is_established() || !case.hears_all() {
        return None;
    }
    let down = case.session.up.opposite();
    let evidence = |sender| {
        if sender == down {
            "data_down_outstanding,not_retransmitted"
        } else {
            "data_up_outstanding,not_retransmitted"
        }
    };
    let lost = [down, case.session.up]
        .into_iter()
        .find(|&sender| is_out_of_sight(case, sender));
    lost.map(|sender| Verdict::unknown(evidence(sender)))
}

fn is_out_of_sight(case: &Case<'_>, sender: Direction) -> bool {
    let blocked = case.tcp.blocked(sender, case.around.now_ns);
    is_long(blocked.for_ns, end(case)) && !blocked.sender_tries
}
