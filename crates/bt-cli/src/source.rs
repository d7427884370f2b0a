//! Reads torrents from files, URLs and standard input.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metainfo::{Appearance, MAX_METAINFO_LENGTH, Metainfo, MetainfoError, MetainfoWarning};

use crate::cli::SourceArgs;
use crate::failure::{Class, Classify, Failure, chain};
use crate::output::Output;
use crate::trackers;

/// How long the server of a .torrent file may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The most warnings about one torrent that are shown.
const SHOWN_WARNINGS: usize = 5;

/// Reads the torrent that the arguments name. Shows its warnings.
///
/// # Errors
/// Disk if it cannot be read, network if it cannot be fetched, bad torrent if it is not one.
pub(crate) fn load(source: &SourceArgs, output: &Output) -> Result<Metainfo, Failure> {
    load_from(&source.torrent, source.trust.ca_file.as_deref(), output)
}

fn load_from(
    torrent: &OsStr,
    ca_file: Option<&Path>,
    output: &Output,
) -> Result<Metainfo, Failure> {
    let name = shown(torrent);
    let bytes = if torrent == "-" {
        read_stdin()?
    } else if let Some(url) = web_url(torrent) {
        fetch(url, ca_file)?
    } else if let Some(why) = why_not_fetched(torrent) {
        return Err(Failure::usage(why));
    } else {
        read_file(Path::new(torrent))?
    };
    // Before `parse` takes the bytes. Only an error needs it.
    let appearance = Appearance::of(&bytes);
    let metainfo = Metainfo::parse(bytes).map_err(|error| {
        let why = why_no_torrent(&error, appearance);
        Failure::new(Class::BadTorrent, format!("{name}: {why}"))
            .with("torrent", name.as_str())
            .with("offset", error.offset)
            .with("path", error.path.to_string())
    })?;
    warn(&name, metainfo.warnings(), output);
    Ok(metainfo)
}

/// Returns `torrent` as messages name it. Hides the passkeys of a link.
pub(crate) fn shown(torrent: &OsStr) -> String {
    if torrent == "-" {
        return "standard input".to_owned();
    }
    let text = torrent.display().to_string();
    if has_prefix(&text, "magnet:") {
        // Its trackers may have passkeys.
        return "a magnet link".to_owned();
    }
    if is_link(torrent) { tracker_http::shorten_url(&text) } else { text }
}

/// Whether `argument` is a URL or a magnet link, not a path.
pub(crate) fn is_link(argument: &OsStr) -> bool {
    web_url(argument).is_some() || why_not_fetched(argument).is_some()
}

fn web_url(argument: &OsStr) -> Option<&str> {
    let is_web = |text: &&str| has_prefix(text, "http://") || has_prefix(text, "https://");
    argument.to_str().filter(is_web)
}

/// Describes why bytes are not a usable torrent: first what they are, then where they are wrong.
fn why_no_torrent(error: &MetainfoError, appearance: Option<Appearance>) -> String {
    use bencode::DecodeErrorKind as Bencode;
    use metainfo::MetainfoErrorKind as Kind;
    match (&error.kind, appearance) {
        (Kind::WrongKind { got, .. }, _) if error.path.is_root() => {
            format!("not a torrent: bencode, but not a dictionary (it is {got})")
        }
        (_, Some(Appearance::Empty)) => {
            format!("not a torrent: looks like {}", Appearance::Empty)
        }
        (Kind::Bencode(Bencode::UnexpectedByte { got, .. }), Some(looks)) => {
            let (offset, got) = (error.offset, got.escape_ascii());
            format!("not a torrent: looks like {looks} (byte {offset} is '{got}')")
        }
        (_, Some(looks)) => format!("not a torrent: looks like {looks}: {}", chain(error)),
        (Kind::Bencode(Bencode::UnexpectedEnd { .. } | Bencode::LengthPastEnd { .. }), None) => {
            format!("the torrent is cut off: {}", chain(error))
        }
        // A torrent, but one that this program does not support.
        (Kind::OnlyV2 | Kind::Version { .. }, None) => chain(error),
        (_, None) if error.path.is_root() => format!("not a torrent: {}", chain(error)),
        (_, None) => format!("not a valid torrent: {}", chain(error)),
    }
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

/// Loads the torrents, each once. A torrent that is named twice gets the trackers of both files,
/// unless it is private.
pub(crate) fn load_all(
    torrents: &[OsString],
    ca_file: Option<&Path>,
    output: &Output,
) -> Result<Vec<Arc<Metainfo>>, Failure> {
    let mut loaded: Vec<(&OsString, Metainfo)> = Vec::new();
    for torrent in torrents {
        let metainfo = load_from(torrent, ca_file, output)?;
        let hash = metainfo.info_hash();
        match loaded.iter_mut().find(|(_, earlier)| earlier.info_hash() == hash) {
            None => loaded.push((torrent, metainfo)),
            Some((earlier_name, earlier)) => {
                let (first, second) = (shown(earlier_name), shown(torrent));
                let same = format!("{first} and {second} are the same torrent");
                merge(earlier, &metainfo, &same, output);
            }
        }
    }
    Ok(loaded.into_iter().map(|(_, metainfo)| Arc::new(metainfo)).collect())
}

/// Adds the trackers of `other` to `torrent`. A private torrent uses the trackers of one file only
/// (BEP 27).
fn merge(torrent: &mut Metainfo, other: &Metainfo, same: &str, output: &Output) {
    if torrent.info().private() {
        output.warn(&format!(
            "{same}: the second is skipped with its trackers, because the torrent is private"
        ));
        return;
    }
    output.note(&format!("{same}: it is taken once, with the trackers of both"));
    torrent.add_trackers(other.trackers());
}

/// Reads standard input, up to the size that a torrent may have.
pub(crate) fn read_stdin() -> Result<Vec<u8>, Failure> {
    read_bounded(io::stdin().lock(), "standard input", 0)
}

/// Reads a file, up to the size that a torrent may have.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).or_fail(Class::Disk, format!("cannot open {name}"))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    read_bounded(file, &name, length)
}

/// Reads all of `input`, which probably has `expected` bytes.
fn read_bounded(input: impl Read, name: &str, expected: u64) -> Result<Vec<u8>, Failure> {
    let limit = MAX_METAINFO_LENGTH as u64;
    // One byte more, so that reading the end of the input does not grow it.
    let mut bytes = Vec::with_capacity(expected.min(limit) as usize + 1);
    let mut input = input.take(limit + 1);
    input.read_to_end(&mut bytes).or_fail(Class::Disk, format!("cannot read {name}"))?;
    if bytes.len() as u64 > limit {
        let message = format!("{name}: a torrent has at most {} MiB", limit >> 20);
        return Err(Failure::new(Class::BadTorrent, message));
    }
    Ok(bytes)
}

fn fetch(url: &str, ca_file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let fetcher = trackers::fetcher(ca_file, FETCH_TIMEOUT)?;
    let bytes = fetcher.get_with_limit(url, MAX_METAINFO_LENGTH);
    bytes.or_fail(Class::Network, format!("cannot fetch {}", tracker_http::shorten_url(url)))
}

/// Returns an error text if `torrent` is a link that is neither `http://` nor `https://`.
pub(crate) fn why_not_fetched(torrent: &OsStr) -> Option<String> {
    let text = torrent.to_str()?;
    if has_prefix(text, "magnet:") {
        let advice = "magnet links are not supported yet; give the .torrent file or its URL";
        return Some(advice.to_owned());
    }
    let (scheme, _) = text.split_once("://")?;
    let advice = "expected a .torrent file or an http:// or https:// URL of one, got a URL of";
    (!Path::new(text).exists()).then(|| format!("{advice} {scheme}://"))
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
