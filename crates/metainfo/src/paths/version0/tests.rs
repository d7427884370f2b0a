use super::*;

/// Names and what version 0.1.0 made of them, as it printed them.
const NAMES: [(&[u8], &str); 45] = [
    (b"a", "a"),
    (b"read me.txt", "read me.txt"),
    (b".hidden", ".hidden"),
    (b"...a", "...a"),
    (b"~", "~"),
    (b"a.tar.gz", "a.tar.gz"),
    (b"con1", "con1"),
    (b"com0", "com0"),
    (b"comx", "comx"),
    (b"console", "console"),
    (b"nul_", "nul_"),
    (b"a : b ? c * d", "a : b ? c * d"),
    (b"\"<>|", "\"<>|"),
    (b"M\xc3\xbcller.txt", "Müller.txt"),
    (b"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", "日本語"),
    (b"e\xcc\x81", "é"),
    (b"lpt10.txt", "lpt10.txt"),
    (b"caf\xe9", "caf%E9"),
    (b"\xff\xfe\x80", "%FF%FE%80"),
    (b"\xe6\x97", "%E6%97"),
    (b"\xed\xa0\x80", "%ED%A0%80"),
    (b"a\tb\nc\x7f\xc2\x85", "a_b_c__"),
    (b"..\\..\\etc", ".._.._etc"),
    (b"\xe2\x80\xaegpj.exe", "_gpj.exe"),
    (b"\xe2\x80\x8e\xe2\x80\x8f\xd8\x9c\xe2\x81\xa6\xe2\x81\xa9", "_____"),
    (b"\xe2\x80\x8b\xef\xbb\xbf", "\u{200b}\u{feff}"),
    (b"con", "con_"),
    (b"CON", "CON_"),
    (b"Aux.txt", "Aux_.txt"),
    (b"nul.tar.gz", "nul_.tar.gz"),
    (b"prn .txt", "prn_ .txt"),
    (b"com1", "com1_"),
    (b"LPT9.log", "LPT9_.log"),
    (b"com\xc2\xb9", "com¹_"),
    (b"conin$", "conin$_"),
    (b"CONOUT$.x", "CONOUT$_.x"),
    (b"a.", "a._"),
    (b"a ", "a _"),
    (b"...", "..._"),
    (b" ", " _"),
    (b"con.", "con_._"),
    (b"con ", "con_ _"),
    (b"com\x011", "com_1"),
    (b"nul\\", "nul_"),
    (b"a\\. ", "a_. _"),
];

#[test]
fn names_match_version_0_1_0() {
    for (raw, expected) in NAMES {
        assert_eq!(element(raw).as_deref(), Some(expected), "{}", raw.escape_ascii());
    }
    // sha1("x" * 256) and sha1("x" * 300 + ".flac") start with these digits.
    let cut = format!("{}~53dab551", "x".repeat(246));
    assert_eq!(element("x".repeat(256).as_bytes()), Some(cut));
    let cut = format!("{}~08353c3d.flac", "x".repeat(241));
    assert_eq!(element(format!("{}.flac", "x".repeat(300)).as_bytes()), Some(cut));
}

#[test]
fn refused_names_are_none() {
    for raw in ["", ".", "..", "a/b", "/", "a\0"] {
        assert_eq!(element(raw.as_bytes()), None, "{raw:?}");
    }
}
