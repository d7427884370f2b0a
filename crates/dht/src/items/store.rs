//! The items that others put at us.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ITEM_LENGTH, Item, ItemError, SALT_LENGTH};
use crate::NodeId;
use crate::address::{Group, owner};
use crate::message::ErrorCode;
use crate::node_id::OwnIds;
use crate::rate::Rate;

/// The most items that are stored.
pub const MAX_ITEMS: usize = 700;
/// How long an item is kept after it was last put.
pub const ITEM_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);
/// The most items that an IP address (IPv6: a /64) may have put.
pub const ITEMS_PER_ADDRESS: usize = 16;
/// The signatures that are verified per second, and the burst.
const VERIFY_RATE: u32 = 50;

/// The items, by target.
#[derive(Debug)]
pub(crate) struct ItemStore {
    pub(super) items: BTreeMap<NodeId, Stored>,
    verifications: Rate,
}

#[derive(Debug)]
pub(super) struct Stored {
    item: Item,
    owner: Group,
    put: Duration,
}

/// Why an item is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutRefused {
    /// It gets an error.
    With(ErrorCode),
    /// Too many signatures were to be verified: it gets nothing.
    Silently,
}

impl ItemStore {
    pub(crate) fn new() -> Self {
        let verifications = Rate::new(Duration::ZERO, VERIFY_RATE, VERIFY_RATE);
        Self { items: BTreeMap::new(), verifications }
    }

    pub(crate) fn get(&self, target: &NodeId) -> Option<&Item> {
        self.items.get(target).map(|stored| &stored.item)
    }

    /// Stores an item whose token was valid, if a stored version has the sequence number `cas`. The
    /// signature is verified last.
    pub(crate) fn put(
        &mut self,
        now: Duration,
        own: OwnIds,
        from: SocketAddr,
        item: Item,
        cas: Option<i64>,
    ) -> Result<(), PutRefused> {
        let target = item.target();
        let stored = self.items.get_mut(&target);
        if let (Some(stored), Some(seq)) = (stored, item.seq()) {
            let current = stored.item.seq().unwrap_or(seq);
            if cas.is_some_and(|cas| cas != current) {
                return Err(PutRefused::With(ErrorCode::CasMismatch));
            }
            if stored.item == item {
                stored.put = now;
                return Ok(());
            }
            if seq <= current {
                return Err(PutRefused::With(ErrorCode::OldSequenceNumber));
            }
        }
        if item.seq().is_some() && !self.verifications.spend(now, 1) {
            return Err(PutRefused::Silently);
        }
        item.verify().map_err(|error| PutRefused::With(code(error)))?;
        let owner = owner(from);
        self.make_room(own, &target, owner).map_err(PutRefused::With)?;
        self.items.insert(target, Stored { item, owner, put: now });
        Ok(())
    }

    /// Forgets the item farthest from us, if there are too many and that of `target` is nearer.
    fn make_room(&mut self, own: OwnIds, target: &NodeId, owner: Group) -> Result<(), ErrorCode> {
        if self.items.contains_key(target) {
            return Ok(());
        }
        let of_owner = self.items.values().filter(|stored| stored.owner == owner);
        if of_owner.count() >= ITEMS_PER_ADDRESS {
            return Err(ErrorCode::Server);
        }
        if self.items.len() < MAX_ITEMS {
            return Ok(());
        }
        let farthest = self.items.keys().max_by_key(|id| own.distance(id)).copied();
        let farthest = farthest.filter(|id| own.distance(id) > own.distance(target));
        let farthest = farthest.ok_or(ErrorCode::Server)?;
        self.items.remove(&farthest);
        Ok(())
    }

    /// Forgets items that have not been put for [`ITEM_LIFETIME`].
    pub(crate) fn expire(&mut self, now: Duration) {
        self.items.retain(|_, stored| now.saturating_sub(stored.put) < ITEM_LIFETIME);
    }

    pub(crate) fn memory(&self) -> usize {
        let bytes = self.items.values().map(|stored| match &stored.item {
            Item::Immutable { value } => value.capacity(),
            Item::Mutable { salt, value, .. } => salt.capacity() + value.capacity(),
        });
        bytes.sum::<usize>() + 2 * self.items.len() * (size_of::<NodeId>() + size_of::<Stored>())
    }
}

/// Checks the lengths of a put, which need no copy.
pub(crate) fn check_lengths(value: &[u8], salt: &[u8]) -> Result<(), ErrorCode> {
    if value.len() > ITEM_LENGTH {
        return Err(ErrorCode::ValueTooLong);
    }
    if salt.len() > SALT_LENGTH {
        return Err(ErrorCode::SaltTooLong);
    }
    Ok(())
}

fn code(error: ItemError) -> ErrorCode {
    match error {
        ItemError::ValueTooLong(_) => ErrorCode::ValueTooLong,
        ItemError::SaltTooLong(_) => ErrorCode::SaltTooLong,
        ItemError::BadSignature => ErrorCode::BadSignature,
        ItemError::NotCanonical | ItemError::NegativeSequenceNumber(_) => ErrorCode::Protocol,
    }
}
