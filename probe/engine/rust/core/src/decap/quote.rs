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
    let datagram = ip::read(network, view).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, segment: &[u8]) -> Vec<u8> {
        // The length of a packet of which more was not quoted.
        let mut bytes = vec![0x45, 0, 5, 0xdc, 0, 0, 0, 0, 1, protocol, 0, 0];
        bytes.extend([10, 0, 0, 1, 192, 0, 2, 1]);
        bytes.extend(segment);
        bytes
    }

    #[test]
    fn eight_bytes_of_transport_are_enough() {
        let segment = [0x9c, 0x40, 1, 187, 0, 0, 3, 232];
        let quote = Quote::read(&v4(6, &segment)).unwrap();
        let (ports, sequence) = ((quote.source_port, quote.destination_port), quote.sequence);
        assert_eq!((ports, sequence), ((40_000, 443), Some(1000)));
        assert_eq!(quote.source, Address::v4([10, 0, 0, 1]));
        let udp = Quote::read(&v4(17, &segment[..4])).unwrap();
        assert_eq!((udp.transport, udp.sequence), (Transport::Udp, None));
    }

    #[test]
    fn an_echo_is_named_by_its_identifier_and_other_messages_are_not() {
        let echo = Quote::read(&v4(1, &[8, 0, 0, 0, 0, 77, 0, 1])).unwrap();
        assert_eq!((echo.source_port, echo.destination_port), (77, 77));
        assert_eq!(Quote::read(&v4(1, &[3, 1, 0, 0, 0, 77, 0, 1])), None);
        assert_eq!(Quote::read(&v4(47, &[0; 8])), None);
        assert_eq!(Quote::read(&v4(6, &[0; 3])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_quote_or_none(bytes: Vec<u8>, version in 4u8..7) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | (*first & 15);
            }
            let _ = Quote::read(&bytes);
        }

        #[test]
        fn a_quote_cut_short_names_the_same_flow_or_none(
            segment in proptest::collection::vec(any::<u8>(), 8..40),
            length in 0usize..60,
        ) {
            let bytes = v4(6, &segment);
            let whole = Quote::read(&bytes).unwrap();
            if let Some(cut) = Quote::read(&bytes[..length.min(bytes.len())]) {
                prop_assert_eq!(Quote { sequence: whole.sequence, ..cut }, whole);
            }
        }
    }
}
