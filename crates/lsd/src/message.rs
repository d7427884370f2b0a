//! The codec of announces.
//!
//! ```text
//! BT-SEARCH * HTTP/1.1
//! Host: 239.192.152.143:6771
//! Port: 6881
//! Infohash: 0123456789abcdef0123456789abcdef01234567
//! cookie: 5eed5eed
//! ```
//!
//! Lines end with CR LF, and two empty ones follow. There may be several `Infohash` headers.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bt_types::InfoHashV1;

/// The longest announce, in bytes. It should fit one packet (BEP 14).
pub const LSD_LENGTH: usize = 1400;
/// How many torrents one announce names at most, and how many are read of one.
pub const LSD_HASHES: usize = 20;

const METHOD: &str = "BT-SEARCH";
const PORT: u16 = 6771;

/// A multicast group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// 239.192.152.143, organisation-local.
    V4,
    /// ff15::efc0:988f, site-local.
    V6,
}

impl Group {
    /// Both groups.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the address of the group. Announces go to and are received at its port, 6771.
    pub fn address(self) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::from((Ipv4Addr::new(239, 192, 152, 143), PORT)),
            Self::V6 => {
                SocketAddr::from((Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f), PORT))
            }
        }
    }
}

/// An announce: a client is in the swarms of these torrents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The TCP port that the client listens on; not 0.
    pub port: u16,
    /// The torrents, each once.
    pub info_hashes: Vec<InfoHashV1>,
    /// A text by which the client recognises its own announces.
    pub cookie: Option<String>,
}

/// Why bytes are not an announce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// Occurs when there are more than [`LSD_LENGTH`] bytes.
    #[error("expected at most {LSD_LENGTH} bytes, got {got}")]
    TooLong {
        /// How many bytes there are.
        got: usize,
    },
    /// Occurs when the first line is not that of an announce.
    #[error("expected a line that begins with '{METHOD}'")]
    NotAnnounce,
    /// Occurs when `Host` is missing or names another group.
    #[error("expected the host {}", .group.address())]
    Host {
        /// The group that the bytes were sent to.
        group: Group,
    },
    /// Occurs when `Port` is missing or no port.
    #[error("expected a port from 1 to 65535")]
    Port,
    /// Occurs when no `Infohash` is a number of 40 hexadecimal digits.
    #[error("expected an info-hash of 40 hexadecimal digits")]
    NoInfoHash,
}

impl Announce {
    /// Decodes an announce that was sent to `group`. Accepts LF for CR LF, names in any case, and
    /// headers in any order. Ignores malformed info-hashes, those beyond [`LSD_HASHES`], other
    /// headers, and what follows an empty line. If a header that may appear once appears again, the
    /// first counts.
    ///
    /// # Errors
    /// See [`AnnounceError`].
    pub fn decode(group: Group, bytes: &[u8]) -> Result<Self, AnnounceError> {
        if bytes.len() > LSD_LENGTH {
            return Err(AnnounceError::TooLong { got: bytes.len() });
        }
        let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        if !lines.next().is_some_and(is_request) {
            return Err(AnnounceError::NotAnnounce);
        }
        let mut headers = Headers::default();
        for line in lines.take_while(|line| !line.is_empty()) {
            headers.add(line);
        }
        if headers.host.and_then(|host| host.parse().ok()) != Some(group.address()) {
            return Err(AnnounceError::Host { group });
        }
        let port = headers.port.and_then(port).ok_or(AnnounceError::Port)?;
        if headers.info_hashes.is_empty() {
            return Err(AnnounceError::NoInfoHash);
        }
        let cookie = headers.cookie.map(str::to_owned);
        Ok(Self { port, info_hashes: headers.info_hashes, cookie })
    }

    /// Encodes the announce for `group`. With [`LSD_HASHES`] torrents and a cookie of up to 200
    /// bytes it is no longer than [`LSD_LENGTH`]. The cookie must not have line breaks.
    pub fn encode(&self, group: Group) -> Vec<u8> {
        let (host, port) = (group.address(), self.port);
        let mut text = format!("{METHOD} * HTTP/1.1\r\nHost: {host}\r\nPort: {port}\r\n");
        // Writing to a string can't fail.
        for hash in &self.info_hashes {
            let _ = write!(text, "Infohash: {hash}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            let _ = write!(text, "cookie: {cookie}\r\n");
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }
}

/// The headers that count.
#[derive(Debug, Default)]
struct Headers<'a> {
    host: Option<&'a str>,
    port: Option<&'a str>,
    cookie: Option<&'a str>,
    info_hashes: Vec<InfoHashV1>,
}

impl<'a> Headers<'a> {
    fn add(&mut self, line: &'a [u8]) {
        let Ok(line) = str::from_utf8(line) else { return };
        let Some((name, value)) = line.split_once(':') else { return };
        let value = value.trim_ascii();
        match name.trim_ascii_end().to_ascii_lowercase().as_str() {
            "host" => self.host = self.host.or(Some(value)),
            "port" => self.port = self.port.or(Some(value)),
            "cookie" => self.cookie = self.cookie.or(Some(value)),
            "infohash" => self.add_info_hash(value),
            _ => {}
        }
    }

    fn add_info_hash(&mut self, value: &str) {
        let Ok(hash) = value.parse() else { return };
        if self.info_hashes.len() < LSD_HASHES && !self.info_hashes.contains(&hash) {
            self.info_hashes.push(hash);
        }
    }
}

/// Whether `line` is `BT-SEARCH * HTTP/1.1`, or that of a later version.
fn is_request(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace);
    words.next().is_some_and(|method| method.eq_ignore_ascii_case(METHOD.as_bytes()))
        && words.next() == Some(b"*")
        && words.next().is_some_and(|version| version.starts_with(b"HTTP/"))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
    const LINE: &str = "BT-SEARCH * HTTP/1.1\r\n";
    const HOST: &str = "Host: 239.192.152.143:6771\r\n";

    fn hash(number: u8) -> InfoHashV1 {
        InfoHashV1([number; 20])
    }

    fn decode(text: &str) -> Result<Announce, AnnounceError> {
        Announce::decode(Group::V4, text.as_bytes())
    }

    #[test]
    fn announces_are_written_as_in_bep_14() {
        let announce = Announce {
            port: 6881,
            info_hashes: vec![HASH.parse().unwrap(), hash(0xff)],
            cookie: Some("5eed".to_owned()),
        };
        let hashes = format!("Infohash: {HASH}\r\nInfohash: {}\r\n", "ff".repeat(20));
        for (group, host) in [(Group::V4, "239.192.152.143"), (Group::V6, "[ff15::efc0:988f]")] {
            let expected = format!(
                "{LINE}Host: {host}:6771\r\nPort: 6881\r\n{hashes}cookie: 5eed\r\n\r\n\r\n"
            );
            let bytes = announce.encode(group);
            assert_eq!(str::from_utf8(&bytes), Ok(&*expected));
            assert_eq!(Announce::decode(group, &bytes), Ok(announce.clone()));
            let long = [&bytes[..], b"x"].concat();
            assert_eq!(Announce::decode(group, &long), Ok(announce.clone()));
        }
        let [v4, v6] = Group::ALL.map(|group| announce.encode(group));
        let refused = |group| Err(AnnounceError::Host { group });
        assert_eq!(Announce::decode(Group::V6, &v4), refused(Group::V6));
        assert_eq!(Announce::decode(Group::V4, &v6), refused(Group::V4));
    }

    #[test]
    fn prefixes_are_no_announces_or_shorter_ones() {
        let bytes = Announce { port: 6881, info_hashes: vec![hash(1)], cookie: None };
        let bytes = bytes.encode(Group::V4);
        let complete = bytes.len() - "\r\n\r\n\r\n".len();
        for end in 0..bytes.len() {
            let decoded = Announce::decode(Group::V4, &bytes[..end]);
            assert_eq!(decoded.is_ok(), end >= complete, "prefix of {end}");
        }
    }

    #[test]
    fn odd_forms_are_accepted() {
        for text in [
            format!("{LINE}{HOST}Port: 6881\r\nInfohash: {HASH}\r\n\r\n\r\n"),
            format!("bt-search * HTTP/1.0\nhost:239.192.152.143:6771\nPORT:6881\nINFOHASH:{HASH}"),
            format!("{LINE}Infohash:\t {HASH} \r\nPort : 6881\r\n{HOST}"),
            format!("{LINE}{HOST}X: \r\nno colon\r\nport: 6881\r\nPort: 9\r\ninfohash: {HASH}\r\n"),
            format!("{LINE}{HOST}Port: 6881\r\nInfohash: {HASH}\r\n\r\nInfohash: {HASH}\r\n"),
            format!(
                "{LINE}{HOST}Port: 6881\r\nInfohash: x\r\nInfohash: {HASH}\r\nInfohash: {HASH}0"
            ),
            format!(
                "{LINE}{HOST}Port: 6881\r\nInfohash: {HASH}\r\nInfohash: {}",
                HASH.to_uppercase()
            ),
        ] {
            let info_hashes = vec![HASH.parse().unwrap()];
            assert_eq!(
                decode(&text),
                Ok(Announce { port: 6881, info_hashes, cookie: None }),
                "{text}"
            );
        }
        let bytes = [LINE.as_bytes(), b"X: \xff\r\n", HOST.as_bytes(), b"Port: 1\r\nInfohash: "];
        let bytes = [&bytes.concat(), HASH.as_bytes()].concat();
        assert_eq!(Announce::decode(Group::V4, &bytes).map(|announce| announce.port), Ok(1));
    }

    #[test]
    fn other_bytes_are_refused() {
        let port = || Err(AnnounceError::Port);
        let host = || Err(AnnounceError::Host { group: Group::V4 });
        let hash = format!("Infohash: {HASH}\r\n");
        for (text, expected) in [
            (String::new(), Err(AnnounceError::NotAnnounce)),
            (format!("\r\n{LINE}{HOST}Port: 1\r\n{hash}"), Err(AnnounceError::NotAnnounce)),
            ("GET / HTTP/1.1\r\n".to_owned(), Err(AnnounceError::NotAnnounce)),
            (format!("BT-SEARCHX * HTTP/1.1\r\n{HOST}"), Err(AnnounceError::NotAnnounce)),
            (format!("{LINE}Port: 1\r\n{hash}"), host()),
            (format!("{LINE}Host: 239.192.152.143\r\nPort: 1\r\n{hash}"), host()),
            (format!("{LINE}Host: 192.0.2.1:6771\r\nPort: 1\r\n{hash}"), host()),
            (format!("{LINE}\r\n{HOST}Port: 1\r\n{hash}"), host()),
            (format!("{LINE}{HOST}{hash}"), port()),
            (format!("{LINE}{HOST}Port: 0\r\n{hash}"), port()),
            (format!("{LINE}{HOST}Port: 65536\r\n{hash}"), port()),
            (format!("{LINE}{HOST}Port: +80\r\n{hash}"), port()),
            (format!("{LINE}{HOST}Port: \r\n{hash}"), port()),
            (format!("{LINE}{HOST}Port: 1\r\n"), Err(AnnounceError::NoInfoHash)),
            (
                format!("{LINE}{HOST}Port: 1\r\nInfohash: {}", &HASH[1..]),
                Err(AnnounceError::NoInfoHash),
            ),
            (
                format!("{LINE}{HOST}Port: 1\r\nInfohash: {HASH}{HASH}"),
                Err(AnnounceError::NoInfoHash),
            ),
        ] {
            assert_eq!(decode(&text), expected, "{text}");
        }
    }

    #[test]
    fn length_is_limited() {
        let longest = Announce {
            port: 65535,
            info_hashes: (0..LSD_HASHES as u8).map(hash).collect(),
            cookie: Some("c".repeat(200)),
        };
        let mut bytes = longest.encode(Group::V6);
        assert!(bytes.len() <= LSD_LENGTH, "{} bytes", bytes.len());
        bytes.resize(LSD_LENGTH, b' ');
        assert_eq!(Announce::decode(Group::V6, &bytes), Ok(longest));
        bytes.push(b' ');
        let got = LSD_LENGTH + 1;
        assert_eq!(Announce::decode(Group::V6, &bytes), Err(AnnounceError::TooLong { got }));
    }

    #[test]
    fn hashes_are_limited() {
        let info_hashes: Vec<_> = (0..=LSD_HASHES as u8).map(hash).collect();
        let many = Announce { port: 1, info_hashes, cookie: None };
        let read = Announce::decode(Group::V4, &many.encode(Group::V4)).unwrap();
        assert_eq!(read.info_hashes, many.info_hashes[..LSD_HASHES]);
    }
}
