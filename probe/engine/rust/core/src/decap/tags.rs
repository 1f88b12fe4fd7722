//! Tags between Ethernet's addresses and its payload.

use super::link::{Layers, Next, Step, header};
use super::view::{View, be16};
use super::{Layer, Number24};

/// Priority and the VLAN identifier in the low 12 bits, then the EtherType (IEEE 802.1Q 9.6).
pub(super) fn vlan<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let tag: &[u8; 4] = header(view)?;
    layers.push(Layer::Vlan(be16(tag[0], tag[1]) & 0x0fff))?;
    Ok((Next::EtherType(be16(tag[2], tag[3])), view.skip(4)))
}

/// The I-TAG of a provider backbone (IEEE 802.1Q 9.7): flags, the 24 bits of the I-SID, and the
/// customer's frame from its addresses on.
pub(super) fn service_instance<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let [_, a, b, c] = *header(view)?;
    layers.push(Layer::Pbb(Number24::from([a, b, c])))?;
    Ok((Next::Ethernet, view.skip(4)))
}

/// A fabric extender's tag: four bytes of interfaces, then the EtherType.
pub(super) fn vn_tag<'a>(view: View<'a>, layers: &mut Layers) -> Step<'a> {
    let tag: &[u8; 6] = header(view)?;
    layers.push(Layer::VnTag)?;
    Ok((Next::EtherType(be16(tag[4], tag[5])), view.skip(6)))
}

/// A security group's tag: version, length, option, value, then the EtherType. No layer of its own: it
/// is a remark of the switch.
pub(super) fn cisco_metadata(view: View<'_>) -> Step<'_> {
    let tag: &[u8; 8] = header(view)?;
    Ok((Next::EtherType(be16(tag[6], tag[7])), view.skip(8)))
}
