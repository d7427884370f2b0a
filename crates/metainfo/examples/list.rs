//! Lists what a torrent contains: its info-hash, its magnet link, its trackers, its files.
//!
//! ```text
//! cargo run -p metainfo --example list -- FILE.torrent
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

use std::io::{self, Write};
use std::process::ExitCode;

use metainfo::Metainfo;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: list FILE.torrent");
        return ExitCode::from(2);
    };
    let bytes = std::fs::read(&path);
    match bytes.and_then(|bytes| Metainfo::parse(bytes).map_err(io::Error::other)) {
        Ok(metainfo) => {
            // A pipe closed by its reader, such as `head`, is not a failure.
            let _ = list(&metainfo, &mut io::BufWriter::new(io::stdout().lock()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn list(metainfo: &Metainfo, output: &mut impl Write) -> io::Result<()> {
    let info = metainfo.info();
    let geometry = info.geometry();
    writeln!(output, "name       {}", printable(info.name()))?;
    writeln!(output, "info-hash  {}", metainfo.info_hash())?;
    writeln!(output, "magnet     {}", metainfo.magnet())?;
    let (total, count, length) =
        (geometry.total(), geometry.piece_count(), geometry.piece_length());
    writeln!(output, "size       {total} bytes in {count} pieces of {length}")?;
    for (tier, urls) in metainfo.trackers().iter().enumerate() {
        writeln!(output, "tier {tier:<5} {}", printable(&urls.join(" ")))?;
    }
    for file in info.files().iter().filter(|file| !file.is_pad()) {
        writeln!(output, "{:>15}  {}", file.length(), file.full_path())?;
    }
    output.flush()
}

/// Removes control characters, which could disturb a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}
