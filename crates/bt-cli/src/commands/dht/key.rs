//! The private keys with which items are signed: files with the seed of an Ed25519 key.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::failure::{Class, Classify, Failure};
use crate::output::{Output, hex};

/// Only the owner reads and writes a key.
const MODE: u32 = 0o600;
/// The permissions of others.
const OTHERS: u32 = 0o077;
/// More is read of no file.
const MAX_LENGTH: u64 = 256;

/// Returns the key in a file. Makes one if the file does not exist.
///
/// # Errors
/// Disk if the file cannot be read or created, usage if it has no key.
pub(super) fn read_or_create(path: &Path, output: &Output) -> Result<[u8; 32], Failure> {
    let name = path.display();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed =
                create(path).or_fail(Class::Disk, format!("cannot create the key {name}"))?;
            output.note(&format!("made a new key: {name}"));
            return Ok(seed);
        }
        opened => opened.or_fail(Class::Disk, format!("cannot open the key {name}"))?,
    };
    let (bytes, mode) = read(file).or_fail(Class::Disk, format!("cannot read the key {name}"))?;
    if mode & OTHERS != 0 {
        output.warn(&format!("others can use the key {name}: chmod 600 {name} prevents it"));
    }
    parse(&bytes).ok_or_else(|| {
        let expected = "expected a private key, 32 bytes as 64 hexadecimal digits";
        Failure::usage(format!("{name}: {expected}")).with("argument", "--key")
    })
}

fn create(path: &Path) -> io::Result<[u8; 32]> {
    let seed: [u8; 32] = rand::random();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(format!("{}\n", hex(&seed)).as_bytes())?;
    file.sync_all()?;
    Ok(seed)
}

fn read(file: File) -> io::Result<(Vec<u8>, u32)> {
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

/// Returns the seed in a file: digits, or the bytes themselves, as other programs keep them.
fn parse(bytes: &[u8]) -> Option<[u8; 32]> {
    if let Ok(seed) = bytes.try_into() {
        return Some(seed);
    }
    unhex(str::from_utf8(bytes).ok()?.trim())
}

/// Returns the `N` bytes that `text` stands for in hexadecimal digits.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_digits_or_bytes() {
        let digits = "0aF1".repeat(16);
        let seed = [0x0a, 0xf1].repeat(16);
        for text in [digits.clone(), format!("{digits}\n"), format!(" {digits}\r\n")] {
            assert_eq!(parse(text.as_bytes()).map(Vec::from), Some(seed.clone()), "{text:?}");
        }
        assert_eq!(parse(&seed).map(Vec::from), Some(seed));
        for wrong in ["", "00", &digits[1..], &"+f".repeat(32), &"0".repeat(66), &"é".repeat(32)] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
