//! Captures that other people made, with tshark's view of them, for tests.
//!
//! They lie outside the project; without them there is nothing to compare with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

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
