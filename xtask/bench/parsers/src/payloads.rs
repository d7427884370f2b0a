//! Torrents that are generated from a few numbers.

use std::io::Write;

/// The length of a torrent with 100,000 files that libtorrent parses in 7.7 s.
const BIG: usize = 18_800_000;
/// The number of its files.
const MANY: usize = 100_000;

/// A `.torrent` file.
pub struct Payload {
    /// Its name in the tables.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Returns the torrents, the most important one first.
///
/// - `many-files`: 18.8 MB, 100,000 files in folders of 100, 57 bytes each, in order; the rest,
///   13 MB, is piece hashes, as in a torrent with small pieces.
/// - `long-paths`: the same size, 155 bytes per file: four levels of folders with realistic names,
///   not in order, and 3 MB of piece hashes.
/// - `pieces`: the same size, nearly all of it piece hashes, three files.
/// - `small`: 20 files and 120 pieces, 4 KB, like most torrents.
pub fn payloads() -> Vec<Payload> {
    let short =
        |index: usize| vec![format!("folder{:04}", index / 100), format!("file{index:06}.bin")];
    let long = |index: usize| {
        vec![
            format!("Photographs of the year {}", 1990 + index / 5000),
            format!("{:02} - somewhere at the sea", index / 1000 % 12),
            format!("camera {}, original size", index % 4),
            format!("IMG_{index:06} (edited, second version).jpeg"),
        ]
    };
    let few = |index: usize| vec![format!("disc {index}.img")];
    let payload = |name, bytes| Payload { name, bytes };
    vec![
        payload("many-files", torrent(MANY, short, Pieces::Fill(BIG))),
        payload("long-paths", torrent(MANY, long, Pieces::Fill(BIG))),
        payload("pieces", torrent(3, few, Pieces::Fill(BIG))),
        payload("small", torrent(20, short, Pieces::Count(120))),
    ]
}

/// How many piece hashes a torrent has.
enum Pieces {
    /// As many as make the torrent about this long.
    Fill(usize),
    Count(usize),
}

fn torrent(files: usize, path: impl Fn(usize) -> Vec<String>, pieces: Pieces) -> Vec<u8> {
    let mut list = Vec::new();
    let mut total = 0;
    for index in 0..files {
        let length = 1 + mixed(index as u64) % 2_000_000;
        total += length;
        list.extend(format!("d6:lengthi{length}e4:pathl").into_bytes());
        for element in path(index) {
            list.extend(format!("{}:{element}", element.len()).into_bytes());
        }
        list.extend(b"ee");
    }
    let count = match pieces {
        Pieces::Fill(length) => length.saturating_sub(list.len() + 200) / 20,
        Pieces::Count(count) => count,
    } as u64;
    // The last file has the length that gives that many pieces.
    let piece_length = total.div_ceil(count).next_multiple_of(16 * 1024);
    with_last_length(&mut list, piece_length * count - total);
    whole(&list, piece_length, count)
}

/// Appends one more file, which fills the last piece.
fn with_last_length(list: &mut Vec<u8>, length: u64) {
    list.extend(format!("d6:lengthi{length}e4:pathl9:last fileee").into_bytes());
}

fn whole(list: &[u8], piece_length: u64, count: u64) -> Vec<u8> {
    let mut torrent = Vec::with_capacity(list.len() + count as usize * 20 + 500);
    torrent.extend(b"d8:announce32:http://tracker.example/announce/13:creation datei1700000000e");
    torrent.extend(b"4:infod5:filesl");
    torrent.extend(list);
    write!(torrent, "e4:name7:example12:piece lengthi{piece_length}e6:pieces{}:", count * 20)
        .expect("memory takes everything");
    for word in 0..count * 5 {
        torrent.extend((mixed(word) as u32).to_be_bytes());
    }
    torrent.extend(b"ee");
    torrent
}

/// Returns a pseudo-random number (splitmix64).
fn mixed(index: u64) -> u64 {
    let mut word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
