//! Writes types as bencode, with the keys of each dictionary in order.

mod byte;

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

use super::RAW;
use crate::Integer;
use crate::encode::{write_bytes, write_integer};
use crate::scalar::{byte_string, short_string};

/// Why a value can't be written as bencode. Feature `serde`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Occurs for `None` or `()` in a list, or as the whole: only a key can be left out.
    #[error("expected a value, got None or (), which bencode has only as a missing key")]
    Absent,
    /// Occurs when a key is no byte string.
    #[error("expected a byte string as key")]
    KeyNotString,
    /// Occurs when a dictionary has the same key twice.
    #[error("expected each key once, got {} again", .key.escape_ascii())]
    DuplicateKey {
        /// The key.
        key: Vec<u8>,
    },
    /// Occurs for a number with a fraction, which bencode does not have.
    #[error("expected an integer, got {number}")]
    Float {
        /// The number as text.
        number: String,
    },
    /// Occurs for an integer below `i64::MIN` or above `u64::MAX`.
    #[error("expected an integer that fits 64 bits, got {number}")]
    Overflow {
        /// The number as text.
        number: String,
    },
    /// Occurs when a type refuses to be written.
    #[error("{message}")]
    Refused {
        /// What the type says.
        message: String,
    },
}

impl ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Refused { message: message.to_string() }
    }
}

pub(super) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer { output: Vec::new() };
    writer.present(value)?;
    Ok(writer.output)
}

struct Writer {
    output: Vec<u8>,
}

impl Writer {
    /// Writes a value that can't be left out.
    fn present<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let start = self.output.len();
        value.serialize(&mut *self)?;
        if self.output.len() > start { Ok(()) } else { Err(EncodeError::Absent) }
    }

    /// Writes the start of a dictionary with one key, and the key.
    fn variant(&mut self, name: &str) {
        self.output.push(b'd');
        write_bytes(name.as_bytes(), &mut self.output);
    }

    /// Writes an integer that may not fit.
    fn wide<N>(&mut self, number: N) -> Result<(), EncodeError>
    where
        N: TryInto<i64> + TryInto<u64> + fmt::Display + Copy,
    {
        let signed: Option<i64> = number.try_into().ok();
        let unsigned: Option<u64> = number.try_into().ok();
        let fits = signed.map(Integer::from).or(unsigned.map(Integer::from));
        let integer = fits.ok_or_else(|| EncodeError::Overflow { number: number.to_string() })?;
        write_integer(integer, &mut self.output);
        Ok(())
    }
}

macro_rules! integers {
    ($($name:ident: $type:ty),*) => {$(
        #[inline]
        fn $name(self, number: $type) -> Result<(), EncodeError> {
            write_integer(number.into(), &mut self.output);
            Ok(())
        }
    )*};
}

impl<'w> Serializer for &'w mut Writer {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Sequence<'w>;
    type SerializeTuple = Sequence<'w>;
    type SerializeTupleStruct = Sequence<'w>;
    type SerializeTupleVariant = Sequence<'w>;
    type SerializeMap = Dictionary<'w>;
    type SerializeStruct = Dictionary<'w>;
    type SerializeStructVariant = Dictionary<'w>;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    }

    fn serialize_i128(self, number: i128) -> Result<(), EncodeError> {
        self.wide(number)
    }

    fn serialize_u128(self, number: u128) -> Result<(), EncodeError> {
        self.wide(number)
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.serialize_u8(value.into())
    }

    fn serialize_f32(self, number: f32) -> Result<(), EncodeError> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), EncodeError> {
        Err(EncodeError::Float { number: number.to_string() })
    }

    fn serialize_char(self, character: char) -> Result<(), EncodeError> {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), EncodeError> {
        self.serialize_bytes(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), EncodeError> {
        write_bytes(bytes, &mut self.output);
        Ok(())
    }

    /// Writes nothing, which leaves out the key.
    fn serialize_none(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<(), EncodeError> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if name != RAW {
            return value.serialize(self);
        }
        let start = self.output.len();
        value.serialize(&mut *self)?;
        // What was written is the raw bytes as a byte string: only the bytes stay.
        let head =
            self.output[start..].iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
        self.output.drain(start..start + head);
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(name);
        self.present(value)?;
        self.output.push(b'e');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'w>, EncodeError> {
        Ok(Sequence::new(self, false))
    }

    fn serialize_tuple(self, _: usize) -> Result<Sequence<'w>, EncodeError> {
        Ok(Sequence::new(self, false))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Sequence<'w>, EncodeError> {
        Ok(Sequence::new(self, false))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Sequence<'w>, EncodeError> {
        self.variant(name);
        Ok(Sequence::new(self, true))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Dictionary<'w>, EncodeError> {
        Ok(Dictionary::new(self, false))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Dictionary<'w>, EncodeError> {
        Ok(Dictionary::new(self, false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Dictionary<'w>, EncodeError> {
        self.variant(name);
        Ok(Dictionary::new(self, true))
    }
}

/// A list under way, or a byte string as long as all elements are `u8`.
struct Sequence<'w> {
    writer: &'w mut Writer,
    start: usize,
    form: Form,
    /// Whether the sequence is the value in the dictionary of a variant.
    in_variant: bool,
}

/// What a sequence is written as, as far as its elements tell.
enum Form {
    Unknown,
    Bytes,
    List,
}

impl<'w> Sequence<'w> {
    fn new(writer: &'w mut Writer, in_variant: bool) -> Self {
        let start = writer.output.len();
        Self { writer, start, form: Form::Unknown, in_variant }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if !matches!(self.form, Form::List) {
            if let Some(byte) = byte::of(value) {
                self.form = Form::Bytes;
                self.writer.output.push(byte);
                return Ok(());
            }
            self.become_list();
        }
        self.writer.present(value)
    }

    /// Writes what were bytes so far as integers.
    fn become_list(&mut self) {
        let bytes = self.writer.output.split_off(self.start);
        self.form = Form::List;
        self.writer.output.push(b'l');
        bytes.into_iter().for_each(|byte| write_integer(byte.into(), &mut self.writer.output));
    }

    fn finish(mut self) -> Result<(), EncodeError> {
        match self.form {
            Form::Unknown => self.become_list(),
            Form::Bytes => {
                let bytes = self.writer.output.split_off(self.start);
                write_bytes(&bytes, &mut self.writer.output);
            }
            Form::List => {}
        }
        let ends = usize::from(!matches!(self.form, Form::Bytes)) + usize::from(self.in_variant);
        self.writer.output.extend_from_slice(&b"ee"[..ends]);
        Ok(())
    }
}

/// A dictionary under way.
struct Dictionary<'w> {
    writer: &'w mut Writer,
    /// Where each entry starts in the output.
    entries: Vec<usize>,
    /// Where the key starts whose value comes next.
    key: usize,
    /// Whether the dictionary is the value in the dictionary of a variant.
    in_variant: bool,
}

impl<'w> Dictionary<'w> {
    fn new(writer: &'w mut Writer, in_variant: bool) -> Self {
        writer.output.push(b'd');
        Self { writer, entries: Vec::new(), key: 0, in_variant }
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.key = self.writer.output.len();
        self.writer.present(key)?;
        let is_string = self.writer.output[self.key].is_ascii_digit();
        if is_string { Ok(()) } else { Err(EncodeError::KeyNotString) }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let start = self.writer.output.len();
        value.serialize(&mut *self.writer)?;
        if self.writer.output.len() == start {
            self.writer.output.truncate(self.key);
        } else {
            self.entries.push(self.key);
        }
        Ok(())
    }

    fn finish(self) -> Result<(), EncodeError> {
        sort(&mut self.writer.output, &self.entries)?;
        let ends = 1 + usize::from(self.in_variant);
        self.writer.output.extend_from_slice(&b"ee"[..ends]);
        Ok(())
    }
}

/// Puts the entries, which start at these places and are the end of `output`, in the order of their
/// keys.
fn sort(output: &mut Vec<u8>, starts: &[usize]) -> Result<(), EncodeError> {
    let ends = starts.iter().skip(1).copied().chain([output.len()]);
    let entries = starts.iter().zip(ends).map(|(start, end)| &output[*start..end]);
    let mut entries: Vec<(&[u8], &[u8])> = entries.map(|entry| (key_of(entry), entry)).collect();
    if entries.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Ok(());
    }
    entries.sort_unstable_by_key(|(key, _)| *key);
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(EncodeError::DuplicateKey { key: pair[0].0.to_vec() });
    }
    let sorted: Vec<u8> = entries.into_iter().flat_map(|(_, entry)| entry).copied().collect();
    output.truncate(starts[0]);
    output.extend_from_slice(&sorted);
    Ok(())
}

/// Returns the key that an entry starts with.
fn key_of(entry: &[u8]) -> &[u8] {
    let read = short_string(entry).or_else(|| byte_string(entry).ok());
    read.map(|(_, key)| key).unwrap_or_default()
}

/// Implements serde's traits, which differ in names only.
macro_rules! compound {
    ($type:ident: $($trait:ident, $method:ident($($name:ident)?));* $(;)?) => {$(
        impl ser::$trait for $type<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                $(self.key($name)?;)?
                compound!(@ $type self value)
            }

            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        }
    )*};
    (@ Sequence $self:ident $value:ident) => { $self.element($value) };
    (@ Dictionary $self:ident $value:ident) => { $self.value($value) };
}

compound! { Sequence:
    SerializeSeq, serialize_element();
    SerializeTuple, serialize_element();
    SerializeTupleStruct, serialize_field();
    SerializeTupleVariant, serialize_field();
}

compound! { Dictionary:
    SerializeStruct, serialize_field(name);
    SerializeStructVariant, serialize_field(name);
}

impl ser::SerializeMap for Dictionary<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.value(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}
