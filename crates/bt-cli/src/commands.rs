//! The commands, one file each.

mod completions;
mod create;
mod decode;
mod download;
mod download_piece;
mod handshake;
mod info;
mod man;
mod peers;
mod scrape;
mod seed;
mod verify;

use crate::cli::Command;
use crate::failure::{Class, Classify, Outcome};
use crate::output::Output;
use crate::signals;

pub(crate) use peers::peer_object;

/// Runs one command to its end.
pub(crate) fn run(command: Command, output: &Output) -> Outcome {
    match command {
        Command::Download(arguments) => download::run(arguments, output),
        Command::DownloadPiece(arguments) => download_piece::run(arguments, output),
        Command::Seed(arguments) => seed::run(arguments, output),
        command => run_at_once(command, output),
    }
}

/// Commands that leave nothing behind when they are interrupted.
fn run_at_once(command: Command, output: &Output) -> Outcome {
    signals::leave_on_signal(output).or_fail(Class::Failure, "cannot watch for signals")?;
    match command {
        Command::Decode(arguments) => decode::run(&arguments, output),
        Command::Info(arguments) => info::run(&arguments, output),
        Command::Peers(arguments) => peers::run(&arguments, output),
        Command::Scrape(arguments) => scrape::run(&arguments, output),
        Command::Handshake(arguments) => handshake::run(&arguments, output),
        Command::Create(arguments) => create::run(&arguments, output),
        Command::Verify(arguments) => verify::run(&arguments, output),
        Command::Completions(arguments) => completions::run(&arguments, output),
        Command::Man(arguments) => man::run(&arguments, output),
        Command::Download(_) | Command::DownloadPiece(_) | Command::Seed(_) => Ok(()),
    }
}
