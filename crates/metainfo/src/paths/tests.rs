use super::*;

#[track_caller]
fn check(naming: Naming, raw: impl AsRef<[u8]>, expected: &str) {
    let raw = raw.as_ref();
    assert_eq!(map_element(raw, naming), expected, "{naming:?}: {}", raw.escape_ascii());
    let is_same = expected.as_bytes() == raw;
    assert!(is_same || !is_plain(raw) || naming != Naming::Unix, "{}", raw.escape_ascii());
    if naming == Naming::Short {
        assert_eq!(is_same_everywhere(raw), is_same, "{}", raw.escape_ascii());
    }
}

#[test]
fn ascii_names_are_plain() {
    for name in ["a", "a b", ".hidden", "...", "a. ", "con", r"a\b", "a:b", &"x".repeat(255)] {
        assert!(is_plain(name.as_bytes()), "{name:?}");
    }
    for name in ["", ".", "..", "a/b", "/", "a\0", "\u{7f}", "ü", &"x".repeat(256)] {
        assert!(!is_plain(name.as_bytes()), "{name:?}");
    }
}

#[test]
fn windows_endings_and_devices_are_marked() {
    for (raw, expected) in [
        ("prn .txt", "prn_ .txt"),
        ("LPT9.log", "LPT9_.log"),
        ("com¹", "com¹_"),
        ("conin$", "conin$_"),
        ("CONOUT$.x", "CONOUT$_.x"),
        ("...", "..._"),
        (" ", " _"),
        ("con.", "con_._"),
        ("con ", "con_ _"),
        ("com:1", "com_1"),
        ("com\u{1}", "com_"),
        ("com0", "com0"),
        ("nul_", "nul_"),
    ] {
        check(Naming::Windows, raw, expected);
        check(Naming::Short, raw, expected);
        check(Naming::Unix, raw, if raw.contains('\u{1}') { "com_" } else { raw });
    }
}

#[test]
fn long_names_are_cut_before_extension() {
    let raw = format!("{}.flac", "x".repeat(300));
    let name = map_bytes(raw.as_bytes(), Naming::Unix);
    assert_eq!(name.len(), 255);
    assert!(name.starts_with("x".repeat(241).as_bytes()) && name.ends_with(b".flac"));
    let other = format!("{}y.flac", "x".repeat(299));
    assert_ne!(map_bytes(other.as_bytes(), Naming::Unix), name);
    let digits = &sha1_hex(&"x".repeat(256))[..8];
    let cut = |kept| format!("{}~{digits}", "x".repeat(kept));
    check(Naming::Unix, "x".repeat(256), &cut(246));
    check(Naming::Short, "x".repeat(256), &cut(134));
    check(Naming::Short, "x".repeat(143), &"x".repeat(143));
    // Two bytes per character: the cut is between characters.
    let umlauts = map_bytes("ü".repeat(200).as_bytes(), Naming::Unix);
    assert_eq!((umlauts.len(), &umlauts[..246]), (255, "ü".repeat(123).as_bytes()));
    // A long extension does not count as one.
    let dotted = map_bytes(format!("a.{}", "b".repeat(300)).as_bytes(), Naming::Unix);
    assert!(dotted.starts_with(b"a.bbb") && dotted.len() == 255);
    // Bytes that are not UTF-8 become longer before the cut.
    assert!(map_bytes(&[0xff; 200], Naming::Unix).len() <= 255);
    assert_eq!(map_bytes(&[0xff; 200], Naming::Raw), [0xff; 200]);
    assert_eq!(with_suffix(&[0x80; 255], "~2", 255), [&[0x80; 253], &b"~2"[..]].concat());
}

fn sha1_hex(text: &str) -> String {
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn numbers_come_before_the_extension() {
    let check = |path: &str, expected: &str| {
        assert_eq!(numbered(Path::new(path), 2, Naming::Unix), Path::new(expected), "{path}");
    };
    check("a", "a~2");
    check("d.x/a.tar.gz", "d.x/a.tar~2.gz");
    check(".hidden", ".hidden~2");
    check("..", "..");
    check(&"x".repeat(255), &format!("{}~2", "x".repeat(253)));
    check(&format!("{}.c", "ü".repeat(126)), &format!("{}~2.c", "ü".repeat(125)));
    let raw = OsString::from_vec(b"\xff.c".to_vec());
    assert_eq!(numbered(Path::new(&raw), 12, Naming::Raw).as_os_str().as_bytes(), b"\xff~12.c");
    let (long, short) = ("x".repeat(143), format!("{}~2", "x".repeat(141)));
    assert_eq!(numbered(Path::new(&long), 2, Naming::Short), Path::new(&short));
}

#[test]
fn clashes_are_found_in_any_order() {
    let check = |paths: &[&str], expected| {
        assert_eq!(has_clash(0..paths.len(), |file| paths[file].as_bytes()), expected, "{paths:?}");
    };
    check(&[], false);
    check(&["a"], false);
    check(&["a/b", "a/c", "b/a"], false);
    check(&["a/b", "ab", "a/bc", "a.b", "a/b.c", "b/a/b"], false);
    check(&["a", "b", "a"], true);
    check(&["x/y/z", "x/q", "x/y/z"], true);
    check(&["a", "a/b"], true);
    check(&["a/b/c", "d", "a/b"], true);
    check(&["a/b/c/d", "a/x", "a"], true);
    check(&["a/b", "c/d", "a/e", "c/d/f"], true);
}

#[track_caller]
fn renamed(naming: Naming, paths: &[&str], expected: &[(usize, &str)]) {
    let keys: Vec<_> = paths.iter().map(|path| key_of(path.as_bytes(), naming)).collect();
    let (path, key) = (|file: usize| paths[file].as_bytes(), |file: usize| &*keys[file]);
    let got = resolve_collisions(0..paths.len(), path, key, naming);
    let got: Vec<_> =
        got.iter().map(|(file, path)| (*file, str::from_utf8(path).unwrap())).collect();
    assert_eq!(got, expected, "{naming:?}: {paths:?}");
}

#[test]
fn collisions_get_numbers_in_file_order() {
    let unix = |paths: &[&str], expected: &[(usize, &str)]| renamed(Naming::Unix, paths, expected);
    unix(&["a", "b"], &[]);
    unix(&["a", "A"], &[]);
    unix(&["a", "a", "a"], &[(1, "a~2"), (2, "a~3")]);
    unix(&["d/a.txt", "d/a.txt", "e/a.txt"], &[(1, "d/a~2.txt")]);
    unix(&["a", "a~2", "a"], &[(2, "a~3")]);
    unix(&["a", "a", "a~2", "a~2"], &[(1, "a~3"), (3, "a~2~2")]);
    unix(&["a", "a/b", "c"], &[(0, "a~2")]);
    unix(&["a~2/x", "a", "a"], &[(2, "a~3")]);
    let long = "x".repeat(255);
    unix(&[&long, &long], &[(1, &format!("{}~2", "x".repeat(253)))]);
    let other = format!("{}y", "x".repeat(254));
    let numbers = [(1, format!("{}~2", "x".repeat(253))), (3, format!("{}~3", "x".repeat(253)))];
    unix(
        &[&long, &long, &other, &other],
        &numbers.each_ref().map(|(file, path)| (*file, path.as_str())),
    );
}

#[test]
fn windows_collisions_ignore_case() {
    renamed(Naming::Windows, &["README", "readme", "b"], &[(1, "readme~2")]);
    renamed(Naming::Windows, &["ÄB", "äb", "Äb~2"], &[(1, "äb~3")]);
    renamed(Naming::Windows, &["D/a", "d/A"], &[(1, "d/A~2")]);
    renamed(Naming::Windows, &["D", "d/a"], &[(0, "D~2")]);
    let long = "x".repeat(143);
    renamed(Naming::Short, &[&long, &long], &[(1, &format!("{}~2", "x".repeat(141)))]);
}

#[track_caller]
fn renamed_paths(paths: &[String]) -> Vec<(usize, Vec<u8>)> {
    let path = |file: usize| paths[file].as_bytes();
    resolve_collisions(0..paths.len(), path, path, Naming::Unix)
}

#[test]
fn many_collisions_are_resolved_quickly() {
    let renamed = renamed_paths(&vec!["same".to_owned(); 50_000]);
    assert_eq!(renamed.len(), 49_999);
    assert_eq!(renamed.last().map(|(_, path)| path.as_slice()), Some(&b"same~50000"[..]));
    // Names that differ only in the part that is cut compete for the same numbers.
    let long = |number: usize| format!("{}{:08}", "x".repeat(247), number / 2);
    let renamed = renamed_paths(&(0..50_000).map(long).collect::<Vec<_>>());
    assert_eq!(renamed.len(), 25_000);
}
