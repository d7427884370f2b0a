//! Items: what is asked for and stored (BEP 44).

use std::net::SocketAddr;
use std::time::Duration;

use super::Dht;
use super::answers::Asker;
use crate::items::{Item, ItemLookup, PutRefused, SALT_LENGTH, check_lengths, mutable_target};
use crate::lookup::LookupKind;
use crate::message::{ErrorCode, MutablePut, Reply, Want};
use crate::{Event, Family, LookupKey, NodeId};

/// The longest datagram with an item, in bytes. It does not fit into one of the usual length.
pub(super) const MAX_ITEM_DATAGRAM: usize = 1_450;
/// How many bytes the fields of an item take besides its value, and the token.
const ITEM_FIELDS: usize = 176;

impl Dht {
    /// Looks for the item with that target. `salt` is that of a mutable item, or empty. Events:
    /// [`Event::Item`] if there is one, then [`Event::Done`]. An immutable item ends the lookup; of a
    /// mutable one the newest version is reported at the end.
    ///
    /// It is over at once if the salt is longer than [`SALT_LENGTH`], or if 64 lookups for items
    /// wait.
    pub fn get(&mut self, now: Duration, target: NodeId, salt: &[u8]) -> LookupKey {
        if salt.len() > SALT_LENGTH {
            return self.refuse_lookup();
        }
        self.start_item(now, LookupKind::Get, target, ItemLookup::get(target, salt.to_vec()))
    }

    /// Stores an item at the nodes closest to its target. With `cas`, nodes that have a version store
    /// it only if theirs has that sequence number. Event: [`Event::Done`], whose statistics say how
    /// many nodes stored it and how many have another version.
    ///
    /// It is over at once if the item is invalid ([`Item::verify`]), or if 64 lookups for items wait.
    pub fn put(&mut self, now: Duration, item: Item, cas: Option<i64>) -> LookupKey {
        if item.verify().is_err() {
            return self.refuse_lookup();
        }
        let target = item.target();
        self.start_item(now, LookupKind::Put, target, ItemLookup::put(item, cas))
    }

    fn start_item(
        &mut self,
        now: Duration,
        kind: LookupKind,
        target: NodeId,
        item: ItemLookup,
    ) -> LookupKey {
        let mut lookup = self.new_lookup(now, kind, target);
        lookup.item = Some(Box::new(item));
        let key = self.enqueue(lookup);
        self.pump(now);
        key
    }

    /// Reports the item that a lookup found.
    pub(super) fn report_item(&mut self, lookup: LookupKey, item: Option<Box<ItemLookup>>) {
        if let Some(item) = item.and_then(|item| item.into_found()) {
            self.push_event(Event::Item { lookup, item });
        }
    }

    /// Answers a `get`.
    pub(super) fn answer_get(
        &mut self,
        now: Duration,
        asker: Asker<'_>,
        id: NodeId,
        (target, want, newer_than): (NodeId, Want, Option<i64>),
    ) {
        let Some(own) = self.overlay(Family::of(asker.address)).map(super::Overlay::id) else {
            return;
        };
        let token = self.tokens.issue(now, asker.address, &id, &target, &mut self.rng);
        let mut reply = Reply { token: Some(&token), ..Reply::new(own) };
        let item = self.items.get(&target).cloned();
        let (mut limit, mut extra) = (asker.limit, ITEM_FIELDS);
        match &item {
            None => {}
            Some(Item::Immutable { value }) => reply.value = Some(value),
            Some(Item::Mutable { key, seq, value, signature, .. }) => {
                reply.seq = Some(*seq);
                if newer_than.is_none_or(|other| other < *seq) {
                    reply.value = Some(value);
                    (reply.key, reply.signature) = (Some(key), Some(signature));
                }
            }
        }
        if let Some(value) = reply.value {
            (limit, extra) = (MAX_ITEM_DATAGRAM, ITEM_FIELDS + value.len());
        }
        self.answer_with(now, Asker { limit, ..asker }, target, want, reply, extra);
    }

    /// Handles a `put`. `None` if it gets no answer.
    pub(super) fn store_item(
        &mut self,
        now: Duration,
        from: SocketAddr,
        id: NodeId,
        (token, value): (&[u8], &[u8]),
        mutable: Option<MutablePut<'_>>,
    ) -> Option<Result<(), ErrorCode>> {
        if let Err(code) = check_lengths(value, mutable.map_or(&[], |item| item.salt)) {
            return Some(Err(code));
        }
        let (item, cas) = match mutable {
            None => (Item::Immutable { value: value.to_vec() }, None),
            Some(MutablePut { key, salt, seq, cas, signature }) => {
                let (key, salt, signature) = (*key, salt.to_vec(), *signature);
                (Item::Mutable { key, salt, seq, value: value.to_vec(), signature }, cas)
            }
        };
        let target = item.target();
        if !self.tokens.is_valid(now, token, from, &id, &target, &mut self.rng) {
            return Some(Err(ErrorCode::Protocol));
        }
        match self.items.put(now, self.own_ids(), from, item, cas) {
            Ok(()) => Some(Ok(())),
            Err(PutRefused::With(code)) => Some(Err(code)),
            Err(PutRefused::Silently) => None,
        }
    }

    /// Whether the token of a `put` is valid.
    pub(super) fn has_put_token(
        &mut self,
        now: Duration,
        from: SocketAddr,
        id: &NodeId,
        (token, value): (&[u8], &[u8]),
        mutable: Option<MutablePut<'_>>,
    ) -> bool {
        let target = match mutable {
            Some(item) => mutable_target(item.key, item.salt),
            None => Item::Immutable { value: value.to_vec() }.target(),
        };
        self.tokens.is_valid(now, token, from, id, &target, &mut self.rng)
    }
}
