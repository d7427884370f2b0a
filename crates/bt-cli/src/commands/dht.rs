//! `dht`: asks the DHT, or takes part in it.

mod get;
mod key;
mod node;
mod peers;
mod ping;
mod put;
mod scrape;

use std::ffi::OsStr;
use std::sync::Arc;

use metainfo::Magnet;

use crate::cli::DhtCommand;
use crate::failure::{CommandResult, Failure};
use crate::output::{Output, Style};
use crate::source;

pub(crate) fn run(command: &DhtCommand, output: &Output) -> CommandResult {
    match command {
        DhtCommand::Peers(arguments) => peers::run(arguments, output),
        DhtCommand::Scrape(arguments) => scrape::run(arguments, output),
        DhtCommand::Get(arguments) => get::run(arguments, output),
        DhtCommand::Put(arguments) => put::run(arguments, output),
        DhtCommand::Ping(arguments) => ping::run(arguments, output),
        DhtCommand::Node(arguments) => node::run(arguments, output),
    }
}

/// Returns the link that `torrent` is.
///
/// # Errors
/// Usage if it is neither an info-hash nor a magnet link.
fn link(torrent: &str) -> Result<Arc<Magnet>, Failure> {
    source::link(OsStr::new(torrent))?.ok_or_else(|| {
        let got = source::shown(OsStr::new(torrent));
        let message = format!("expected an info-hash or a magnet link, got {got:?}");
        Failure::usage(message).with("argument", "<HASH|LINK>")
    })
}

/// Returns the rows with their labels in a column.
fn table(rows: &[(&str, String)], style: Style) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let line = |(label, value): &(&str, String)| {
        format!("{}{}  {value}", style.bold(label), " ".repeat(width - label.len()))
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
