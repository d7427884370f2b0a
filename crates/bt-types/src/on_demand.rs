//! A value that takes memory only once it is changed: a session of ten thousand torrents has most of
//! them idle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};

/// What can be read before anything was put in: an empty table, say.
pub trait Blank: Default + 'static {
    /// The value at the begin, the same as the default.
    const BLANK: &'static Self;
}

/// A [`Blank`] value that takes a pointer's room until the first use that might change it.
#[derive(Debug, Clone, Default)]
pub struct OnDemand<T>(Option<Box<T>>);

impl<T> OnDemand<T> {
    /// Forgets the value, and has its memory back.
    pub fn give_up(&mut self) {
        self.0 = None;
    }
}

impl<T: Default> OnDemand<T> {
    /// Takes the value out, and leaves a blank one.
    pub fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |value| *value)
    }
}

impl<T: FromIterator<A>, A> FromIterator<A> for OnDemand<T> {
    fn from_iter<I: IntoIterator<Item = A>>(items: I) -> Self {
        let mut items = items.into_iter().peekable();
        Self(items.peek().is_some().then(|| Box::new(items.collect())))
    }
}

impl<T: Blank> Deref for OnDemand<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for OnDemand<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

macro_rules! blank {
    ($($collection:ident<$($item:ident),+>)*) => {
        $(impl<$($item: 'static),+> Blank for $collection<$($item),+> {
            const BLANK: &'static Self = &Self::new();
        })*
    };
}

blank! { Vec<T> VecDeque<T> BTreeSet<T> BTreeMap<K, V> }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_memory_only_once_it_is_changed() {
        let mut list: OnDemand<Vec<u32>> = OnDemand::default();
        assert!(list.is_empty() && list.0.is_none());
        list.push(1);
        assert_eq!((list[0], list.take()), (1, vec![1]));
        assert!(list.is_empty() && list.0.is_none());
        let none: OnDemand<Vec<u32>> = std::iter::empty().collect();
        assert!(none.0.is_none());
    }
}
