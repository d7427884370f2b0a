//! Items: arbitrary data in the DHT (BEP 44).

mod store;

use std::net::SocketAddr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha1::{Digest as _, Sha1};

use crate::NodeId;
use crate::message::{MAX_BENCODE_TOKENS, MAX_DEPTH, Method, MutablePut, Reply};
pub use store::{ITEM_LIFETIME, ITEMS_PER_ADDRESS, MAX_ITEMS};
pub(crate) use store::{ItemStore, PutRefused, check_lengths};

/// The longest value, bencoded, in bytes.
pub const ITEM_LENGTH: usize = 1_000;
/// The longest salt in bytes.
pub const SALT_LENGTH: usize = 64;

/// The deepest nesting of a value and its most bencode tokens, so that a message with it is read.
const VALUE_DEPTH: usize = MAX_DEPTH - 2;
const VALUE_TOKENS: usize = MAX_BENCODE_TOKENS - 64;

/// Data that is stored in the DHT. Whoever reads it can verify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Its target is the SHA-1 of the value.
    Immutable {
        /// The value, canonically bencoded.
        value: Vec<u8>,
    },
    /// Its target is the SHA-1 of the key and the salt. The owner of the key can replace it.
    Mutable {
        /// The public key (Ed25519).
        key: [u8; 32],
        /// Distinguishes the items of a key; empty for none.
        salt: Vec<u8>,
        /// Grows with each version; never negative.
        seq: i64,
        /// The value, canonically bencoded.
        value: Vec<u8>,
        /// The signature of salt, sequence number and value.
        signature: [u8; 64],
    },
}

/// Data that can't be an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The value is longer than [`ITEM_LENGTH`].
    #[error("the value has {0} bytes, more than {ITEM_LENGTH}")]
    ValueTooLong(usize),
    /// The salt is longer than [`SALT_LENGTH`].
    #[error("the salt has {0} bytes, more than {SALT_LENGTH}")]
    SaltTooLong(usize),
    /// The value is not one canonically bencoded value (unsorted keys, leading zeros), or nodes would
    /// not read it because it is nested too deeply or has too many parts.
    #[error("the value is not canonical bencode, or too complex")]
    NotCanonical,
    /// The sequence number is negative.
    #[error("the sequence number {0} is negative")]
    NegativeSequenceNumber(i64),
    /// The signature does not fit.
    #[error("the signature is wrong")]
    BadSignature,
}

impl Item {
    /// Makes an immutable item of a bencoded value.
    ///
    /// # Errors
    /// If the value is too long or not canonical.
    pub fn immutable(value: Vec<u8>) -> Result<Self, ItemError> {
        check_value(&value)?;
        Ok(Self::Immutable { value })
    }

    /// Makes a mutable item of a bencoded value, signed with the key that `seed` stands for.
    ///
    /// # Errors
    /// If the value or the salt is too long, the value not canonical, or `seq` negative.
    pub fn sign(
        seed: &[u8; 32],
        salt: Vec<u8>,
        seq: i64,
        value: Vec<u8>,
    ) -> Result<Self, ItemError> {
        check(&salt, seq, &value)?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| ItemError::BadSignature)?;
        let signature = pair.sign(&signed_bytes(&salt, seq, &value));
        let signature = signature.as_ref().try_into().map_err(|_| ItemError::BadSignature)?;
        Ok(Self::Mutable { key: public_key(seed)?, salt, seq, value, signature })
    }

    /// Returns the target under which the item is stored.
    pub fn target(&self) -> NodeId {
        match self {
            Self::Immutable { value } => NodeId(Sha1::digest(value).into()),
            Self::Mutable { key, salt, .. } => mutable_target(key, salt),
        }
    }

    /// Returns the value, bencoded.
    pub fn value(&self) -> &[u8] {
        match self {
            Self::Immutable { value } | Self::Mutable { value, .. } => value,
        }
    }

    /// Returns the sequence number; `None` for an immutable item.
    pub fn seq(&self) -> Option<i64> {
        match self {
            Self::Immutable { .. } => None,
            Self::Mutable { seq, .. } => Some(*seq),
        }
    }

    /// Checks everything that a reader has to check, the signature last.
    ///
    /// # Errors
    /// See [`ItemError`].
    pub fn verify(&self) -> Result<(), ItemError> {
        match self {
            Self::Immutable { value } => check_value(value),
            Self::Mutable { key, salt, seq, value, signature } => {
                check(salt, *seq, value)?;
                UnparsedPublicKey::new(&ED25519, key)
                    .verify(&signed_bytes(salt, *seq, value), signature)
                    .map_err(|_| ItemError::BadSignature)
            }
        }
    }
}

/// Returns the public key that belongs to `seed`.
///
/// # Errors
/// None in practice: any 32 bytes are a seed.
pub fn public_key(seed: &[u8; 32]) -> Result<[u8; 32], ItemError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| ItemError::BadSignature)?;
    pair.public_key().as_ref().try_into().map_err(|_| ItemError::BadSignature)
}

/// Returns the target of the mutable items with that key and salt.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> NodeId {
    NodeId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

/// Returns what the signature of a mutable item covers (BEP 44, "Signature Verification").
fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !salt.is_empty() {
        bytes.extend(format!("4:salt{}:", salt.len()).into_bytes());
        bytes.extend(salt);
    }
    bytes.extend(format!("3:seqi{seq}e1:v").into_bytes());
    bytes.extend(value);
    bytes
}

fn check(salt: &[u8], seq: i64, value: &[u8]) -> Result<(), ItemError> {
    if salt.len() > SALT_LENGTH {
        return Err(ItemError::SaltTooLong(salt.len()));
    }
    if seq < 0 {
        return Err(ItemError::NegativeSequenceNumber(seq));
    }
    check_value(value)
}

fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > ITEM_LENGTH {
        return Err(ItemError::ValueTooLong(value.len()));
    }
    let options = bencode::Options {
        strict: true,
        max_depth: VALUE_DEPTH,
        max_tokens: VALUE_TOKENS,
        ..bencode::Options::new()
    };
    options.parse(value).map(|_| ()).map_err(|_| ItemError::NotCanonical)
}

/// What a lookup for an item, or for where to put one, knows of it.
#[derive(Debug)]
pub(crate) enum ItemLookup {
    Get {
        target: NodeId,
        salt: Vec<u8>,
        /// The newest valid version.
        found: Option<Item>,
    },
    Put(Put),
}

/// An item that is to be stored.
#[derive(Debug)]
pub(crate) struct Put {
    item: Item,
    cas: Option<i64>,
    /// The nodes that have a version.
    holders: Vec<SocketAddr>,
}

impl Put {
    /// Remembers a node that has a version.
    fn handle_reply(&mut self, from: SocketAddr, reply: &Reply<'_>) {
        if reply.seq.is_some() && self.holders.len() < crate::MAX_CANDIDATES {
            self.holders.push(from);
        }
    }

    /// Returns the query that puts the item at `address`. A node without a version is not asked to
    /// compare sequence numbers (BEP 44, "CAS").
    fn method<'a>(&'a self, address: SocketAddr, token: &'a [u8]) -> Method<'a> {
        let cas = self.cas.filter(|_| self.holders.contains(&address));
        let mutable = match &self.item {
            Item::Immutable { .. } => None,
            Item::Mutable { key, salt, seq, signature, .. } => {
                Some(MutablePut { key, salt, seq: *seq, cas, signature })
            }
        };
        Method::Put { token, value: self.item.value(), mutable }
    }
}

impl ItemLookup {
    pub(crate) fn get(target: NodeId, salt: Vec<u8>) -> Self {
        Self::Get { target, salt, found: None }
    }

    pub(crate) fn put(item: Item, cas: Option<i64>) -> Self {
        Self::Put(Put { item, cas, holders: Vec::new() })
    }

    pub(crate) fn handle_reply(&mut self, from: SocketAddr, reply: &Reply<'_>) {
        match self {
            Self::Put(put) => put.handle_reply(from, reply),
            Self::Get { target, salt, found } => {
                let Some(item) = item_of(reply, salt) else { return };
                let is_newer = found.as_ref().is_none_or(|found| item.seq() > found.seq());
                if is_newer && item.target() == *target && item.verify().is_ok() {
                    *found = Some(item);
                }
            }
        }
    }

    /// Returns the query that stores at `address` what is to be put.
    pub(crate) fn put_method<'a>(
        &'a self,
        address: SocketAddr,
        token: &'a [u8],
    ) -> Option<Method<'a>> {
        match self {
            Self::Get { .. } => None,
            Self::Put(put) => Some(put.method(address, token)),
        }
    }

    /// Whether no other node can have a newer version.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Get { found: Some(Item::Immutable { .. }), .. })
    }

    /// Returns the item that was found.
    pub(crate) fn into_found(self) -> Option<Item> {
        match self {
            Self::Get { found, .. } => found,
            Self::Put(_) => None,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        // Both items at their longest.
        2 * (ITEM_LENGTH + SALT_LENGTH) + crate::MAX_CANDIDATES * size_of::<SocketAddr>()
    }
}

/// Returns the item in a reply to `get`, not verified yet, as one with `salt` if it is mutable.
fn item_of(reply: &Reply<'_>, salt: &[u8]) -> Option<Item> {
    let value = reply.value.filter(|value| value.len() <= ITEM_LENGTH)?.to_vec();
    Some(match (reply.key, reply.seq, reply.signature) {
        (Some(key), Some(seq), Some(signature)) => {
            Item::Mutable { key: *key, salt: salt.to_vec(), seq, value, signature: *signature }
        }
        _ => Item::Immutable { value },
    })
}

#[cfg(test)]
mod tests;
