//! The loop over the layers of a packet.

use std::slice::IterMut;

use super::counters::{Counters, Ledger};
use super::fragment::{FragmentLimits, Fragments, Key, Part};
use super::gtpu::{self, Gpdu, Message, Signal};
use super::ip::{self, Datagram, Upper};
use super::link::{self, Layers, Network, Next};
use super::overlay::{self, Overlay};
use super::udp::{self, Stop};
use super::view::View;
use super::{Decoded, Inner, Layer, Transport, Tunnel, TunnelSignal, Undecodable, gre};
use zeroize::Zeroize;

use crate::source::Packet;

/// Most datagrams put together on the way to one inner packet: tunnels fragmented inside tunnels.
const MAX_REASSEMBLIES: usize = 4;

/// Takes frames apart. Allocates only for fragments, within the limits given to it, and one buffer of
/// at most 64 KiB for each of `MAX_REASSEMBLIES`.
#[derive(Debug)]
pub struct Decoder {
    fragments: Fragments,
    ledger: Ledger,
    /// The bytes of datagrams that the last packet completed.
    reassembled: [Vec<u8>; MAX_REASSEMBLIES],
    /// Around the last packet.
    layers: Layers,
}

impl Decoder {
    pub fn new(limits: FragmentLimits) -> Self {
        Self {
            fragments: Fragments::new(limits),
            ledger: Ledger::default(),
            reassembled: Default::default(),
            layers: Layers::default(),
        }
    }

    /// Finds the innermost IP packet of a frame. What is returned lives until the next call. Every
    /// packet is counted (see `counters`), a fragment when its datagram is complete or given up.
    pub fn decode<'p>(&'p mut self, packet: &Packet<'p>) -> Result<Decoded<'p>> {
        match link::plain(packet) {
            Some((Network::V4, view)) => self.begin(packet, Network::V4, view),
            Some((Network::V6, view)) => self.begin(packet, Network::V6, view),
            None => self.walk(packet, |walk| walk.frame()),
        }
    }

    /// Begins with the IP header of a frame, which for nearly every packet is the only one.
    #[inline(always)]
    fn begin<'p>(
        &'p mut self,
        packet: &Packet<'p>,
        network: Network,
        view: View<'p>,
    ) -> Result<Decoded<'p>> {
        let datagram = match ip::read(network, view) {
            Ok(datagram) => datagram,
            Err(reason) => return self.walk(packet, move |_| Err(reason)),
        };
        match plain_transport(&datagram) {
            Some(transport) => {
                self.ledger.of(packet.interface).decoded += 1;
                Ok(Decoded::Inner(inner(&datagram, transport, &[])))
            }
            // By value: what is not borrowed stays in registers for all other packets.
            None => self.walk(packet, move |walk| walk.datagram(network, datagram, view)),
        }
    }

    /// Goes the way into a packet, and accounts for it.
    #[inline(never)]
    fn walk<'p>(
        &'p mut self,
        packet: &Packet<'p>,
        way: impl FnOnce(&mut Walk<'_, 'p>) -> Result<Decoded<'p>>,
    ) -> Result<Decoded<'p>> {
        self.layers.begin();
        let mut walk = Walk {
            fragments: &mut self.fragments,
            ledger: &mut self.ledger,
            buffers: self.reassembled.iter_mut(),
            packet,
            layers: &mut self.layers,
            container: &[],
            bounded: false,
            packets: 1,
        };
        let mut decoded = way(&mut walk);
        match &mut decoded {
            Ok(Decoded::Inner(inner)) => inner.encapsulation = self.layers.passed(),
            Ok(Decoded::TunnelSignal(_) | Decoded::Held) => {}
            Err(reason) => {
                let packets = walk.packets;
                walk.count().fail(*reason, packets);
            }
        }
        decoded
    }

    /// Gives up the datagrams that were not complete in time. `decode` does so whenever it meets a
    /// fragment; call this now and then so that the counters do not wait for the next one.
    pub fn expire(&mut self, now_ns: u64) {
        // What was put together is of no use any more, and may name subscribers.
        self.reassembled.iter_mut().for_each(Zeroize::zeroize);
        self.fragments.expire(now_ns, &mut self.ledger);
    }

    /// Gives up every incomplete datagram: no packet will follow.
    pub fn finish(&mut self) {
        self.fragments.give_up_all(&mut self.ledger);
    }

    /// What became of the packets so far, by `Packet::interface` (up to the greatest one seen).
    pub fn counters(&self) -> &[Counters] {
        self.ledger.all()
    }

    /// Incomplete datagrams, and the bytes that their fragments occupy.
    pub fn held(&self) -> (usize, usize) {
        (self.fragments.datagrams(), self.fragments.bytes())
    }
}

/// The way into one packet. Each step calls the next instead of returning to a loop: what is found
/// is then written once, where the caller wants it, and headers stay in registers (see ADR 0003).
struct Walk<'d, 'p> {
    fragments: &'d mut Fragments,
    ledger: &'d mut Ledger,
    /// For datagrams that this packet completes, one per level.
    buffers: IterMut<'p, Vec<u8>>,
    packet: &'d Packet<'p>,
    layers: &'d mut Layers,
    /// Of the innermost tunnel's PDU session.
    container: &'p [u8],
    /// The packet around bounds this one.
    bounded: bool,
    /// Captured packets that the way leads through: more than one after a reassembly.
    packets: u64,
}

type Result<T> = std::result::Result<T, Undecodable>;

impl<'p> Walk<'_, 'p> {
    fn frame(&mut self) -> Result<Decoded<'p>> {
        let (network, view) = link::strip(self.packet, self.layers)?;
        self.ip(network, view)
    }

    #[inline(never)]
    fn ip(&mut self, network: Network, view: View<'p>) -> Result<Decoded<'p>> {
        match network {
            Network::V4 => self.datagram(network, ip::v4(view)?, view),
            Network::V6 => self.datagram(network, ip::v6(view)?, view),
        }
    }

    /// Goes on with a packet whose header states its length. In a frame it may state more than the
    /// frame holds: packet brokers that slice packets leave no other trace of it, and then the header
    /// alone knows the length. So it is in a frame that is mirrored or carried in a tunnel; a packet
    /// that is tunnelled without one is bounded by the packet around it.
    #[inline(always)]
    fn datagram(
        &mut self,
        network: Network,
        datagram: Datagram<'p>,
        view: View<'p>,
    ) -> Result<Decoded<'p>> {
        if datagram.ip_len > view.wire_len() && self.bounded {
            return Err(Undecodable::BadLength);
        }
        let Some(fragment) = datagram.upper.fragment else {
            return self.whole(datagram);
        };
        self.fragment(Part {
            network,
            source: datagram.source,
            destination: datagram.destination,
            fragment,
            protocol: datagram.upper.protocol,
            ttl: datagram.ttl,
            ip_len: datagram.ip_len,
            packets: self.packets,
            payload: datagram.upper.payload,
        })
    }

    /// Looks for a tunnel in a whole packet.
    #[inline(always)]
    fn whole(&mut self, datagram: Datagram<'p>) -> Result<Decoded<'p>> {
        let Upper {
            protocol, payload, ..
        } = datagram.upper;
        match protocol {
            ip::TCP => self.end(datagram, Transport::Tcp),
            ip::UDP => match carrier_of(payload.data()) {
                None => self.end(datagram, Transport::Udp),
                // A subscriber may send what looks like GTP-U; nobody else's tunnel is in theirs.
                Some(Carrier::Gtpu) if self.tunnel().is_some() => self.end_after_all(datagram),
                Some(Carrier::Gtpu) => self.gtpu(datagram),
                Some(Carrier::Overlay) => self.overlay(datagram),
            },
            ip::IPV4 | ip::IPV6 | ip::GRE => self.carried_by_ip(datagram),
            _ => self.end_after_all(datagram),
        }
    }

    #[inline(always)]
    fn gtpu(&mut self, datagram: Datagram<'p>) -> Result<Decoded<'p>> {
        match gtpu::parse(datagram.upper.payload) {
            Err(Stop::Foreign) => self.end_after_all(datagram),
            Err(Stop::Cut) => Err(Undecodable::TruncatedGtpu),
            Err(Stop::Undecodable(reason)) => Err(reason),
            Ok(Message::Signal(signal)) => {
                self.count().decoded += self.packets;
                Ok(Decoded::TunnelSignal(tunnel_signal(&datagram, signal)))
            }
            Ok(Message::Packet(gpdu)) => {
                self.enter(&datagram, &gpdu)?;
                match gpdu.next {
                    Next::Ip(network) => {
                        self.bounded = true;
                        self.ip(network, gpdu.body)
                    }
                    next => self.descend(next, gpdu.body),
                }
            }
        }
    }

    /// VXLAN, GENEVE and their like.
    #[cold]
    #[inline(never)]
    fn overlay(&mut self, datagram: Datagram<'p>) -> Result<Decoded<'p>> {
        match overlay::parse(datagram.upper.payload) {
            Err(Stop::Foreign) => self.end_after_all(datagram),
            Err(Stop::Cut) => Err(Undecodable::TruncatedTunnel),
            Err(Stop::Undecodable(reason)) => Err(reason),
            Ok(Overlay { layer, next, body }) => {
                self.layers.push(layer)?;
                self.descend(next, body)
            }
        }
    }

    /// What IP carries by a protocol number of its own.
    #[cold]
    #[inline(never)]
    fn carried_by_ip(&mut self, datagram: Datagram<'p>) -> Result<Decoded<'p>> {
        let Upper {
            protocol, payload, ..
        } = datagram.upper;
        let (next, body) = match protocol {
            ip::GRE => gre::tunnel(payload, self.layers)?,
            _ => {
                self.layers.push(Layer::Ip)?;
                let v4 = protocol == ip::IPV4;
                let network = if v4 { Network::V4 } else { Network::V6 };
                (Next::Ip(network), payload)
            }
        };
        self.descend(next, body)
    }

    /// Goes on inside a tunnel. Bounded in depth, as each tunnel is a layer.
    #[cold]
    fn descend(&mut self, next: Next, body: View<'p>) -> Result<Decoded<'p>> {
        let (network, packet) = link::descend(next, body, self.layers)?;
        self.bounded = next != Next::Ethernet;
        self.ip(network, packet)
    }

    #[inline(always)]
    fn end(&mut self, datagram: Datagram<'p>, transport: Transport) -> Result<Decoded<'p>> {
        self.count().decoded += self.packets;
        Ok(Decoded::Inner(inner(&datagram, transport, self.container)))
    }

    /// The end of what is rare: other protocols, and what only uses a tunnel's port.
    #[cold]
    #[inline(never)]
    fn end_after_all(&mut self, datagram: Datagram<'p>) -> Result<Decoded<'p>> {
        self.end(datagram, datagram.upper.protocol.into())
    }

    #[inline(always)]
    fn enter(&mut self, outer: &Datagram<'_>, gpdu: &Gpdu<'p>) -> Result<()> {
        self.container = gpdu.container.more;
        let tunnel = Tunnel {
            source: outer.source,
            destination: outer.destination,
            teid: gpdu.teid,
            direction: gpdu.container.direction,
            qfi: gpdu.container.qfi,
        };
        self.layers.push_tunnel(tunnel, gpdu.sequence)
    }

    /// Keeps a fragment, or goes on with the datagram that it completes.
    #[cold]
    fn fragment(&mut self, part: Part<'_>) -> Result<Decoded<'p>> {
        match self.reassemble(&part)? {
            Some(whole) => self.whole(whole),
            None => Ok(Decoded::Held),
        }
    }

    fn reassemble(&mut self, part: &Part<'_>) -> Result<Option<Datagram<'p>>> {
        let buffer = self.buffers.next().ok_or(Undecodable::TooDeep)?;
        let key = self.key(part);
        let now_ns = self.packet.time_ns;
        let inserted = self
            .fragments
            .insert(key, part, now_ns, self.ledger, buffer);
        let Some(whole) = inserted? else {
            return Ok(None);
        };
        self.packets += whole.held;
        let payload = View::new(buffer, whole.wire_len);
        Ok(Some(Datagram {
            source: part.source,
            destination: part.destination,
            ttl: whole.ttl,
            // IPv4's has 16 bits; for IPv6 the low ones serve as well.
            identification: part.fragment.identification as u16,
            ip_len: whole.ip_len,
            upper: whole_upper(part.network, whole.protocol, payload)?,
        }))
    }

    fn key(&self, part: &Part<'_>) -> Key {
        let around = self.layers.passed().copied().unwrap_or_default();
        let tunnel = around
            .tunnel
            .map(|tunnel| (tunnel.source, tunnel.destination, tunnel.teid));
        Key {
            interface: self.packet.interface,
            source: part.source,
            destination: part.destination,
            identification: part.fragment.identification,
            protocol: (part.network == Network::V4).then_some(part.protocol),
            layers: around.layers,
            tunnel,
        }
    }

    #[inline]
    fn tunnel(&self) -> Option<&Tunnel> {
        self.layers.passed()?.tunnel.as_ref()
    }

    #[inline(always)]
    fn count(&mut self) -> &mut Counters {
        self.ledger.of(self.packet.interface)
    }
}

/// The transport of a whole packet that carries no other one.
#[inline(always)]
fn plain_transport(datagram: &Datagram<'_>) -> Option<Transport> {
    let upper = &datagram.upper;
    match upper.protocol {
        _ if upper.fragment.is_some() => None,
        ip::TCP => Some(Transport::Tcp),
        ip::UDP if carrier_of(upper.payload.data()).is_none() => Some(Transport::Udp),
        _ => None,
    }
}

/// What is found at the end of the way; `Decoder::walk` adds what it led through.
#[inline(always)]
fn inner<'p>(datagram: &Datagram<'p>, transport: Transport, container: &'p [u8]) -> Inner<'p> {
    let payload = datagram.upper.payload;
    // Lengths are of 16-bit fields, or of the packet and then within `Packet::wire_len`.
    Inner {
        source: datagram.source,
        destination: datagram.destination,
        transport,
        protocol: datagram.upper.protocol,
        segment: payload.data(),
        segment_len: payload.wire_len() as u32,
        ip_len: datagram.ip_len as u32,
        ttl: datagram.ttl,
        identification: datagram.identification,
        encapsulation: None,
        container,
    }
}

/// What a reassembled datagram carries; extension headers may stand in its fragmented part.
fn whole_upper(network: Network, protocol: u8, payload: View<'_>) -> Result<Upper<'_>> {
    let upper = match network {
        Network::V4 => Upper {
            protocol,
            payload,
            fragment: None,
        },
        Network::V6 => ip::v6_upper(protocol, payload)?,
    };
    match upper.fragment {
        Some(_) => Err(Undecodable::MalformedIp),
        None => Ok(upper),
    }
}

/// What a UDP packet may carry, by its ports.
enum Carrier {
    Gtpu,
    Overlay,
}

#[inline(always)]
fn carrier_of(segment: &[u8]) -> Option<Carrier> {
    let (source, destination) = udp::ports(segment)?;
    if source == gtpu::PORT || destination == gtpu::PORT {
        return Some(Carrier::Gtpu);
    }
    // Most servers' ports are below these, and most clients' above.
    if !overlay::PORTS.contains(&source) && !overlay::PORTS.contains(&destination) {
        return None;
    }
    (overlay::is_port(source) || overlay::is_port(destination)).then_some(Carrier::Overlay)
}

#[cold]
fn tunnel_signal(datagram: &Datagram<'_>, signal: Signal) -> TunnelSignal {
    TunnelSignal {
        source: datagram.source,
        destination: datagram.destination,
        message_type: signal.message_type,
        teid: signal.teid,
        sequence: signal.sequence,
        peer: signal.peer,
    }
}
