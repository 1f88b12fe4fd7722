//! Frames made by hand, for tests.

use std::net::Ipv6Addr;

use super::Address;
use crate::source::{LinkType, Packet};

pub const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub const SERVER: [u8; 4] = [192, 0, 2, 7];
pub const ENB: [u8; 4] = [172, 16, 0, 1];
pub const SGW: [u8; 4] = [172, 16, 0, 2];

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub fn packet(link: LinkType, data: &[u8]) -> Packet<'_> {
    Packet {
        time_ns: 1_000,
        interface: 0,
        link,
        wire_len: data.len() as u32,
        data,
    }
}

pub fn client6() -> Address {
    Address::v6("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets())
}

pub fn server6() -> Address {
    Address::v6("2001:db8:ffff::2".parse::<Ipv6Addr>().unwrap().octets())
}

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    concat(&[
        &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
        &ethertype.to_be_bytes(),
        payload,
    ])
}

/// The tag's control information, then the EtherType of what follows.
pub fn vlan(tci: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    concat(&[&tci.to_be_bytes(), &ethertype.to_be_bytes(), payload])
}

/// Some 20 bytes of TCP header from port 40000 to `port`, and a payload.
pub fn tcp(port: u16, payload: &[u8]) -> Vec<u8> {
    let header = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    concat(&[
        &40_000_u16.to_be_bytes(),
        &port.to_be_bytes(),
        &header,
        payload,
    ])
}

pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 8) as u16;
    let ports = [source, destination].map(u16::to_be_bytes).concat();
    concat(&[&ports, &length.to_be_bytes(), &[0, 0], payload])
}

pub fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_between(CLIENT, SERVER, protocol, payload)
}

pub fn ipv4_between(source: [u8; 4], target: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_part(source, target, protocol, 7, 0x4000, payload)
}

/// `position` is the field of flags and offset.
pub fn ipv4_part(
    source: [u8; 4],
    target: [u8; 4],
    protocol: u8,
    identification: u16,
    position: u16,
    payload: &[u8],
) -> Vec<u8> {
    let length = (payload.len() + 20) as u16;
    concat(&[
        &[0x45, 0],
        &length.to_be_bytes(),
        &identification.to_be_bytes(),
        &position.to_be_bytes(),
        &[64, protocol, 0, 0],
        &source,
        &target,
        payload,
    ])
}

pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let addresses = concat(&[&client6().0.to_be_bytes(), &server6().0.to_be_bytes()]);
    concat(&[
        &[0x60, 0, 0, 0],
        &length.to_be_bytes(),
        &[next, 57],
        &addresses,
        payload,
    ])
}

/// An IPv6 packet with a fragment header. `offset` in bytes.
pub fn ipv6_part(next: u8, id: u32, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let position = offset as u16 | u16::from(more);
    let header = concat(&[
        &[next, 0],
        &position.to_be_bytes(),
        &id.to_be_bytes(),
        payload,
    ]);
    ipv6(44, &header)
}

/// A GTP-U message; `body` begins with the optional fields if `flags` announces them.
pub fn gtpu(flags: u8, message_type: u8, teid: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    concat(&[
        &[0x30 | flags, message_type],
        &length,
        &teid.to_be_bytes(),
        body,
    ])
}

/// An IPv4 packet from eNB to gateway that carries `message`.
pub fn gtpu_packet(message: &[u8]) -> Vec<u8> {
    ipv4_between(ENB, SGW, UDP, &udp(2152, 2152, message))
}

pub fn g_pdu(teid: u32, inner: &[u8]) -> Vec<u8> {
    gtpu_packet(&gtpu(0, 255, teid, inner))
}
