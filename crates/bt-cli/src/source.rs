//! A torrent from where the user says it is: a file, a URL, standard input.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use metainfo::{MAX_METAINFO_LENGTH, Metainfo, MetainfoWarning};

use crate::cli::SourceArgs;
use crate::failure::{Class, Classify, Failure, chain};
use crate::output::Output;
use crate::trackers;

/// How long the server of a torrent may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The most warnings about one torrent that are shown.
const SHOWN_WARNINGS: usize = 5;

/// The torrent that the arguments name. Warns of what is odd about it.
///
/// # Errors
/// Disk if it can't be read, network if it can't be fetched, bad torrent if it is none.
pub(crate) fn load(source: &SourceArgs, output: &Output) -> Result<Metainfo, Failure> {
    load_from(&source.torrent, source.trust.ca_file.as_deref(), output)
}

/// As [`load`], for one of several torrents.
pub(crate) fn load_from(
    torrent: &OsStr,
    ca_file: Option<&Path>,
    output: &Output,
) -> Result<Metainfo, Failure> {
    let is_web = |text: &&str| has_prefix(text, "http://") || has_prefix(text, "https://");
    let url = torrent.to_str().filter(is_web);
    let (name, bytes) = if torrent == "-" {
        ("standard input".to_owned(), read_stdin()?)
    } else if let Some(url) = url {
        (tracker_http::shorten_url(url), fetch(url, ca_file)?)
    } else if let Some(other) = other_link(torrent) {
        let message = format!("expected a .torrent file or an HTTP(S) URL of one, got {other}");
        return Err(Failure::usage(message));
    } else {
        (torrent.display().to_string(), read_file(Path::new(torrent))?)
    };
    let metainfo = Metainfo::parse(bytes).map_err(|error| {
        Failure::new(Class::BadTorrent, format!("{name}: {}", chain(&error)))
            .with("torrent", name.as_str())
            .with("offset", error.offset)
            .with("path", error.path.to_string())
    })?;
    warn(&name, metainfo.warnings(), output);
    Ok(metainfo)
}

fn warn(name: &str, warnings: &[MetainfoWarning], output: &Output) {
    for warning in warnings.iter().take(SHOWN_WARNINGS) {
        output.warn(&format!("{name}: {warning}"));
    }
    if warnings.len() > SHOWN_WARNINGS {
        let more = warnings.len() - SHOWN_WARNINGS;
        output.warn(&format!("{name}: further warnings: {more}"));
    }
}

/// All of standard input, up to the size a torrent may have.
pub(crate) fn read_stdin() -> Result<Vec<u8>, Failure> {
    bounded(io::stdin().lock(), "standard input", 0)
}

/// All of a file, up to the size a torrent may have.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).or_fail(Class::Disk, format!("cannot open {name}"))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    bounded(file, &name, length)
}

/// All that `reader` has, which is probably `expected` bytes.
fn bounded(reader: impl Read, name: &str, expected: u64) -> Result<Vec<u8>, Failure> {
    let limit = MAX_METAINFO_LENGTH as u64;
    // Room for one byte more lets the end be seen without growing.
    let mut bytes = Vec::with_capacity(expected.min(limit) as usize + 1);
    let mut reader = reader.take(limit + 1);
    reader.read_to_end(&mut bytes).or_fail(Class::Disk, format!("cannot read {name}"))?;
    if bytes.len() as u64 > limit {
        let message = format!("{name}: expected a torrent of at most {} MiB", limit >> 20);
        return Err(Failure::new(Class::BadTorrent, message));
    }
    Ok(bytes)
}

fn fetch(url: &str, ca_file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let fetcher = trackers::fetcher(ca_file, FETCH_TIMEOUT)?;
    let bytes = fetcher.get_with_limit(url, MAX_METAINFO_LENGTH);
    bytes.or_fail(Class::Network, format!("cannot fetch {}", tracker_http::shorten_url(url)))
}

/// What `torrent` is if it is a link that leads to no torrent we could fetch.
fn other_link(torrent: &OsStr) -> Option<&'static str> {
    let text = torrent.to_str()?;
    if has_prefix(text, "magnet:") {
        return Some("a magnet link");
    }
    (text.contains("://") && !Path::new(text).exists()).then_some("a URL of another kind")
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
