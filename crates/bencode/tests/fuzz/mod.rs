//! Checks what must hold for any input. The fuzzer and the ordinary tests call it.

use bencode::{DecodeErrorKind, Kind, Options, OwnedDocument, Value, encode, parse};

/// Parses `data` and asserts what the crate promises about the result.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn value(data: &[u8]) {
    let owned = OwnedDocument::parse(data.to_vec());
    match parse(data) {
        Err(error) => {
            assert!(error.offset <= data.len(), "an error points into the input: {error}");
            assert_eq!(owned.err(), Some(error));
        }
        Ok(document) => {
            assert_eq!(document.root().raw(), data, "the root is the whole input");
            check_value(document.root());
            check_canonical(data);
            let owned = owned.map(|owned| (owned.root().to_owned(), owned.unsorted()));
            assert_eq!(owned, Ok((document.root().to_owned(), document.unsorted())));
        }
    }
    check_limits(data);
    if let Ok((document, used)) = Options::new().parse_prefix(data) {
        assert_eq!(document.root().raw(), &data[..used], "a prefix is the root's bytes");
        assert_eq!(document.duplicates().len(), 0, "no duplicates by default");
    }
    check_duplicates(data);
}

/// Checks that duplicate keys are reported with their offsets, and that the first value counts.
fn check_duplicates(data: &[u8]) {
    let options = Options { max_duplicates: MAX_CHECKED, ..Options::new() };
    let Ok((document, used)) = options.parse_prefix(data) else { return };
    let duplicates: Vec<_> = document.duplicates().collect();
    assert!(duplicates.len() <= MAX_CHECKED);
    assert!(duplicates.is_sorted_by(|a, b| a.offset < b.offset));
    match Options::new().parse_prefix(data) {
        Ok(strict) => assert_eq!(strict, (document, used)),
        Err(error) => {
            assert_eq!(error.kind, DecodeErrorKind::DuplicateKey);
            let at = duplicates.iter().find(|key| key.offset == error.offset);
            assert_eq!(at.map(|key| &key.path), Some(&error.path));
            let encoded = encode(&document.root().to_owned());
            assert!((Options { strict: true, ..Options::new() }).parse(&encoded).is_ok());
        }
    }
    let owned = OwnedDocument::parse_prefix(data.to_vec(), options);
    let owned = owned.map(|owned| (owned.duplicates().collect(), owned.bytes().to_vec()));
    assert_eq!(owned, Ok((duplicates, data[..used].to_vec())));
}

/// Checks that a value accepted under smaller limits is within them and the same without them.
fn check_limits(data: &[u8]) {
    let limited = Options { max_depth: 3, max_tokens: 10, ..Options::new() };
    let Ok((document, used)) = limited.parse_prefix(data) else { return };
    assert!(depth(document.root()) <= 3 && document.token_count() <= 10);
    assert_eq!(parse(&data[..used]), Ok(document));
}

fn depth(value: Value<'_, '_>) -> usize {
    let list = value.as_list().into_iter().flatten();
    let dict = value.as_dict().into_iter().flatten().map(|(_, child)| child);
    let below = list.chain(dict).map(depth).max().unwrap_or(0);
    below + usize::from(matches!(value.kind(), Kind::List | Kind::Dict))
}

/// Checks that the bytes of every value parse to that value, and that its path leads to it.
fn check_value(value: Value<'_, '_>) {
    assert_eq!(parse(value.raw()).map(|again| again.root().kind()), Ok(value.kind()));
    match value.kind() {
        Kind::Integer => assert!(value.as_int().is_some() || value.as_uint().is_some()),
        Kind::Bytes => assert!(value.as_bytes().is_some_and(|bytes| value.raw().ends_with(bytes))),
        Kind::List => {
            let list = value.as_list().into_iter().flatten();
            list.take(MAX_CHECKED).for_each(check_value);
        }
        Kind::Dict => {
            for (key, child) in value.as_dict().into_iter().flatten().take(MAX_CHECKED) {
                assert_eq!(value.get(key).map(Value::offset), Some(child.offset()));
                check_value(child);
            }
        }
    }
    assert_eq!(value.path().is_root(), value.offset() == 0);
}

/// How many children of a container are checked. Checking takes quadratic time.
const MAX_CHECKED: usize = 16;

/// Checks that strict mode accepts exactly the canonical inputs, which encode to the same bytes,
/// and that everything else encodes to a canonical form.
fn check_canonical(data: &[u8]) {
    let strict = Options { strict: true, ..Options::new() };
    let Ok(lenient) = parse(data) else { return };
    let encoded = encode(&lenient.root().to_owned());
    assert_eq!(encoded == data, strict.parse(data).is_ok(), "strict means canonical");
    assert_eq!(lenient.unsorted().is_none(), strict.parse(data).is_ok());
    assert!(strict.parse(&encoded).is_ok(), "the encoder writes the canonical form");
}
