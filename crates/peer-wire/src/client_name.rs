//! The client that a peer id names (BEP 20). A client may put any bytes there.

use bt_types::PeerId;

/// Returns the name and version of the client with this peer id, for example `Transmission 3.00`.
///
/// The result is 1 to 40 characters of printable ASCII. An id of no known style is returned itself,
/// with dots for bytes that are not printable.
pub fn client_name(peer_id: &PeerId) -> String {
    let id = peer_id.as_bytes();
    azureus(id).or_else(|| mainline(id)).or_else(|| shadow(id)).unwrap_or_else(|| printable(id))
}

/// The meaning of the four version characters of the Azureus style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// `1234` is 1.2.3.4. Trailing zeros are dropped, but two numbers stay.
    Dotted,
    /// `3000` is 3.00, but from version 4 on `4050` is 4.0.5.
    Transmission,
    /// `0208` is 2.08.
    TwoDigits,
}

/// The codes of the Azureus style that are in use today, and those of BEP 20.
const AZUREUS: &[(&[u8; 2], &str, Version)] = &[
    (b"7T", "aTorrent", Version::Dotted),
    (b"A2", "aria2", Version::Dotted),
    (b"AG", "Ares", Version::Dotted),
    (b"AR", "Arctic", Version::Dotted),
    (b"AV", "Avicora", Version::Dotted),
    (b"AX", "BitPump", Version::Dotted),
    (b"AZ", "Azureus", Version::Dotted),
    (b"A~", "Ares", Version::Dotted),
    (b"BB", "BitBuddy", Version::Dotted),
    (b"BC", "BitComet", Version::TwoDigits),
    (b"BF", "Bitflu", Version::Dotted),
    (b"BG", "BTG", Version::Dotted),
    (b"BI", "BiglyBT", Version::Dotted),
    (b"BR", "BitRocket", Version::Dotted),
    (b"BS", "BTSlave", Version::Dotted),
    (b"BT", "BitTorrent", Version::Dotted),
    (b"BX", "~Bittorrent X", Version::Dotted),
    (b"CD", "Enhanced CTorrent", Version::Dotted),
    (b"CT", "CTorrent", Version::Dotted),
    (b"DE", "Deluge", Version::Dotted),
    (b"DP", "Propagate Data Client", Version::Dotted),
    (b"EB", "EBit", Version::Dotted),
    (b"ES", "electric sheep", Version::Dotted),
    (b"FD", "Free Download Manager", Version::Dotted),
    (b"FG", "FlashGet", Version::TwoDigits),
    (b"FL", "Folx", Version::Dotted),
    (b"FT", "FoxTorrent", Version::Dotted),
    (b"FW", "FrostWire", Version::Dotted),
    (b"FX", "Freebox BitTorrent", Version::Dotted),
    (b"GS", "GSTorrent", Version::Dotted),
    (b"GT", "anacrolix/torrent", Version::Dotted),
    (b"HL", "Halite", Version::Dotted),
    (b"HN", "Hydranode", Version::Dotted),
    (b"KG", "KGet", Version::Dotted),
    (b"KT", "KTorrent", Version::Dotted),
    (b"LH", "LH-ABC", Version::Dotted),
    (b"LP", "Lphant", Version::Dotted),
    (b"LT", "libtorrent", Version::Dotted),
    (b"LW", "LimeWire", Version::Dotted),
    (b"MG", "MediaGet", Version::Dotted),
    (b"MO", "MonoTorrent", Version::Dotted),
    (b"MP", "MooPolice", Version::Dotted),
    (b"MR", "Miro", Version::Dotted),
    (b"MT", "MoonlightTorrent", Version::Dotted),
    (b"NX", "Net Transport", Version::Dotted),
    (b"PD", "Pando", Version::Dotted),
    (b"PI", "PicoTorrent", Version::Dotted),
    (b"QD", "QQDownload", Version::Dotted),
    (b"QT", "Qt 4 Torrent example", Version::Dotted),
    (b"RT", "Retriever", Version::Dotted),
    (b"SB", "~Swiftbit", Version::Dotted),
    (b"SD", "Thunder", Version::Dotted),
    (b"SS", "SwarmScope", Version::Dotted),
    (b"ST", "SymTorrent", Version::Dotted),
    (b"SZ", "Shareaza", Version::Dotted),
    (b"S~", "Shareaza alpha", Version::Dotted),
    (b"TL", "Tribler", Version::Dotted),
    (b"TN", "TorrentDotNET", Version::Dotted),
    (b"TR", "Transmission", Version::Transmission),
    (b"TS", "Torrentstorm", Version::Dotted),
    (b"TT", "TuoTu", Version::Dotted),
    (b"TX", "Tixati", Version::TwoDigits),
    (b"UL", "uLeecher!", Version::Dotted),
    (b"UM", "uTorrent for Mac", Version::Dotted),
    (b"UT", "uTorrent", Version::Dotted),
    (b"UW", "uTorrent Web", Version::Dotted),
    (b"VG", "Vagaa", Version::Dotted),
    (b"WD", "WebTorrent Desktop", Version::TwoDigits),
    (b"WT", "BitLet", Version::Dotted),
    (b"WW", "WebTorrent", Version::TwoDigits),
    (b"WY", "FireTorrent", Version::Dotted),
    (b"XL", "Xunlei", Version::Dotted),
    (b"XT", "XanTorrent", Version::Dotted),
    (b"XX", "Xtorrent", Version::Dotted),
    (b"ZT", "ZipTorrent", Version::Dotted),
    (b"lt", "libTorrent (rTorrent)", Version::Dotted),
    (b"qB", "qBittorrent", Version::Dotted),
    (b"rQ", "rqbit", Version::Dotted),
    (b"st", "sharktorrent", Version::Dotted),
];

/// The letters of Shadow's style (BEP 20).
const SHADOW: &[(u8, &str)] = &[
    (b'A', "ABC"),
    (b'O', "Osprey Permaseed"),
    (b'Q', "BTQueue"),
    (b'R', "Tribler"),
    (b'S', "Shadow's client"),
    (b'T', "BitTornado"),
    (b'U', "UPnP NAT Bit Torrent"),
];

/// `-AZ2060-` and twelve random bytes.
fn azureus(id: &[u8; 20]) -> Option<String> {
    let [b'-', a, b, version @ ..] = id else { return None };
    let (version, rest) = version.split_first_chunk::<4>()?;
    let code = [*a, *b];
    let known = AZUREUS.iter().find(|(known, _, _)| **known == code);
    let alphanumeric = |byte: &u8| byte.is_ascii_alphanumeric();
    if !version.iter().all(alphanumeric) || (known.is_none() && rest.first() != Some(&b'-')) {
        return aria2(id);
    }
    match known {
        Some((_, name, style)) => Some(format!("{name} {}", azureus_version(*style, version))),
        None if code.iter().all(u8::is_ascii_graphic) => {
            let version = azureus_version(Version::Dotted, version);
            Some(format!("{} {version}", printable(&code)))
        }
        None => None,
    }
}

/// `A2-1-36-0-` and random bytes: a code of two letters, with or without a dash before it, and then
/// the Mainline style.
fn aria2(id: &[u8]) -> Option<String> {
    let numbers = id.strip_prefix(b"-").unwrap_or(id).strip_prefix(b"A2-")?;
    Some(format!("aria2 {}", dashed_version(numbers)?))
}

/// `M7-10-5--` (BitTorrent) or `Q1-10-0-` (Queen Bee) and random bytes.
fn mainline(id: &[u8; 20]) -> Option<String> {
    let (letter, numbers) = id.split_first()?;
    let name = match letter {
        b'M' => "BitTorrent",
        b'Q' => "Queen Bee",
        _ => return aria2(id),
    };
    Some(format!("{name} {}", dashed_version(numbers)?))
}

/// `S58B-----`: a letter, up to five version characters padded with dashes, `---`.
fn shadow(id: &[u8; 20]) -> Option<String> {
    let [letter, version @ ..] = id;
    let (_, name) = SHADOW.iter().find(|(known, _)| known == letter)?;
    let (version, rest) = version.split_first_chunk::<5>()?;
    let end = version.iter().position(|byte| *byte == b'-').unwrap_or(version.len());
    let (digits, padding) = version.split_at(end);
    let padded = padding.iter().all(|byte| *byte == b'-') && rest.starts_with(b"---");
    if digits.is_empty() || !padded {
        return None;
    }
    let numbers: Option<Vec<String>> = digits.iter().map(|byte| shadow_digit(*byte)).collect();
    Some(format!("{name} {}", numbers?.join(".")))
}

fn azureus_version(style: Version, version: &[u8; 4]) -> String {
    let [a, b, c, d] = version.map(azureus_digit);
    let digits = version.iter().all(u8::is_ascii_digit);
    match style {
        Version::Transmission if digits && a < 4 => format!("{a}.{b}{c}"),
        Version::Transmission => format!("{a}.{b}.{c}"),
        Version::TwoDigits if digits => format!("{}.{c}{d}", a * 10 + b),
        _ if d != 0 => format!("{a}.{b}.{c}.{d}"),
        _ if c != 0 => format!("{a}.{b}.{c}"),
        _ => format!("{a}.{b}"),
    }
}

/// Letters are the numbers from 10 on.
fn azureus_digit(byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'Z' => u32::from(byte - b'A') + 10,
        b'a'..=b'z' => u32::from(byte - b'a') + 36,
        _ => 0,
    }
}

/// `0-9A-Za-z.-` are 0 to 63.
fn shadow_digit(byte: u8) -> Option<String> {
    match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => Some(azureus_digit(byte).to_string()),
        b'.' => Some("62".to_owned()),
        _ => None,
    }
}

/// `4-20-8-` is 4.20.8: three numbers with a dash after each.
fn dashed_version(bytes: &[u8]) -> Option<String> {
    let mut parts = bytes.split(|byte| *byte == b'-');
    let numbers: Vec<&str> = parts.by_ref().take(3).map_while(number).collect();
    let closed = numbers.len() == 3 && parts.next().is_some();
    closed.then(|| numbers.join("."))
}

fn number(bytes: &[u8]) -> Option<&str> {
    let fits = (1..=3).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit);
    str::from_utf8(bytes).ok().filter(|_| fits)
}

fn printable(bytes: &[u8]) -> String {
    let character = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
    bytes.iter().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: &[u8; 20], expected: &str) {
        assert_eq!(client_name(&PeerId(*id)), expected);
    }

    #[test]
    fn azureus_style() {
        check(b"-TR3000-abcdefghijkl", "Transmission 3.00");
        check(b"-TR2940-abcdefghijkl", "Transmission 2.94");
        check(b"-TR4050-abcdefghijkl", "Transmission 4.0.5");
        check(b"-TR400B-abcdefghijkl", "Transmission 4.0.0");
        check(b"-qB4520-abcdefghijkl", "qBittorrent 4.5.2");
        check(b"-LT20B0-abcdefghijkl", "libtorrent 2.0.11");
        check(b"-lt0D80-abcdefghijkl", "libTorrent (rTorrent) 0.13.8");
        check(b"-AZ2060-abcdefghijkl", "Azureus 2.0.6");
        check(b"-UT355W-abcdefghijkl", "uTorrent 3.5.5.32");
        check(b"-BC0208-abcdefghijkl", "BitComet 2.08");
        check(b"-DE2110-abcdefghijkl", "Deluge 2.1.1");
        check(b"-FG0180\x01abcdefghijkl", "FlashGet 1.80");
        check(b"-YZ0100-abcdefghijkl", "YZ 0.1");
    }

    #[test]
    fn mainline_style() {
        check(b"M4-3-6--abcdefghijkl", "BitTorrent 4.3.6");
        check(b"M4-20-8-abcdefghijkl", "BitTorrent 4.20.8");
        check(b"Q1-10-0-abcdefghijkl", "Queen Bee 1.10.0");
        check(b"A2-1-36-0-abcdefghij", "aria2 1.36.0");
        check(b"-A2-1-36-0-abcdefghi", "aria2 1.36.0");
    }

    #[test]
    fn shadow_style() {
        check(b"S58B-----abcdefghijk", "Shadow's client 5.8.11");
        check(b"T03I-----abcdefghijk", "BitTornado 0.3.18");
        check(b"Q123.----abcdefghijk", "BTQueue 1.2.3.62");
    }

    #[test]
    fn unknown_styles_are_shown_printable() {
        check(&[0; 20], "....................");
        check(b"\x1b[31mhello\n\xff\xfe-------", ".[31mhello...-------");
        check(b"S58B-no padding here", "S58B-no.padding.here");
        check(b"-YZ0100abcdefghijklm", "-YZ0100abcdefghijklm");
        check(b"-\n\n0100-abcdefghijkl", "-..0100-abcdefghijkl");
        check(b"M4-3-abcdefghijklmno", "M4-3-abcdefghijklmno");
    }

    #[test]
    fn table_is_sorted_and_printable() {
        assert!(AZUREUS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(AZUREUS.iter().all(|(_, name, _)| name.is_ascii() && name.len() < 30));
    }
}
