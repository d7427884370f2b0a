//! What goes wrong on the way to a tracker and back. No message shows a whole URL, which may hold a
//! passkey.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::reply::ReplyError;
use crate::url::UrlError;

/// A configuration that cannot be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetcherError {
    /// Occurs when the file of certificates cannot be read, or holds none.
    #[error("cannot use the certificates in {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Occurs when the user agent is not made of printable ASCII characters.
    #[error("expected printable ASCII characters as the user agent, got {got:?}")]
    UserAgent {
        /// What was given.
        got: String,
    },
}

/// Why an announce gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// Occurs when the tracker's URL is none of HTTP.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Occurs when nothing that can be read comes back.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Occurs when the tracker sends a `failure reason`.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// What the tracker says, safe to show.
        reason: String,
        /// Seconds after which it may be asked again, as in [`ReplyError::Failure`].
        retry_in: Option<u32>,
    },
}

/// Why a scrape gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// Occurs when the tracker's URL is none of HTTP, or does not tell where to scrape.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Occurs when nothing that can be read comes back.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Occurs when the tracker sends a `failure reason`.
    #[error("the tracker refused: {reason}")]
    Failure {
        /// What the tracker says, safe to show.
        reason: String,
        /// Seconds after which it may be asked again, as in [`ReplyError::Failure`].
        retry_in: Option<u32>,
    },
    /// Occurs when the tracker's reply lacks something.
    #[error(transparent)]
    Reply(ReplyError),
}

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Occurs when the URL is none of HTTP.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Occurs when the host's name cannot be looked up.
    #[error("cannot look up {host}: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Occurs when a redirect of a public server leads to an address of a private network.
    #[error("refused a redirect from a public address to {host} at the private address {address}")]
    Private {
        /// The host redirected to.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// Occurs when no address of the host can be connected to; the last one tried is named.
    #[error("cannot connect to {address}: {kind}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// Occurs when the whole call took too long.
    #[error("no complete answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// How long the call was allowed to take.
        after: Duration,
    },
    /// Occurs when there is no secure connection, for example for want of a trusted certificate.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What TLS says.
        reason: String,
    },
    /// Occurs when the body is longer than allowed.
    #[error("expected a body of at most {limit} bytes, got more")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Occurs when there is a redirect too many.
    #[error("expected at most {limit} redirects, got more")]
    TooManyRedirects {
        /// The limit.
        limit: u32,
    },
    /// Occurs when a redirect leads nowhere, or to something else than HTTP.
    #[error("cannot follow the redirect to {to}: {reason}")]
    Redirect {
        /// Where it leads, shortened.
        to: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Occurs when the answer is a web page or an error page instead of what was asked for.
    #[error("expected {}, got status {status}, {}", wanted(*status), described(content_type.as_deref(), start))]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// The kind of the answer, as the server says, safe to show.
        content_type: Option<String>,
        /// How it begins, safe to show.
        start: String,
    },
    /// Occurs when the connection breaks.
    #[error("the connection to {host} failed: {kind}")]
    Broken {
        /// The host.
        host: String,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// Occurs when the answer is no HTTP.
    #[error("{host} sent an invalid HTTP response: {reason}")]
    Protocol {
        /// The host.
        host: String,
        /// What is wrong.
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
