//! The loop over the layers of a packet.

use super::counters::{Counters, Ledger};
use super::fragment::{FragmentLimits, Fragments, Key, Part};
use super::gtpu::{self, Gpdu, Message, Signal};
use super::ip::{self, Datagram, Fragment, Upper};
use super::link::{self, Layers, Network};
use super::view::{View, be16};
use super::{Address, Decoded, Inner, Layer, Tunnel, TunnelSignal, Undecodable};
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
}

impl Decoder {
    pub fn new(limits: FragmentLimits) -> Self {
        Self {
            fragments: Fragments::new(limits),
            ledger: Ledger::default(),
            reassembled: Default::default(),
        }
    }

    /// Finds the innermost IP packet of a frame. What is returned lives until the next call. Every
    /// packet is counted (see `counters`), a fragment when its datagram is complete or given up.
    #[inline]
    pub fn decode<'p>(&'p mut self, packet: &Packet<'p>) -> Result<Decoded<'p>, Undecodable> {
        let mut walk = Walk {
            fragments: &mut self.fragments,
            ledger: &mut self.ledger,
            interface: packet.interface,
            time_ns: packet.time_ns,
            packets: 1,
            layers: Layers::default(),
            tunnel: None,
        };
        let decoded = walk.run(packet, &mut self.reassembled);
        let packets = walk.packets;
        let counters = self.ledger.of(packet.interface);
        match &decoded {
            Ok(Decoded::Held) => {}
            Ok(_) => counters.decoded += packets,
            Err(reason) => counters.fail(*reason, packets),
        }
        decoded
    }

    /// Gives up the datagrams that were not complete in time. `decode` does so whenever it meets a
    /// fragment; call this now and then so that the counters do not wait for the next one.
    pub fn expire(&mut self, now_ns: u64) {
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

/// The way through one packet.
struct Walk<'d> {
    fragments: &'d mut Fragments,
    ledger: &'d mut Ledger,
    interface: u32,
    time_ns: u64,
    /// Captured packets that this way stands for: more than one after a reassembly.
    packets: u64,
    layers: Layers,
    tunnel: Option<Tunnel>,
}

/// What an IP packet is when looked into.
enum Content<'p> {
    Innermost,
    Signal(Signal),
    Tunnelled(Gpdu<'p>),
}

impl Walk<'_> {
    #[inline]
    fn run<'p>(
        &mut self,
        packet: &Packet<'p>,
        buffers: &'p mut [Vec<u8>],
    ) -> Result<Decoded<'p>, Undecodable> {
        let mut buffers = buffers.iter_mut();
        let (mut network, mut view) = link::strip(packet, &mut self.layers)?;
        loop {
            let mut datagram = self.parse(network, view)?;
            if let Some(fragment) = datagram.upper.fragment {
                let buffer = buffers.next().ok_or(Undecodable::TooDeep)?;
                match self.reassemble(network, &datagram, fragment, buffer)? {
                    Some(whole) => datagram = whole,
                    None => return Ok(Decoded::Held),
                }
            }
            match content(&datagram.upper)? {
                Content::Innermost => return Ok(Decoded::Inner(self.inner(&datagram))),
                Content::Signal(signal) => return Ok(tunnel_signal(&datagram, signal)),
                Content::Tunnelled(gpdu) => {
                    self.enter(&datagram, &gpdu)?;
                    (network, view) = (gpdu.network, gpdu.packet);
                }
            }
        }
    }

    /// Reads an IP header. In a frame it may state more than the frame holds: packet brokers that slice
    /// packets leave no other trace of it, and then the header alone knows the length. A tunnelled packet
    /// is bounded by the one around it.
    #[inline]
    fn parse<'p>(&self, network: Network, view: View<'p>) -> Result<Datagram<'p>, Undecodable> {
        let datagram = ip::parse(network, view)?;
        if datagram.ip_len > view.wire_len() && self.tunnel.is_some() {
            return Err(Undecodable::BadLength);
        }
        Ok(datagram)
    }

    fn enter(&mut self, outer: &Datagram<'_>, gpdu: &Gpdu<'_>) -> Result<(), Undecodable> {
        self.layers.push(Layer::Gtpu)?;
        self.tunnel = Some(Tunnel {
            source: outer.source,
            destination: outer.destination,
            teid: gpdu.teid,
            direction: gpdu.container.direction,
            qfi: gpdu.container.qfi,
        });
        Ok(())
    }

    #[inline]
    fn inner<'p>(&self, datagram: &Datagram<'p>) -> Inner<'p> {
        let Upper {
            protocol, payload, ..
        } = datagram.upper;
        Inner {
            source: datagram.source,
            destination: datagram.destination,
            transport: protocol.into(),
            segment: payload.data(),
            segment_len: saturating_u32(payload.wire_len()),
            ip_len: saturating_u32(datagram.ip_len),
            ttl: datagram.ttl,
            layers: self.layers.list,
            tunnel: self.tunnel,
        }
    }

    /// Returns the whole datagram if this fragment completes it.
    #[cold]
    fn reassemble<'p>(
        &mut self,
        network: Network,
        datagram: &Datagram<'_>,
        fragment: Fragment,
        buffer: &'p mut Vec<u8>,
    ) -> Result<Option<Datagram<'p>>, Undecodable> {
        let key = self.key(network, datagram, fragment);
        let part = Part {
            fragment,
            protocol: datagram.upper.protocol,
            ttl: datagram.ttl,
            ip_len: datagram.ip_len,
            packets: self.packets,
            payload: datagram.upper.payload,
        };
        let inserted = self
            .fragments
            .insert(key, &part, self.time_ns, self.ledger, buffer);
        let Some(whole) = inserted? else {
            return Ok(None);
        };
        self.packets += whole.held;
        Ok(Some(Datagram {
            source: datagram.source,
            destination: datagram.destination,
            ttl: whole.ttl,
            ip_len: whole.ip_len,
            upper: whole_upper(network, whole.protocol, View::new(buffer, whole.wire_len))?,
        }))
    }

    fn key(&self, network: Network, datagram: &Datagram<'_>, fragment: Fragment) -> Key {
        Key {
            interface: self.interface,
            source: datagram.source,
            destination: datagram.destination,
            identification: fragment.identification,
            protocol: (network == Network::V4).then_some(datagram.upper.protocol),
            layers: self.layers.list,
            tunnel: self
                .tunnel
                .map(|tunnel: Tunnel| -> (Address, Address, u32) {
                    (tunnel.source, tunnel.destination, tunnel.teid)
                }),
        }
    }
}

/// What a reassembled datagram carries; extension headers may stand in its fragmented part.
fn whole_upper(
    network: Network,
    protocol: u8,
    payload: View<'_>,
) -> Result<Upper<'_>, Undecodable> {
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

/// Looks for a tunnel in a whole IP packet.
#[inline]
fn content<'p>(upper: &Upper<'p>) -> Result<Content<'p>, Undecodable> {
    if upper.protocol != ip::UDP || !has_gtpu_port(upper.payload.data()) {
        return Ok(Content::Innermost);
    }
    Ok(match gtpu::parse(upper.payload)? {
        Message::Foreign => Content::Innermost,
        Message::Signal(signal) => Content::Signal(signal),
        Message::Packet(gpdu) => Content::Tunnelled(gpdu),
    })
}

#[inline]
fn has_gtpu_port(segment: &[u8]) -> bool {
    match segment {
        [a, b, c, d, ..] => be16(*a, *b) == gtpu::PORT || be16(*c, *d) == gtpu::PORT,
        _ => false,
    }
}

#[cold]
fn tunnel_signal<'p>(datagram: &Datagram<'_>, signal: Signal) -> Decoded<'p> {
    Decoded::TunnelSignal(TunnelSignal {
        source: datagram.source,
        destination: datagram.destination,
        message_type: signal.message_type,
        teid: signal.teid,
        sequence: signal.sequence,
    })
}

/// Lengths come from 16-bit fields or from `Packet::wire_len`, so none is ever cut here.
#[inline]
fn saturating_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
