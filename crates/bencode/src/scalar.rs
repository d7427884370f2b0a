//! Parsers of the two kinds of scalar, `i42e` and `4:spam`, built with nom.
//!
//! Each parser returns the rest of the input and what it read. A [`Fault`] carries the input from
//! the error on, so that the caller can compute the offset.
//!
//! Nearly every scalar of a torrent is short, and a torrent may have a million of them.
//! [`short_string`] and [`short_integer`] read the short forms without a loop. They leave
//! everything else, including all errors, to [`byte_string`] and [`integer`].

use nom::bytes::complete::{take_while, take_while1};
use nom::combinator::opt;
use nom::{AsChar, Err, IResult, Parser};

use crate::DecodeErrorKind;

/// The number of decimal digits up to which every number fits 64 bits.
const SAFE_DIGITS: usize = 19;

/// An error, and the input from there on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault<'a> {
    pub(crate) at: &'a [u8],
    pub(crate) kind: DecodeErrorKind,
}

/// The rest of the input and what was read, or an error.
pub(crate) type Scan<'a, T> = IResult<&'a [u8], T, Fault<'a>>;

impl<'a> nom::error::ParseError<&'a [u8]> for Fault<'a> {
    fn from_error_kind(at: &'a [u8], _: nom::error::ErrorKind) -> Self {
        Fault { at, kind: unexpected(at, "a digit") }
    }

    fn append(_: &'a [u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

/// Returns the rest of the input and the content of a byte string shorter than 100 bytes.
#[inline(always)]
pub(crate) fn short_string(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, content) = match input {
        [ones @ b'0'..=b'9', b':', content @ ..] => (ones - b'0', content),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b':', content @ ..] => {
            ((tens - b'0') * 10 + (ones - b'0'), content)
        }
        _ => return None,
    };
    let (string, rest) = content.split_at_checked(usize::from(length))?;
    Some((rest, string))
}

/// Returns the rest of the input and the digits of an integer of at most 16 digits that is 0 or
/// more.
#[inline(always)]
pub(crate) fn short_integer(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'i', number @ ..] = input else { return None };
    let count = leading_digits(u128::from_le_bytes(*number.first_chunk()?));
    let (digits, rest) = number.split_at_checked(count)?;
    match (digits, rest) {
        ([b'0', _, ..], _) | ([], _) => None,
        (digits, [b'e', rest @ ..]) => Some((rest, digits)),
        _ => None,
    }
}

/// Counts the digits at the start of the 16 bytes; the lowest byte is the first.
#[inline(always)]
fn leading_digits(bytes: u128) -> usize {
    const EACH: u128 = u128::MAX / 0xff;
    let values = bytes ^ (EACH * 0x30);
    // The top bit of each byte is set if the byte is above 9. A carry only changes later bytes.
    let others = (values.wrapping_add(EACH * 0x76) | values) & (EACH * 0x80);
    others.trailing_zeros() as usize / 8
}

/// Reads an integer, `i-42e`: returns the text between `i` and `e`.
pub(crate) fn integer(input: &[u8]) -> Scan<'_, &[u8]> {
    let (number, _) = byte(b'i', "an integer").parse(input)?;
    let (digits_at, minus) = opt(byte(b'-', "a sign")).parse(number)?;
    let (rest, digits) = take_while1(AsChar::is_dec_digit).parse(digits_at)?;
    check_integer(number, digits, minus.is_some())?;
    let (rest, _) = byte(b'e', "a digit or the 'e' of the integer").parse(rest)?;
    Ok((rest, &number[..usize::from(minus.is_some()) + digits.len()]))
}

/// Reads a byte string, `4:spam`: returns its content.
pub(crate) fn byte_string(input: &[u8]) -> Scan<'_, &[u8]> {
    let (content, length) = length(input)?;
    let past_end = DecodeErrorKind::LengthPastEnd { length, remaining: content.len() };
    let split = usize::try_from(length).ok().and_then(|length| content.split_at_checked(length));
    let (string, rest) = split.ok_or_else(|| fault(input, past_end))?;
    Ok((rest, string))
}

/// Reads the length of a byte string and the colon after it.
fn length(input: &[u8]) -> Scan<'_, u64> {
    let (rest, digits) = take_while(AsChar::is_dec_digit).parse(input)?;
    check_zeros(input, digits)?;
    let length = unsigned(digits).ok_or_else(|| overflow(input, digits))?;
    let (content, _) = byte(b':', "a digit or the ':' of a byte string").parse(rest)?;
    Ok((content, length))
}

fn byte<'a>(
    wanted: u8,
    expected: &'static str,
) -> impl Parser<&'a [u8], Output = u8, Error = Fault<'a>> {
    move |input: &'a [u8]| match input.split_first() {
        Some((got, rest)) if *got == wanted => Ok((rest, wanted)),
        _ => Err(fault(input, unexpected(input, expected))),
    }
}

fn check_integer<'a>(
    number: &'a [u8],
    digits: &'a [u8],
    negative: bool,
) -> Result<(), Err<Fault<'a>>> {
    check_zeros(number, digits)?;
    if negative && digits == b"0" {
        return Err(fault(number, DecodeErrorKind::NegativeZero));
    }
    if digits.len() < SAFE_DIGITS {
        return Ok(());
    }
    let fits = match unsigned(digits) {
        Some(magnitude) => !negative || magnitude <= i64::MIN.unsigned_abs(),
        None => false,
    };
    if fits { Ok(()) } else { Err(overflow(number, digits)) }
}

fn check_zeros<'a>(at: &'a [u8], digits: &[u8]) -> Result<(), Err<Fault<'a>>> {
    match digits {
        [b'0', _, ..] => Err(fault(at, DecodeErrorKind::LeadingZero)),
        _ => Ok(()),
    }
}

/// Returns the number that `digits` spell, or `None` if it does not fit.
pub(crate) fn unsigned(digits: &[u8]) -> Option<u64> {
    let value = |digit: &u8| u64::from(digit.wrapping_sub(b'0'));
    if digits.len() <= SAFE_DIGITS {
        return Some(digits.iter().fold(0, |number, digit| number * 10 + value(digit)));
    }
    digits.iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(value(digit)))
}

#[cold]
fn overflow<'a>(at: &'a [u8], digits: &[u8]) -> Err<Fault<'a>> {
    fault(at, DecodeErrorKind::Overflow { digits: digits.len() })
}

fn fault(at: &[u8], kind: DecodeErrorKind) -> Err<Fault<'_>> {
    Err::Error(Fault { at, kind })
}

/// Returns the error at `at`, where `expected` should start.
#[cold]
pub(crate) fn unexpected(at: &[u8], expected: &'static str) -> DecodeErrorKind {
    match at.first() {
        None => DecodeErrorKind::UnexpectedEnd { expected },
        Some(got) => DecodeErrorKind::UnexpectedByte { expected, got: *got },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parser: fn(&[u8]) -> Scan<'_, &[u8]>, input: &str, expected: Result<&str, usize>) {
        let got = match parser(input.as_bytes()) {
            Ok((rest, content)) => {
                assert_eq!(rest, b"..");
                Ok(str::from_utf8(content).unwrap())
            }
            Err(Err::Error(fault)) => Err(input.len() - fault.at.len()),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(got, expected, "{input}");
    }

    /// A short parser reads what the long one reads, or nothing.
    #[test]
    fn short_and_long_forms_agree() {
        #[track_caller]
        fn agree(text: &str, is_short: bool) {
            // The short parser of integers needs 16 bytes to look at.
            let input = [text.as_bytes(), b".................."].concat();
            let (short, long) = match text.starts_with('i') {
                true => (short_integer(&input), integer(&input)),
                false => (short_string(&input), byte_string(&input)),
            };
            assert_eq!(short.is_some(), is_short, "{text}");
            assert!(short.is_none() || short == long.ok(), "{text}");
        }
        for short in ["i0e", "i7e", "i10e", "i1234567890123456e", "0:", "4:spam", "12:twelve bytes"]
        {
            agree(short, true);
        }
        for other in ["i-1e", "i12345678901234567e", "i00e", "i01e", "ie", "i1", "i1/e", "i1:e"] {
            agree(other, false);
        }
        for other in ["", "4", "04:spam", "a:", "99:", "123:", "1/:", "::", "i1\u{f9}e"] {
            agree(other, false);
        }
        assert_eq!(short_integer(b"i1e"), None);
        assert_eq!(short_string(b"4:spa"), None);
    }

    #[test]
    fn integers_are_read_or_refused() {
        for text in ["0", "7", "-1", "9223372036854775808", "18446744073709551615"] {
            check(integer, &format!("i{text}e.."), Ok(text));
        }
        check(integer, "i-9223372036854775808e..", Ok("-9223372036854775808"));
        for (text, at) in [
            ("i", 1),
            ("ie", 1),
            ("i-e", 2),
            ("i--1e", 2),
            ("i+1e", 1),
            ("i1", 2),
            ("i1x", 2),
            ("i00e", 1),
            ("i03e", 1),
            ("i-0e", 1),
            ("i-03e", 1),
            ("i18446744073709551616e", 1),
            ("i-9223372036854775809e", 1),
            ("i99999999999999999999999999e", 1),
        ] {
            check(integer, text, Err(at));
        }
    }

    #[test]
    fn byte_strings_are_read_or_refused() {
        check(byte_string, "0:..", Ok(""));
        check(byte_string, "4:spam..", Ok("spam"));
        check(byte_string, "12:twelve bytes..", Ok("twelve bytes"));
        let long = "x".repeat(1234);
        check(byte_string, &format!("1234:{long}.."), Ok(&long));
        for (text, at) in [
            ("4", 1),
            ("4x", 1),
            ("4:spa", 0),
            ("04:spam", 0),
            ("00:", 0),
            ("10:spam", 0),
            ("18446744073709551615:", 0),
            ("18446744073709551616:", 0),
        ] {
            check(byte_string, text, Err(at));
        }
    }
}
