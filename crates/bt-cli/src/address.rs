//! Addresses of peers on the command line.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::failure::{Class, Classify, Failure};

/// Returns the addresses that `text` names, at least one: `192.0.2.7:6881`, `[::1]:6881`,
/// `example.org:6881`.
///
/// # Errors
/// Usage if it is not an address with a port; network if a name can't be looked up.
pub(crate) fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(malformed(text)) } else { Ok(vec![address]) };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| malformed(text))?;
    let port: u16 = port.parse().map_err(|_| malformed(text))?;
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    // A name of digits and dots only is a mistyped IPv4 address.
    let mistyped = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if port == 0 || mistyped || !host.chars().all(is_name) {
        return Err(malformed(text));
    }
    let found = (host, port).to_socket_addrs();
    let found = found.or_fail(Class::Network, format!("cannot look up the peer {host}"))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() {
        return Err(Failure::new(Class::Network, format!("the name {host} has no address")));
    }
    Ok(found)
}

/// Returns the addresses of all texts, in order.
pub(crate) fn resolve_all(texts: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for text in texts {
        addresses.extend(resolve(text)?);
    }
    Ok(addresses)
}

fn malformed(text: &str) -> Failure {
    let expected = "expected HOST:PORT such as 192.0.2.7:6881 or [::1]:6881";
    Failure::usage(format!("{expected}, got {text:?}")).with("address", text)
}
