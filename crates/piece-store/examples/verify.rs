//! Verifies a folder against a torrent, on all cores.
//!
//! `cargo run --release -p piece-store --example verify -- FILE.torrent DIR`

#![allow(clippy::disallowed_methods)] // A program of its own: it reads files itself.

use std::path::Path;
use std::sync::Arc;

use metainfo::Metainfo;
use piece_store::{Resources, check};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [torrent, folder] = &arguments[..] else {
        return Err(
            "usage: verify FILE.torrent DIR (the folder that contains the torrent's name)".into()
        );
    };
    let metainfo = Arc::new(Metainfo::parse(std::fs::read(torrent)?)?);
    let progress = |done: u64, total: u64| eprint!("\r{:3} %", done * 100 / total.max(1));
    let report =
        check::verify_folder(&metainfo, Path::new(folder), None, Resources::default(), &progress)?;
    eprintln!();
    for file in &report.files {
        let state = if file.ok { "good" } else { "bad " };
        println!("{state} {}", file.path.display());
    }
    println!("{} of {} pieces are good", report.good.count(), report.good.pieces());
    Ok(())
}
