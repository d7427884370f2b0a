//! `scrape`: asks a torrent's trackers how many seeders and leechers it has.

use bt_types::{InfoHashV1, ScrapeEntry};
use serde_json::{Value, json};

use crate::cli::ScrapeArgs;
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, Style, clean};
use crate::source::Sources;
use crate::trackers::{self, Answer, Client};

pub(crate) fn run(arguments: &ScrapeArgs, output: &Output) -> CommandResult {
    let torrent = Sources::of(&arguments.source, output).describe(&arguments.source.torrent)?;
    let urls = trackers::urls(&torrent)?;
    let client = Client::new(arguments.source.trust.ca_file.as_deref(), arguments.timeout)?;
    let info_hash = torrent.description.info_hash();
    let answers = client.ask_all(&urls, move |client, url| client.scrape(url, info_hash));
    let answered = answers.iter().any(|(_, answer)| answer.is_ok());
    // If no tracker answered, people see only the error.
    if output.json() || answered {
        output.result(|| object(info_hash, &answers), |style| text(&answers, style))?;
    }
    if answered {
        return Ok(());
    }
    let failure = Failure::new(Class::Network, "no tracker answered:");
    Err(failure.because(trackers::causes(&answers)).into())
}

fn object(info_hash: InfoHashV1, answers: &[Answer<ScrapeEntry>]) -> Value {
    let trackers: Vec<Value> = answers.iter().map(tracker_object).collect();
    json!({ "info_hash": info_hash.to_string(), "trackers": trackers })
}

fn text(answers: &[Answer<ScrapeEntry>], style: Style) -> String {
    let lines = answers.iter().map(|answer| tracker_line(answer, style));
    lines.collect::<Vec<_>>().join("\n")
}

fn tracker_object((url, answer): &Answer<ScrapeEntry>) -> Value {
    match answer {
        Ok(entry) => json!({
            "url": url,
            "seeders": entry.seeders,
            "leechers": entry.leechers,
            "completed": entry.completed,
        }),
        Err(error) => json!({ "url": url, "error": error }),
    }
}

fn tracker_line((url, answer): &Answer<ScrapeEntry>, style: Style) -> String {
    let url = style.bold(clean(&tracker_http::shorten_url(url)));
    match answer {
        Ok(entry) => format!(
            "{url}  seeders {}, leechers {}, completed {}",
            entry.seeders, entry.leechers, entry.completed
        ),
        Err(error) => format!("{url}  {}", style.red(clean(error))),
    }
}
