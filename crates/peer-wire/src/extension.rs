//! The extension handshake: the extension messages that a client accepts, and their ids (BEP 10).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bencode::{DecodeError, Dict, Options, Owned, Value};

/// How many extension names of one handshake are kept. The rest is ignored.
pub const MAX_EXTENSION_NAMES: usize = 64;

/// The name of the metadata extension in `m` (BEP 9).
pub const UT_METADATA: &str = "ut_metadata";
/// The name of peer exchange in `m` (BEP 11).
pub const UT_PEX: &str = "ut_pex";
/// The id under which we accept messages of peer exchange. It is libtorrent's, as is the next: a
/// client that confuses our ids with its own is most likely to be right with these.
pub const UT_PEX_ID: u8 = 1;
/// The id under which we accept messages of the metadata extension.
pub const UT_METADATA_ID: u8 = 2;

/// Which of the extensions that this crate knows a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    /// The metadata extension (BEP 9).
    pub metadata: bool,
    /// Peer exchange (BEP 11).
    pub pex: bool,
}

impl Extensions {
    /// Returns the `m` of our extension handshake. It names the extensions that are off too, with
    /// the id 0, so that a later handshake takes back what an earlier one offered (BEP 10).
    pub fn messages(self) -> BTreeMap<String, u8> {
        let id = |on, id| if on { id } else { 0 };
        let metadata = (UT_METADATA.to_owned(), id(self.metadata, UT_METADATA_ID));
        let pex = (UT_PEX.to_owned(), id(self.pex, UT_PEX_ID));
        BTreeMap::from([metadata, pex])
    }
}

/// An extension handshake. Every field is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionHandshake {
    /// `m`: the id of each extension message by its name. 0 disables the message.
    pub messages: BTreeMap<String, u8>,
    /// `v`: the client's name and version; untrusted text.
    pub client: Option<String>,
    /// `p`: the TCP port that the client listens on.
    pub port: Option<u16>,
    /// `reqq`: how many requests the client queues without dropping any.
    pub request_queue: Option<u32>,
    /// `metadata_size`: the length of the `info` dictionary, in bytes (BEP 9).
    pub metadata_size: Option<u32>,
    /// `yourip`: the receiver's address, as the sender sees it.
    pub your_ip: Option<IpAddr>,
    /// `ipv4`: the sender's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: the sender's IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// `upload_only`: whether the client no longer downloads (BEP 21).
    pub upload_only: Option<bool>,
}

/// Why bytes are not an extension handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionHandshakeError {
    /// Occurs when the bytes are not bencode.
    #[error(transparent)]
    Bencode(#[from] Box<DecodeError>),
    /// Occurs when the value is not a dictionary.
    #[error("expected a dictionary, got {got:?}")]
    NotADictionary {
        /// The kind of the value.
        got: bencode::Kind,
    },
}

impl ExtensionHandshake {
    /// Decodes a handshake. Ignores unknown keys, values of the wrong type or range, and bytes
    /// after the dictionary.
    ///
    /// # Errors
    /// `payload` is not bencode, or not a dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionHandshakeError> {
        let document = OPTIONS.parse(payload).map_err(Box::new)?;
        let root = document.root();
        let kind = root.kind();
        let dict = root.as_dict().ok_or(ExtensionHandshakeError::NotADictionary { got: kind })?;
        let bytes = |key: &str| dict.get(key).and_then(Value::as_bytes);
        Ok(Self {
            messages: dict.get("m").and_then(Value::as_dict).map(messages).unwrap_or_default(),
            client: bytes("v").map(client),
            port: number(dict, "p"),
            request_queue: number(dict, "reqq"),
            metadata_size: number(dict, "metadata_size"),
            your_ip: bytes("yourip").and_then(ip),
            ipv4: bytes("ipv4").and_then(ipv4),
            ipv6: bytes("ipv6").and_then(ipv6),
            upload_only: number(dict, "upload_only").map(|number: u32| number != 0),
        })
    }

    /// Encodes the handshake.
    pub fn encode(&self) -> Vec<u8> {
        let messages = self.messages.iter().map(|(name, id)| (name, Owned::from(*id)));
        let address = |ip| match ip {
            IpAddr::V4(ip) => Owned::from(&ip.octets()),
            IpAddr::V6(ip) => Owned::from(&ip.octets()),
        };
        let entries = [
            ("m", Some(Owned::dict(messages))),
            ("v", self.client.as_deref().map(Owned::from)),
            ("p", self.port.map(Owned::from)),
            ("reqq", self.request_queue.map(Owned::from)),
            ("metadata_size", self.metadata_size.map(Owned::from)),
            ("yourip", self.your_ip.map(address)),
            ("ipv4", self.ipv4.map(IpAddr::V4).map(address)),
            ("ipv6", self.ipv6.map(IpAddr::V6).map(address)),
            ("upload_only", self.upload_only.map(|only| Owned::from(u8::from(only)))),
        ];
        let present = entries.into_iter().filter_map(|(key, value)| Some((key, value?)));
        bencode::encode(&Owned::dict(present))
    }

    /// Applies a later handshake of the same peer, which holds only changes (BEP 10).
    pub fn update(&mut self, later: Self) {
        let room = MAX_EXTENSION_NAMES.saturating_sub(self.messages.len());
        let (known, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            later.messages.into_iter().partition(|(name, _)| self.messages.contains_key(name));
        self.messages.extend(known.into_iter().chain(new.into_iter().take(room)));
        self.client = later.client.or(self.client.take());
        self.port = later.port.or(self.port);
        self.request_queue = later.request_queue.or(self.request_queue);
        self.metadata_size = later.metadata_size.or(self.metadata_size);
        self.your_ip = later.your_ip.or(self.your_ip);
        self.ipv4 = later.ipv4.or(self.ipv4);
        self.ipv6 = later.ipv6.or(self.ipv6);
        self.upload_only = later.upload_only.or(self.upload_only);
    }

    /// Returns the id of the extension message `name`, or `None` if the client does not accept it.
    pub fn id_of(&self, name: &str) -> Option<u8> {
        self.messages.get(name).copied().filter(|id| *id != 0)
    }
}

/// Real handshakes have about twenty tokens. The rest is room for future extensions.
const OPTIONS: Options =
    Options { allow_trailing: true, max_depth: 16, max_tokens: 4096, ..Options::new() };

/// The longest extension name that is kept, in bytes.
const MAX_NAME_LENGTH: usize = 64;
/// The longest client name that is kept, in characters.
const MAX_CLIENT_LENGTH: usize = 64;

fn messages(dict: Dict<'_, '_>) -> BTreeMap<String, u8> {
    let known = dict.iter().filter_map(|(name, id)| {
        let name = str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME_LENGTH)?;
        Some((name.to_owned(), u8::try_from(id.as_uint()?).ok()?))
    });
    known.take(MAX_EXTENSION_NAMES).collect()
}

fn client(name: &[u8]) -> String {
    let most = name.len().min(4 * MAX_CLIENT_LENGTH);
    let text = String::from_utf8_lossy(name.get(..most).unwrap_or_default());
    text.chars().take(MAX_CLIENT_LENGTH).collect()
}

fn number<T: TryFrom<u64>>(dict: Dict<'_, '_>, key: &str) -> Option<T> {
    dict.get(key)?.as_uint()?.try_into().ok()
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    ipv4(bytes).map(IpAddr::V4).or_else(|| ipv6(bytes).map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> ExtensionHandshake {
        ExtensionHandshake {
            messages: [("ut_metadata".to_owned(), 3), ("ut_pex".to_owned(), 1)].into(),
            client: Some("Transmission 3.00".to_owned()),
            port: Some(51413),
            request_queue: Some(512),
            metadata_size: Some(31235),
            your_ip: Some(IpAddr::from([10, 0, 0, 1])),
            ipv4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            ipv6: Some(Ipv6Addr::LOCALHOST),
            upload_only: Some(true),
        }
    }

    #[test]
    fn round_trip() {
        for handshake in [full(), ExtensionHandshake::default()] {
            let bytes = handshake.encode();
            assert_eq!(ExtensionHandshake::decode(&bytes), Ok(handshake.clone()));
            for end in 0..bytes.len() {
                assert!(ExtensionHandshake::decode(&bytes[..end]).is_err(), "prefix of {end}");
            }
            let trailing = [&bytes[..], b"x"].concat();
            assert_eq!(ExtensionHandshake::decode(&trailing), Ok(handshake));
        }
    }

    #[test]
    fn example_of_bep_10() {
        let bytes = b"d1:md11:LT_metadatai1e6:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        // The BEP counts the non-ASCII character as one byte in `6:`, but as two in `13:`.
        assert!(ExtensionHandshake::decode(bytes).is_err());
        let bytes = b"d1:md11:LT_metadatai1e7:\xc2\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let handshake = ExtensionHandshake::decode(bytes).unwrap();
        assert_eq!(handshake.id_of("LT_metadata"), Some(1));
        assert_eq!(handshake.id_of("\u{b5}T_PEX"), Some(2));
        assert_eq!(handshake.client.as_deref(), Some("\u{b5}Torrent 1.2"));
        assert_eq!(handshake.port, Some(6881));
    }

    #[test]
    fn invalid_values_are_ignored() {
        let odd = b"d1:mli1ee1:pi70000e4:reqqi-1e1:v2:\xff\xfe6:yourip3:abc11:upload_only1:ye";
        let handshake = ExtensionHandshake::decode(odd).unwrap();
        let client = Some("\u{fffd}\u{fffd}".to_owned());
        assert_eq!(handshake, ExtensionHandshake { client, ..Default::default() });
        let ids = ExtensionHandshake::decode(b"d1:md1:ai256e1:bi-1e1:ci0e1:di255eee").unwrap();
        assert_eq!((ids.messages.len(), ids.id_of("c"), ids.id_of("d")), (2, None, Some(255)));
    }

    #[test]
    fn kept_names_are_limited() {
        let named = |count: usize, tail: &str| -> Vec<u8> {
            let names = (0..count).map(|number| (format!("{number:03}{tail}"), Owned::from(1)));
            bencode::encode(&Owned::dict([("m", Owned::dict(names))]))
        };
        let kept = |payload: &[u8]| ExtensionHandshake::decode(payload).unwrap().messages.len();
        assert_eq!(kept(&named(MAX_EXTENSION_NAMES, "")), MAX_EXTENSION_NAMES);
        assert_eq!(kept(&named(MAX_EXTENSION_NAMES + 1, "")), MAX_EXTENSION_NAMES);
        assert_eq!(kept(&named(1, &"x".repeat(MAX_NAME_LENGTH - 3))), 1);
        assert_eq!(kept(&named(1, &"x".repeat(MAX_NAME_LENGTH - 2))), 0);

        let long = Owned::dict([("v", Owned::from("x".repeat(1000).as_str()))]);
        let client = ExtensionHandshake::decode(&bencode::encode(&long)).unwrap().client;
        assert_eq!(client.map(|client| client.len()), Some(MAX_CLIENT_LENGTH));
    }

    #[test]
    fn non_dictionaries_are_refused() {
        let not_a_dictionary = |got| Err(ExtensionHandshakeError::NotADictionary { got });
        assert_eq!(ExtensionHandshake::decode(b"i5e"), not_a_dictionary(bencode::Kind::Integer));
        assert_eq!(ExtensionHandshake::decode(b"le"), not_a_dictionary(bencode::Kind::List));
        let error = ExtensionHandshake::decode(b"garbage").unwrap_err();
        assert!(matches!(error, ExtensionHandshakeError::Bencode(_)), "{error}");
    }

    #[test]
    fn later_handshake_changes_only_its_keys() {
        let mut handshake = full();
        let later = b"d1:md5:lt_nei9e6:ut_pexi0ee4:reqqi100ee";
        handshake.update(ExtensionHandshake::decode(later).unwrap());
        assert_eq!(handshake.id_of("ut_pex"), None);
        assert_eq!(handshake.id_of("ut_metadata"), Some(3));
        assert_eq!(handshake.id_of("lt_ne"), Some(9));
        assert_eq!(handshake.request_queue, Some(100));
        assert_eq!(handshake.port, Some(51413));
    }
}
