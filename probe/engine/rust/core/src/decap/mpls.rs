//! MPLS label stacks (RFC 3032) and what they carry.

use super::link::{self, Layers, Next, Step, header, version_or_ethernet};
use super::view::View;
use super::{Layer, Number24, Undecodable};

/// Most labels of one stack; networks in use need less than half of this.
const MAX_LABELS: usize = 16;
/// The next label only spreads load over paths (RFC 6790 3): flows have different ones.
const ENTROPY_LABEL_INDICATOR: u32 = 7;

/// Passes the stack. The layer has the label at its bottom, which names the service, before an entropy
/// label.
pub(super) fn stack<'a>(mut view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let (mut service, mut before) = (0, 0);
    for _ in 0..MAX_LABELS {
        let entry = u32::from_be_bytes(*header(view)?);
        let label = entry >> 12;
        view = view.skip(4);
        if label != ENTROPY_LABEL_INDICATOR && before != ENTROPY_LABEL_INDICATOR {
            service = label;
        }
        before = label;
        if entry & 0x100 != 0 {
            layers.push(Layer::Mpls(Number24::new(service)))?;
            return payload(view);
        }
    }
    Err(Undecodable::TooDeep)
}

/// No field says what a stack carries; its first four bits do (RFC 4928 3): IP, or a pseudowire's
/// control word with 0, or a channel for the wire's own maintenance with 1 (RFC 4385).
fn payload(view: View<'_>) -> Step<'_> {
    let [first] = header(view)?;
    match first >> 4 {
        0 => Ok(pseudowire(view)),
        1 if !link::has_frame_type(view, 12) => Err(Undecodable::NotIp),
        _ => match version_or_ethernet(view) {
            Ok(Some(next)) => Ok((next, view)),
            Ok(None) => Ok((Next::Ethernet, view)),
            Err(_) => Err(Undecodable::TruncatedLink),
        },
    }
}

const CONTROL_WORD: usize = 4;

/// A frame (RFC 4448), behind a control word or at once. Many destination addresses begin with 0 too,
/// so the place of the EtherType decides.
fn pseudowire(view: View<'_>) -> (Next, View<'_>) {
    let at_once = link::has_frame_type(view, 12);
    let frame = if at_once {
        view
    } else {
        view.skip(CONTROL_WORD)
    };
    (Next::Ethernet, frame)
}
