//! ClientHello and ServerHello (RFC 8446 4.1, extensions: RFC 6066, RFC 7301, RFC 9849).
//!
//! Only the extensions that the record needs are looked at: a malformed one elsewhere in the
//! list does no harm, and what precedes a list that runs out is used.

use crate::app::reader::Reader;

/// Most bytes of a server name, as of a host name in the DNS (RFC 1035 2.3.4).
pub const MAX_SERVER_NAME: usize = 255;
/// Most bytes of the joined list of application protocols.
pub const MAX_ALPN: usize = 255;

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_EARLY_DATA: u16 = 42;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const EXTENSION_ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const NAME_TYPE_HOST: u8 = 0;
const RANDOM_LENGTH: usize = 32;

/// SHA-256 of "HelloRetryRequest": the random of a ServerHello that asks again (RFC 8446 4.1.3).
const RETRY_REQUEST_RANDOM: [u8; RANDOM_LENGTH] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A protocol version, older ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    Ssl3,
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl Version {
    /// Drafts of TLS 1.3 (0x7f00 and, of one large deployment, 0xfb00) count as TLS 1.3; grease
    /// (RFC 8701) and unknown numbers are none. Versions of DTLS (0xfeff and down) bear the number
    /// that they have in their name.
    pub fn from_wire(value: u16) -> Option<Self> {
        match value {
            0x0300 => Some(Self::Ssl3),
            0x0301 | 0xfeff => Some(Self::Tls10),
            0x0302 => Some(Self::Tls11),
            0x0303 | 0xfefd => Some(Self::Tls12),
            0x0304 | 0xfefc | 0x7f00..=0x7fff | 0xfb00..=0xfbff => Some(Self::Tls13),
            _ => None,
        }
    }

    /// The text of the record's `tls_version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssl3 => "ssl3",
            Self::Tls10 => "1.0",
            Self::Tls11 => "1.1",
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// A set of versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    const ALL: [Version; 5] = [
        Version::Ssl3,
        Version::Tls10,
        Version::Tls11,
        Version::Tls12,
        Version::Tls13,
    ];

    /// What a client means that names its highest version only (RFC 5246 E.1).
    pub fn up_to(highest: Version) -> Self {
        Self::ALL
            .into_iter()
            .filter(|&version| version <= highest)
            .collect()
    }

    pub fn contains(self, version: Version) -> bool {
        self.0 & Self::bit(version) != 0
    }

    pub fn highest(self) -> Option<Version> {
        let mut versions = Self::ALL.into_iter().rev();
        versions.find(|&version| self.contains(version))
    }

    fn bit(version: Version) -> u8 {
        1 << version as u8
    }
}

impl FromIterator<Version> for Versions {
    fn from_iter<T: IntoIterator<Item = Version>>(versions: T) -> Self {
        Self(
            versions
                .into_iter()
                .fold(0, |set, version| set | Self::bit(version)),
        )
    }
}

/// The parts of a ClientHello that are used; slices are the bodies of extensions.
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    legacy_version: u16,
    server_name: Option<&'a [u8]>,
    alpn: Option<&'a [u8]>,
    supported_versions: Option<&'a [u8]>,
    pub early_data: bool,
    pub encrypted_client_hello: bool,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of a ClientHello, as it stands in TLS records or in QUIC CRYPTO frames.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        Self::read(body, false)
    }

    /// Reads the body of a ClientHello of DTLS (RFC 6347 4.2.1).
    pub fn parse_dtls(body: &'a [u8]) -> Option<Self> {
        Self::read(body, true)
    }

    fn read(body: &'a [u8], has_cookie: bool) -> Option<Self> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        reader.take(RANDOM_LENGTH)?;
        reader.vector8()?; // legacy_session_id
        if has_cookie {
            reader.vector8()?;
        }
        reader.vector16()?; // cipher_suites
        reader.vector8()?; // legacy_compression_methods
        let mut hello = Self {
            legacy_version,
            server_name: None,
            alpn: None,
            supported_versions: None,
            early_data: false,
            encrypted_client_hello: false,
        };
        extensions(reader).for_each(|(kind, body)| hello.note(kind, body));
        Some(hello)
    }

    fn note(&mut self, kind: u16, body: &'a [u8]) {
        match kind {
            EXTENSION_SERVER_NAME => self.server_name = Some(body),
            EXTENSION_ALPN => self.alpn = Some(body),
            EXTENSION_SUPPORTED_VERSIONS => self.supported_versions = Some(body),
            EXTENSION_EARLY_DATA => self.early_data = true,
            EXTENSION_ENCRYPTED_CLIENT_HELLO => self.encrypted_client_hello = true,
            _ => {}
        }
    }

    /// The host name in lower case; none if absent or if it holds what no host name holds.
    pub fn server_name(&self) -> Option<Box<str>> {
        let mut reader = Reader::new(self.server_name?);
        let mut list = Reader::new(reader.vector16()?);
        while !list.is_empty() {
            let kind = list.u8()?;
            let name = list.vector16()?;
            if kind == NAME_TYPE_HOST {
                return host_name(name);
            }
        }
        None
    }

    /// The offered protocols joined by commas, without grease; cut at a whole name to
    /// [`MAX_ALPN`] bytes.
    pub fn alpn_offered(&self) -> Option<Box<str>> {
        let mut joined = String::new();
        for name in protocol_names(self.alpn?) {
            let separator = if joined.is_empty() { "" } else { "," };
            if joined.len() + separator.len() + name.len() > MAX_ALPN {
                break;
            }
            joined.push_str(separator);
            joined.push_str(name);
        }
        (!joined.is_empty()).then(|| joined.into_boxed_str())
    }

    /// Whether HTTP/2 is among the protocols offered (RFC 9113 3.3).
    pub fn offers_http2(&self) -> bool {
        self.alpn
            .is_some_and(|body| protocol_names(body).any(|name| name == "h2"))
    }

    /// The versions offered; none where the list cannot be read or holds nothing known.
    pub fn offered_versions(&self) -> Option<Versions> {
        let Some(body) = self.supported_versions else {
            return Version::from_wire(self.legacy_version).map(Versions::up_to);
        };
        let (numbers, _) = Reader::new(body).vector8()?.as_chunks();
        let known = |number: &[u8; 2]| Version::from_wire(u16::from_be_bytes(*number));
        let versions: Versions = numbers.iter().filter_map(known).collect();
        versions.highest().map(|_| versions)
    }
}

/// The parts of a ServerHello that are used.
#[derive(Debug, Clone, Copy)]
pub struct ServerHello<'a> {
    legacy_version: u16,
    pub cipher_suite: u16,
    pub is_retry_request: bool,
    alpn: Option<&'a [u8]>,
    supported_version: Option<&'a [u8]>,
}

impl<'a> ServerHello<'a> {
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        let random: [u8; RANDOM_LENGTH] = reader.array()?;
        reader.vector8()?; // legacy_session_id_echo
        let cipher_suite = reader.u16()?;
        reader.u8()?; // legacy_compression_method
        let mut hello = Self {
            legacy_version,
            cipher_suite,
            is_retry_request: random == RETRY_REQUEST_RANDOM,
            alpn: None,
            supported_version: None,
        };
        extensions(reader).for_each(|(kind, body)| hello.note(kind, body));
        Some(hello)
    }

    fn note(&mut self, kind: u16, body: &'a [u8]) {
        match kind {
            EXTENSION_ALPN => self.alpn = Some(body),
            EXTENSION_SUPPORTED_VERSIONS => self.supported_version = Some(body),
            _ => {}
        }
    }

    /// The version chosen: that of supported_versions, else the legacy field.
    pub fn version(&self) -> Option<Version> {
        match self.supported_version {
            None => Version::from_wire(self.legacy_version),
            Some(body) => Version::from_wire(Reader::new(body).u16()?),
        }
    }

    /// The protocol chosen; from TLS 1.3 on it is encrypted.
    pub fn alpn_selected(&self) -> Option<Box<str>> {
        protocol_names(self.alpn?).next().map(Box::from)
    }
}

/// The extensions of a hello as (type, body); ends where the list ends or runs out.
fn extensions<'a>(mut hello: Reader<'a>) -> impl Iterator<Item = (u16, &'a [u8])> {
    let declared = usize::from(hello.u16().unwrap_or(0));
    let available = hello.rest();
    let mut list = Reader::new(available.get(..declared).unwrap_or(available));
    std::iter::from_fn(move || Some((list.u16()?, list.vector16()?)))
}

/// The names of an ALPN extension that are plain text: letters, digits, marks, no comma.
fn protocol_names(body: &[u8]) -> impl Iterator<Item = &str> {
    let mut list = Reader::new(Reader::new(body).vector16().unwrap_or_default());
    std::iter::from_fn(move || list.vector8()).filter_map(protocol_name)
}

fn protocol_name(name: &[u8]) -> Option<&str> {
    let plain = name
        .iter()
        .all(|byte| byte.is_ascii_graphic() && *byte != b',');
    let text = str::from_utf8(name).ok()?;
    (plain && !text.is_empty()).then_some(text)
}

/// A host name in lower case; none if it holds what no host name holds.
pub(crate) fn host_name(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let plausible = (1..=MAX_SERVER_NAME).contains(&name.len()) && name.iter().all(is_host_byte);
    let text = str::from_utf8(name).ok()?;
    plausible.then(|| text.to_ascii_lowercase().into_boxed_str())
}

/// Letters, digits, hyphen and dot; underscores and the colons of IPv6 literals occur as well.
fn is_host_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':')
}
