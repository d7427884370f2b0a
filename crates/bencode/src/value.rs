//! Views of a parsed document. A view is an index into the table, so copying one is cheap. `'a` is
//! the lifetime of the bytes, `'d` that of the table.

use std::collections::BTreeMap;
use std::fmt;

use crate::scalar::unsigned;
use crate::token::{Token, after};
use crate::{Integer, KeyPath, Owned};

/// The four kinds of value (BEP 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `i42e`
    Integer,
    /// `4:spam`
    Bytes,
    /// `l...e`
    List,
    /// `d...e`
    Dict,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "an integer",
            Self::Bytes => "a byte string",
            Self::List => "a list",
            Self::Dict => "a dictionary",
        })
    }
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a, 'd> {
    input: &'a [u8],
    tokens: &'d [Token],
    index: usize,
}

impl<'a, 'd> Value<'a, 'd> {
    pub(crate) fn new(input: &'a [u8], tokens: &'d [Token], index: usize) -> Self {
        Self { input, tokens, index }
    }

    /// Returns the kind of this value.
    pub fn kind(self) -> Kind {
        self.token().kind(self.input).unwrap_or(Kind::Bytes)
    }

    /// Returns the integer, if this is one.
    pub fn as_integer(self) -> Option<Integer> {
        let token = self.token();
        let digits =
            (token.kind(self.input) == Some(Kind::Integer)).then(|| token.digits(self.input))?;
        match digits.split_first() {
            Some((b'-', digits)) => Some(Integer::negative(unsigned(digits)?)),
            _ => Some(unsigned(digits)?.into()),
        }
    }

    /// Returns the integer, if this is one that fits an `i64`.
    pub fn as_int(self) -> Option<i64> {
        self.as_integer()?.try_into().ok()
    }

    /// Returns the integer, if this is one that fits a `u64`.
    pub fn as_uint(self) -> Option<u64> {
        self.as_integer()?.try_into().ok()
    }

    /// Returns the content, if this is a byte string.
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        let token = self.token();
        (token.kind(self.input) == Some(Kind::Bytes)).then(|| token.content(self.input))
    }

    /// Returns the content, if this is a byte string in UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        str::from_utf8(self.as_bytes()?).ok()
    }

    /// Returns the list, if this is one.
    pub fn as_list(self) -> Option<List<'a, 'd>> {
        (self.kind() == Kind::List).then_some(List { value: self })
    }

    /// Returns the dictionary, if this is one.
    pub fn as_dict(self) -> Option<Dict<'a, 'd>> {
        (self.kind() == Kind::Dict).then_some(Dict { value: self })
    }

    /// Returns the value of `key`, if this is a dictionary that has the key.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'a, 'd>> {
        self.as_dict()?.get(key)
    }

    /// Returns the exact bytes of this value in the input.
    pub fn raw(self) -> &'a [u8] {
        self.input.get(self.offset()..self.end()).unwrap_or_default()
    }

    /// Returns where the value starts, in bytes from the start of the document.
    pub fn offset(self) -> usize {
        self.token().offset as usize
    }

    /// Returns the path of the value. Takes time proportional to what comes before the value.
    pub fn path(self) -> KeyPath {
        Value { index: 0, ..self }.path_to(self.index, KeyPath::root())
    }

    /// Returns a copy that borrows nothing. Of a duplicate key it keeps the first value.
    pub fn to_owned(self) -> Owned {
        match self.kind() {
            Kind::Integer => Owned::Integer(self.as_integer().unwrap_or_default()),
            Kind::Bytes => Owned::Bytes(self.as_bytes().unwrap_or_default().to_vec()),
            Kind::List => self.as_list().into_iter().flatten().map(Value::to_owned).collect(),
            Kind::Dict => {
                let mut entries = BTreeMap::new();
                for (key, value) in self.as_dict().into_iter().flatten() {
                    entries.entry(key.to_vec()).or_insert_with(|| value.to_owned());
                }
                Owned::Dict(entries)
            }
        }
    }

    fn token(self) -> Token {
        self.tokens.get(self.index).copied().unwrap_or(Token { offset: u32::MAX, extra: 0 })
    }

    /// Returns where the value ends, in bytes from the start of the document.
    fn end(self) -> usize {
        let token = self.token();
        let length = match token.kind(self.input) {
            Some(Kind::Integer) => token.extra as usize + 2,
            Some(Kind::Bytes) => token.head_length() + token.extra as usize,
            Some(Kind::List | Kind::Dict) => {
                let end = self.tokens.get(token.extra as usize);
                return end.map_or(0, |end| end.offset as usize + 1);
            }
            None => 0,
        };
        self.offset() + length
    }

    /// Returns the path of token `index`, which is this value, whose path is `path`, or in it.
    fn path_to(self, index: usize, path: KeyPath) -> KeyPath {
        let contains = |child: &Self| index < after(self.tokens, self.input, child.index);
        if self.index == index {
            return path;
        }
        if let Some(list) = self.as_list() {
            let mut children = list.iter().enumerate();
            let Some((at, child)) = children.find(|(_, child)| contains(child)) else {
                return path;
            };
            return child.path_to(index, path.index(at));
        }
        let mut children = self.as_dict().into_iter().flatten();
        let Some((key, child)) = children.find(|(_, child)| contains(child)) else { return path };
        child.path_to(index, path.key(key))
    }
}

impl fmt::Debug for Value<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Integer => write!(f, "{}", self.as_integer().unwrap_or_default()),
            Kind::Bytes => write!(f, "b\"{}\"", self.as_bytes().unwrap_or_default().escape_ascii()),
            Kind::List => f.debug_list().entries(self.as_list().into_iter().flatten()).finish(),
            Kind::Dict => {
                let entries = self.as_dict().into_iter().flatten();
                let shown = entries.map(|(key, value)| (String::from_utf8_lossy(key), value));
                f.debug_map().entries(shown).finish()
            }
        }
    }
}

/// A value that is a list.
#[derive(Debug, Clone, Copy)]
pub struct List<'a, 'd> {
    value: Value<'a, 'd>,
}

impl<'a, 'd> List<'a, 'd> {
    /// Returns the elements, in order.
    pub fn iter(self) -> ListIter<'a, 'd> {
        ListIter { next: Value { index: self.value.index + 1, ..self.value } }
    }

    /// Returns element `index`, counted from 0. Takes time proportional to `index`.
    pub fn get(self, index: usize) -> Option<Value<'a, 'd>> {
        self.iter().nth(index)
    }

    /// Returns the number of elements. Takes time proportional to it.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Returns whether the list has no elements.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the list as a value again.
    pub fn value(self) -> Value<'a, 'd> {
        self.value
    }
}

impl<'a, 'd> IntoIterator for List<'a, 'd> {
    type Item = Value<'a, 'd>;
    type IntoIter = ListIter<'a, 'd>;

    fn into_iter(self) -> ListIter<'a, 'd> {
        self.iter()
    }
}

/// The elements of a [`List`].
#[derive(Debug, Clone)]
pub struct ListIter<'a, 'd> {
    next: Value<'a, 'd>,
}

impl<'a, 'd> Iterator for ListIter<'a, 'd> {
    type Item = Value<'a, 'd>;

    fn next(&mut self) -> Option<Value<'a, 'd>> {
        let value = self.next;
        value.token().kind(value.input)?;
        self.next.index = after(value.tokens, value.input, value.index);
        Some(value)
    }
}

/// A value that is a dictionary.
#[derive(Debug, Clone, Copy)]
pub struct Dict<'a, 'd> {
    value: Value<'a, 'd>,
}

impl<'a, 'd> Dict<'a, 'd> {
    /// Returns the keys with their values, in the order of the input. A duplicate key appears
    /// twice.
    pub fn iter(self) -> DictIter<'a, 'd> {
        DictIter { tokens: List { value: self.value }.iter() }
    }

    /// Returns the first value of `key`. Takes time proportional to the number of keys, whatever
    /// their values contain.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'a, 'd>> {
        let key = key.as_ref();
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Returns the number of keys. Takes time proportional to it.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Returns whether the dictionary has no keys.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the dictionary as a value again.
    pub fn value(self) -> Value<'a, 'd> {
        self.value
    }
}

impl<'a, 'd> IntoIterator for Dict<'a, 'd> {
    type Item = (&'a [u8], Value<'a, 'd>);
    type IntoIter = DictIter<'a, 'd>;

    fn into_iter(self) -> DictIter<'a, 'd> {
        self.iter()
    }
}

/// The keys of a [`Dict`] with their values.
#[derive(Debug, Clone)]
pub struct DictIter<'a, 'd> {
    tokens: ListIter<'a, 'd>,
}

impl<'a, 'd> Iterator for DictIter<'a, 'd> {
    type Item = (&'a [u8], Value<'a, 'd>);

    fn next(&mut self) -> Option<(&'a [u8], Value<'a, 'd>)> {
        let Value { input, tokens, index } = self.tokens.next;
        // Keys are byte strings. Only the end of the dictionary is not.
        let key = tokens.get(index).filter(|token| token.kind(input) == Some(Kind::Bytes))?;
        let value = Value { input, tokens, index: index + 1 };
        self.tokens.next.index = after(tokens, input, index + 1);
        Some((key.content(input), value))
    }
}

#[cfg(test)]
mod tests;
