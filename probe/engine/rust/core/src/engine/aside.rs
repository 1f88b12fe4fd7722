//! A device on the move: for some milliseconds what goes up comes from one cell and what comes down goes
//! to another, as the device sends from the target before the tunnel is turned there (TS 36.300
//! 10.1.2.1, TS 38.300 9.2.3.2). Each of the two has records of its own meanwhile.

use std::sync::Arc;

use crate::engine::emit::{Stamp, write_volume};
use crate::engine::joint::Desk;
use crate::engine::place::Place;
use crate::engine::session::Session;
use crate::flow::{Direction, FlowKey};

/// The direction of a session that is in another cell than the session's place says.
#[derive(Debug)]
pub struct Aside {
    direction: Direction,
    place: Arc<Place>,
}

impl Session {
    /// Where one direction is.
    pub fn place_of(&self, direction: Direction) -> &Arc<Place> {
        match &self.aside {
            Some(aside) if aside.direction == direction => &aside.place,
            _ => &self.place,
        }
    }

    /// Takes in where both directions are; `main` is what records speak of beside volumes.
    pub fn set_places(&mut self, main: Direction, [place, other]: [Arc<Place>; 2]) {
        let direction = main.opposite();
        let is_apart = self.paths[direction.index()].is_some() && other.is_apart(&place);
        self.place = place;
        self.aside = is_apart.then(|| {
            Box::new(Aside {
                direction,
                place: other,
            })
        });
    }

    /// Of which direction records speak beside volumes: the one in the session's class of service.
    pub fn main_of(&self, places: &[Arc<Place>; 2]) -> Direction {
        let is_same = |one: &Direction| places[one.index()].qos_class == self.place.qos_class;
        let both = [self.up, self.up.opposite()];
        both.into_iter().find(is_same).unwrap_or(self.up)
    }

    /// Whether a move of these directions to places that agree ends no more than the one's being aside: it
    /// has followed the other.
    pub fn only_follows(&self, moved: [bool; 2], agree: bool) -> bool {
        let aside = self.aside.as_ref().map(|aside| aside.direction);
        aside.is_some_and(|direction| {
            let main = direction.opposite();
            // The first record tells of the flow's beginning, which is the other's.
            agree && !moved[main.index()] && self.interval_index > 0
        })
    }
}

/// Writes the record of the direction that is aside, if it carried anything. It has volumes alone.
pub fn emit_aside(
    stamp: &Stamp,
    key: &FlowKey,
    session: &mut Session,
    end_ns: u64,
    desk: &mut Desk,
) {
    let Some(Aside { direction, place }) = session.aside.as_deref() else {
        return;
    };
    let (direction, place) = (*direction, Arc::clone(place));
    let carried = std::mem::take(&mut session.volumes[direction.index()]);
    if carried.packets == 0 {
        return;
    }
    let mut volumes = [Default::default(); 2];
    volumes[direction.index()] = carried;
    write_volume(stamp, key, session, &place, &volumes, end_ns, desk);
    session.interval_index += 1;
}
