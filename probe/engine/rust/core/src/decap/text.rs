//! Addresses and layers as people and records write them.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Address, Layer};

/// IPv4 dotted, IPv6 as RFC 5952 has it.
impl Display for Address {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.as_v4() {
            Some(address) => Display::fmt(&Ipv4Addr::from_bits(address), formatter),
            None => Display::fmt(&Ipv6Addr::from_bits(self.0), formatter),
        }
    }
}

impl Display for Layer {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Vlan(identifier) => write!(formatter, "vlan:{identifier}"),
            Self::VnTag => formatter.write_str("vntag"),
            Self::Pbb(service) => write!(formatter, "pbb:{}", service.get()),
            Self::Mpls(label) => write!(formatter, "mpls:{}", label.get()),
            Self::Pppoe(session) => write!(formatter, "pppoe:{session}"),
            Self::Ip => formatter.write_str("ip"),
            Self::Gre => formatter.write_str("gre"),
            Self::Erspan(session) => write!(formatter, "erspan:{session}"),
            Self::Vxlan(network) => write!(formatter, "vxlan:{}", network.get()),
            Self::Geneve(network) => write!(formatter, "geneve:{}", network.get()),
            Self::Teredo => formatter.write_str("teredo"),
            Self::Gtpu => formatter.write_str("gtpu"),
        }
    }
}

/// The layers from the outside in, as `vlan:100/vlan:20/gtpu`; empty if there are none.
pub fn encapsulation(layers: &[Layer]) -> impl Display + '_ {
    Joined(layers)
}

struct Joined<'a>(&'a [Layer]);

impl Display for Joined<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let present = self.0.iter().filter(|layer| **layer != Layer::None);
        for (index, layer) in present.enumerate() {
            let separator = if index == 0 { "" } else { "/" };
            write!(formatter, "{separator}{layer}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Number24;
    use super::*;

    #[test]
    fn addresses_are_written_as_people_write_them() {
        assert_eq!(Address::v4([192, 0, 2, 1]).to_string(), "192.0.2.1");
        assert_eq!(Address::v4([0, 0, 0, 0]).to_string(), "0.0.0.0");
        let ipv6 = |text: &str| Address::v6(text.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(ipv6("2001:DB8:0:0:0:0:0:1").to_string(), "2001:db8::1");
        assert_eq!(
            ipv6("2001:db8:0:1:1:1:1:1").to_string(),
            "2001:db8:0:1:1:1:1:1"
        );
        assert_eq!(ipv6("::").to_string(), "::");
    }

    #[test]
    fn every_layer_has_its_word_and_its_number_whole() {
        let most = Number24::new(0xff_ffff);
        let layers = [
            (Layer::Vlan(4095), "vlan:4095"),
            (Layer::VnTag, "vntag"),
            (Layer::Pbb(most), "pbb:16777215"),
            (Layer::Mpls(Number24::new(0xf_ffff)), "mpls:1048575"),
            (Layer::Pppoe(0xffff), "pppoe:65535"),
            (Layer::Ip, "ip"),
            (Layer::Gre, "gre"),
            (Layer::Erspan(1023), "erspan:1023"),
            (Layer::Vxlan(most), "vxlan:16777215"),
            (Layer::Geneve(Number24::new(0)), "geneve:0"),
            (Layer::Teredo, "teredo"),
            (Layer::Gtpu, "gtpu"),
        ];
        for (layer, word) in layers {
            assert_eq!(layer.to_string(), word);
        }
        assert_eq!(size_of::<Layer>(), 4);
    }

    #[test]
    fn encapsulation_names_the_layers_from_the_outside_in() {
        let layers = [Layer::Vlan(100), Layer::Vlan(20), Layer::Gtpu, Layer::None];
        assert_eq!(encapsulation(&layers).to_string(), "vlan:100/vlan:20/gtpu");
        assert_eq!(encapsulation(&[Layer::None; 8]).to_string(), "");
    }
}
