//! Captures that other people made, with tshark's view of them, for tests.
//!
//! They lie outside the project; without them there is nothing to compare with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::decap::{Decoded, Decoder, FragmentLimits, Transport};
use crate::source::{Event, open_files};

/// Where the reference captures lie, if they do.
pub fn shared() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../../shared");
    std::env::var_os("EDGEQOE_SHARED").map_or(beside, PathBuf::from)
}

/// The captures and their truth; None where there are none.
pub fn captures() -> Option<Vec<(PathBuf, Value)>> {
    let directory = shared().join("corpora/dev");
    let index = fs::read_to_string(directory.join("index.json")).ok()?;
    let index: Value = serde_json::from_str(&index).expect("the index is JSON");
    let truth = |file: &Value| {
        let name = file["file"].as_str().expect("a name");
        let truth = fs::read_to_string(directory.join("truth").join(format!("{name}.json")));
        let truth = serde_json::from_str(&truth.expect("a truth file")).expect("it is JSON");
        (directory.join(name), truth)
    };
    Some(index["files"].as_array()?.iter().map(truth).collect())
}

/// The name of a capture, by which tests know it.
pub fn file_name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.expect("a name")
}

/// A datagram in the capture of this name, and its entry in the truth.
pub struct Told {
    pub file: String,
    pub datagram: Vec<u8>,
    pub truth: Value,
}

/// All datagrams from or to one of the ports, of captures whose truth lists this protocol; None where
/// there are no captures.
pub fn told(protocol: &str, ports: &[u16]) -> Option<Vec<Told>> {
    let mut found = Vec::new();
    for (path, truth) in captures()? {
        let Some(list) = truth[protocol]["list"].as_array() else {
            continue;
        };
        let file = file_name(&path);
        let datagrams = datagrams(&path, ports);
        assert_eq!(datagrams.len(), list.len(), "{file}");
        found.extend(
            datagrams
                .into_iter()
                .zip(list)
                .map(|(datagram, truth)| Told {
                    file: file.to_owned(),
                    datagram,
                    truth: truth.clone(),
                }),
        );
    }
    Some(found)
}

/// The payloads of a capture's UDP packets from or to one of the ports, in their order.
pub fn datagrams(path: &Path, ports: &[u16]) -> Vec<Vec<u8>> {
    let mut source = open_files(&[path.to_owned()], 0).expect("it opens");
    let mut decoder = Decoder::new(FragmentLimits::default());
    let mut found = Vec::new();
    // A damaged capture ends early; what came before its damage is compared.
    while let Ok(Event::Packet(packet)) = source.next() {
        let Ok(Decoded::Inner(inner)) = decoder.decode(&packet) else {
            continue;
        };
        if let (Transport::Udp, Some((header, payload))) =
            (inner.transport, inner.segment.split_first_chunk::<8>())
        {
            let of_either_end = [[header[0], header[1]], [header[2], header[3]]];
            if of_either_end
                .map(u16::from_be_bytes)
                .iter()
                .any(|port| ports.contains(port))
            {
                found.push(payload.to_vec());
            }
        }
    }
    found
}
