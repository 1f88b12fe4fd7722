//! About how much memory the tables take, so that a limit in bytes can be turned into limits in entries.

use crate::engine::flows::Flow;
use crate::flow::Table;

/// What a flow keeps outside of its slot, on average over mixed traffic in a full table: index, timer,
/// address, what its application said, and the session, of which most are at rest.
const BESIDE_A_FLOW: usize = 480;

/// Bytes of one entry of each table that a limit bounds, by the limit's name; measured where it is not
/// a size of a type. Two generations where a table keeps two.
pub fn table_bytes() -> [(&'static str, usize); 7] {
    [
        ("flows", Table::<Flow>::SLOT_BYTES + BESIDE_A_FLOW),
        ("fragments", 256),
        ("clients", 120),
        ("pairs", 100),
        ("names", 300),
        ("bearers", 1_000),
        ("copies", 40),
    ]
}
