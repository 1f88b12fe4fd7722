//! A body: records, links, and in some the account of all packets since the one before.
//!
//! A body that is closed because it is full holds records and links alone. The account stands in those that
//! are closed by their age, and in the last: they come at a packet, whoever writes the records.

use rmp::encode;

use crate::control::learner::Link;
use crate::control::{PathReport, RoundTrips};
use crate::decap::Counters;
use crate::engine::ledger::{Ledger, write_number_entry, write_optional_entry, write_text_entry};
use crate::source::InterfaceLedger;

/// What became of the packets: totals per interface, and what happened on paths since the last account.
#[derive(Debug)]
pub struct Account<'a> {
    pub source: &'a [InterfaceLedger],
    pub decoder: &'a [Counters],
    pub paths: &'a [PathReport],
}

/// Completes a body that its columns have begun.
pub fn complete(
    mut out: Vec<u8>,
    links: &[Link],
    capture_point: &str,
    account: Option<(&Account<'_>, &mut Ledger)>,
) -> Vec<u8> {
    write_links(&mut out, links);
    let paths = account
        .as_ref()
        .map_or(&[][..], |(account, _)| account.paths);
    write_paths(&mut out, capture_point, paths);
    let _ = encode::write_str(&mut out, "ledger");
    match account {
        Some((account, ledger)) => {
            ledger.report(capture_point, account.source, account.decoder, &mut out);
        }
        None => {
            let _ = encode::write_array_len(&mut out, 0);
        }
    }
    out
}

/// Identities of one person: look-ups of the one lead to the other from `since` on.
fn write_links(out: &mut Vec<u8>, links: &[Link]) {
    let _ = encode::write_str(out, "links");
    let _ = encode::write_array_len(out, links.len() as u32);
    for link in links {
        let _ = encode::write_map_len(out, 4);
        for (name, pseudonym) in [("from", &link.from), ("to", &link.to)] {
            let _ = encode::write_str(out, name);
            let _ = encode::write_bin(out, pseudonym);
        }
        write_number_entry(out, "since", link.since_ns);
        write_optional_entry(out, "until", None);
    }
}

fn write_paths(out: &mut Vec<u8>, capture_point: &str, paths: &[PathReport]) {
    let _ = encode::write_str(out, "paths");
    let _ = encode::write_array_len(out, paths.len() as u32);
    for path in paths {
        let _ = encode::write_map_len(out, 20);
        write_text_entry(out, "capture_point", capture_point);
        write_text_entry(out, "source", &path.source.to_string());
        write_text_entry(out, "destination", &path.destination.to_string());
        write_number_entry(out, "echo_requests", path.echo_requests);
        write_number_entry(out, "echo_responses", path.echo_responses);
        write_number_entry(out, "echo_unanswered", path.echo_unanswered);
        write_round_trips(out, "rtt", &path.echo_rtt);
        write_number_entry(out, "error_indications", path.error_indications);
        write_number_entry(out, "end_markers", path.end_markers);
        let counted = &path.traffic.counted;
        write_number_entry(out, "tunnel_packets", counted.packets.into());
        write_number_entry(out, "tunnel_missing", counted.missing.into());
        write_number_entry(out, "tunnel_late", counted.late.into());
        write_number_entry(out, "tunnel_jumps", counted.jumps.into());
        write_round_trips(out, "n3_rtt", &path.traffic.n3);
    }
}

fn write_round_trips(out: &mut Vec<u8>, name: &str, round_trips: &RoundTrips) {
    write_optional_entry(out, &format!("{name}_min_us"), round_trips.min_us);
    write_optional_entry(out, &format!("{name}_max_us"), round_trips.max_us);
    write_number_entry(out, &format!("{name}_sum_us"), round_trips.sum_us);
    write_number_entry(out, &format!("{name}_samples"), round_trips.samples);
}
