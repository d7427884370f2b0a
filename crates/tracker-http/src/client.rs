//! A blocking HTTP client for announces, scrapes and whole files. It follows redirects itself and
//! checks each address before it connects.
//!
//! ```text
//! Fetcher --- one hop --> CheckedResolver --> Dialer --> TLS --> status, headers, body
//!    ^                                                               |
//!    `--- redirect; after a public address, to public ones only -----'
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the crate's only I/O

mod allowed;
mod error;
mod hop;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bt_types::{AnnounceReply, AnnounceRequest, InfoHashV1, ScrapeEntry};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use url::Url;

pub use error::{AnnounceError, FetchError, FetcherError, ScrapeError};

use crate::reply::{ReplyError, START_LENGTH};
use crate::text::printable;
use crate::url::{parse, shorten_url};
use crate::{announce_url, parse_announce, parse_scrape, scrape_url};
use allowed::AllowedAddresses;
use hop::{Hop, Response};

/// The default of [`FetcherConfig::max_body`]: the longest reply that is read, in bytes.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// The default number of redirects that are followed.
const MAX_REDIRECTS: u32 = 5;
/// The default time limit of a call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time limit that can be set. A longer one could overflow the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The configuration of a [`Fetcher`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetcherConfig {
    /// The value of the `User-Agent` header.
    pub user_agent: String,
    /// The time limit of one call, with lookup, redirects and body. The default is 30 s, the
    /// longest is a day.
    pub timeout: Duration,
    /// A file of PEM certificates to trust *instead of* the public authorities.
    pub ca_file: Option<PathBuf>,
    /// The longest body that [`Fetcher::get`], an announce or a scrape reads, in bytes after
    /// decompression. The default is [`MAX_BODY`].
    pub max_body: usize,
    /// How many redirects are followed. The default is 5.
    pub max_redirects: u32,
    /// The local address to connect from. The client connects only to addresses of its family, so
    /// `0.0.0.0` and `::` choose a family (BEP 7, "Announcing").
    pub bind: Option<IpAddr>,
}

impl Default for FetcherConfig {
    fn default() -> Self {
        Self {
            user_agent: concat!("tracker-http/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: TIMEOUT,
            ca_file: None,
            max_body: MAX_BODY,
            max_redirects: MAX_REDIRECTS,
            bind: None,
        }
    }
}

/// A blocking HTTP client without proxy, cookies or connection reuse. Clones share everything and
/// may be used from many threads at once.
///
/// A user name and a password in a URL are unescaped and sent as basic authorization (RFC 7617).
#[derive(Debug, Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: FetcherConfig,
    tls: TlsConfig,
}

impl Fetcher {
    /// Makes a client.
    ///
    /// # Errors
    /// The file of certificates cannot be read or has none, or the user agent is not printable
    /// ASCII.
    pub fn new(config: FetcherConfig) -> Result<Self, FetcherError> {
        let printable = |byte: u8| (0x20..0x7f).contains(&byte);
        if !config.user_agent.bytes().all(printable) {
            return Err(FetcherError::UserAgent { got: config.user_agent });
        }
        let roots = match &config.ca_file {
            Some(path) => read_roots(path)?,
            None => RootCerts::WebPki,
        };
        let tls = TlsConfig::builder().root_certs(roots).build();
        Ok(Self { shared: Arc::new(Shared { config, tls }) })
    }

    /// Announces to the tracker with the announce URL `url`.
    ///
    /// # Errors
    /// See [`AnnounceError`]. The HTTP status of a bencoded refusal or of a reply with peers is
    /// ignored.
    pub fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, AnnounceError> {
        let url = announce_url(url, request)?;
        let response = self.fetch(&url, self.shared.config.max_body)?;
        match parse_announce(&response.body) {
            // Many trackers refuse with status 400 or 403.
            Err(ReplyError::Failure { reason, retry_in }) => {
                Err(AnnounceError::Failure { reason, retry_in })
            }
            Ok(reply) if response.is_success() || !reply.peers.is_empty() => Ok(reply),
            // Nearly any bencoded dictionary parses as a reply, even one on an error page.
            Ok(_) | Err(_) => Err(unexpected(&response).into()),
        }
    }

    /// Scrapes the tracker with the announce URL `url` for `info_hashes`. A tracker may leave out
    /// torrents that it does not know.
    ///
    /// # Errors
    /// See [`ScrapeError`]. The HTTP status of a bencoded refusal is ignored.
    pub fn scrape(
        &self,
        url: &str,
        info_hashes: &[InfoHashV1],
    ) -> Result<Vec<ScrapeEntry>, ScrapeError> {
        let url = scrape_url(url, info_hashes)?;
        let response = self.fetch(&url, self.shared.config.max_body)?;
        match parse_scrape(&response.body) {
            Ok(entries) => Ok(entries),
            Err(ReplyError::Failure { reason, retry_in }) => {
                Err(ScrapeError::Failure { reason, retry_in })
            }
            Err(error @ (ReplyError::MissingKey { .. } | ReplyError::WrongKind { .. }))
                if response.is_success() =>
            {
                Err(ScrapeError::Reply(error))
            }
            Err(_) => Err(unexpected(&response).into()),
        }
    }

    /// Downloads `url`, with a body of at most [`FetcherConfig::max_body`] bytes.
    ///
    /// # Errors
    /// See [`FetchError`]. A status other than 2xx is an error.
    pub fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.get_with_limit(url, self.shared.config.max_body)
    }

    /// Downloads `url`, with a body of at most `max_body` bytes.
    ///
    /// # Errors
    /// See [`FetchError`]. A status other than 2xx is an error.
    pub fn get_with_limit(&self, url: &str, max_body: usize) -> Result<Vec<u8>, FetchError> {
        let response = self.fetch(url, max_body)?;
        if response.is_success() { Ok(response.body) } else { Err(unexpected(&response)) }
    }

    /// Follows redirects and returns the last response, whatever its status.
    fn fetch(&self, url: &str, max_body: usize) -> Result<Response, FetchError> {
        let config = &self.shared.config;
        let deadline = Instant::now() + config.timeout.min(MAX_TIMEOUT);
        let mut url = parse(url)?;
        let mut allowed = AllowedAddresses::Any;
        for _ in 0..=config.max_redirects {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let hop =
                Hop { config, tls: &self.shared.tls, url: &url, allowed, remaining, max_body };
            let response = hop.send()?;
            let Some(location) = &response.location else { return Ok(response) };
            // A public server must not lead the client into the local network.
            allowed = allowed.after(response.address);
            url = redirected(&url, location)?;
        }
        Err(FetchError::TooManyRedirects { limit: config.max_redirects })
    }
}

/// Returns the http or https URL that a redirect from `from` to `location` leads to.
fn redirected(from: &Url, location: &str) -> Result<Url, FetchError> {
    let joined = from.join(location).map_err(|error| error.to_string());
    let checked = joined.and_then(|to| parse(to.as_str()).map_err(|error| error.to_string()));
    checked.map_err(|reason| FetchError::Redirect { to: shorten_url(location), reason })
}

/// Returns the error for a web page, or for a response with a bad status.
fn unexpected(response: &Response) -> FetchError {
    FetchError::Unexpected {
        status: response.status,
        content_type: response.content_type.clone(),
        start: printable(&response.body, START_LENGTH),
    }
}

fn read_roots(path: &Path) -> Result<RootCerts, FetcherError> {
    let failed = |reason: String| FetcherError::CaFile { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.map_err(|error| failed(error.to_string()))?
        {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(failed("expected certificates in PEM form, got none".to_owned()));
    }
    Ok(RootCerts::from(certificates))
}

#[cfg(test)]
mod tests;
