//! The message of peer exchange, `ut_pex` (BEP 11).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bencode::{DecodeError, Dict, Options, Owned, Value};
use bt_types::compact::{self, V4_LENGTH, V6_LENGTH};

/// The longest message that is read, in bytes.
pub const PEX_LENGTH: u32 = 32 * 1024;
/// How many entries of each of the four lists are read. The rest is ignored. BEP 11 allows 50, and
/// more in the first message only.
pub const PEX_READ: usize = 100;

/// The dictionary has six keys. The rest is room for future extensions.
const OPTIONS: Options =
    Options { allow_trailing: true, max_depth: 4, max_tokens: 128, ..Options::new() };

/// What a client tells of the peers that it is connected to: the changes since its last message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pex {
    /// The peers that it connected to, IPv4 before IPv6 when received. No port is 0.
    pub added: Vec<PexPeer>,
    /// The peers that it is no longer connected to, IPv4 before IPv6 when received. No port is 0.
    pub dropped: Vec<SocketAddr>,
}

/// A peer that a client connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PexPeer {
    /// Where it listens.
    pub address: SocketAddr,
    /// What the client says of it.
    pub flags: PexFlags,
}

/// What a client says of a peer that it connected to: a set of the bits below. Other bits are
/// reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// The peer prefers encryption: its extension handshake has `e`.
    pub const ENCRYPTION: Self = Self(0x01);
    /// The peer is a seed, or downloads no more (BEP 21).
    pub const SEED: Self = Self(0x02);
    /// The peer supports uTP.
    pub const UTP: Self = Self(0x04);
    /// The peer's extension handshake has `ut_holepunch` (BEP 55).
    pub const HOLEPUNCH: Self = Self(0x08);
    /// The client connected to the peer, so the peer is reachable.
    pub const REACHABLE: Self = Self(0x10);

    /// Returns the flags with those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why bytes are not a message of peer exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PexError {
    /// Occurs when there are more than [`PEX_LENGTH`] bytes.
    #[error("expected at most {PEX_LENGTH} bytes, got {got}")]
    TooLong {
        /// How many bytes there are.
        got: usize,
    },
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

impl Pex {
    /// Decodes a message. Of the four lists each is ignored if its length is not a multiple of that
    /// of an entry, or if it has flags, but not one byte for each entry. An entry is ignored if its
    /// port is 0, if it repeats an earlier one, and if it is both added and dropped.
    ///
    /// # Errors
    /// `payload` is longer than [`PEX_LENGTH`], is not bencode, or not a dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, PexError> {
        if payload.len() > PEX_LENGTH as usize {
            return Err(PexError::TooLong { got: payload.len() });
        }
        let document = OPTIONS.parse(payload).map_err(Box::new)?;
        let kind = document.root().kind();
        let dict = document.root().as_dict().ok_or(PexError::NotADictionary { got: kind })?;
        let mut added = added(dict, "added", "added.f", V4_LENGTH);
        added.extend(self::added(dict, "added6", "added6.f", V6_LENGTH));
        let mut dropped = addresses(dict, "dropped", V4_LENGTH);
        dropped.extend(addresses(dict, "dropped6", V6_LENGTH));
        Ok(Self { added, dropped }.without_contradictions())
    }

    /// Encodes the message, with all lists. How many entries it may have is the caller's decision
    /// (BEP 11: 50 added and 50 dropped, more in the first message only).
    pub fn encode(&self) -> Vec<u8> {
        let [mut added, mut flags, mut dropped] = [(); 3].map(|()| [Vec::new(), Vec::new()]);
        for peer in &self.added {
            let family = usize::from(peer.address.is_ipv6());
            compact::encode(peer.address, &mut added[family]);
            flags[family].push(peer.flags.0);
        }
        for address in &self.dropped {
            compact::encode(*address, &mut dropped[usize::from(address.is_ipv6())]);
        }
        let lists = [
            ("added", &added[0]),
            ("added.f", &flags[0]),
            ("added6", &added[1]),
            ("added6.f", &flags[1]),
            ("dropped", &dropped[0]),
            ("dropped6", &dropped[1]),
        ];
        bencode::encode(&Owned::dict(lists.map(|(key, list)| (key, Owned::from(list.as_slice())))))
    }

    /// Removes port 0, repetitions, and what is both added and dropped.
    fn without_contradictions(mut self) -> Self {
        let added: BTreeSet<_> = self.added.iter().map(|peer| peer.address).collect();
        let dropped: BTreeSet<_> = self.dropped.iter().copied().collect();
        let (mut first_added, mut first_dropped) = (added.clone(), dropped.clone());
        self.added.retain(|PexPeer { address, .. }| {
            address.port() != 0 && first_added.remove(address) && !dropped.contains(address)
        });
        self.dropped.retain(|address| {
            address.port() != 0 && first_dropped.remove(address) && !added.contains(address)
        });
        self
    }
}

/// Returns the peers of a list with flags, unless the list is ragged or the flags do not fit it.
fn added(dict: Dict<'_, '_>, list: &str, flags: &str, length: usize) -> Vec<PexPeer> {
    let entries = bytes(dict, list).map_or(0, |list| list.len() / length);
    let flags = bytes(dict, flags);
    if flags.is_some_and(|flags| flags.len() != entries) {
        return Vec::new();
    }
    let flags = flags.unwrap_or_default().iter().copied().chain(std::iter::repeat(0));
    let addresses = addresses(dict, list, length).into_iter();
    addresses
        .zip(flags)
        .map(|(address, flags)| PexPeer { address, flags: PexFlags(flags) })
        .collect()
}

/// Returns the addresses of a list with entries of `length` bytes, unless it is ragged.
fn addresses(dict: Dict<'_, '_>, list: &str, length: usize) -> Vec<SocketAddr> {
    match bytes(dict, list).filter(|list| list.len().is_multiple_of(length)) {
        Some(list) if length == V4_LENGTH => compact::decode_v4(list).take(PEX_READ).collect(),
        Some(list) => compact::decode_v6(list).take(PEX_READ).collect(),
        None => Vec::new(),
    }
}

fn bytes<'a>(dict: Dict<'a, '_>, key: &str) -> Option<&'a [u8]> {
    dict.get(key).and_then(Value::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 6881))
    }

    fn v6(host: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 6881))
    }

    fn packed(addresses: &[SocketAddr]) -> Vec<u8> {
        let mut bytes = Vec::new();
        addresses.iter().for_each(|address| compact::encode(*address, &mut bytes));
        bytes
    }

    fn message(entries: &[(&str, &[u8])]) -> Vec<u8> {
        bencode::encode(&Owned::dict(entries.iter().map(|(key, list)| (key, Owned::from(*list)))))
    }

    fn decode(entries: &[(&str, &[u8])]) -> Pex {
        Pex::decode(&message(entries)).unwrap()
    }

    fn added_of(pex: &Pex) -> Vec<SocketAddr> {
        pex.added.iter().map(|peer| peer.address).collect()
    }

    #[test]
    fn round_trip() {
        let seed = PexFlags::SEED.with(PexFlags::REACHABLE);
        let full = Pex {
            added: vec![
                PexPeer { address: v4(1), flags: seed },
                PexPeer { address: v4(2), flags: PexFlags::default() },
                PexPeer { address: v6(1), flags: PexFlags::ENCRYPTION },
            ],
            dropped: vec![v4(3), v6(2), v6(3)],
        };
        for pex in [full.clone(), Pex::default()] {
            let bytes = pex.encode();
            assert_eq!(Pex::decode(&bytes), Ok(pex.clone()));
            for end in 0..bytes.len() {
                assert!(Pex::decode(&bytes[..end]).is_err(), "prefix of {end}");
            }
            assert_eq!(Pex::decode(&[&bytes[..], b"x"].concat()), Ok(pex));
        }
        let bytes = full.encode();
        assert!(bytes.starts_with(b"d5:added12:\xc0\x00\x02\x01\x1a\xe1"));
        assert!(bytes.windows(13).any(|part| part == b"7:added.f2:\x12\x00"), "{bytes:?}");
    }

    #[test]
    fn flags_are_bits() {
        let all = PexFlags(0x1f);
        for (flag, bit) in [
            (PexFlags::ENCRYPTION, 0x01),
            (PexFlags::SEED, 0x02),
            (PexFlags::UTP, 0x04),
            (PexFlags::HOLEPUNCH, 0x08),
            (PexFlags::REACHABLE, 0x10),
        ] {
            assert_eq!(flag.0, bit);
            assert!(all.has(flag) && !PexFlags(all.0 & !bit).has(flag));
            assert_eq!(PexFlags::default().with(flag), flag);
        }
    }

    #[test]
    fn ragged_lists_are_ignored() {
        let (one, six) = (packed(&[v4(1)]), packed(&[v6(1)]));
        for cut in 1..6 {
            let ragged = [&one[..], &one[..cut]].concat();
            let pex = decode(&[("added", &ragged), ("dropped", &ragged), ("added6", &six)]);
            assert_eq!((added_of(&pex), pex.dropped), (vec![v6(1)], vec![]));
        }
        for cut in 1..18 {
            let ragged = [&six[..], &six[..cut]].concat();
            let pex = decode(&[("added6", &ragged), ("dropped6", &ragged), ("added", &one)]);
            assert_eq!((added_of(&pex), pex.dropped), (vec![v4(1)], vec![]));
        }
        let pex = Pex::decode(b"d5:addedi5e6:added6le7:droppedde8:dropped6i0ee");
        assert_eq!(pex, Ok(Pex::default()));
    }

    #[test]
    fn flags_must_fit_list() {
        let (two, six) = (packed(&[v4(1), v4(2)]), packed(&[v6(1)]));
        for (flags, fits) in [(&[][..], false), (&[1], false), (&[1, 2], true), (&[1; 3], false)] {
            let pex = decode(&[("added", &two), ("added.f", flags), ("added6", &six)]);
            assert_eq!(pex.added.len(), if fits { 3 } else { 1 });
        }
        let pex = decode(&[("added", &two)]);
        assert!(pex.added.iter().all(|peer| peer.flags == PexFlags::default()));
    }

    #[test]
    fn odd_entries_are_skipped() {
        let nowhere = SocketAddr::new(v4(9).ip(), 0);
        let list = packed(&[v4(1), nowhere, v4(2), v4(1), v4(3)]);
        let dropped = packed(&[v4(3), v4(4), nowhere, v4(4)]);
        let pex = decode(&[("added", &list), ("added.f", &[1, 2, 3, 4, 5]), ("dropped", &dropped)]);
        let peer = |address, flags| PexPeer { address, flags: PexFlags(flags) };
        assert_eq!(pex.added, [peer(v4(1), 1), peer(v4(2), 3)]);
        assert_eq!(pex.dropped, [v4(4)]);
    }

    #[test]
    fn lists_are_limited() {
        let read = PEX_READ as u8;
        let four: Vec<_> = (0..=read).map(v4).collect();
        let six: Vec<_> = (0..=u16::from(read)).map(v6).collect();
        for over in [0, 1] {
            let (four, six) = (packed(&four[..PEX_READ + over]), packed(&six[..PEX_READ + over]));
            let pex = decode(&[("added", &four), ("dropped6", &six)]);
            assert_eq!((pex.added.len(), pex.dropped.len()), (PEX_READ, PEX_READ));
        }
        let flags = vec![1; PEX_READ + 1];
        let pex = decode(&[("added", &packed(&four)), ("added.f", &flags)]);
        assert_eq!(pex.added.len(), PEX_READ);
    }

    #[test]
    fn message_length_is_limited() {
        let longest = PEX_LENGTH as usize;
        let fill =
            |length: usize| message(&[("added", &packed(&[v4(1)])), ("x", &vec![0; length])]);
        let fill_to = |length: usize| fill(length - (fill(20_000).len() - 20_000));
        assert_eq!(fill_to(longest).len(), longest);
        assert_eq!(Pex::decode(&fill_to(longest)).map(|pex| pex.added.len()), Ok(1));
        let got = longest + 1;
        assert_eq!(Pex::decode(&fill_to(got)), Err(PexError::TooLong { got }));
    }

    #[test]
    fn other_bytes_are_refused() {
        for (bytes, got) in [(&b"i5e"[..], bencode::Kind::Integer), (b"le", bencode::Kind::List)] {
            assert_eq!(Pex::decode(bytes), Err(PexError::NotADictionary { got }));
        }
        for bytes in [&b""[..], b"garbage", b"d5:added0:5:added0:e", &b"l".repeat(1000)] {
            assert!(matches!(Pex::decode(bytes), Err(PexError::Bencode(_))));
        }
    }
}
