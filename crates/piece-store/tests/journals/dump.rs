//! Disks in memory as text. Journals are stored as they are, in files beside it.
//!
//! ```text
//! disk forgetful, boot 1, clock 37
//! folder /save
//! file /save/t/a, inode 7, modified 12: torrent 0+32768, zeros 17232
//! file /state/NAME.journal, inode 20, modified 0: stored journal
//! ```
//!
//! The bytes of a file are listed in parts:
//!
//! | part              | bytes                                            |
//! |-------------------|--------------------------------------------------|
//! | `torrent 0+32768` | 32,768 bytes of the torrent's data from offset 0 |
//! | `user 0+500`      | the same of [`USER_BYTES`]                       |
//! | `zeros 500`       | 500 zeros                                        |
//! | `text 0 1 4711\n` | these letters                                    |
//! | `hex 3720`        | these bytes                                      |
//! | `stored journal`  | those of the file `journal` in the same folder   |

use std::path::Path;
use std::sync::LazyLock;

use super::common::mem::MemDisk;
use super::common::noise;

/// The bytes of the user's own files, from the start.
static USER_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| noise(400_000, 77));

/// Makes the disk that `text` describes. No file is open, and no lock is held.
pub fn load(text: &str, torrent: &[u8], folder: &Path) -> MemDisk {
    let (first, lines) = text.split_once('\n').unwrap();
    let [kind, boots, clock] = split(first, ", ");
    let disk = match kind {
        "disk renumbering" => MemDisk::renumbering(),
        "disk forgetful" => MemDisk::forgetful(),
        _ => panic!("{first}"),
    };
    for line in lines.lines() {
        if let Some(path) = line.strip_prefix("folder ") {
            disk.put_folder(Path::new(path));
            continue;
        }
        let [file, parts] = split(line, ": ");
        let [path, inode, modified] = split(file, ", ");
        let path = Path::new(path.strip_prefix("file ").unwrap());
        let bytes = match parts.strip_prefix("stored ") {
            Some(name) => std::fs::read(folder.join(name)).unwrap(),
            None => bytes(parts, torrent),
        };
        disk.put_as(path, number(inode) as u64, number(modified), &bytes);
    }
    disk.set_counters(number(boots) as u64 - 1, number(clock));
    disk
}

fn split<'a, const N: usize>(line: &'a str, separator: &str) -> [&'a str; N] {
    let parts: Vec<&str> = line.split(separator).collect();
    parts.try_into().unwrap_or_else(|_| panic!("{line}"))
}

/// The number after the only space of `text`.
fn number(text: &str) -> i64 {
    let [_, number] = split(text, " ");
    number.parse().unwrap()
}

/// The bytes of the listed parts of a file.
pub fn bytes(parts: &str, torrent: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for part in parts.split(", ").filter(|part| *part != "nothing") {
        let (kind, what) = part.split_once(' ').unwrap();
        let range = || {
            let [start, length] = split(what, "+").map(|number| number.parse::<usize>().unwrap());
            start..start + length
        };
        match kind {
            "torrent" => content.extend(&torrent[range()]),
            "user" => content.extend(&USER_BYTES[range()]),
            "zeros" => content.resize(content.len() + what.parse::<usize>().unwrap(), 0),
            "text" => content.extend(what.replace("\\n", "\n").bytes()),
            "hex" => content.extend(unhex(what)),
            _ => panic!("{part}"),
        }
    }
    content
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}
