//! The session record: its columns, and the batch body that carries many of them.
//!
//! `columns::Columns` is the table of fields, in the order and with the names and wire types of
//! `probe/record/schema.py`; a test on the Python side compares the two. `names` holds the closed
//! lists of values as text, `pseudonym` the subscriber's name.

mod column;
mod columns;
mod dictionary;
pub mod names;
mod packed;
pub mod pseudonym;
mod row;
pub mod session_id;

pub use column::WireType;
pub use columns::{Columns, Record, SCHEMA};
