//! `dht put`: stores an item.

use std::path::Path;
use std::time::Instant;

use bencode::Owned;
use serde_json::{Value, json};
use session::node::{Item, ItemError, Stats};

use super::{key, table};
use crate::cli::DhtPutArgs;
use crate::dht_asker::DhtAsker;
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, Style, clean, count, hex};
use crate::source::{read_file, read_stdin};

pub(super) fn run(arguments: &DhtPutArgs, output: &Output) -> CommandResult {
    let value = value(arguments)?;
    let immutable = Item::immutable(value.clone()).map_err(|error| unfit(&error))?;
    let mut asker = DhtAsker::start(&arguments.ask, Vec::new())?;
    let end = Instant::now() + arguments.ask.timeout;
    let item = match &arguments.key {
        None => immutable,
        Some(path) => {
            let seed = key::read_or_create(path, output)?;
            signed(&mut asker, &seed, value, arguments)?
        }
    };
    let time_left = end.saturating_duration_since(Instant::now());
    let stats = asker.node.put(item.clone(), arguments.cas, time_left);
    let stats = check(asker.check(stats)?)?;
    if stats.conflicts > 0 {
        let nodes = count(stats.conflicts, "node has", "nodes have");
        output.warn(&format!("{nodes} another version, and did not store this one"));
    }
    output.result(|| object(&item, &stats), |style| text(&item, &stats, style))
}

/// Returns the value, bencoded.
fn value(arguments: &DhtPutArgs) -> Result<Vec<u8>, Failure> {
    let bytes = match (&arguments.text, &arguments.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) if path.as_os_str() == "-" => read_stdin()?,
        (None, path) => read_file(path.as_deref().unwrap_or(Path::new("")))?,
    };
    Ok(if arguments.bencode { bytes } else { bencode::encode(&Owned::Bytes(bytes)) })
}

/// Returns the signed item. If no version is given, it is the one after the newest that is found, or
/// the same if the value is.
fn signed(
    asker: &mut DhtAsker,
    seed: &[u8; 32],
    value: Vec<u8>,
    arguments: &DhtPutArgs,
) -> Result<Item, Failure> {
    let salt = arguments.salt.as_deref().unwrap_or_default().as_bytes();
    // The salt is checked before anybody is asked.
    let first = Item::sign(seed, salt.to_vec(), 1, value.clone()).map_err(|error| unfit(&error))?;
    let seq = match arguments.seq {
        Some(seq) => seq,
        None => {
            let answer = asker.node.get(first.target(), salt, arguments.ask.timeout);
            asker.check(answer.stats)?;
            match answer.found {
                None => return Ok(first),
                Some(found) => next_seq(&found, &value)?,
            }
        }
    };
    Item::sign(seed, salt.to_vec(), seq, value).map_err(|error| unfit(&error))
}

fn next_seq(found: &Item, value: &[u8]) -> Result<i64, Failure> {
    let seq = found.seq().unwrap_or(0);
    if found.value() == value {
        return Ok(seq);
    }
    seq.checked_add(1).ok_or_else(|| {
        Failure::usage(format!(
            "the item has the last version there can be, {seq}: use another salt"
        ))
    })
}

/// Returns `stats` if a node stored the item.
fn check(stats: Stats) -> Result<Stats, Failure> {
    if stats.stored > 0 {
        return Ok(stats);
    }
    let message = match stats.conflicts {
        0 => {
            format!("no node stored the item: {} answered", count(stats.answered, "node", "nodes"))
        }
        others => format!(
            "no node stored the item: {} another version; see it with bt-cli dht get, and choose a \
             newer --seq or the right --cas",
            count(others, "node has", "nodes have")
        ),
    };
    Err(Failure::new(Class::Network, message))
}

fn unfit(error: &ItemError) -> Failure {
    let argument = if matches!(error, ItemError::SaltTooLong(_)) { "--salt" } else { "[TEXT]" };
    Failure::usage(error.to_string()).with("argument", argument)
}

fn object(item: &Item, stats: &Stats) -> Value {
    let owner = owner(item);
    json!({
        "target": hex(&item.target().0),
        "stored": stats.stored,
        "seq": item.seq(),
        "key": owner.as_ref().map(|(key, _)| key),
        "salt": owner.as_ref().map(|(_, salt)| salt).filter(|salt| !salt.is_empty()),
    })
}

fn text(item: &Item, stats: &Stats, style: Style) -> String {
    let mut rows = vec![
        ("target", hex(&item.target().0)),
        ("stored", format!("at {}", count(stats.stored, "node", "nodes"))),
    ];
    rows.extend(item.seq().map(|seq| ("seq", seq.to_string())));
    if let Some((key, salt)) = owner(item) {
        rows.push(("key", key));
        rows.extend((!salt.is_empty()).then(|| ("salt", clean(&salt))));
    }
    table(&rows, style)
}

/// Returns the public key and the salt of a mutable item.
fn owner(item: &Item) -> Option<(String, String)> {
    match item {
        Item::Mutable { key, salt, .. } => {
            Some((hex(key), String::from_utf8_lossy(salt).into_owned()))
        }
        Item::Immutable { .. } => None,
    }
}
