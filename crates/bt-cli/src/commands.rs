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

/// Runs one command to its end.
pub(crate) fn run(command: &Command, output: &Output) -> Outcome {
    if !takes_part_in_a_swarm(command) {
        signals::leave_on_signal(output).or_fail(Class::Failure, "cannot watch for signals")?;
    }
    match command {
        Command::Decode(arguments) => decode::run(arguments, output),
        Command::Info(arguments) => info::run(arguments, output),
        Command::Peers(arguments) => peers::run(arguments, output),
        Command::Scrape(arguments) => scrape::run(arguments, output),
        Command::Handshake(arguments) => handshake::run(arguments, output),
        Command::DownloadPiece(arguments) => download_piece::run(arguments, output),
        Command::Download(arguments) => download::run(arguments, output),
        Command::Create(arguments) => create::run(arguments, output),
        Command::Verify(arguments) => verify::run(arguments, output),
        Command::Seed(arguments) => seed::run(arguments, output),
        Command::Completions(arguments) => completions::run(arguments, output),
        Command::Man(arguments) => man::run(arguments, output),
    }
}

/// Whether a signal must not end the command at once: there is a journal to write, and trackers
/// are told that we leave.
fn takes_part_in_a_swarm(command: &Command) -> bool {
    matches!(command, Command::DownloadPiece(_) | Command::Download(_) | Command::Seed(_))
}
