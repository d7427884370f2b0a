//! A blocking HTTP client for announces, scrapes and whole files. It follows redirects itself, and
//! nothing is connected to before its address was checked.
//!
//! ```text
//! Fetcher --- one hop --> Checked resolver --> Dialer --> TLS --> status, headers, body
//!    ^                                                                |
//!    `--- redirect, to a public address if this one was public -------'
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the crate's only I/O

mod error;
mod hop;
mod reach;

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
use hop::{Answer, Hop};
use reach::Reach;

/// The longest tracker reply that is read, in bytes, unless told otherwise.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// How many redirects are followed unless told otherwise.
const MAX_REDIRECTS: u32 = 5;
/// How long a call takes at most unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest timeout that can be asked for: what is more would not fit into the clock.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How a [`Fetcher`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetcherConfig {
    /// What the client calls itself.
    pub user_agent: String,
    /// How long one call takes at most: lookup, redirects and body together; 30 s, a day at most.
    pub timeout: Duration,
    /// A file of certificates in PEM form to trust *instead of* the public authorities.
    pub ca_file: Option<PathBuf>,
    /// The longest body that [`Fetcher::get`], an announce or a scrape reads, in bytes after
    /// decompression; [`MAX_BODY`].
    pub max_body: usize,
    /// How many redirects are followed; 5.
    pub max_redirects: u32,
    /// The local address to connect from. Only addresses of its family are connected to, so that
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

/// A blocking HTTP client. A user name and a password in a URL are unescaped and sent as basic
/// authorization (RFC 7617). Clones share everything and may be used from many threads at once. It
/// uses no proxy, keeps no cookies and no connections.
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
    /// A client that works as `config` says.
    ///
    /// # Errors
    /// The file of certificates cannot be read or holds none; the user agent is no header value.
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

    /// Announces to the tracker at `url`, which is without the announce's own query.
    ///
    /// # Errors
    /// See [`AnnounceError`]. A bencoded refusal, and a reply with peers, count as such whatever
    /// their HTTP status.
    pub fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, AnnounceError> {
        let url = announce_url(url, request)?;
        let answer = self.fetch(&url, self.shared.config.max_body)?;
        match parse_announce(&answer.body) {
            // Many trackers refuse with status 400 or 403, so a refusal counts whatever the status.
            Err(ReplyError::Failure { reason, retry_in }) => {
                Err(AnnounceError::Failure { reason, retry_in })
            }
            Ok(reply) if answer.is_success() || !reply.peers.is_empty() => Ok(reply),
            // Nearly any bencoded dictionary is a reply, so an error page could be one.
            Ok(_) | Err(_) => Err(unexpected(&answer).into()),
        }
    }

    /// Scrapes the tracker with the announce URL `url` for `info_hashes`. A tracker may leave out
    /// torrents it does not know.
    ///
    /// # Errors
    /// See [`ScrapeError`]. A bencoded refusal counts as one whatever its HTTP status.
    pub fn scrape(
        &self,
        url: &str,
        info_hashes: &[InfoHashV1],
    ) -> Result<Vec<ScrapeEntry>, ScrapeError> {
        let url = scrape_url(url, info_hashes)?;
        let answer = self.fetch(&url, self.shared.config.max_body)?;
        match parse_scrape(&answer.body) {
            Ok(entries) => Ok(entries),
            Err(ReplyError::Failure { reason, retry_in }) => {
                Err(ScrapeError::Failure { reason, retry_in })
            }
            Err(error @ (ReplyError::MissingKey { .. } | ReplyError::WrongKind { .. }))
                if answer.is_success() =>
            {
                Err(ScrapeError::Reply(error))
            }
            Err(_) => Err(unexpected(&answer).into()),
        }
    }

    /// The body of what is at `url`, [`FetcherConfig::max_body`] bytes at most.
    ///
    /// # Errors
    /// See [`FetchError`]; a status other than 2xx is one.
    pub fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.get_with_limit(url, self.shared.config.max_body)
    }

    /// The body of what is at `url`, `max_body` bytes at most.
    ///
    /// # Errors
    /// See [`FetchError`]; a status other than 2xx is one.
    pub fn get_with_limit(&self, url: &str, max_body: usize) -> Result<Vec<u8>, FetchError> {
        let answer = self.fetch(url, max_body)?;
        if answer.is_success() { Ok(answer.body) } else { Err(unexpected(&answer)) }
    }

    /// The answer at the end of the redirects, whatever its status.
    fn fetch(&self, url: &str, max_body: usize) -> Result<Answer, FetchError> {
        let config = &self.shared.config;
        let deadline = Instant::now() + config.timeout.min(MAX_TIMEOUT);
        let mut url = parse(url)?;
        let mut allowed = Reach::Any;
        for _ in 0..=config.max_redirects {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let hop =
                Hop { config, tls: &self.shared.tls, url: &url, allowed, remaining, max_body };
            let answer = hop.go()?;
            let Some(location) = &answer.location else { return Ok(answer) };
            // Once public, always public: a web page must not reach into the local network.
            allowed = allowed.after(answer.address);
            url = redirected(&url, location)?;
        }
        Err(FetchError::TooManyRedirects { limit: config.max_redirects })
    }
}

/// Where a redirect from `from` to `location` leads: only ever to another URL of HTTP.
fn redirected(from: &Url, location: &str) -> Result<Url, FetchError> {
    let joined = from.join(location).map_err(|error| error.to_string());
    let checked = joined.and_then(|to| parse(to.as_str()).map_err(|error| error.to_string()));
    checked.map_err(|reason| FetchError::Redirect { to: shorten_url(location), reason })
}

/// The error for a web page, and for an answer with a bad status.
fn unexpected(answer: &Answer) -> FetchError {
    FetchError::Unexpected {
        status: answer.status,
        content_type: answer.content_type.clone(),
        start: printable(&answer.body, START_LENGTH),
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
