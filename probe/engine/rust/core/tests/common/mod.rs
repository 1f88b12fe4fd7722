//! What several of these tests need.

use std::path::{Path, PathBuf};

/// The reference captures, in order; none, which is said, where they are not at hand.
pub fn captures() -> Vec<PathBuf> {
    let shared = std::env::var("EDGEQOE_SHARED").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../../shared"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(shared.join("corpora/dev")) else {
        eprintln!("skipped: no reference captures below {}", shared.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind != "json"))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}
