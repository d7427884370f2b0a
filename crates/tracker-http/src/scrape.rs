//! Scrapes (BEP 48): where to ask, and what comes back.

use bencode::Dict;
use bt_types::{InfoHashV1, ScrapeEntry};

use crate::reply::{ReplyError, count, read_dictionary};
use crate::url::{UrlError, escape, parse, with_query};

/// The URL that scrapes the tracker with the announce URL `base` for `info_hashes`: the last
/// `announce` of the path becomes `scrape`, a query is kept. Without info-hashes many trackers send
/// all they have.
///
/// # Errors
/// `base` is no http or https URL; there is no `announce` in its path.
pub fn scrape_url(base: &str, info_hashes: &[InfoHashV1]) -> Result<String, UrlError> {
    let mut url = parse(base)?;
    let (before, after) = url.path().rsplit_once("announce").ok_or(UrlError::NoScrape)?;
    let path = format!("{before}scrape{after}");
    url.set_path(&path);
    let pairs: Vec<String> =
        info_hashes.iter().map(|hash| format!("info_hash={}", escape(hash.as_bytes()))).collect();
    Ok(with_query(url, &pairs.join("&")))
}

/// The torrents in `bytes`, in the tracker's order. A key that is no info-hash is passed over, a
/// number that is missing counts as 0.
///
/// # Errors
/// A refusal, no bencoded dictionary, no `files`.
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
