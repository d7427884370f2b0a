//! The two kinds of scalar, with nom: `i42e` and `4:spam`.
//!
//! Each parser says what it read and what follows it. A [`Fault`] carries the rest of the input at
//! the place of the error, so that the caller can tell the offset.

use nom::bytes::complete::{take_while, take_while1};
use nom::combinator::opt;
use nom::{AsChar, Err, IResult, Parser};

use crate::DecodeErrorKind;

/// The most decimal digits that always fit 64 bits.
const SAFE_DIGITS: usize = 19;

/// What is wrong, and the input from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault<'a> {
    pub(crate) at: &'a [u8],
    pub(crate) kind: DecodeErrorKind,
}

/// What was read, or what is wrong.
pub(crate) type Scan<'a, T> = IResult<&'a [u8], T, Fault<'a>>;

impl<'a> nom::error::ParseError<&'a [u8]> for Fault<'a> {
    fn from_error_kind(at: &'a [u8], _: nom::error::ErrorKind) -> Self {
        Fault { at, kind: unexpected(at, "a digit") }
    }

    fn append(_: &'a [u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

/// An integer, `i-42e`: the text between `i` and `e`.
#[inline]
pub(crate) fn integer(input: &[u8]) -> Scan<'_, &[u8]> {
    let (number, _) = byte(b'i', "an integer").parse(input)?;
    let (digits_at, minus) = opt(byte(b'-', "a sign")).parse(number)?;
    let (rest, digits) = take_while1(AsChar::is_dec_digit).parse(digits_at)?;
    check_integer(number, digits, minus.is_some())?;
    let (rest, _) = byte(b'e', "a digit or the 'e' of the integer").parse(rest)?;
    Ok((rest, &number[..usize::from(minus.is_some()) + digits.len()]))
}

/// A byte string, `4:spam`: its content.
#[inline]
pub(crate) fn byte_string(input: &[u8]) -> Scan<'_, &[u8]> {
    let (content, length) = length(input)?;
    let past_end = DecodeErrorKind::LengthPastEnd { length, remaining: content.len() };
    let split = usize::try_from(length).ok().and_then(|length| content.split_at_checked(length));
    let (string, rest) = split.ok_or(fault(input, past_end))?;
    Ok((rest, string))
}

/// The length in front of a byte string, with its colon.
#[inline]
fn length(input: &[u8]) -> Scan<'_, u64> {
    match input {
        // Nearly every string of a torrent is shorter than 100 bytes.
        [ones @ b'0'..=b'9', b':', content @ ..] => Ok((content, u64::from(ones - b'0'))),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b':', content @ ..] => {
            Ok((content, u64::from(tens - b'0') * 10 + u64::from(ones - b'0')))
        }
        _ => long_length(input),
    }
}

fn long_length(input: &[u8]) -> Scan<'_, u64> {
    let (rest, digits) = take_while(AsChar::is_dec_digit).parse(input)?;
    check_zeros(input, digits)?;
    let length = unsigned(digits).ok_or(overflow(input, digits))?;
    let (content, _) = byte(b':', "a digit or the ':' of a byte string").parse(rest)?;
    Ok((content, length))
}

#[inline]
fn byte<'a>(
    wanted: u8,
    expected: &'static str,
) -> impl Parser<&'a [u8], Output = u8, Error = Fault<'a>> {
    move |input: &'a [u8]| match input.split_first() {
        Some((got, rest)) if *got == wanted => Ok((rest, wanted)),
        _ => Err(fault(input, unexpected(input, expected))),
    }
}

#[inline]
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

#[inline]
fn check_zeros<'a>(at: &'a [u8], digits: &[u8]) -> Result<(), Err<Fault<'a>>> {
    match digits {
        [b'0', _, ..] => Err(fault(at, DecodeErrorKind::LeadingZero)),
        _ => Ok(()),
    }
}

/// The number that `digits` write, or `None` if it does not fit.
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

/// What is wrong where `expected` should begin.
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

    #[test]
    fn integers() {
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
    fn byte_strings() {
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
