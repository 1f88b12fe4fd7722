//! The table of the record's fields: one line each drives the record, its columns and the schema.

use rmp::encode;

use super::column::{Binary, Column, Near, Optional, Required, WireType};
use super::dictionary::{Bytes, RequiredText, Text};
use super::row::Cell;

/// Room for what a body holds beside its rows: the columns' names, a ledger.
const BODY_START: usize = 16 << 10;
/// Room for a row, with which most bodies do not have to grow.
const BYTES_A_ROW: usize = 160;

macro_rules! record_fields {
    ($($name:ident: $column:ty,)+) => {
        /// One session record as it is written; texts and bytes are borrowed from the session.
        #[derive(Debug, Clone, Default)]
        pub struct Record<'a> {
            $(pub $name: <$column as Column>::Value<'a>,)+
        }

        /// The columns of a batch under construction.
        #[derive(Debug, Default)]
        pub struct Columns {
            rows: usize,
            $($name: $column,)+
        }

        /// (name, wire type, nullable) of every column, in the order of the schema.
        pub const SCHEMA: &[(&str, WireType, bool)] = &[
            $((stringify!($name), <$column as Column>::WIRE, <$column as Column>::NULLABLE),)+
        ];

        impl<'a> Record<'a> {
            /// Writes the record behind what `row` holds.
            pub fn put(&self, row: &mut Vec<u8>) {
                $(self.$name.put(row);)+
            }

            /// Reads what `put` wrote.
            pub fn take(mut row: &'a [u8]) -> Self {
                Self { $($name: Cell::take(&mut row),)+ }
            }
        }

        impl Columns {
            /// Adds a row.
            pub fn push(&mut self, record: &Record<'_>) {
                let row = self.rows;
                $(self.$name.push(row, record.$name);)+
                self.rows += 1;
            }

            fn present(&self) -> u32 {
                let mut present = 0;
                $(present += u32::from(!self.$name.is_absent());)+
                present
            }

            /// Writes the map of the columns that hold a value, and forgets the rows.
            fn drain(&mut self, out: &mut Vec<u8>) {
                self.relate();
                let _ = encode::write_map_len(out, self.present());
                $(if !self.$name.is_absent() {
                    self.$name.write(stringify!($name), self.rows, out);
                })+
                $(self.$name.clear();)+
                self.rows = 0;
            }
        }
    };
}

impl Columns {
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Begins a body with the rows and their columns, and forgets them. What follows are the entries
    /// `links`, `paths` and `ledger`.
    pub fn begin_body(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BODY_START + self.rows * BYTES_A_ROW);
        let _ = encode::write_map_len(&mut out, 5);
        let _ = encode::write_str(&mut out, "rows");
        let _ = encode::write_uint(&mut out, self.rows as u64);
        let _ = encode::write_str(&mut out, "columns");
        self.drain(&mut out);
        out
    }

    /// Sessions that end together come in the order of their identifiers, and an interval begins with
    /// its flow and lasts for seconds: differences are shorter than values.
    fn relate(&mut self) {
        let Self {
            session_id,
            flow_start_time,
            start_time,
            end_time,
            ..
        } = self;
        session_id.count_on("session_id");
        end_time.count_from("start_time", start_time);
        start_time.count_from("flow_start_time", flow_start_time);
    }
}

record_fields! {
    session_id: Near,
    record_kind: RequiredText,
    interval_index: Required<u32>,
    capture_point: RequiredText,
    flow_start_time: Near,
    start_time: Near,
    end_time: Near,
    transport: RequiredText,
    client_ip: Bytes,
    client_port: Optional<u16>,
    server_ip: Bytes,
    server_port: Optional<u16>,
    initiator: Text,
    encapsulation: Text,
    subscriber_id: Bytes,
    subscriber_source: Text,
    cell_id: Text,
    cell_source: Text,
    cell_age_s: Optional<u32>,
    ran_node_id: Text,
    tracking_area: Text,
    rat: Text,
    apn: Text,
    imei_tac: Text,
    qos_class: Optional<u8>,
    qfi: Optional<u8>,
    slice: Text,
    app_protocol: Text,
    server_name: Text,
    server_name_source: Text,
    alpn: Text,
    tls_version: Text,
    ech: Optional<u8>,
    certificate_not_after: Optional<u64>,
    dns_query: Text,
    handshake_rtt_client_us: Optional<u32>,
    handshake_rtt_server_us: Optional<u32>,
    setup_us: Optional<u32>,
    syn_retransmissions: Optional<u16>,
    tls_setup_us: Optional<u32>,
    dns_response_us: Optional<u32>,
    dns_rcode: Optional<u16>,
    time_to_first_byte_us: Optional<u32>,
    http_status: Optional<u16>,
    requests: Optional<u32>,
    requests_failed: Optional<u32>,
    rtt_client_min_us: Optional<u32>,
    rtt_client_median_us: Optional<u32>,
    rtt_client_samples: Optional<u32>,
    rtt_client_histogram: Binary,
    rtt_client_method: Text,
    rtt_server_min_us: Optional<u32>,
    rtt_server_median_us: Optional<u32>,
    rtt_server_samples: Optional<u32>,
    rtt_server_histogram: Binary,
    rtt_server_method: Text,
    bytes_up: Required<u64>,
    bytes_down: Required<u64>,
    payload_up: Required<u64>,
    payload_down: Required<u64>,
    packets_up: Required<u32>,
    packets_down: Required<u32>,
    active_us_up: Required<u32>,
    active_us_down: Required<u32>,
    peak_bytes_up: Optional<u64>,
    peak_bytes_down: Optional<u64>,
    limited_by: Text,
    retransmitted_packets_up: Optional<u32>,
    retransmitted_packets_down: Optional<u32>,
    retransmitted_bytes_up: Optional<u32>,
    retransmitted_bytes_down: Optional<u32>,
    lost_before_tap_up: Optional<u32>,
    lost_before_tap_down: Optional<u32>,
    lost_after_tap_up: Optional<u32>,
    lost_after_tap_down: Optional<u32>,
    out_of_order_packets_up: Optional<u32>,
    out_of_order_packets_down: Optional<u32>,
    duplicate_acks_up: Optional<u32>,
    duplicate_acks_down: Optional<u32>,
    zero_windows_up: Optional<u32>,
    zero_windows_down: Optional<u32>,
    stall_us: Optional<u32>,
    tunnel_packets_up: Optional<u32>,
    tunnel_packets_down: Optional<u32>,
    tunnel_missing_up: Optional<u32>,
    tunnel_missing_down: Optional<u32>,
    tunnel_late_up: Optional<u32>,
    tunnel_late_down: Optional<u32>,
    n3_rtt_median_us: Optional<u32>,
    n3_rtt_samples: Optional<u32>,
    ran_delay_up_median_us: Optional<u32>,
    ran_delay_up_samples: Optional<u32>,
    ran_delay_up_histogram: Binary,
    ran_delay_down_median_us: Optional<u32>,
    ran_delay_down_samples: Optional<u32>,
    ran_delay_down_histogram: Binary,
    ran_delay_source: Text,
    rtp_codec: Text,
    rtp_packets_expected_up: Optional<u32>,
    rtp_packets_expected_down: Optional<u32>,
    rtp_packets_lost_up: Optional<u32>,
    rtp_packets_lost_down: Optional<u32>,
    rtp_packets_discarded_up: Optional<u32>,
    rtp_packets_discarded_down: Optional<u32>,
    rtp_loss_bursts_up: Optional<u32>,
    rtp_loss_bursts_down: Optional<u32>,
    rtp_jitter_us_up: Optional<u32>,
    rtp_jitter_us_down: Optional<u32>,
    sip_code: Optional<u16>,
    video_startup_us: Optional<u32>,
    video_play_us: Optional<u32>,
    video_stall_us: Optional<u32>,
    video_bitrate_bps: Optional<u64>,
    video_confidence: Optional<f32>,
    procedure: Text,
    cause_code: Optional<u16>,
    response_us: Optional<u32>,
    peer_ip: Bytes,
    outcome: Text,
    failure_cause: Text,
    failure_stage: Text,
    failure_side: Text,
    evidence: Text,
    end_reason: Text,
    flags: Required<u8>,
}
