//! The client's errors. No message shows a whole URL, which may hold a passkey.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::reply::ReplyError;
use crate::url::UrlError;

/// Why a [`FetcherConfig`](crate::FetcherConfig) is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetcherError {
    /// Occurs when the file of certificates cannot be read, or has none.
    #[error("cannot use the certificates in {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// Occurs when the user agent is not printable ASCII.
    #[error("expected printable ASCII characters as the user agent, got {got:?}")]
    UserAgent {
        /// The user agent that was given.
        got: String,
    },
}

/// Why an announce failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// Occurs when the tracker's URL is not an http or https URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Occurs when the HTTP request fails, or its response is not a reply.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Occurs when the tracker sends a `failure reason`.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// The tracker's reason, safe to show.
        reason: String,
        /// Seconds until the client may ask again, as in [`ReplyError::Failure`].
        retry_in: Option<u32>,
    },
}

/// Why a scrape failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// Occurs when the tracker's URL is not an http or https URL, or has no `announce` in its path.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Occurs when the HTTP request fails, or its response is not a reply.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Occurs when the tracker sends a `failure reason`.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// The tracker's reason, safe to show.
        reason: String,
        /// Seconds until the client may ask again, as in [`ReplyError::Failure`].
        retry_in: Option<u32>,
    },
    /// Occurs when the reply has no dictionary `files`.
    #[error(transparent)]
    Reply(ReplyError),
}

/// Why an HTTP request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Occurs when the URL is not an http or https URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Occurs when the lookup of the host's name fails.
    #[error("cannot look up {host}: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// The system's error.
        reason: String,
    },
    /// Occurs when a public server redirects to a private address.
    #[error("refused a redirect from a public address to {host} at the private address {address}")]
    Private {
        /// The host that the redirect names.
        host: String,
        /// Its private address.
        address: IpAddr,
    },
    /// Occurs when no address of the host accepts a connection.
    #[error("cannot connect to {address}: {kind}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// The system's error.
        kind: io::ErrorKind,
    },
    /// Occurs when the call exceeds its time limit.
    #[error("no complete answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// Occurs when TLS fails, for example because the certificate is not trusted.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// The error of the TLS library.
        reason: String,
    },
    /// Occurs when the body is longer than the limit.
    #[error("expected a body of at most {limit} bytes, got more")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Occurs when there are more redirects than the limit.
    #[error("expected at most {limit} redirects, got more")]
    TooManyRedirects {
        /// The limit.
        limit: u32,
    },
    /// Occurs when a redirect does not lead to a valid http or https URL.
    #[error("cannot follow the redirect to {to}: {reason}")]
    Redirect {
        /// The target, shortened.
        to: String,
        /// Why the target is invalid.
        reason: String,
    },
    /// Occurs when the response is a web page or an error page.
    #[error("expected {}, got status {status}, {}", wanted(*status), described(content_type.as_deref(), start))]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// The `Content-Type` header, safe to show.
        content_type: Option<String>,
        /// The first bytes of the body, at most 80, safe to show.
        start: String,
    },
    /// Occurs when the connection breaks.
    #[error("the connection to {host} failed: {kind}")]
    Broken {
        /// The host.
        host: String,
        /// The system's error.
        kind: io::ErrorKind,
    },
    /// Occurs when the response is not valid HTTP.
    #[error("{host} sent an invalid HTTP response: {reason}")]
    Protocol {
        /// The host.
        host: String,
        /// The error of the HTTP library.
        reason: String,
    },
}

fn wanted(status: u16) -> &'static str {
    if (200..300).contains(&status) { "a bencoded reply" } else { "status 200" }
}

fn described(content_type: Option<&str>, start: &str) -> String {
    let kind = content_type.unwrap_or("no content type");
    match start {
        "" => format!("{kind}, an empty body"),
        start => format!("{kind}: {start:?}"),
    }
}
