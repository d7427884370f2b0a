//! `bt-cli`, a BitTorrent client for the shell. It turns arguments into calls of the other crates,
//! and their results into text, JSON and progress bars.
//!
//! ```text
//! cli (arguments) -> commands::NAME -> output (text | JSON, stdout | stderr)
//!                        |  `-> failure (class, message) -> exit code
//!                        `-> source (a torrent from a file, a URL, stdin), content, trackers,
//!                            transfer
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program does I/O.

mod address;
mod cli;
mod commands;
mod content;
mod descriptors;
mod dht_asker;
mod dht_file;
mod failure;
mod identity;
mod logging;
mod output;
mod saved;
mod selection;
mod signals;
mod source;
mod trackers;
mod transfer;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::{Cli, GlobalArgs};
use crate::failure::{End, Failure};
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_help_or_error(&without_passkeys(with_good_tips(error))),
    };
    let output = Output::new(cli.global);
    logging::start(cli.global, &output);
    match commands::run(&cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            if let End::Failed(failure) = &end {
                output.failure(failure);
            }
            end.exit_code()
        }
    }
}

/// Keeps the most similar command, which clap names last. Removes a flag that is not similar.
fn with_good_tips(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::Strings(tips)) = error.get(ContextKind::SuggestedSubcommand)
        && let Some(best) = tips.last().cloned()
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![best]));
    }
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg)
        && let Some(ContextValue::String(tip)) = error.get(ContextKind::SuggestedArg)
        && !is_similar(given.trim_start_matches('-'), tip.trim_start_matches('-'))
    {
        error.remove(ContextKind::SuggestedArg);
    }
    error
}

/// Hides the passkeys of URLs that were given where clap expects something else.
fn without_passkeys(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue]
    {
        if let Some(ContextValue::String(given)) = error.get(kind)
            && given.contains("://")
        {
            let shown = tracker_http::shorten_url(given);
            error.insert(kind, ContextValue::String(shown));
        }
    }
    error
}

/// Whether one flag may be a misspelling of the other: one starts with the other, or at most a
/// third of the letters differ.
fn is_similar(given: &str, tip: &str) -> bool {
    let is_start = tip.starts_with(given) || given.starts_with(tip);
    is_start || strsim::levenshtein(given, tip) <= given.len().max(tip.len()) / 3
}

/// Prints help or the version if the user asked for it, else a usage error, in JSON with `--json`.
fn print_help_or_error(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || !json_wanted() {
        // A closed stdout is no error.
        drop(error.print());
        return ExitCode::from(error.exit_code() as u8);
    }
    let mut failure = Failure::usage(usage_message(error));
    if let Some(argument) = error.get(ContextKind::InvalidArg) {
        failure = failure.with("argument", argument.to_string());
    }
    Output::new(GlobalArgs { json: true, quiet: false, verbose: 0 }).failure(&failure);
    End::Failed(failure).exit_code()
}

/// Whether `--json` is on a command line that could not be parsed.
fn json_wanted() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

/// Returns the first paragraph of clap's message, on one line.
fn usage_message(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let message = lines.collect::<Vec<_>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    if message.is_empty() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "expected a command; see bt-cli --help".to_owned();
    }
    message
}
