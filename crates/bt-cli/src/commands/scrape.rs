//! `scrape`: asks a torrent's trackers and the DHT how many seeders and leechers it has.

use bt_types::{InfoHashV1, ScrapeEntry};
use serde_json::{Value, json};
use session::node::{Counts, Node};

use crate::cli::ScrapeArgs;
use crate::dht_asker::{Beside, DhtAnswer, counts_text, dht_causes, failure_line, stats_line};
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, Style, clean};
use crate::source::Sources;
use crate::trackers::{self, Answer, Client};

pub(crate) fn run(arguments: &ScrapeArgs, output: &Output) -> CommandResult {
    let torrent = Sources::of(&arguments.source, output).describe(&arguments.source.torrent)?;
    let (urls, info_hash) = (torrent.trackers(), torrent.description.info_hash());
    let limit = arguments.timeout;
    let ask_dht = move |node: &mut Node| node.scrape(info_hash, limit);
    let dht = Beside::start(&torrent, &arguments.dht, ask_dht);
    let client = Client::new(arguments.source.trust.ca_file.as_deref(), limit)?;
    let answers = client.ask_all(&urls, move |client, url| client.scrape(url, info_hash));
    let dht = dht.join(!urls.is_empty())?;
    let answered =
        answers.iter().any(|(_, answer)| answer.is_ok()) || dht.as_ref().is_some_and(Result::is_ok);
    // If nobody answered, people see only the error.
    if output.json() || answered {
        let text = |style| text(&answers, dht.as_ref(), style);
        output.result(|| object(info_hash, &answers, dht.as_ref()), text)?;
    }
    match dht {
        _ if answered => Ok(()),
        Some(Err(failure)) if answers.is_empty() => Err(failure.into()),
        dht => {
            let causes = trackers::causes(&answers).into_iter().chain(dht_causes(dht.as_ref()));
            let failure = Failure::new(Class::Network, "no tracker answered:");
            Err(failure.because(causes).into())
        }
    }
}

fn object(
    info_hash: InfoHashV1,
    answers: &[Answer<ScrapeEntry>],
    dht: Option<&DhtAnswer<Counts>>,
) -> Value {
    let trackers: Vec<Value> = answers.iter().map(tracker_object).collect();
    let dht = dht.map(|answer| match answer {
        Ok((counts, stats)) => json!({
            "seeders": counts.seeds,
            "leechers": counts.peers,
            "nodes_asked": stats.asked,
            "seconds": stats.elapsed.as_secs_f64(),
        }),
        Err(failure) => json!({ "error": failure.text() }),
    });
    json!({ "info_hash": info_hash.to_string(), "trackers": trackers, "dht": dht })
}

fn text(answers: &[Answer<ScrapeEntry>], dht: Option<&DhtAnswer<Counts>>, style: Style) -> String {
    let lines = answers.iter().map(|answer| tracker_line(answer, style));
    let dht = dht.map(|answer| match answer {
        Ok((counts, stats)) => stats_line(&counts_text(*counts), stats, style),
        Err(failure) => failure_line(failure, style),
    });
    lines.chain(dht).collect::<Vec<_>>().join("\n")
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
