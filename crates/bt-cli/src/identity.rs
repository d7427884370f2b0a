//! What this program calls itself.

/// Name and version, for trackers and peers and in torrents that it creates.
pub(crate) const CLIENT_NAME: &str = concat!("bt-cli/", env!("CARGO_PKG_VERSION"));
/// The first eight bytes of every peer id: Azureus style (BEP 20), a two-letter code no other
/// client uses, then the version.
pub(crate) const PEER_ID_PREFIX: [u8; 8] = *b"-qR0100-";
