//! Hash tables whose keys come off the wire: each has a seed of its own, so that nobody can aim keys at one
//! bucket. Several times cheaper than the standard library's for keys of some bytes.

/// A hash table with a seed of its own.
pub type KeyedMap<K, V> = std::collections::HashMap<K, V, foldhash::quality::RandomState>;
/// The same of keys alone.
pub type KeyedSet<K> = std::collections::HashSet<K, foldhash::quality::RandomState>;
