//! About how much memory the tables take, so that a limit in bytes can be turned into limits in entries.

use crate::engine::session::Session;
use crate::flow::Table;

/// What a flow keeps outside of its slot, on average over mixed traffic: index, timer, address, what
/// its application said.
const BESIDE_A_FLOW: usize = 320;

/// Bytes of one entry of each table that a limit bounds, by the limit's name; measured where it is not
/// a size of a type. Two generations where a table keeps two.
pub fn table_bytes() -> [(&'static str, usize); 7] {
    [
        ("flows", Table::<Session>::SLOT_BYTES + BESIDE_A_FLOW),
        ("fragments", 256),
        ("clients", 120),
        ("pairs", 100),
        ("names", 300),
        ("bearers", 1_000),
        ("copies", 40),
    ]
}
