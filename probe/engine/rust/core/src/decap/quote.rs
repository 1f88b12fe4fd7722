//! The packet that an ICMP error quotes (RFC 792, RFC 4443 2.4, RFC 4884).

use super::gtpu::{self, Message};
use super::ip::{self, Datagram};
use super::link::{Network, Next};
use super::view::View;
use super::{Address, Transport};

/// Most tunnels followed inside a quote.
const MAX_TUNNELS: usize = 2;

/// The five-tuple of a quoted packet. Quoted packets are not traffic: this is a reference to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    pub source: Address,
    pub destination: Address,
    pub transport: Transport,
    /// Of an echo request or reply both are its identifier.
    pub source_port: u16,
    pub destination_port: u16,
    /// Of TCP: a forger who does not see the connection has to guess it (RFC 5927 4.1).
    pub sequence: Option<u32>,
}

impl Quote {
    /// Reads the packet that `bytes` begin with. Routers quote the IP header and 8 bytes at least;
    /// what they leave out behind, and the checksums, do not matter. None of a fragment other than
    /// the first: it has no ports.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let version = bytes.first()? >> 4;
        let network = match version {
            4 => Network::V4,
            6 => Network::V6,
            _ => return None,
        };
        Self::of(
            network,
            View::new(bytes, usize::from(u16::MAX)),
            MAX_TUNNELS,
        )
    }

    /// Of a tunnelled packet the innermost that is quoted far enough: the session's.
    fn of(network: Network, view: View<'_>, tunnels: usize) -> Option<Self> {
        let (datagram, protocol, payload) = first_part(network, view)?;
        if protocol == ip::UDP
            && let Some(tunnels) = tunnels.checked_sub(1)
            && let Ok(Message::Packet(gpdu)) = gtpu::parse(payload)
            && let Next::Ip(network) = gpdu.next
            && let Some(inner) = Self::of(network, gpdu.body, tunnels)
        {
            return Some(inner);
        }
        Self::with_ports(&datagram, protocol.into(), payload.data())
    }

    fn with_ports(datagram: &Datagram<'_>, transport: Transport, segment: &[u8]) -> Option<Self> {
        let &[a, b, c, d, ref rest @ ..] = segment else {
            return None;
        };
        let sequence = rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let (source_port, destination_port) = match transport {
            Transport::Icmp => {
                let identifier = echo_identifier(segment)?;
                (identifier, identifier)
            }
            Transport::Other(_) => return None,
            _ => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        };
        Some(Self {
            source: datagram.source,
            destination: datagram.destination,
            transport,
            source_port,
            destination_port,
            sequence: sequence.filter(|_| transport == Transport::Tcp),
        })
    }
}

/// The packet with its protocol above IP and what follows, if it holds the beginning of it.
fn first_part(network: Network, view: View<'_>) -> Option<(Datagram<'_>, u8, View<'_>)> {
    let datagram = match network {
        Network::V4 => ip::v4(view),
        Network::V6 => ip::v6(view),
    };
    let datagram = datagram.ok()?;
    let upper = datagram.upper;
    match (upper.fragment, network) {
        (None, _) => Some((datagram, upper.protocol, upper.payload)),
        (Some(fragment), _) if fragment.offset != 0 => None,
        (Some(_), Network::V4) => Some((datagram, upper.protocol, upper.payload)),
        // Behind a fragment header there may be more extension headers.
        (Some(_), Network::V6) => {
            let upper = ip::v6_upper(upper.protocol, upper.payload).ok()?;
            let single = upper.fragment.is_none();
            single.then_some((datagram, upper.protocol, upper.payload))
        }
    }
}

/// The identifier of an echo request or reply (RFC 792, RFC 4443 4).
fn echo_identifier(message: &[u8]) -> Option<u16> {
    match message {
        &[0 | 8 | 128 | 129, _, _, _, high, low, ..] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}
