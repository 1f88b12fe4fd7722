//! DNS under encryption, by where it goes: what is asked cannot be read.
//!
//! DNS over HTTPS (RFC 8484) looks like any other HTTPS. It is told by the names and addresses of
//! public resolvers; a resolver that is not listed stays `tls` or `quic`, and a visit to a listed
//! resolver's web page counts as `doh`. DNS over QUIC (RFC 9250) has its port and its ALPN.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::decap::{Address, Transport};
use crate::flow::{Direction, FlowKey};

const HTTPS_PORT: u16 = 443;
/// UDP 853 (RFC 9250 4.1.1).
const DOQ_PORT: u16 = 853;

/// Names of resolvers that speak DNS over HTTPS, as their operators publish them.
const NAMES: &[&str] = &[
    // developers.google.com/speed/public-dns/docs/doh
    "dns.google",
    "dns64.dns.google",
    // developers.cloudflare.com/1.1.1.1/encryption/dns-over-https; the browsers' own names beside it
    "cloudflare-dns.com",
    "one.one.one.one",
    "1dot1dot1dot1.cloudflare-dns.com",
    "security.cloudflare-dns.com",
    "family.cloudflare-dns.com",
    "mozilla.cloudflare-dns.com",
    "chrome.cloudflare-dns.com",
    // quad9.net/service/service-addresses-and-features
    "dns.quad9.net",
    "dns9.quad9.net",
    "dns10.quad9.net",
    "dns11.quad9.net",
    // support.opendns.com: Using DNS over HTTPS (DoH) with OpenDNS
    "doh.opendns.com",
    "doh.familyshield.opendns.com",
    "doh.sandbox.opendns.com",
    "doh.umbrella.com",
    // adguard-dns.io/en/public-dns.html; adguard.com names are their older ones
    "dns.adguard-dns.com",
    "family.adguard-dns.com",
    "unfiltered.adguard-dns.com",
    "dns.adguard.com",
    "dns-family.adguard.com",
    "dns-unfiltered.adguard.com",
    // cleanbrowsing.org/filters
    "doh.cleanbrowsing.org",
    // help.nextdns.io; the name that Firefox uses beside it
    "dns.nextdns.io",
    "firefox.dns.nextdns.io",
    // alidns.com/articles/6018321800a44d0e45e90d71
    "dns.alidns.com",
    // docs.dnspod.cn: DNSPod Public DNS
    "doh.pub",
];

/// A customer's own names at a resolver that has such.
const DOMAINS: &[&str] = &[".dns.nextdns.io", ".d.adguard-dns.com"];

/// Addresses at which the same operators serve DNS over HTTPS, of Google, Cloudflare (plain,
/// security, family), Quad9, OpenDNS and AdGuard: from the same pages.
const IPV4: &[Ipv4Addr] = &[
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(8, 8, 4, 4),
    Ipv4Addr::new(1, 1, 1, 1),
    Ipv4Addr::new(1, 0, 0, 1),
    Ipv4Addr::new(1, 1, 1, 2),
    Ipv4Addr::new(1, 0, 0, 2),
    Ipv4Addr::new(1, 1, 1, 3),
    Ipv4Addr::new(1, 0, 0, 3),
    Ipv4Addr::new(9, 9, 9, 9),
    Ipv4Addr::new(149, 112, 112, 112),
    Ipv4Addr::new(9, 9, 9, 10),
    Ipv4Addr::new(149, 112, 112, 10),
    Ipv4Addr::new(9, 9, 9, 11),
    Ipv4Addr::new(149, 112, 112, 11),
    Ipv4Addr::new(208, 67, 222, 222),
    Ipv4Addr::new(208, 67, 220, 220),
    Ipv4Addr::new(94, 140, 14, 14),
    Ipv4Addr::new(94, 140, 15, 15),
];
const IPV6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1001),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1112),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1002),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1113),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1003),
    Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe),
    Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0x9),
];

/// What of a session shows whether it carries DNS.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub app_protocol: Option<&'a str>,
    /// From DNS where it has none of its own.
    pub server_name: Option<&'a str>,
    pub alpn: Option<&'a str>,
}

/// Says `doh` or `doq` instead of the protocol that carries it.
pub fn settled_protocol<'a>(facts: &Facts<'a>, key: &FlowKey, up: Direction) -> Option<&'a str> {
    let (server, port) = key.sender(up.opposite());
    let offers_doq = facts
        .alpn
        .is_some_and(|offers| offers.split(',').any(|offer| offer == "doq"));
    let found = match facts.app_protocol {
        Some("quic") if offers_doq || port == DOQ_PORT => Some("doq"),
        // Its handshake may be before the capture: nothing else is assigned to the port.
        None if key.transport == Transport::Udp && port == DOQ_PORT => Some("doq"),
        Some("tls" | "quic" | "http2") if port == HTTPS_PORT => {
            is_resolver(facts.server_name, server).then_some("doh")
        }
        _ => None,
    };
    found.or(facts.app_protocol)
}

/// By its name; an address says so only where there is no name.
fn is_resolver(name: Option<&str>, server: Address) -> bool {
    match name {
        Some(name) => {
            let own = |domain: &&str| name.ends_with(*domain);
            NAMES.contains(&name) || DOMAINS.iter().any(own)
        }
        None => is_known_address(server),
    }
}

fn is_known_address(server: Address) -> bool {
    match server.as_v4() {
        Some(v4) => IPV4.contains(&Ipv4Addr::from_bits(v4)),
        None => IPV6.contains(&Ipv6Addr::from_bits(server.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(protocol: &'static str, name: Option<&str>, server: [u8; 4], port: u16) -> String {
        let server = Address::v4(server);
        let client = Address::v4([10, 0, 0, 1]);
        let (key, up) = FlowKey::of(client, 50_000, server, port, Transport::Udp);
        let facts = Facts {
            app_protocol: Some(protocol),
            server_name: name,
            alpn: (protocol == "quic").then_some("h3"),
        };
        let settled = settled_protocol(&facts, &key, up);
        settled.unwrap_or_default().into()
    }

    #[test]
    fn a_resolvers_name_makes_https_doh() {
        let elsewhere = [192, 0, 2, 1];
        assert_eq!(told("tls", Some("dns.google"), elsewhere, 443), "doh");
        assert_eq!(
            told("quic", Some("a1.dns.nextdns.io"), elsewhere, 443),
            "doh"
        );
        assert_eq!(told("tls", Some("www.google"), elsewhere, 443), "tls");
        assert_eq!(told("tls", Some("dns.google"), elsewhere, 853), "tls");
        assert_eq!(told("http", Some("dns.google"), elsewhere, 80), "http");
    }

    #[test]
    fn an_address_decides_only_where_there_is_no_name() {
        assert_eq!(told("tls", None, [1, 1, 1, 1], 443), "doh");
        assert_eq!(told("tls", Some("example.org"), [1, 1, 1, 1], 443), "tls");
        assert_eq!(told("tls", None, [192, 0, 2, 1], 443), "tls");
    }

    #[test]
    fn quic_to_its_port_is_doq() {
        assert_eq!(told("quic", None, [192, 0, 2, 1], 853), "doq");
        assert_eq!(told("quic", None, [192, 0, 2, 1], 443), "quic");
    }
}
