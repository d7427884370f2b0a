//! The commands, each in its own file.

mod completions;
mod create;
mod decode;
mod dht;
mod download;
mod download_piece;
mod handshake;
mod info;
mod man;
mod peers;
mod scrape;
mod seed;
mod verify;

use crate::cli::{Command, DhtCommand};
use crate::failure::{Class, Classify, CommandResult};
use crate::output::Output;
use crate::{signals, source};

/// Runs one command to completion.
pub(crate) fn run(command: &Command, output: &Output) -> CommandResult {
    if !needs_clean_shutdown(command) {
        signals::exit_on_signal(output).or_fail(Class::Failure, "cannot watch for signals")?;
    }
    match command {
        Command::Decode(arguments) => decode::run(arguments, output),
        Command::Info(arguments) => info::run(arguments, output),
        Command::Peers(arguments) => peers::run(arguments, output),
        Command::Scrape(arguments) => scrape::run(arguments, output),
        Command::Handshake(arguments) => handshake::run(arguments, output),
        Command::Dht(arguments) => dht::run(&arguments.command, output),
        Command::DownloadPiece(arguments) => download_piece::run(arguments, output),
        Command::Download(arguments) => download::run(arguments, output),
        Command::Create(arguments) => create::run(arguments, output),
        Command::Verify(arguments) => verify::run(arguments, output),
        Command::Seed(arguments) => seed::run(arguments, output),
        Command::Completions(arguments) => completions::run(arguments, output),
        Command::Man(arguments) => man::run(arguments, output),
    }
}

/// Whether the command must write a journal and announce `stopped` before a signal ends it.
fn needs_clean_shutdown(command: &Command) -> bool {
    match command {
        Command::DownloadPiece(_) | Command::Download(_) | Command::Seed(_) => true,
        // The metadata of a link is fetched in a session.
        Command::Info(arguments) => {
            source::link(&arguments.source.torrent).is_ok_and(|link| link.is_some())
        }
        Command::Dht(arguments) => matches!(arguments.command, DhtCommand::Node(_)),
        Command::Decode(_)
        | Command::Peers(_)
        | Command::Scrape(_)
        | Command::Handshake(_)
        | Command::Create(_)
        | Command::Verify(_)
        | Command::Completions(_)
        | Command::Man(_) => false,
    }
}
