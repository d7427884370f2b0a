//! Prints the SHA-1 of files like `sha1sum`, but hashes all files in parallel lanes.
//!
//! `cargo run -p piece-hash --example sha1sum -- FILE...`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

use std::fs::File;
use std::io::Read;

use piece_hash::Lanes;

const STRIP_LENGTH: usize = 256 * 1024;

fn main() -> std::io::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let mut files = names.iter().map(File::open).collect::<Result<Vec<File>, _>>()?;
    let mut buffers = vec![vec![0; STRIP_LENGTH]; files.len()];
    let mut lanes = Lanes::new(files.len());
    loop {
        let mut strips = Vec::with_capacity(files.len());
        for (file, buffer) in files.iter_mut().zip(&mut buffers) {
            let length = file.read(buffer)?;
            strips.push(&buffer[..length]);
        }
        if strips.iter().all(|strip| strip.is_empty()) {
            break;
        }
        lanes.update(&strips);
    }
    for (digest, name) in lanes.finish().iter().zip(&names) {
        println!("{digest}  {name}");
    }
    Ok(())
}
