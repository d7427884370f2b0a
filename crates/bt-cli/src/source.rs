//! Finds the torrents that the command line names: by file, URL, magnet link, info-hash, or on
//! standard input.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bt_types::InfoHashes;
use metainfo::{Appearance, MAX_METAINFO_LENGTH, Magnet, Metainfo, MetainfoError, MetainfoWarning};
use session::Description;

use crate::cli::{SourceArgs, StateArgs};
use crate::failure::{Class, Classify, Failure, chain};
use crate::output::Output;
use crate::saved::SavedTorrents;
use crate::trackers;
use crate::transfer::state_dir;

/// How long the server of a .torrent file may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The most warnings about one torrent that are shown.
const SHOWN_WARNINGS: usize = 5;

/// A torrent that the command line names.
#[derive(Debug, Clone)]
pub(crate) struct NamedTorrent {
    pub(crate) description: Description,
    /// The link, if it was named by one. Its trackers are in the description, too.
    pub(crate) link: Option<Arc<Magnet>>,
    /// The trackers that only further links of the torrent name.
    pub(crate) further_trackers: Vec<String>,
}

impl NamedTorrent {
    /// Returns its trackers, each once.
    pub(crate) fn trackers(&self) -> Vec<String> {
        match &self.description {
            Description::Metainfo(metainfo) => metainfo.trackers().concat(),
            Description::Link(link) => link.trackers.clone(),
        }
    }

    /// Whether only its trackers may name peers (BEP 27). False as long as that is not known.
    pub(crate) fn is_private(&self) -> bool {
        self.description.metainfo().is_some_and(|metainfo| metainfo.info().private())
    }

    /// Returns its size in bytes, if that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        match &self.description {
            Description::Metainfo(metainfo) => Some(metainfo.info().geometry().total()),
            Description::Link(link) => link.length,
        }
    }
}

/// Where torrents are looked for.
pub(crate) struct Sources<'a> {
    /// Certificates for HTTPS.
    pub(crate) ca_file: Option<&'a Path>,
    pub(crate) saved: SavedTorrents,
    pub(crate) output: &'a Output,
}

impl<'a> Sources<'a> {
    /// For a command that takes one torrent, and uses the torrents that are saved by default.
    pub(crate) fn of(source: &'a SourceArgs, output: &'a Output) -> Self {
        let saved = SavedTorrents::new(state_dir(&StateArgs::default()).as_deref());
        Self { ca_file: source.trust.ca_file.as_deref(), saved, output }
    }

    /// Returns a torrent. Shows its warnings.
    ///
    /// # Errors
    /// Disk if it cannot be read, network if it cannot be fetched, bad torrent if it is not one,
    /// usage if it is a wrong link.
    pub(crate) fn describe(&self, torrent: &OsStr) -> Result<NamedTorrent, Failure> {
        let Some(link) = link(torrent)? else {
            let metainfo = load_file(torrent, self.ca_file, self.output)?;
            return Ok(NamedTorrent {
                description: Description::Metainfo(Arc::new(metainfo)),
                link: None,
                further_trackers: Vec::new(),
            });
        };
        let description = match self.saved.find(link.info_hashes.wire()) {
            Some(metainfo) => Description::Metainfo(Arc::new(with_trackers(metainfo, &link))),
            None => Description::Link(Arc::clone(&link)),
        };
        Ok(NamedTorrent { description, link: Some(link), further_trackers: Vec::new() })
    }

    /// Returns the metainfo of a torrent. Shows its warnings.
    ///
    /// # Errors
    /// As [`Self::describe`], and usage if it is a link whose metainfo is not saved.
    pub(crate) fn load(&self, torrent: &OsStr) -> Result<Arc<Metainfo>, Failure> {
        metainfo_of(self.describe(torrent)?)
    }

    /// Returns the torrents, each once. One that is named twice gets the trackers and hints of
    /// both, unless it is private.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub(crate) fn describe_all(&self, torrents: &[OsString]) -> Result<Vec<NamedTorrent>, Failure> {
        let mut named: Vec<(&OsString, NamedTorrent)> = Vec::new();
        for name in torrents {
            let torrent = self.describe(name)?;
            let hash = torrent.description.info_hash();
            match named.iter_mut().find(|(_, earlier)| earlier.description.info_hash() == hash) {
                None => named.push((name, torrent)),
                Some((earlier_name, earlier)) => {
                    let (first, second) = (shown(earlier_name), shown(name));
                    let same = format!("{first} and {second} are the same torrent");
                    merge(earlier, torrent, &same, self.output);
                }
            }
        }
        Ok(named.into_iter().map(|(_, torrent)| torrent).collect())
    }

    /// Returns the metainfo of the torrents, each once.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_all(&self, torrents: &[OsString]) -> Result<Vec<Arc<Metainfo>>, Failure> {
        self.describe_all(torrents)?.into_iter().map(metainfo_of).collect()
    }
}

fn metainfo_of(torrent: NamedTorrent) -> Result<Arc<Metainfo>, Failure> {
    match torrent.description {
        Description::Metainfo(metainfo) => Ok(metainfo),
        Description::Link(link) => {
            let hash = link.info_hashes.wire();
            let advice = "get it with bt-cli info LINK -o FILE, and give that file";
            let message = format!("the torrent of the link {hash} is not here: {advice}");
            Err(Failure::usage(message).with("info_hash", hash.to_string()))
        }
    }
}

/// Returns the link that `torrent` is: a magnet link, or a bare info-hash unless a file has that
/// name.
///
/// # Errors
/// Usage if it is a magnet link that names no torrent that this program can transfer.
pub(crate) fn link(torrent: &OsStr) -> Result<Option<Arc<Magnet>>, Failure> {
    let Some(text) = torrent.to_str() else { return Ok(None) };
    if !is_magnet(torrent) {
        let bare = Magnet::from_bare_hash(text).filter(|_| !Path::new(text).exists());
        return Ok(bare.map(Arc::new));
    }
    let magnet: Magnet =
        text.parse().map_err(|error| Failure::usage(format!("wrong magnet link: {error}")))?;
    match magnet.info_hashes {
        InfoHashes::V1(_) | InfoHashes::Hybrid(..) => Ok(Some(Arc::new(magnet))),
        InfoHashes::V2(_) => {
            let message = "the magnet link is of a v2 torrent: they are not supported yet";
            Err(Failure::usage(message))
        }
    }
}

/// Returns the saved torrent of a link with the link's trackers. A private torrent has only those,
/// unless there are none.
fn with_trackers(mut metainfo: Metainfo, link: &Magnet) -> Metainfo {
    let tiers = link.tracker_tiers();
    if metainfo.info().private() && !tiers.is_empty() {
        let again = Metainfo::from_info(metainfo.raw_info(), &tiers, metainfo.web_seeds());
        return again.unwrap_or(metainfo);
    }
    metainfo.add_trackers(&tiers);
    metainfo
}

fn load_file(
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
    is_magnet(argument) || web_url(argument).is_some() || why_not_fetched(argument).is_some()
}

/// Whether `argument` is a magnet link, perhaps a wrong one.
pub(crate) fn is_magnet(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|text| has_prefix(text, "magnet:"))
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

/// Adds the trackers and hints of `other` to `torrent`. A private torrent uses the trackers of one
/// file only (BEP 27).
fn merge(torrent: &mut NamedTorrent, other: NamedTorrent, same: &str, output: &Output) {
    let known = [&torrent.description, &other.description];
    if known.into_iter().filter_map(Description::metainfo).any(|it| it.info().private()) {
        output.warn(&format!(
            "{same}: the second is skipped with its trackers, because the torrent is private"
        ));
        if torrent.description.metainfo().is_none() {
            torrent.description = other.description;
        }
        return;
    }
    output.note(&format!("{same}: it is taken once, with the trackers of both"));
    let first = std::mem::replace(&mut torrent.description, other.description.clone());
    torrent.link = match (torrent.link.take(), other.link) {
        (Some(first), Some(second)) => Some(Arc::new(merged(&first, &second))),
        (first, second) => first.or(second),
    };
    torrent.description = match (first, other.description) {
        (Description::Metainfo(first), second) => {
            let mut metainfo = Arc::unwrap_or_clone(first);
            metainfo.add_trackers(&tiers(&second));
            Description::Metainfo(Arc::new(metainfo))
        }
        (first @ Description::Link(_), Description::Metainfo(second)) => {
            let mut metainfo = Arc::unwrap_or_clone(second);
            metainfo.add_trackers(&tiers(&first));
            Description::Metainfo(Arc::new(metainfo))
        }
        (Description::Link(first), Description::Link(second)) => {
            // The first that names trackers is the torrent's source, should it be private.
            if !first.trackers.is_empty() {
                let new = second.trackers.iter().filter(|url| !first.trackers.contains(url));
                torrent.further_trackers.extend(new.cloned());
            }
            Description::Link(Arc::new(merged(&first, &second)))
        }
    };
}

fn tiers(description: &Description) -> Vec<Vec<String>> {
    match description {
        Description::Metainfo(metainfo) => metainfo.trackers().to_vec(),
        Description::Link(link) => link.tracker_tiers(),
    }
}

/// Returns the first link with the trackers, web seeds, peers and files of both.
fn merged(first: &Magnet, second: &Magnet) -> Magnet {
    let join = |first: &[String], second: &[String]| {
        let new = second.iter().filter(|text| !first.contains(text));
        first.iter().chain(new).cloned().collect()
    };
    // A link that selects no files means all of them.
    let is_whole = first.select_only.is_empty() || second.select_only.is_empty();
    let both = [first.select_only.as_slice(), &second.select_only].concat();
    Magnet {
        trackers: join(&first.trackers, &second.trackers),
        web_seeds: join(&first.web_seeds, &second.web_seeds),
        peers: join(&first.peers, &second.peers),
        dht_nodes: join(&first.dht_nodes, &second.dht_nodes),
        select_only: if is_whole { Vec::new() } else { both },
        name: first.name.clone().or_else(|| second.name.clone()),
        length: first.length.or(second.length),
        info_hashes: first.info_hashes,
    }
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
    let (scheme, _) = text.split_once("://")?;
    let advice = "expected a .torrent file or an http:// or https:// URL of one, got a URL of";
    (!Path::new(text).exists()).then(|| format!("{advice} {scheme}://"))
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
