use super::*;
use crate::{Kind, Value};

/// Returns the offset, path and kind of the error in `input`.
#[track_caller]
fn refused(options: Options, input: &[u8]) -> (usize, String, DecodeErrorKind) {
    let error = options.parse(input).expect_err("the input should be refused");
    (error.offset, error.path.to_string(), error.kind)
}

#[track_caller]
fn check(input: &str, offset: usize, path: &str, kind: DecodeErrorKind) {
    let got = refused(Options::new(), input.as_bytes());
    assert_eq!(got, (offset, path.to_owned(), kind), "{input}");
}

/// Checks that `input` is accepted, but no shorter prefix of it, nor with one more byte.
#[track_caller]
fn check_accepted(input: &str) {
    let bytes = input.as_bytes();
    assert_eq!(parse(bytes).map(|document| document.root().raw()), Ok(bytes), "{input}");
    for end in 0..bytes.len() {
        assert!(parse(&bytes[..end]).is_err(), "{}", &input[..end]);
    }
    let longer = [bytes, b"e"].concat();
    let kind = DecodeErrorKind::TrailingBytes { count: 1 };
    assert_eq!(refused(Options::new(), &longer), (bytes.len(), String::new(), kind));
    let (document, used) = Options::new().parse_prefix(&longer).unwrap();
    assert_eq!((document.root().raw(), used), (bytes, bytes.len()));
}

#[test]
fn every_form_of_value_is_accepted() {
    for input in [
        "i0e",
        "i-1e",
        "i9223372036854775807e",
        "i18446744073709551615e",
        "i-9223372036854775808e",
        "0:",
        "4:spam",
        "10:0123456789",
        "le",
        "de",
        "li1ei2ee",
        "l4:spam4:eggse",
        "lllleeee",
        "d3:cow3:moo4:spam4:eggse",
        "d4:spaml1:a1:bee",
        "d0:d0:d0:deeee",
        "d1:ad1:bi1ee1:cli2eee",
    ] {
        check_accepted(input);
    }
}

#[test]
fn errors_have_offset_and_path() {
    use DecodeErrorKind::*;
    let end = |expected| UnexpectedEnd { expected };
    check("", 0, "", end("a value"));
    check("x", 0, "", UnexpectedByte { expected: "a value", got: b'x' });
    check("e", 0, "", UnexpectedByte { expected: "a value", got: b'e' });
    check("-1", 0, "", UnexpectedByte { expected: "a value", got: b'-' });
    check("l", 1, "", end("a value or the 'e' of the list"));
    check("d", 1, "", end("a key or the 'e' of the dictionary"));
    check("d1:a", 4, "a", end("a value"));
    check("d1:ae", 4, "a", MissingValue);
    check("di1ei2ee", 1, "", KeyNotString { got: b'i' });
    check("d1:ai1elee", 7, "", KeyNotString { got: b'l' });
    check("d1:ali1ei02eee", 9, "a[1]", LeadingZero);
    check("d4:infod5:filesld4:pathl1:ai-0eeeee", 28, "info.files[0].path[1]", NegativeZero);
    check(
        "lli1eel1:ai1x",
        12,
        "[1][1]",
        UnexpectedByte { expected: "a digit or the 'e' of the integer", got: b'x' },
    );
    check("d3:keyi99999999999999999999ee", 7, "key", Overflow { digits: 20 });
    check("i1ei2e", 3, "", TrailingBytes { count: 3 });
    check("d1:a9:spame", 4, "a", LengthPastEnd { length: 9, remaining: 5 });
}

#[test]
fn duplicate_keys_are_refused_anywhere() {
    let duplicate = || DecodeErrorKind::DuplicateKey;
    check("d1:ai1e1:ai2ee", 7, "a", duplicate());
    check("d1:ld1:b0:1:a0:1:b0:ee", 15, "l.b", duplicate());
    check("d1:b0:1:a0:1:c0:1:ai1ee", 16, "a", duplicate());
    check("d1:bd1:xi1ee1:ad1:yi1ee1:b0:e", 23, "b", duplicate());
    check_accepted("d1:ad1:b0:e1:bd1:b0:ee");
}

#[track_caller]
fn check_duplicates(input: &str, expected: &[(usize, &str)]) {
    let options = Options { max_duplicates: expected.len(), ..Options::new() };
    let document = options.parse(input.as_bytes()).unwrap();
    let got = document.duplicates().map(|key| (key.offset, key.path.to_string()));
    let expected = expected.iter().map(|(offset, path)| (*offset, (*path).to_owned()));
    assert!(got.eq(expected), "{input}");
}

#[test]
fn allowed_duplicates_are_reported_in_order() {
    check_duplicates("d1:ai1e1:bi2ee", &[]);
    check_duplicates("d1:ai1e1:ai2ee", &[(7, "a")]);
    check_duplicates("d1:b0:1:a0:1:c0:1:ai1ee", &[(16, "a")]);
    // The inner dictionary ends before the outer one.
    check_duplicates("d1:a0:1:a0:1:bld1:c0:1:c0:eee", &[(6, "a"), (21, "b[0].c")]);
    check_duplicates("d1:ad1:x0:1:x0:e1:a0:e", &[(10, "a.x"), (16, "a")]);
    check_duplicates("d1:a0:1:a0:1:a0:e", &[(6, "a"), (11, "a")]);
}

#[test]
fn duplicates_are_limited_across_dictionaries() {
    let input = b"d1:ad1:x0:1:x0:e1:b0:1:b0:e";
    assert!((Options { max_duplicates: 2, ..Options::new() }).parse(input).is_ok());
    let one = Options { max_duplicates: 1, ..Options::new() };
    assert_eq!(refused(one, input), (21, "b".to_owned(), DecodeErrorKind::DuplicateKey));
}

#[test]
fn first_of_duplicate_values_counts() {
    let options = Options { max_duplicates: 2, ..Options::new() };
    let document = options.parse(b"d1:ai1e1:b0:1:ai2ee").unwrap();
    assert_eq!(document.root().get("a").and_then(Value::as_int), Some(1));
    assert_eq!(document.root().as_dict().map(crate::Dict::len), Some(3));
    assert_eq!(crate::encode(&document.root().to_owned()), b"d1:ai1e1:b0:e");
    assert_eq!(document.unsorted(), Some(12), "the second a sorts before b");
    let neighbours = (Options { strict: true, ..options }).parse(b"d1:a0:1:a0:e").unwrap();
    assert_eq!(neighbours.unsorted(), None, "equal keys are in order");
}

#[test]
fn unsorted_keys_are_reported_or_refused() {
    let strict = Options { strict: true, ..Options::new() };
    for (input, offset, path) in [
        ("d1:b0:1:a0:e", 6, "a"),
        ("d1:ad2:aa0:1:a0:ee", 11, "a.a"),
        ("ld1:z0:0:0:ee", 7, "[0]."),
        ("d1:ali1ee1:b0:1:cd1:y0:1:x0:e0:0:e", 23, "c.x"),
    ] {
        let document = parse(input.as_bytes()).unwrap();
        assert_eq!(document.unsorted(), Some(offset), "{input}");
        let expected = (offset, path.to_owned(), DecodeErrorKind::UnsortedKey);
        assert_eq!(refused(strict, input.as_bytes()), expected);
    }
    let sorted = b"d0:0:1:a0:2:aa0:1:b0:e";
    assert_eq!(strict.parse(sorted).unwrap().unsorted(), None);
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| ["l".repeat(depth), "e".repeat(depth)].concat();
    assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    let (offset, path, kind) = refused(Options::new(), nested(MAX_DEPTH + 1).as_bytes());
    assert_eq!((offset, kind), (MAX_DEPTH, DecodeErrorKind::TooDeep { limit: MAX_DEPTH }));
    assert_eq!(path, "[0]".repeat(MAX_DEPTH));

    let two = Options { max_depth: 2, ..Options::new() };
    assert!(two.parse(b"lllee").is_err() && two.parse(b"llelee").is_ok());
    let none = Options { max_depth: 0, ..Options::new() };
    assert!(none.parse(b"le").is_err() && none.parse(b"i1e").is_ok());
    let endless = "l".repeat(1 << 20);
    assert!(
        (Options { max_depth: usize::MAX, ..Options::new() }).parse(endless.as_bytes()).is_err()
    );
}

#[test]
fn tokens_are_limited() {
    let list = |elements: usize| ["l", &"0:".repeat(elements), "e"].concat();
    let kind = DecodeErrorKind::TooManyTokens { limit: MAX_TOKENS };
    let fits = parse_owned(&list(MAX_TOKENS - 2));
    assert_eq!(fits, Ok(MAX_TOKENS));
    assert_eq!(parse_owned(&list(MAX_TOKENS - 1)), Err(kind));
    let few = Options { max_tokens: 3, ..Options::new() };
    assert!(few.parse(b"l0:e").is_ok());
    assert!(few.parse(b"l0:0:e").is_err());
}

fn parse_owned(input: &str) -> Result<usize, DecodeErrorKind> {
    match parse(input.as_bytes()) {
        Ok(document) => Ok(document.token_count()),
        Err(error) => Err(error.kind),
    }
}

#[test]
fn trailing_bytes_may_be_allowed() {
    let document = (Options { allow_trailing: true, ..Options::new() }).parse(b"i1e\n").unwrap();
    assert_eq!(document.bytes(), b"i1e");
    assert_eq!(document.root().kind(), Kind::Integer);
    let (document, used) = Options::new()
        .parse_prefix(b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx")
        .unwrap();
    assert_eq!(used, 45);
    assert_eq!(document.root().get("total_size").and_then(Value::as_uint), Some(34256));
}
