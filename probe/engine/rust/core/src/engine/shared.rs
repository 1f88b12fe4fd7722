//! Texts and ways that many flows have alike, kept once.
//!
//! A small table whose places are taken over by what comes later: what is not found in it is kept once
//! more, and nothing has to be forgotten.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::decap::Inner;
use crate::engine::session::Path;

/// Texts remembered: names of servers, protocols. At most 1 MB with texts of 50 bytes.
const TEXTS: usize = 1 << 14;
/// Ways remembered, of some 150 bytes each: two for each subscriber who is active at once.
const WAYS: usize = 1 << 16;

/// Texts.
#[derive(Debug, Default)]
pub struct Texts {
    /// [`TEXTS`] from the first one on.
    kept: Vec<Option<Arc<str>>>,
    hashes: RandomState,
}

impl Texts {
    /// Replaces `text` by an equal one that others have too, if it is known.
    pub fn share(&mut self, text: &mut Arc<str>) {
        if self.kept.is_empty() {
            self.kept.resize_with(TEXTS, || None);
        }
        let place = &mut self.kept[self.hashes.hash_one(&**text) as usize % TEXTS];
        match place {
            Some(known) if **known == **text => *text = Arc::clone(known),
            _ => *place = Some(Arc::clone(text)),
        }
    }
}

/// The ways by which packets come.
#[derive(Debug, Default)]
pub struct Ways {
    plain: Option<Arc<Path>>,
    /// [`WAYS`] from the first one with a layer on.
    kept: Vec<Option<Arc<Path>>>,
    hashes: RandomState,
}

impl Ways {
    /// The way by which a packet comes.
    pub fn of(&mut self, inner: &Inner<'_>) -> Arc<Path> {
        let Some(around) = inner.encapsulation else {
            let plain = self.plain.get_or_insert_with(|| Arc::new(Path::of(inner)));
            return Arc::clone(plain);
        };
        if self.kept.is_empty() {
            self.kept.resize_with(WAYS, || None);
        }
        let ends = around
            .tunnel
            .map(|tunnel| (tunnel.source.0, tunnel.destination.0, tunnel.teid));
        let hash = self.hashes.hash_one((around.layers, ends));
        let place = &mut self.kept[hash as usize % WAYS];
        match place {
            Some(known) if known.carries(inner) => Arc::clone(known),
            _ => Arc::clone(place.insert(Arc::new(Path::of(inner)))),
        }
    }
}
