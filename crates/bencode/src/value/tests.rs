use super::*;
use crate::parse;

const TORRENT: &[u8] = b"d8:announce3:url4:infod5:filesld6:lengthi5e4:pathl1:a2:bbeee4:name1:nee";

#[test]
fn integers_cover_i64_and_u64() {
    for (input, int, uint) in [
        ("i0e", Some(0), Some(0)),
        ("i-1e", Some(-1), None),
        ("i9223372036854775807e", Some(i64::MAX), Some(i64::MAX as u64)),
        ("i9223372036854775808e", None, Some(1 << 63)),
        ("i18446744073709551615e", None, Some(u64::MAX)),
        ("i-9223372036854775808e", Some(i64::MIN), None),
    ] {
        let document = parse(input.as_bytes()).unwrap();
        assert_eq!((document.root().as_int(), document.root().as_uint()), (int, uint), "{input}");
    }
}

#[test]
fn wrong_kind_has_no_view() {
    for (input, kind) in
        [("i1e", Kind::Integer), ("1:x", Kind::Bytes), ("le", Kind::List), ("de", Kind::Dict)]
    {
        let document = parse(input.as_bytes()).unwrap();
        let root = document.root();
        assert_eq!(root.kind(), kind);
        assert_eq!(root.as_int().is_some(), kind == Kind::Integer);
        assert_eq!(root.as_bytes().is_some(), kind == Kind::Bytes);
        assert_eq!(root.as_str().is_some(), kind == Kind::Bytes);
        assert_eq!(root.as_list().is_some(), kind == Kind::List);
        assert_eq!(root.as_dict().is_some(), kind == Kind::Dict);
        assert!(root.get("x").is_none());
    }
    assert_eq!(parse(b"1:\xff").unwrap().root().as_str(), None);
}

#[test]
fn values_have_bytes_offset_and_path() {
    let document = parse(TORRENT).unwrap();
    let info = document.root().get("info").unwrap();
    assert_eq!(info.raw(), b"d5:filesld6:lengthi5e4:pathl1:a2:bbeee4:name1:ne");
    assert_eq!(info.offset(), 22);
    let file = info.get("files").and_then(|files| files.as_list()?.get(0)).unwrap();
    assert_eq!(file.raw(), b"d6:lengthi5e4:pathl1:a2:bbee");
    let second = file.get("path").and_then(|path| path.as_list()?.get(1)).unwrap();
    assert_eq!((second.raw(), second.as_str()), (&b"2:bb"[..], Some("bb")));
    assert_eq!(second.path().to_string(), "info.files[0].path[1]");
    assert_eq!(TORRENT[second.offset()], b'2');
    assert_eq!(info.get("name").unwrap().path().to_string(), "info.name");
    assert!(document.root().path().is_root());
}

#[test]
fn iteration_skips_nested_values() {
    let document = parse(b"lli1ei2eed1:ali3eeei4elee").unwrap();
    let list = document.root().as_list().unwrap();
    let raw: Vec<_> = list.iter().map(Value::raw).collect();
    assert_eq!(raw, [&b"li1ei2ee"[..], b"d1:ali3eee", b"i4e", b"le"]);
    assert_eq!((list.len(), list.is_empty()), (4, false));
    assert!(list.get(4).is_none());
    assert!(list.get(3).is_some_and(|last| last.as_list().unwrap().is_empty()));

    let document = parse(b"d1:ald0:0:ee1:bde1:ci7ee").unwrap();
    let dict = document.root().as_dict().unwrap();
    let keys: Vec<_> = dict.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"a", b"b", b"c"]);
    assert_eq!(dict.get(b"c").and_then(Value::as_int), Some(7));
    assert!(dict.get("d").is_none());
    assert!(dict.get("b").is_some_and(|b| b.as_dict().unwrap().is_empty()));
}

#[test]
fn debug_output_shows_the_value() {
    let document = parse(b"d1:ali-1e2:\xffxee").unwrap();
    assert_eq!(format!("{:?}", document.root()), r#"{"a": [-1, b"\xffx"]}"#);
}
