use super::*;

#[track_caller]
fn check(raw: impl AsRef<[u8]>, expected: &str) {
    let raw = raw.as_ref();
    assert_eq!(map_element(raw).as_deref(), Ok(expected), "{}", raw.escape_ascii());
    assert_eq!(is_plain(raw), expected.as_bytes() == raw && raw.is_ascii());
}

#[test]
fn ordinary_names_stay() {
    for name in [
        "a",
        "a b",
        ".hidden",
        "...a",
        "~",
        "a.tar.gz",
        "con1",
        "com0",
        "comx",
        "console",
        "nul_",
        "name with : and ? and *",
        "Müller.txt",
        "日本語",
        "e\u{301}",
        "lpt10.txt",
    ] {
        check(name, name);
    }
    check("x".repeat(255), &"x".repeat(255));
}

#[test]
fn ways_out_of_the_folder_are_refused() {
    for (raw, expected) in [
        ("", PathError::EmptyElement),
        (".", PathError::Dots { got: "." }),
        ("..", PathError::Dots { got: ".." }),
        ("/", PathError::Slash),
        ("a/b", PathError::Slash),
        ("../x", PathError::Slash),
        ("a\0", PathError::Nul),
    ] {
        assert_eq!(map_element(raw.as_bytes()), Err(expected), "{raw:?}");
        assert!(!is_plain(raw.as_bytes()));
    }
}

#[test]
fn what_a_file_system_cannot_hold_is_replaced() {
    check(b"caf\xe9", "caf%E9");
    check(b"\xff\xfe\x80", "%FF%FE%80");
    check(b"\xe6\x97", "%E6%97");
    check(b"\xed\xa0\x80", "%ED%A0%80");
    check("a\tb\nc\x7f\u{85}", "a_b_c__");
    check("..\\..\\etc", ".._.._etc");
    check("\u{202e}gpj.exe", "_gpj.exe");
    check("\u{200e}\u{200f}\u{61c}\u{2066}\u{2069}", "_____");
}

#[test]
fn names_of_windows_get_a_mark() {
    for (raw, expected) in [
        ("con", "con_"),
        ("CON", "CON_"),
        ("Aux.txt", "Aux_.txt"),
        ("nul.tar.gz", "nul_.tar.gz"),
        ("prn .txt", "prn_ .txt"),
        ("com1", "com1_"),
        ("LPT9.log", "LPT9_.log"),
        ("com¹", "com¹_"),
        ("conin$", "conin$_"),
        ("CONOUT$.x", "CONOUT$_.x"),
        ("a.", "a._"),
        ("a ", "a _"),
        ("...", "..._"),
        (" ", " _"),
        ("con.", "con_._"),
        ("con ", "con_ _"),
    ] {
        check(raw, expected);
    }
}

#[test]
fn long_names_are_cut_before_the_extension() {
    let raw = format!("{}.flac", "x".repeat(300));
    let name = map_element(raw.as_bytes()).unwrap();
    assert_eq!(name.len(), 255);
    assert!(name.starts_with(&"x".repeat(241)) && name.ends_with(".flac"));
    let other = format!("{}y.flac", "x".repeat(299));
    assert_ne!(map_element(other.as_bytes()).unwrap(), name);
    assert_eq!(map_element(raw.as_bytes()).unwrap(), name);
    // sha1("x" * 256) begins with these digits.
    check("x".repeat(256), &format!("{}~{}", "x".repeat(246), &sha1_hex(&"x".repeat(256))[..8]));
    // Two bytes a character: the cut falls between characters.
    let umlauts = map_element("ü".repeat(200).as_bytes()).unwrap();
    assert!(umlauts.len() <= 255 && umlauts.starts_with(&"ü".repeat(123)));
    // A long extension is no extension.
    let dotted = map_element(format!("a.{}", "b".repeat(300)).as_bytes()).unwrap();
    assert!(dotted.starts_with("a.bbb") && dotted.len() == 255);
    // What is not UTF-8 grows before it is cut.
    assert!(map_element(&[0xff; 200]).unwrap().len() <= 255);
}

fn sha1_hex(text: &str) -> String {
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn clash_of(paths: &[&str], expected: Option<Clash>) {
    assert_eq!(first_clash(0..paths.len(), |file| paths[file].as_bytes()), expected, "{paths:?}");
}

#[test]
fn clashes_are_found_in_any_order() {
    clash_of(&[], None);
    clash_of(&["a"], None);
    clash_of(&["a/b", "a/c", "b/a", "a", "c"][..3], None);
    clash_of(&["a/b", "ab", "a/bc", "a.b", "a/b.c", "b/a/b"], None);
    clash_of(&["a", "b", "a"], Some(Clash::Duplicate { file: 2, other: 0 }));
    clash_of(&["x/y/z", "x/q", "x/y/z"], Some(Clash::Duplicate { file: 2, other: 0 }));
    clash_of(&["a", "a/b"], Some(Clash::FileIsFolder { file: 0, other: 1 }));
    clash_of(&["a/b/c", "d", "a/b"], Some(Clash::FileIsFolder { file: 2, other: 0 }));
    clash_of(&["a/b/c/d", "a/x", "a"], Some(Clash::FileIsFolder { file: 2, other: 0 }));
    clash_of(&["a/b", "c/d", "a/e", "c/d/f"], Some(Clash::FileIsFolder { file: 1, other: 3 }));
}

#[track_caller]
fn renamed(paths: &[&str], expected: &[(usize, &str)]) {
    let got = resolve_collisions(0..paths.len(), |file| paths[file]);
    let got: Vec<_> = got.iter().map(|(file, path)| (*file, path.as_str())).collect();
    assert_eq!(got, expected, "{paths:?}");
}

#[test]
fn collisions_get_numbers_in_file_order() {
    renamed(&["a", "b"], &[]);
    renamed(&["a", "a", "a"], &[(1, "a~2"), (2, "a~3")]);
    renamed(&["d/a.txt", "d/a.txt", "e/a.txt"], &[(1, "d/a~2.txt")]);
    renamed(&["a", "a~2", "a"], &[(2, "a~3")]);
    renamed(&["a", "a", "a~2", "a~2"], &[(1, "a~3"), (3, "a~2~2")]);
    renamed(&["a", "a/b", "c"], &[(0, "a~2")]);
    renamed(&["a~2/x", "a", "a"], &[(2, "a~3")]);
    let long = "x".repeat(255);
    renamed(&[&long, &long], &[(1, &format!("{}~2", "x".repeat(253)))]);
}

#[test]
fn many_collisions_take_no_quadratic_time() {
    let paths = vec!["same"; 50_000];
    let renamed = resolve_collisions(0..paths.len(), |file| paths[file]);
    assert_eq!(renamed.len(), 49_999);
    assert_eq!(renamed.last().map(|(_, path)| path.as_str()), Some("same~50000"));
}
