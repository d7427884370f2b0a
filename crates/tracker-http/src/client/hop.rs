//! One HTTP request and its response: lookup, address check, connection, transfer.

mod dial;

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use ureq::http::{self, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout, RustlsConnector};
use ureq::{Agent, Body};
use url::Url;

use super::FetcherConfig;
use super::allowed::AllowedAddresses;
use super::error::FetchError;
use crate::text::printable;
use dial::Dialer;

/// The longest header block of a response, in bytes.
const MAX_HEADERS: usize = 16 * 1024;
/// The input buffer of one request, in bytes. The header block of the response must fit. The
/// buffers are short because each request clears its own, and many threads have one.
const INPUT_BUFFER: usize = MAX_HEADERS + 8 * 1024;
/// The output buffer of one request, in bytes. The line with the URL must fit.
const OUTPUT_BUFFER: usize = 16 * 1024;
/// The longest content type that is kept, in bytes.
const MAX_CONTENT_TYPE: usize = 100;

/// One request.
pub(super) struct Hop<'a> {
    pub(super) config: &'a FetcherConfig,
    pub(super) tls: &'a TlsConfig,
    pub(super) url: &'a Url,
    pub(super) allowed: AllowedAddresses,
    /// The time limit.
    pub(super) remaining: Duration,
    /// The longest body, in bytes.
    pub(super) max_body: usize,
}

/// A server's response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    /// The target of a redirect, whose body is not read.
    pub(super) location: Option<String>,
    /// The server's address.
    pub(super) address: Option<IpAddr>,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Hop<'_> {
    pub(super) fn send(&self) -> Result<Response, FetchError> {
        if self.remaining.is_zero() {
            return Err(self.timed_out());
        }
        let reached = Arc::new(OnceLock::new());
        let agent = self.agent(Arc::clone(&reached));
        let mut request = agent.get(self.url.as_str());
        if let Some(value) = authorization(self.url) {
            request = request.header(header::AUTHORIZATION, value);
        }
        let received = request.call().map_err(|error| self.failed(error))?;
        let mut response = Response {
            status: received.status().as_u16(),
            content_type: content_type(&received),
            location: location(&received),
            address: reached.get().copied(),
            body: Vec::new(),
        };
        if response.location.is_none() {
            response.body = self.read_body(received.into_body())?;
        }
        Ok(response)
    }

    /// Makes an agent for this hop. Hops do not share one: each may connect to other addresses, and
    /// announces are too rare to keep a connection open.
    fn agent(&self, reached: Arc<OnceLock<IpAddr>>) -> Agent {
        let config = Agent::config_builder()
            .user_agent(self.config.user_agent.as_str())
            .tls_config(self.tls.clone())
            .timeout_global(Some(self.remaining))
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(MAX_HEADERS)
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_idle_connections(0)
            .build();
        let bind = self.config.bind;
        let connector = ().chain(Dialer { bind, reached }).chain(RustlsConnector::default());
        Agent::with_parts(config, connector, CheckedResolver { allowed: self.allowed, bind })
    }

    fn read_body(&self, body: Body) -> Result<Vec<u8>, FetchError> {
        let limit = self.max_body;
        let announced = body.content_length().unwrap_or_default();
        if announced > limit as u64 {
            return Err(FetchError::TooLong { limit });
        }
        // The limit counts decompressed bytes, so a small response cannot grow without bound.
        let reader = body.into_with_config().limit(u64::MAX).reader();
        let mut bytes = Vec::new();
        reader
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed(error.into()))?;
        if bytes.len() > limit {
            return Err(FetchError::TooLong { limit });
        }
        Ok(bytes)
    }

    fn failed(&self, error: ureq::Error) -> FetchError {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        match error {
            ureq::Error::Timeout(_) => self.timed_out(),
            ureq::Error::HostNotFound => {
                FetchError::Resolve { host, reason: "no address of a family in use".to_owned() }
            }
            ureq::Error::Tls(reason) => FetchError::Tls { host, reason: reason.to_owned() },
            ureq::Error::Rustls(error) => FetchError::Tls { host, reason: error.to_string() },
            ureq::Error::Io(error) => broken(host, &error),
            ureq::Error::Other(error) => match error.downcast::<FetchError>() {
                Ok(error) => *error,
                Err(error) => FetchError::Protocol { host, reason: error.to_string() },
            },
            error => FetchError::Protocol { host, reason: reason(&error) },
        }
    }

    fn timed_out(&self) -> FetchError {
        FetchError::TimedOut { after: self.config.timeout }
    }
}

/// Returns the `Authorization` header for the user name and password of `url` (RFC 7617). They are
/// escaped in a URL but not in the header; the library would send the escapes.
fn authorization(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain: Vec<u8> = percent_decode_str(url.username()).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(format!("Basic {}", BASE64_STANDARD.encode(plain)))
}

/// Converts an I/O error. The errors of the TLS handshake are wrapped in one.
fn broken(host: String, error: &io::Error) -> FetchError {
    let tls = error.get_ref().is_some() && error.kind() == io::ErrorKind::InvalidData;
    match tls {
        true => FetchError::Tls { host, reason: reason(error) },
        false => FetchError::Broken { host, kind: error.kind() },
    }
}

fn reason(error: &impl std::fmt::Display) -> String {
    printable(error.to_string().as_bytes(), 200)
}

fn content_type(response: &http::Response<Body>) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?;
    Some(printable(value.as_bytes(), MAX_CONTENT_TYPE))
}

fn location(response: &http::Response<Body>) -> Option<String> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let value = response.headers().get(header::LOCATION).filter(|_| redirects)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Looks up names and returns only the permitted addresses.
#[derive(Debug)]
struct CheckedResolver {
    allowed: AllowedAddresses,
    bind: Option<IpAddr>,
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let found = DefaultResolver::default().resolve(uri, config, timeout);
        let found = found.map_err(|error| lookup_failed(host, error))?;
        let of_family = |ip: IpAddr| self.bind.is_none_or(|bind| bind.is_ipv4() == ip.is_ipv4());
        let mut permitted = self.empty();
        let mut refused = None;
        for address in found.iter().filter(|address| of_family(address.ip())) {
            match self.allowed.permits(address.ip()) {
                true => permitted.push(*address),
                false => refused = Some(address.ip()),
            }
        }
        match refused {
            Some(address) if permitted.is_empty() => {
                let host = host.to_owned();
                Err(ureq::Error::Other(Box::new(FetchError::Private { host, address })))
            }
            _ if permitted.is_empty() => Err(ureq::Error::HostNotFound),
            _ => Ok(permitted),
        }
    }
}

fn lookup_failed(host: &str, error: ureq::Error) -> ureq::Error {
    match error {
        ureq::Error::Io(error) => {
            let (host, reason) = (host.to_owned(), reason(&error));
            ureq::Error::Other(Box::new(FetchError::Resolve { host, reason }))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
