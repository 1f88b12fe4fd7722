//! Captures, byte by byte.

pub const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

/// Bytes of one byte order.
pub struct Bytes {
    pub order: Order,
    pub bytes: Vec<u8>,
}

impl Bytes {
    pub fn new(order: Order) -> Self {
        let bytes = Vec::new();
        Self { order, bytes }
    }

    pub fn u16(mut self, value: u16) -> Self {
        self.bytes.extend(match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(match self.order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub fn padded(self) -> Self {
        let missing = self.bytes.len().next_multiple_of(4) - self.bytes.len();
        self.raw(&[0; 3][..missing])
    }
}

pub const MICROSECONDS: u32 = 0xa1b2_c3d4;
pub const NANOSECONDS: u32 = 0xa1b2_3c4d;
pub const MODIFIED: u32 = 0xa1b2_cd34;

pub fn pcap_header(order: Order, magic: u32, network: u32) -> Vec<u8> {
    let header = Bytes::new(order).u32(magic).u16(2).u16(4).u64(0);
    header.u32(262_144).u32(network).bytes
}

/// A record whose header says what is given, whatever the data.
pub fn pcap_record(order: Order, time: (u32, u32), lengths: (u32, u32), data: &[u8]) -> Vec<u8> {
    let header = Bytes::new(order).u32(time.0).u32(time.1);
    header.u32(lengths.0).u32(lengths.1).raw(data).bytes
}

/// A little-endian microsecond file of Ethernet packets, one per time in seconds; the packet at
/// index n holds n + 1 bytes of n.
pub fn pcap_of(seconds: &[u32]) -> Vec<u8> {
    let mut file = pcap_header(Order::Little, MICROSECONDS, 1);
    for (index, &time) in seconds.iter().enumerate() {
        let data = vec![index as u8; index + 1];
        let len = data.len() as u32;
        file.extend(pcap_record(Order::Little, (time, 0), (len, len), &data));
    }
    file
}

pub fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let body = Bytes::new(order).raw(body).padded().bytes;
    let len = body.len() as u32 + 12;
    let head = Bytes::new(order).u32(kind).u32(len);
    head.raw(&body).u32(len).bytes
}

pub fn section(order: Order) -> Vec<u8> {
    let body = Bytes::new(order).u32(0x1a2b_3c4d).u16(1).u16(0);
    block(order, 0x0a0d_0d0a, &body.u64(u64::MAX).bytes)
}

pub fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let head = Bytes::new(order).u16(code).u16(value.len() as u16);
    head.raw(value).padded().bytes
}

pub fn interface(order: Order, link: u16, options: &[Vec<u8>]) -> Vec<u8> {
    let head = Bytes::new(order).u16(link).u16(0).u32(0);
    block(order, 1, &head.raw(&options.concat()).bytes)
}

pub fn enhanced(order: Order, interface: u32, ticks: u64, data: &[u8]) -> Vec<u8> {
    enhanced_as(order, interface, ticks, data.len() as u32, data)
}

/// An enhanced packet block whose header says `captured`, whatever the data.
pub fn enhanced_as(
    order: Order,
    interface: u32,
    ticks: u64,
    captured: u32,
    data: &[u8],
) -> Vec<u8> {
    let head = Bytes::new(order).u32(interface).u32((ticks >> 32) as u32);
    let head = head.u32(ticks as u32).u32(captured).u32(1_500);
    block(order, 6, &head.raw(data).bytes)
}

pub fn simple(order: Order, data: &[u8]) -> Vec<u8> {
    let body = Bytes::new(order).u32(data.len() as u32).raw(data);
    block(order, 3, &body.bytes)
}

pub fn obsolete(order: Order, interface: u16, drops: u16, ticks: u64, data: &[u8]) -> Vec<u8> {
    let head = Bytes::new(order).u16(interface).u16(drops);
    let head = head.u32((ticks >> 32) as u32).u32(ticks as u32);
    let len = data.len() as u32;
    block(order, 2, &head.u32(len).u32(len).raw(data).bytes)
}

/// Packets at 1 s, 2 s, ... on one Ethernet interface "eth0".
pub fn pcapng_of(packets: usize) -> Vec<u8> {
    let order = Order::Little;
    let name = option(order, 2, b"eth0");
    let mut file = [section(order), interface(order, 1, &[name])].concat();
    for index in 1..=packets {
        let data = vec![index as u8; index];
        file.extend(enhanced(order, 0, index as u64 * 1_000_000, &data));
    }
    file
}

pub fn snoop_header(version: u32, datalink: u32) -> Vec<u8> {
    let head = Bytes::new(Order::Big).raw(b"snoop\0\0\0");
    head.u32(version).u32(datalink).bytes
}

pub fn snoop_record(time: (u32, u32), drops: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    let record_len = 24 + len.next_multiple_of(4);
    let head = Bytes::new(Order::Big).u32(len + 100).u32(len);
    let head = head.u32(record_len).u32(drops).u32(time.0).u32(time.1);
    head.raw(data).padded().bytes
}
