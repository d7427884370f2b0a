//! The URL of a scrape and its reply (BEP 48).

use bencode::Dict;
use bt_types::{InfoHashV1, ScrapeEntry};

use crate::reply::{ReplyError, count, read_dictionary};
use crate::url::{UrlError, escape, parse, with_query};

/// Returns the URL that scrapes the tracker with the announce URL `base` for `info_hashes`. The
/// last `announce` in the path becomes `scrape`; the query stays. Without info-hashes many trackers
/// send all their torrents.
///
/// # Errors
/// `base` is not an http or https URL, or has no `announce` in its path.
pub fn scrape_url(base: &str, info_hashes: &[InfoHashV1]) -> Result<String, UrlError> {
    let mut url = parse(base)?;
    let (before, after) = url.path().rsplit_once("announce").ok_or(UrlError::NoScrape)?;
    let path = format!("{before}scrape{after}");
    url.set_path(&path);
    let pairs: Vec<String> =
        info_hashes.iter().map(|hash| format!("info_hash={}", escape(hash.as_bytes()))).collect();
    Ok(with_query(url, &pairs.join("&")))
}

/// Parses the reply to a scrape. Returns the torrents in the tracker's order. Skips keys that are
/// not info-hashes; a missing number counts as 0.
///
/// # Errors
/// The tracker refused, or `bytes` are not a bencoded dictionary with `files`.
pub fn parse_scrape(bytes: &[u8]) -> Result<Vec<ScrapeEntry>, ReplyError> {
    read_dictionary(bytes, |root| {
        let files = root.get("files").ok_or(ReplyError::MissingKey { key: "files" })?;
        let files = files
            .as_dict()
            .ok_or(ReplyError::WrongKind { key: "files", expected: "a dictionary" })?;
        let entry = |info_hash: &[u8], torrent: Option<Dict<'_, '_>>| {
            let (info_hash, torrent) = (InfoHashV1::from_slice(info_hash)?, torrent?);
            let number = |key| count(torrent, key).unwrap_or_default();
            Some(ScrapeEntry {
                info_hash,
                seeders: number("complete"),
                leechers: number("incomplete"),
                completed: number("downloaded"),
            })
        };
        Ok(files.iter().filter_map(|(key, value)| entry(key, value.as_dict())).collect())
    })
}

#[cfg(test)]
mod tests;
