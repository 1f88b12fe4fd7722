//! Lines of a head: what they say of the message and of the body behind it.

use super::message::Framing;

/// Most bytes of a host, as of a name in the DNS (RFC 1035 2.3.4).
const MAX_HOST: usize = 255;
/// Most bytes of a method: the longest one registered has 17.
const MAX_METHOD: usize = 32;

/// Methods that are known without the version at the end of their line: RFC 9110 9, RFC 5789,
/// RFC 4918 9, RFC 3253 3.6, and UPnP's.
const METHODS: [&[u8]; 14] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"CONNECT ",
    b"PATCH ",
    b"TRACE ",
    b"PROPFIND ",
    b"REPORT ",
    b"NOTIFY ",
    b"SUBSCRIBE ",
    b"M-SEARCH ",
];
/// What a client of HTTP/2 says first (RFC 9113 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What a stream, or a segment, begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    Request,
    Response,
    /// The preface of a client of HTTP/2.
    Http2,
    /// A request or response of RTSP (RFC 7826), whose lines have the form of HTTP's.
    Rtsp,
}

impl Opening {
    /// Judges by the first line, or by what there is of it.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match *bytes.first()? {
            b'H' if is_status_line(bytes) => return Some(Self::Response),
            b'R' if bytes.starts_with(b"RTSP/1.0 ") => return Some(Self::Rtsp),
            b'A'..=b'Z' | b'a'..=b'z' => {}
            _ => return None,
        }
        if bytes.starts_with(HTTP2_PREFACE) {
            return Some(Self::Http2);
        }
        match line_of(bytes) {
            Some(line) if line.ends_with(b" RTSP/1.0") => Some(Self::Rtsp),
            Some(line) => RequestLine::parse(line).map(|_| Self::Request),
            None => may_be_request_line(bytes).then_some(Self::Request),
        }
    }
}

/// The first line without its end, if the end is there.
fn line_of(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    bytes.get(..end).map(without_line_end)
}

/// Bare LF ends a line too (RFC 9112 2.2).
pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether a line whose end is not there can be a request line.
fn may_be_request_line(bytes: &[u8]) -> bool {
    METHODS
        .iter()
        .any(|method| match bytes.strip_prefix(*method) {
            Some(target) => target.first().is_none_or(u8::is_ascii_graphic),
            None => method.starts_with(bytes),
        })
}

fn is_status_line(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 ") || bytes.starts_with(b"HTTP/1.0 ")
}

/// Methods that the framing of a message depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    #[default]
    Other,
}

/// A protocol that a connection was upgraded to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// RFC 6455.
    WebSocket,
    /// Cleartext HTTP/2 (RFC 7540 3.2).
    Http2,
    /// RFC 2817.
    Tls,
    #[default]
    Other,
}

impl Upgrade {
    fn of(value: &[u8]) -> Self {
        let names = |name: &[u8]| {
            value
                .get(..name.len())
                .is_some_and(|front| front.eq_ignore_ascii_case(name))
        };
        if names(b"websocket") {
            Self::WebSocket
        } else if names(b"h2c") {
            Self::Http2
        } else if names(b"TLS/") {
            Self::Tls
        } else {
            Self::Other
        }
    }
}

/// What the fields say of the body, request or response apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BodyFields {
    length: Option<Length>,
    coding: Option<Coding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Of(u64),
    Invalid,
}

/// The last transfer coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl BodyFields {
    /// RFC 9112 6.3. A request has no body but a stated one.
    pub fn of_request(self) -> Framing {
        match (self.coding, self.length) {
            (Some(Coding::Chunked), _) => Framing::Chunked,
            (Some(Coding::Other), _) | (None, Some(Length::Invalid)) => Framing::Unknown,
            (None, Some(Length::Of(bytes))) => Framing::Length(bytes),
            (None, None) => Framing::Empty,
        }
    }

    /// RFC 9112 6.3. A response without a stated length lasts until the connection ends.
    pub fn of_response(self, status: u16, answers_head: bool) -> Framing {
        if answers_head || matches!(status, 204 | 304) {
            return Framing::Empty;
        }
        match (self.coding, self.length) {
            (Some(Coding::Chunked), _) => Framing::Chunked,
            (None, Some(Length::Of(bytes))) => Framing::Length(bytes),
            (None, Some(Length::Invalid)) => Framing::Unknown,
            (Some(Coding::Other), _) | (None, None) => Framing::UntilClose,
        }
    }

    fn note_length(&mut self, value: &[u8]) {
        for element in value.split(|&byte| byte == b',') {
            let length = match (parse_length(element.trim_ascii()), self.length) {
                (Some(bytes), None) => Length::Of(bytes),
                (Some(bytes), Some(known)) if known == Length::Of(bytes) => known,
                _ => Length::Invalid,
            };
            self.length = Some(length);
        }
    }

    fn note_coding(&mut self, value: &[u8]) {
        let last = value.rsplit(|&byte| byte == b',').next().unwrap_or(value);
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        self.coding = Some(if chunked {
            Coding::Chunked
        } else {
            Coding::Other
        });
    }
}

fn parse_length(digits: &[u8]) -> Option<u64> {
    // A sign, which `parse` would take, is not allowed (RFC 9110 8.6).
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// What is used of a head.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub method: Method,
    pub status: u16,
    /// Lower case, without port.
    pub host: Option<Box<str>>,
    pub body: BodyFields,
    pub upgrade: Upgrade,
    pub expects_continue: bool,
}

impl Head {
    /// Reads a request line; none if it is not one. `wants_host`: the caller does not know it yet.
    pub fn of_request(line: &[u8], is_whole: bool, wants_host: bool) -> Option<Self> {
        let parsed = match is_whole {
            true => RequestLine::parse(line),
            false => RequestLine::split(line),
        }?;
        // The target's own authority goes before the field Host (RFC 9112 3.2.2).
        let host = parsed.authority().filter(|_| wants_host).and_then(host_of);
        Some(Self {
            method: parsed.method(),
            host,
            ..Self::default()
        })
    }

    /// Reads a status line (RFC 9112 4); none if it is not one.
    pub fn of_response(line: &[u8]) -> Option<Self> {
        let rest = Some(line).filter(|line| is_status_line(line))?.get(9..)?;
        let (digits, reason) = rest.split_first_chunk::<3>()?;
        let in_place = reason.first().is_none_or(|&byte| byte == b' ');
        let status = parse_length(digits).and_then(|status| u16::try_from(status).ok())?;
        (in_place && (100..1000).contains(&status)).then(|| Self {
            status,
            ..Self::default()
        })
    }

    /// Takes in a field line; what is folded onto a second line (RFC 9112 5.2) is not read.
    pub fn note_field(&mut self, line: &[u8], wants_host: bool) {
        let Some(colon) = line.iter().take(32).position(|&byte| byte == b':') else {
            return;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = name.trim_ascii_end();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if wants_host && self.host.is_none() && is(b"host") => self.host = host_of(value),
            6 if is(b"expect") => {
                self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is(b"upgrade") => self.upgrade = Upgrade::of(value),
            14.. if is(b"content-length") => self.body.note_length(value),
            17.. if is(b"transfer-encoding") => self.body.note_coding(value),
            _ => {}
        }
    }
}

/// A request line in its parts (RFC 9112 3).
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
}

impl<'a> RequestLine<'a> {
    /// Reads a whole line, which names HTTP/1.x at its end.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let is_version = |version: &[u8]| version == b"HTTP/1.1" || version == b"HTTP/1.0";
        let space = line.iter().rposition(|&byte| byte == b' ')?;
        let version = line.get(space + 1..)?;
        Self::split(line.get(..space)?).filter(|_| is_version(version))
    }

    fn split(line: &'a [u8]) -> Option<Self> {
        let space = line.iter().position(|&byte| byte == b' ')?;
        let method = line.get(..space)?;
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let plausible = (1..=MAX_METHOD).contains(&space) && method.iter().all(is_token);
        plausible.then_some(Self {
            method,
            target: line.get(space + 1..)?,
        })
    }

    fn method(&self) -> Method {
        match self.method {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// The authority of a target in authority-form or absolute-form (RFC 9112 3.2).
    fn authority(&self) -> Option<&'a [u8]> {
        if self.method == b"CONNECT" {
            return Some(self.target);
        }
        let origin_form = self.target.starts_with(b"/");
        let scheme_end = self
            .target
            .windows(3)
            .take(16)
            .position(|mark| !origin_form && mark == b"://")?;
        let rest = self.target.get(scheme_end + 3..)?;
        let end = rest.iter().position(|byte| b"/?#".contains(byte));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let userinfo = authority.iter().rposition(|&byte| byte == b'@');
        authority.get(userinfo.map_or(0, |at| at + 1)..)
    }
}

/// The host of an authority in lower case: without port, an IPv6 address without its brackets.
fn host_of(authority: &[u8]) -> Option<Box<str>> {
    let text = str::from_utf8(authority).ok()?;
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => text.split_once(':').map_or(text, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_host_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    let plausible = (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(is_host_byte);
    plausible.then(|| host.to_ascii_lowercase().into_boxed_str())
}
