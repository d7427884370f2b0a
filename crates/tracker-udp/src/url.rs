//! Tracker URLs: `udp://host:port/path?query`. Each announce carries the path and the query to the
//! tracker (BEP 41, "URLData").

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// The longest path and query of a tracker URL, in bytes. An announce then fits into one datagram
/// without fragmentation.
pub const MAX_URL_DATA_LENGTH: usize = 1024;

/// The parsed URL of a UDP tracker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackerUrl {
    /// The tracker's address or name.
    pub host: TrackerHost,
    /// The UDP port, never 0.
    pub port: u16,
    /// Path and query as written, at most [`MAX_URL_DATA_LENGTH`] bytes. May hold a passkey.
    pub url_data: String,
}

/// The host of a tracker URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrackerHost {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A DNS name in its ASCII form.
    Name(String),
}

/// Why a text is not the URL of a UDP tracker. Never shows the path, which may hold a passkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerUrlError {
    /// Occurs when the text is not a URL.
    #[error("expected a tracker address like udp://host:port, got one that is no URL: {reason}")]
    Syntax {
        /// The URL parser's error.
        reason: String,
    },
    /// Occurs when the URL has another scheme.
    #[error("expected a udp:// address, got {got}://")]
    Scheme {
        /// The scheme that was given.
        got: String,
    },
    /// Occurs when the host is missing, or neither an address nor a name.
    #[error("expected a host in the tracker's address, got {got:?}")]
    Host {
        /// The text in place of the host.
        got: String,
    },
    /// Occurs when the port is missing or 0. UDP trackers have no default port.
    #[error("expected a port in the tracker's address, as in udp://{host}:6969, got none")]
    NoPort {
        /// The host that was given.
        host: String,
    },
    /// Occurs when the path and query are longer than [`MAX_URL_DATA_LENGTH`].
    #[error(
        "expected a path and query of at most {MAX_URL_DATA_LENGTH} bytes in the tracker's \
         address, got {got}"
    )]
    UrlData {
        /// Their length, in bytes.
        got: usize,
    },
}

/// Parses a tracker URL. Ignores the case of the scheme, a fragment and a user name.
///
/// # Errors
/// See [`TrackerUrlError`].
pub fn parse_url(text: &str) -> Result<TrackerUrl, TrackerUrlError> {
    let url =
        Url::parse(text).map_err(|error| TrackerUrlError::Syntax { reason: error.to_string() })?;
    if url.scheme() != "udp" {
        return Err(TrackerUrlError::Scheme { got: url.scheme().to_owned() });
    }
    let host = parse_host(url.host_str().unwrap_or_default())?;
    let port = url.port().filter(|port| *port != 0);
    let port = port.ok_or_else(|| TrackerUrlError::NoPort { host: host.to_string() })?;
    let url_data = path_and_query(&url);
    if url_data.len() > MAX_URL_DATA_LENGTH {
        return Err(TrackerUrlError::UrlData { got: url_data.len() });
    }
    Ok(TrackerUrl { host, port, url_data })
}

/// Parses a host. The URL library does not parse the hosts of schemes that it does not know, so
/// IPv4 addresses and international names arrive here as written.
fn parse_host(text: &str) -> Result<TrackerHost, TrackerUrlError> {
    let error = || TrackerUrlError::Host { got: text.escape_default().to_string() };
    match Host::parse(text).map_err(|_| error())? {
        Host::Domain(name) if name.is_empty() => Err(error()),
        Host::Domain(name) => Ok(TrackerHost::Name(name)),
        Host::Ipv4(ip) => Ok(TrackerHost::Ip(ip.into())),
        Host::Ipv6(ip) => Ok(TrackerHost::Ip(ip.to_canonical())),
    }
}

fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

impl fmt::Display for TrackerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for TrackerUrl {
    /// Writes scheme, host and port, without the path and query, which may hold a passkey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str, url_data: &str) {
        let url = parse_url(text).unwrap();
        assert_eq!((url.to_string(), url.url_data), (shown.to_owned(), url_data.to_owned()));
    }

    #[test]
    fn urls() {
        check("udp://tracker.example.com:80", "udp://tracker.example.com:80", "");
        check("udp://t.example:80/", "udp://t.example:80", "/");
        check("UDP://T.Example:80/dir?a=b&c=d", "udp://t.example:80", "/dir?a=b&c=d");
        check("udp://t.example:80?auth=1#here", "udp://t.example:80", "?auth=1");
        check("  udp://me:secret@192.0.2.1:1337/announce\n", "udp://192.0.2.1:1337", "/announce");
        check("udp://[2001:DB8::1]:6969/x", "udp://[2001:db8::1]:6969", "/x");
        check("udp://[::ffff:192.0.2.1]:6969", "udp://192.0.2.1:6969", "");
        check("udp://b\u{fc}cher.example:1", "udp://xn--bcher-kva.example:1", "");
        check("udp://t.example:80/a%20b", "udp://t.example:80", "/a%20b");
    }

    #[test]
    fn addresses_differ_from_names() {
        let host = |text| parse_url(text).unwrap().host;
        assert_eq!(host("udp://127.0.0.1:1"), TrackerHost::Ip([127, 0, 0, 1].into()));
        assert_eq!(host("udp://localhost:1"), TrackerHost::Name("localhost".to_owned()));
    }

    #[test]
    fn invalid_urls_are_refused() {
        let refused = |text: &str| parse_url(text).unwrap_err();
        let no_port = |host: &str| TrackerUrlError::NoPort { host: host.to_owned() };
        assert_eq!(refused("udp://t.example/announce"), no_port("t.example"));
        assert_eq!(refused("udp://t.example:0/announce"), no_port("t.example"));
        assert_eq!(refused("udp://[::1]"), no_port("[::1]"));
        assert_eq!(refused("http://t.example:80"), TrackerUrlError::Scheme { got: "http".into() });
        assert!(matches!(refused("udp:///announce"), TrackerUrlError::Host { .. }));
        assert!(matches!(refused("udp:host:80"), TrackerUrlError::Host { .. }));
        assert!(matches!(refused("t.example"), TrackerUrlError::Syntax { .. }));
        assert!(matches!(refused("udp://t.example:99999"), TrackerUrlError::Syntax { .. }));
        let long = format!("udp://t.example:80/{}", "a".repeat(MAX_URL_DATA_LENGTH));
        assert_eq!(refused(&long), TrackerUrlError::UrlData { got: MAX_URL_DATA_LENGTH + 1 });
        assert!(parse_url(&long[..long.len() - 1]).is_ok());
    }

    #[test]
    fn errors_hide_the_path() {
        for text in
            ["udp://t.example/secret", "udp://t.example:0/secret", "http://t.example/secret"]
        {
            assert!(!parse_url(text).unwrap_err().to_string().contains("secret"));
        }
    }
}
