//! What the user sees of a transfer: bars on a terminal, a line at intervals on a pipe, or JSON.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::Value;
use session::{EventKind, MetadataStatus, PeerState, PhaseKind, TorrentStatus, TrackerReport};

use super::events::{self, SCHEMA};
use super::torrent::Torrent;
use super::tracker_news::{News, TrackerNews};
use crate::failure::{CommandResult, without_code};
use crate::output::{
    Bar, Output, clean, count, duration, mean_rate, percent, rate, short_duration, size,
};

/// How often a line shows the state of a torrent if there is no terminal for bars.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How often a JSON object shows the state of a torrent.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// Shows torrents to the user.
pub(crate) struct View {
    output: Output,
    displays: Vec<TorrentDisplay>,
    last: Instant,
    schema_sent: bool,
    /// Whether the command prints the results itself.
    silent: bool,
    trackers: TrackerNews,
}

/// The display of one torrent.
struct TorrentDisplay {
    /// `None` without a terminal.
    bar: Option<ProgressBar>,
    /// The last line on a pipe, which is not repeated.
    line: String,
    /// What was last printed about the metadata, which is not repeated.
    metadata: Option<MetadataStatus>,
}

impl TorrentDisplay {
    fn new(bar: Option<ProgressBar>) -> Self {
        Self { bar, line: String::new(), metadata: None }
    }

    /// Returns the line about the metadata of a link, if it changed.
    fn next_metadata(&mut self, torrent: &Torrent) -> Option<Value> {
        let now = torrent.status.as_ref()?.metadata?;
        let before = self.metadata.replace(now);
        (before != Some(now)).then(|| events::metadata(torrent, &now))
    }

    /// Returns the line of a torrent that is not over, if it changed.
    fn next_line(&mut self, torrent: &Torrent) -> Option<&str> {
        let status = torrent.status.as_ref().filter(|_| !torrent.is_over())?;
        let (done, total) = done_of_total(torrent, status);
        let (name, percent) = (clean(torrent.name()), percent(done, total));
        let line = format!("{name}: {percent}%, {}", state_text(torrent, status));
        if self.line == line {
            return None;
        }
        self.line = line;
        Some(&self.line)
    }
}

impl View {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            output: output.clone(),
            displays: Vec::new(),
            last: Instant::now(),
            schema_sent: false,
            silent: false,
            trackers: TrackerNews::default(),
        }
    }

    /// Shows progress and warnings only, no results.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
    }

    /// Adds a display for the next torrent.
    pub(crate) fn add(&mut self) {
        self.displays.push(TorrentDisplay::new(self.output.new_bar()));
    }

    /// Shows an event.
    pub(crate) fn event(&mut self, torrent: &Torrent, kind: &EventKind) -> CommandResult {
        if self.wants_json() {
            let line = events::event(torrent, kind);
            return line.map_or(Ok(()), |line| self.json(line));
        }
        let name = clean(torrent.name());
        match kind {
            EventKind::MetadataReceived(metainfo) => {
                let info = metainfo.info();
                let files = count(info.files().len(), "file", "files");
                let what = format!("{files}, {}", size(info.content_size()));
                self.output.note(&format!("{name}: the metadata is here: {what}"));
            }
            EventKind::Started { have, wanted, .. } => self.started(torrent, *have, *wanted),
            EventKind::Completed if torrent.seed_only => {}
            EventKind::Completed => return self.completed(torrent),
            EventKind::Warning(message) => self.output.warn(&format!("{name}: {}", clean(message))),
            EventKind::PieceFailed(index) => {
                let what = "failed its hash check and is downloaded again";
                self.output.warn(&format!("{name}: piece {index} {what}"));
            }
            EventKind::Peer { address, state: PeerState::Banned, reason, .. } => {
                let reason = reason.as_deref().map(clean).unwrap_or_default();
                self.output.warn(&format!("{name}: peer {address} is banned: {reason}"));
            }
            EventKind::Peer { address, state, reason, .. } => {
                log::debug!("{name}: peer {address} {state:?} {}", reason.as_deref().unwrap_or(""));
            }
            EventKind::Tracker { url, result } => self.tracker(torrent, url, result),
            EventKind::Checking { .. }
            | EventKind::PieceVerified(_)
            | EventKind::Stopped { .. } => {}
        }
        Ok(())
    }

    /// Shows the state of all torrents, on a terminal at each call, else at intervals.
    pub(crate) fn progress(&mut self, now: Instant, torrents: &[Torrent]) -> CommandResult {
        for (torrent, display) in torrents.iter().zip(&self.displays) {
            if let (Some(status), Some(bar)) = (&torrent.status, &display.bar) {
                let name = &clean(torrent.name());
                let text = &match torrent.failure() {
                    Some(failure) => clean(failure.message()),
                    None => state_text(torrent, status),
                };
                let (done, total) = done_of_total(torrent, status);
                bar.set_message(self.output.bar_line(&Bar { name, done, total, text }));
            }
        }
        let interval = if self.wants_json() { JSON_INTERVAL } else { LINE_INTERVAL };
        if now.duration_since(self.last) < interval {
            return Ok(());
        }
        self.last = now;
        if self.wants_json() {
            let mut lines: Vec<Value> = Vec::new();
            for (torrent, display) in torrents.iter().zip(&mut self.displays) {
                if !torrent.is_over() {
                    lines.extend(display.next_metadata(torrent));
                    lines.extend(events::progress(torrent));
                }
            }
            return lines.into_iter().try_for_each(|line| self.json(line));
        }
        if self.output.bars().is_none() {
            self.lines(torrents);
        }
        Ok(())
    }

    /// Writes a line for each torrent whose line changed.
    fn lines(&mut self, torrents: &[Torrent]) {
        for (torrent, display) in torrents.iter().zip(&mut self.displays) {
            if let Some(line) = display.next_line(torrent) {
                self.output.note(line);
            }
        }
    }

    /// Shows a warning that does not come from the session.
    pub(crate) fn warning(&mut self, torrent: &Torrent, text: &str) -> CommandResult {
        if self.wants_json() {
            return self.json(events::warning(torrent, text));
        }
        self.output.warn(&format!("{}: {}", clean(torrent.name()), clean(text)));
        Ok(())
    }

    /// Shows why a torrent makes no progress.
    pub(crate) fn waiting(&mut self, torrent: &Torrent, why: &str) -> CommandResult {
        if self.wants_json() {
            return self.json(events::warning(torrent, &format!("waiting: {why}")));
        }
        self.output.note(&format!("{}: waiting: {}", clean(torrent.name()), clean(why)));
        Ok(())
    }

    /// Shows that a torrent is over. Does not show its failure if `is_alone`, because the program
    /// then ends with it.
    pub(crate) fn over(&mut self, torrent: &Torrent, is_alone: bool) -> CommandResult {
        if self.wants_json() {
            return self.json(events::stopped(torrent));
        }
        if let Some(failure) = torrent.failure()
            && !is_alone
        {
            let name = clean(torrent.name());
            for line in failure.lines() {
                self.output.warn(&format!("{name}: {}", clean(line.trim_start())));
            }
        }
        Ok(())
    }

    /// Removes the bars.
    pub(crate) fn finish(&mut self) {
        for display in self.displays.drain(..) {
            if let Some(bar) = display.bar {
                bar.finish_and_clear();
            }
        }
    }

    fn wants_json(&self) -> bool {
        self.output.json() && !self.silent
    }

    fn json(&mut self, mut line: Value) -> CommandResult {
        if !self.schema_sent {
            line["schema"] = SCHEMA.into();
            self.schema_sent = true;
        }
        self.output.object(&line)
    }

    fn started(&self, torrent: &Torrent, have: u32, wanted: u32) {
        let name = clean(torrent.name());
        if torrent.seed_only {
            let all = torrent.piece_count();
            // A torrent without any piece has failed, and its error says so.
            if have > 0 {
                let all = count(all, "piece", "pieces");
                self.output.note(&format!("{name}: serving {have} of {all}"));
            }
        } else if have > 0 && have < wanted {
            let all = count(wanted, "piece", "pieces");
            self.output.note(&format!("{name}: resuming, {have} of {all} already here"));
        }
    }

    fn completed(&self, torrent: &Torrent) -> CommandResult {
        if self.silent {
            return Ok(());
        }
        let output = clean(&torrent.output.display().to_string());
        let name = clean(torrent.name());
        if torrent.was_complete() {
            return self.output.line(&format!("{name}: already complete: {output}"));
        }
        let status = torrent.status.as_ref();
        let total = status.map_or(0, |status| status.bytes_total);
        // A block may arrive twice, and padding is downloaded too.
        let fetched = status.map_or(0, |status| status.downloaded.min(total));
        let time = torrent.elapsed();
        let speed = rate(mean_rate(fetched, time));
        let part = format!("{} in {} ({speed})", size(fetched), short_duration(time));
        let what =
            if fetched == total { part } else { format!("{}, of which {part}", size(total)) };
        self.output.line(&format!("{name}: complete, {what}: {output}"))
    }

    /// Shows that a tracker failed, warns, or answers again, if that is new.
    fn tracker(&mut self, torrent: &Torrent, url: &str, result: &Result<TrackerReport, String>) {
        let (name, short) = (clean(torrent.name()), tracker_http::shorten_url(url));
        let answer = match result {
            Ok(report) => {
                let peers = count(report.peers.len(), "peer", "peers");
                log::info!("{name}: {short} gave {peers}");
                Ok(report.warning.clone())
            }
            Err(error) => Err(without_code(error)),
        };
        match self.trackers.note(torrent.key, url, answer) {
            Some(News::Failed(failure)) => {
                self.output.warn(&format!("{name}: tracker {short}: {}", clean(&failure)));
            }
            Some(News::Warned(warning)) => {
                self.output.warn(&format!("{name}: tracker {short} warns: {}", clean(&warning)));
            }
            Some(News::Recovered) => {
                self.output.note(&format!("{name}: tracker {short} answers again"));
            }
            None => {}
        }
    }
}

/// Returns how much of the present phase is done, and of how much, in pieces or bytes.
fn done_of_total(torrent: &Torrent, status: &TorrentStatus) -> (u64, u64) {
    match status.phase {
        PhaseKind::Metadata => {
            // Nothing is done before the size is known.
            let metadata = status.metadata.unwrap_or_default();
            (u64::from(metadata.pieces_done), u64::from(metadata.pieces_total).max(1))
        }
        PhaseKind::Checking => (u64::from(status.checked.0), u64::from(status.checked.1)),
        PhaseKind::Opening | PhaseKind::Transfer | PhaseKind::Stopping | PhaseKind::Stopped => {
            (status.bytes_done, torrent.totals(status).0)
        }
    }
}

/// Describes the state of a torrent.
fn state_text(torrent: &Torrent, status: &TorrentStatus) -> String {
    let peers = format!("peers {}/{}", status.peers_connected, status.peers_known);
    match status.phase {
        PhaseKind::Metadata => metadata_text(status),
        PhaseKind::Opening => "opening".to_owned(),
        PhaseKind::Checking => {
            format!("checking existing data, piece {}/{}", status.checked.0, status.checked.1)
        }
        PhaseKind::Stopping => "stopping".to_owned(),
        PhaseKind::Stopped if torrent.has_reached_goal() => "done".to_owned(),
        PhaseKind::Stopped => "stopped".to_owned(),
        PhaseKind::Transfer if torrent.is_complete() || torrent.seed_only => {
            format!("seeding, {} up, ratio {:.2}, {peers}", rate(status.up_rate), status.ratio())
        }
        PhaseKind::Transfer => {
            let left = status.seconds_left.map(|seconds| duration(Duration::from_secs(seconds)));
            let left = left.map_or_else(String::new, |left| format!("{left} left, "));
            let (rate, pieces) = (rate(status.down_rate), status.pieces_done);
            format!("{rate}, {left}{peers}, pieces {pieces}/{}", status.pieces_total)
        }
    }
}

/// Describes who is asked for the metadata of a link, and how much is there.
fn metadata_text(status: &TorrentStatus) -> String {
    let metadata = status.metadata.unwrap_or_default();
    let peers = count(status.peers_connected, "peer", "peers");
    let nodes = status.nodes.map(|nodes| format!(", {}", count(nodes, "node", "nodes")));
    let nodes = nodes.unwrap_or_default();
    let asking = format!("asking {peers} of {}{nodes}", status.peers_known);
    match metadata.pieces_total {
        0 => format!("{asking} for the metadata"),
        total => format!("{asking}; metadata {}/{total} pieces", metadata.pieces_done),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use metainfo::{Builder, Sha1Digest};
    use session::{AddTorrent, InfoHashV1, TorrentKey};

    use super::*;

    fn torrent() -> Torrent {
        let builder = Builder::new("film").piece_length(16 * 1024).file("", 100);
        let metainfo = Arc::new(builder.build(&[Sha1Digest([1; 20])]).unwrap());
        let order = AddTorrent { seed_only: true, ..AddTorrent::new(metainfo, PathBuf::new()) };
        Torrent::new(TorrentKey(1), &order, Box::default())
    }

    /// Returns the state of a complete torrent of 100 bytes, without peers and trackers.
    fn status() -> TorrentStatus {
        TorrentStatus {
            torrent: TorrentKey(1),
            info_hash: InfoHashV1([1; 20]),
            name: "film".to_owned(),
            phase: PhaseKind::Transfer,
            size: 100,
            bytes_done: 100,
            bytes_total: 100,
            pieces_done: 1,
            pieces_total: 1,
            metadata: None,
            checked: (1, 1),
            downloaded: 0,
            uploaded: 0,
            earlier: (0, 0),
            down_rate: 0,
            up_rate: 0,
            peers_connected: 0,
            peers_known: 0,
            peers_banned: 0,
            nodes: None,
            seconds_left: None,
            trackers: Vec::new(),
            next_announce: Some(1800),
            events_dropped: 0,
            buffers_peak: 0,
        }
    }

    #[test]
    fn idle_seed_prints_one_line() {
        let mut torrent = torrent();
        let mut display = TorrentDisplay::new(None);
        assert_eq!(display.next_line(&torrent), None);
        let idle = status();
        let later = TorrentStatus { next_announce: Some(1790), ..idle.clone() };
        let sent = TorrentStatus { uploaded: 50, ..later.clone() };
        let line = |ratio| format!("film: 100%, seeding, 0 B/s up, ratio {ratio}, peers 0/0");
        for (status, expected) in
            [(idle, Some(line("0.00"))), (later, None), (sent, Some(line("0.50")))]
        {
            torrent.status = Some(status);
            assert_eq!(display.next_line(&torrent), expected.as_deref());
        }
    }
}
