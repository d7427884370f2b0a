//! Reads types straight from the bytes, in one pass and without a table.
//!
//! The reader only knows where it is. For all that is rare it asks the parser: what is wrong and
//! where ([`Reader::explain`]), and which keys are duplicates ([`Reader::is_duplicate`]). Both accept
//! the same documents.

use serde::de::value::BorrowedBytesDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::RAW;
use super::stop::Stop;
use super::text::Text;
use crate::parse::is_ascending;
use crate::scalar::{byte_string, integer, short_integer, short_string, unsigned};
use crate::{DecodeError, DecodeErrorKind, KeyPath, Options};

/// Reads a `T` from the value at the start of `input`, and checks what follows.
pub(super) fn read<'de, T: Deserialize<'de>>(
    options: Options,
    input: &'de [u8],
) -> Result<T, DecodeError> {
    let mut reader = Reader::new(options, input);
    match reader.read() {
        Ok(value) => Ok(value),
        Err(stop) => Err(reader.explain(stop)),
    }
}

struct Reader<'de> {
    input: &'de [u8],
    rest: &'de [u8],
    options: Options,
    /// How many more containers may be opened here.
    depth_left: usize,
    /// How many more tokens may be read.
    tokens_left: usize,
    /// The offsets of duplicate keys, known from the first key out of order on.
    duplicates: Option<Vec<usize>>,
}

impl<'de> Reader<'de> {
    fn new(options: Options, input: &'de [u8]) -> Self {
        let options = options.within_limits();
        Self {
            input,
            rest: input,
            options,
            depth_left: options.max_depth,
            tokens_left: options.max_tokens,
            duplicates: None,
        }
    }

    fn read<T: Deserialize<'de>>(&mut self) -> Result<T, Stop> {
        if self.input.len() > crate::MAX_INPUT_LENGTH {
            return Err(Stop::at_syntax());
        }
        let value = T::deserialize(&mut *self)?;
        let is_read = self.rest.is_empty() || self.options.allow_trailing;
        if is_read { Ok(value) } else { Err(Stop::at_syntax()) }
    }

    /// Returns the error for the caller: the parser's, if there is one, else what was refused.
    #[cold]
    fn explain(&self, stop: Stop) -> DecodeError {
        let document = match self.options.parse(self.input) {
            Ok(document) => document,
            Err(error) => return error,
        };
        // The parser accepts what the reader does, so there is a refusal.
        let Some(refusal) = stop.refusal() else {
            let kind = DecodeErrorKind::Refused { message: "expected a value".into() };
            return DecodeError { kind, offset: self.at(), path: KeyPath::root() };
        };
        let offset = refusal.offset.unwrap_or(0);
        let path = document.path_at(offset);
        let path = refusal.key.into_iter().fold(path, KeyPath::key);
        DecodeError { kind: refusal.kind, offset, path }
    }

    #[inline]
    fn at(&self) -> usize {
        self.input.len() - self.rest.len()
    }

    /// Goes on with `rest`, after one token.
    #[inline]
    fn advance(&mut self, rest: &'de [u8]) -> Result<(), Stop> {
        let Some(left) = self.tokens_left.checked_sub(1) else { return Err(Stop::at_syntax()) };
        self.tokens_left = left;
        self.rest = rest;
        Ok(())
    }

    /// Reads a byte string.
    #[inline]
    fn string(&mut self) -> Result<&'de [u8], Stop> {
        let (rest, content) = match short_string(self.rest) {
            Some(read) => read,
            None => byte_string(self.rest).map_err(|_| Stop::at_syntax())?,
        };
        self.advance(rest)?;
        Ok(content)
    }

    /// Reads an integer. Returns its text.
    #[inline]
    fn integer(&mut self) -> Result<&'de [u8], Stop> {
        let (rest, digits) = match short_integer(self.rest) {
            Some(read) => read,
            None => integer(self.rest).map_err(|_| Stop::at_syntax())?,
        };
        self.advance(rest)?;
        Ok(digits)
    }

    #[inline]
    fn visit_integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        match self.integer()? {
            [b'-', digits @ ..] => {
                // The scan has checked that it is not below `i64::MIN`.
                visitor.visit_i64(0_i64.wrapping_sub_unsigned(unsigned(digits).unwrap_or(0)))
            }
            digits => visitor.visit_u64(unsigned(digits).unwrap_or(0)),
        }
    }

    /// Reads the start of a list or dictionary.
    #[inline]
    fn open(&mut self) -> Result<(), Stop> {
        let Some(left) = self.depth_left.checked_sub(1) else { return Err(Stop::at_syntax()) };
        self.depth_left = left;
        self.advance(&self.rest[1..])
    }

    /// Reads the end of a list or dictionary.
    #[inline]
    fn close(&mut self) -> Result<(), Stop> {
        match self.rest {
            [b'e', rest @ ..] => {
                self.depth_left += 1;
                self.advance(rest)
            }
            _ => Err(self.unread()),
        }
    }

    /// The type has enough, but there is more.
    #[cold]
    fn unread(&self) -> Stop {
        Stop::custom("expected the list or dictionary to end, got more").at(self.at())
    }

    /// Reads the next key of a dictionary whose previous one is `last`, or `None` at its end.
    #[inline]
    fn key(&mut self, last: &mut Option<&'de [u8]>) -> Result<Option<&'de [u8]>, Stop> {
        loop {
            if let [b'e', ..] = self.rest {
                return Ok(None);
            }
            let at = self.at();
            let key = self.string()?;
            let in_order = last.is_none_or(|last| is_ascending(last, key));
            let looks_new = in_order && self.duplicates.is_none();
            if !looks_new && self.is_duplicate(at)? {
                self.skip()?;
                continue;
            }
            *last = Some(key);
            return Ok(Some(key));
        }
    }

    /// Returns whether the key at offset `at` is a duplicate that the options allow.
    #[cold]
    fn is_duplicate(&mut self, at: usize) -> Result<bool, Stop> {
        let duplicates = match &mut self.duplicates {
            Some(duplicates) => duplicates,
            unknown => {
                let parsed = self.options.parse_prefix(self.input);
                let (document, _) = parsed.map_err(|_| Stop::at_syntax())?;
                unknown.insert(document.duplicate_offsets())
            }
        };
        Ok(duplicates.binary_search(&at).is_ok())
    }

    /// Passes over one value. It recurses at most [`MAX_DEPTH`](crate::MAX_DEPTH) times.
    fn skip(&mut self) -> Result<(), Stop> {
        match self.rest.first() {
            Some(b'0'..=b'9') => self.string().map(drop),
            Some(b'i') => self.integer().map(drop),
            Some(b'l') => {
                self.open()?;
                while !matches!(self.rest.first(), Some(b'e')) {
                    self.skip()?;
                }
                self.close()
            }
            Some(b'd') => {
                self.open()?;
                let mut last = None;
                while self.key(&mut last)?.is_some() {
                    self.skip()?;
                }
                self.close()
            }
            _ => Err(Stop::at_syntax()),
        }
    }

    /// Reads a value in a list or dictionary. If it is refused, that is where.
    #[inline]
    fn child<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        let at = self.at();
        seed.deserialize(&mut *self).map_err(|stop| stop.at(at))
    }

    #[inline]
    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        self.open()?;
        let value = visitor.visit_seq(Elements { reader: self })?;
        self.close()?;
        Ok(value)
    }

    #[inline]
    fn dict<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        self.open()?;
        let value = visitor.visit_map(Entries { reader: self, last: None })?;
        self.close()?;
        Ok(value)
    }

    /// Reads a dictionary with one key, the name of a variant.
    fn variant<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        self.open()?;
        let Some(name) = self.key(&mut None)? else {
            return Err(Stop::custom("expected a variant, got an empty dictionary"));
        };
        let value = visitor.visit_enum(Variant { reader: self, name })?;
        self.close()?;
        Ok(value)
    }

    #[inline]
    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        match self.rest.first() {
            Some(b'0'..=b'9') => Text(self.string()?).deserialize_any(visitor),
            Some(b'i') => self.visit_integer(visitor),
            Some(b'l') => self.list(visitor),
            Some(b'd') => self.dict(visitor),
            _ => Err(Stop::at_syntax()),
        }
    }
}

/// Defines methods that treat one kind of value specially, by its first byte, and have any other
/// kind refused or taken by the visitor.
macro_rules! methods {
    ($($name:ident($($argument:ident: $type:ty),*) {
        $($first:pat => |$reader:ident, $visitor:ident| $read:expr),*
    })*) => {$(
        #[inline]
        fn $name<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Stop> {
            match self.rest.first() {
                $(Some($first) => { let ($reader, $visitor) = (self, visitor); $read })*
                _ => self.any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Stop;

    methods! {
        deserialize_any() {}
        deserialize_bool() { b'i' => |reader, visitor| match reader.integer()? {
            b"0" => visitor.visit_bool(false),
            b"1" => visitor.visit_bool(true),
            number => Err(Stop::invalid_type(
                Unexpected::Unsigned(unsigned(number).unwrap_or(u64::MAX)),
                &"0 or 1",
            )),
        } }
        deserialize_str() {
            b'0'..=b'9' => |reader, visitor| Text(reader.string()?).deserialize_str(visitor)
        }
        deserialize_string() {
            b'0'..=b'9' => |reader, visitor| Text(reader.string()?).deserialize_str(visitor)
        }
        deserialize_char() {
            b'0'..=b'9' => |reader, visitor| Text(reader.string()?).deserialize_str(visitor)
        }
        deserialize_bytes() {
            b'0'..=b'9' => |reader, visitor| visitor.visit_borrowed_bytes(reader.string()?)
        }
        deserialize_byte_buf() {
            b'0'..=b'9' => |reader, visitor| visitor.visit_borrowed_bytes(reader.string()?)
        }
        deserialize_seq() {
            b'0'..=b'9' => |reader, visitor| Text(reader.string()?).deserialize_seq(visitor)
        }
        deserialize_tuple(_length: usize) {
            b'0'..=b'9' => |reader, visitor| Text(reader.string()?).deserialize_seq(visitor)
        }
        deserialize_tuple_struct(_name: &'static str, _length: usize) {
            b'0'..=b'9' => |reader, visitor| Text(reader.string()?).deserialize_seq(visitor)
        }
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) {
            b'0'..=b'9' => |reader, visitor| {
                Text(reader.string()?).deserialize_enum(name, variants, visitor)
            },
            b'd' => |reader, visitor| reader.variant(visitor)
        }
        deserialize_newtype_struct(name: &'static str) {
            _ => |reader, visitor| match name {
                RAW => {
                    let value = reader.rest;
                    reader.skip()?;
                    let length = value.len() - reader.rest.len();
                    let raw = value.get(..length).unwrap_or_default();
                    visitor.visit_newtype_struct(BorrowedBytesDeserializer::new(raw))
                }
                _ => visitor.visit_newtype_struct(reader),
            }
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 unit unit_struct map
    struct identifier }
}

/// The elements of the list that the reader is in.
struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Stop;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Stop> {
        match self.reader.rest.first() {
            Some(b'e') => Ok(None),
            _ => self.reader.child(seed).map(Some),
        }
    }
}

/// The entries of the dictionary that the reader is in.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    last: Option<&'de [u8]>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Stop;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Stop> {
        let Some(key) = self.reader.key(&mut self.last)? else { return Ok(None) };
        // A key that is refused has its value's offset, which has the key in its path.
        seed.deserialize(Text(key)).map(Some).map_err(|stop| stop.at(self.reader.at()))
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        self.reader.child(seed)
    }
}

/// A variant with data.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
    name: &'de [u8],
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Stop> {
        let variant = seed.deserialize(Text(self.name));
        Ok((variant.map_err(|stop| stop.at(self.reader.at()))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        Err(Stop::custom("expected a variant with data, got one without").at(self.reader.at()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        self.reader.child(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.reader.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.reader.deserialize_map(visitor)
    }
}
