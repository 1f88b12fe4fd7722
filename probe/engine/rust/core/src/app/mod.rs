//! Application protocols: what a flow's payload says about itself.
//!
//! Everything here takes bytes and packet time; where the bytes come from is the caller's affair.

pub mod dns;
pub mod dtls;
pub mod http;
pub mod quic;
pub mod reader;
pub mod tls;
