//! Prints a bencoded file (a torrent, a tracker's reply, resume data) in a readable form.
//!
//! ```text
//! cargo run -p bencode --example print -- FILE
//! ```
//!
//! Without FILE it reads standard input. Of a byte string that is not text it prints the length and
//! the first bytes.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

use std::io::{self, Write};
use std::process::ExitCode;

use bencode::{Kind, Value};

/// How many bytes of a binary string are shown.
const SHOWN: usize = 16;

fn main() -> ExitCode {
    let result = read_input().and_then(|bytes| {
        let document = bencode::parse(&bytes).map_err(io::Error::other)?;
        let mut output = io::BufWriter::new(io::stdout().lock());
        print(&mut output, document.root(), 0)?;
        writeln!(output)?;
        if let Some(offset) = document.unsorted() {
            writeln!(output, "(the key at byte {offset} is out of order)")?;
        }
        output.flush()
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn read_input() -> io::Result<Vec<u8>> {
    std::fs::read(std::env::args_os().nth(1).unwrap_or_else(|| "/dev/stdin".into()))
}

fn print(output: &mut dyn Write, value: Value<'_, '_>, depth: usize) -> io::Result<()> {
    match value.kind() {
        Kind::Integer => write!(output, "{value:?}"),
        Kind::Bytes => print_bytes(output, value.as_bytes().unwrap_or_default()),
        Kind::List => {
            writeln!(output, "[")?;
            for element in value.as_list().into_iter().flatten() {
                indent(output, depth + 1)?;
                print(output, element, depth + 1)?;
                writeln!(output)?;
            }
            indent(output, depth)?;
            write!(output, "]")
        }
        Kind::Dict => {
            writeln!(output, "{{")?;
            for (key, child) in value.as_dict().into_iter().flatten() {
                indent(output, depth + 1)?;
                print_bytes(output, key)?;
                write!(output, ": ")?;
                print(output, child, depth + 1)?;
                writeln!(output)?;
            }
            indent(output, depth)?;
            write!(output, "}}")
        }
    }
}

fn indent(output: &mut dyn Write, depth: usize) -> io::Result<()> {
    write!(output, "{:width$}", "", width = 2 * depth)
}

fn print_bytes(output: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    match str::from_utf8(bytes) {
        Ok(text) => write!(output, "{text:?}"),
        Err(_) => {
            let shown = &bytes[..bytes.len().min(SHOWN)];
            let more = if shown.len() < bytes.len() { ".." } else { "" };
            write!(output, "<{} bytes: ", bytes.len())?;
            shown.iter().try_for_each(|byte| write!(output, "{byte:02x}"))?;
            write!(output, "{more}>")
        }
    }
}
