//! What the user sees of a transfer: bars on a terminal, now and then a line on a pipe, or JSON.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use session::{EventKind, PeerState, PhaseKind, TorrentStatus};

use super::events::{self, SCHEMA};
use super::torrent::Torrent;
use crate::failure::Outcome;
use crate::output::{Output, clean, duration, rate, size};

/// How often a line says where a torrent stands, where there are no bars.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How often a JSON object does.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// How many characters of a name stand before its bar.
const NAME_WIDTH: usize = 16;
/// How many characters stand behind a bar: with the name and the numbers they leave room for a
/// short bar on a line of 80, and a line that wraps could not be taken away again.
const SENTENCE_WIDTH: usize = 55;
/// The bar takes what is left, and keeps its length while the sentence is of an ordinary one.
const BAR: &str = "{prefix} {wide_bar} {percent:>3}%  {msg:46}";

/// Shows torrents to the user.
pub(crate) struct View {
    output: Output,
    bars: Vec<ProgressBar>,
    last: Instant,
    schema_told: bool,
    /// Results are only what the command itself prints.
    silent: bool,
}

impl View {
    pub(crate) fn new(output: &Output) -> Self {
        let (output, last) = (output.clone(), Instant::now());
        Self { output, bars: Vec::new(), last, schema_told: false, silent: false }
    }

    /// Shows progress and warnings, but prints no results.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
    }

    /// One more torrent.
    pub(crate) fn add(&mut self, torrent: &Torrent) {
        let prefix = cut(&clean(torrent.name()), NAME_WIDTH);
        // What is said of a bar before it is added does not show it yet: its length is not known.
        let mut bar = ProgressBar::new(0).with_prefix(format!("{prefix:NAME_WIDTH$}"));
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar = bar.with_style(style.progress_chars("━╸ "));
        }
        let bar = match self.output.bars() {
            Some(bars) => bars.add(bar),
            None => ProgressBar::hidden(),
        };
        self.bars.push(bar);
    }

    /// Something happened.
    pub(crate) fn event(&mut self, torrent: &Torrent, kind: &EventKind) -> Outcome {
        if self.wants_json() {
            let line = events::event(torrent, kind);
            return line.map_or(Ok(()), |line| self.json(line));
        }
        let name = clean(torrent.name());
        match kind {
            EventKind::Started { have, wanted, .. } => self.started(torrent, *have, *wanted),
            EventKind::Completed if torrent.goal.serve_only => {}
            EventKind::Completed => return self.completed(torrent),
            EventKind::Warning(message) => self.output.warn(&format!("{name}: {}", clean(message))),
            EventKind::PieceFailed(index) => {
                self.output.warn(&format!("{name}: piece {index} came with a wrong hash"));
            }
            EventKind::Peer { address, state: PeerState::Banned, reason } => {
                let reason = reason.as_deref().map(clean).unwrap_or_default();
                self.output.warn(&format!("{name}: peer {address} is banned: {reason}"));
            }
            EventKind::Peer { address, state, reason } => {
                log::debug!("{name}: peer {address} {state:?} {}", reason.as_deref().unwrap_or(""));
            }
            EventKind::Tracker { url, result } => tracker_told(&name, url, result),
            _ => {}
        }
        Ok(())
    }

    /// Time passed.
    pub(crate) fn progress(&mut self, now: Instant, torrents: &[Torrent]) -> Outcome {
        for (torrent, bar) in torrents.iter().zip(&self.bars) {
            show(torrent, bar);
        }
        let lines = self.output.bars().is_none() && !self.output.quiet();
        let interval = if self.wants_json() { JSON_INTERVAL } else { LINE_INTERVAL };
        if now.duration_since(self.last) < interval {
            return Ok(());
        }
        self.last = now;
        for torrent in torrents.iter().filter(|torrent| !torrent.is_over()) {
            if self.wants_json() {
                events::progress(torrent).map_or(Ok(()), |line| self.json(line))?;
            } else if lines && let Some(status) = &torrent.status {
                let percent = percent(torrent, status);
                let name = clean(torrent.name());
                self.output.note(&format!("{name}: {percent}%, {}", sentence(torrent, status)));
            }
        }
        Ok(())
    }

    /// A torrent goes nowhere.
    pub(crate) fn waiting(&mut self, torrent: &Torrent, why: &str) -> Outcome {
        if self.wants_json() {
            return self.json(events::warning(torrent, &format!("waiting: {why}")));
        }
        self.output.note(&format!("{}: waiting: {}", clean(torrent.name()), clean(why)));
        Ok(())
    }

    /// A torrent is over. Its failure is told here, unless that is the program's `last_word`.
    pub(crate) fn over(&mut self, torrent: &Torrent, last_word: bool) -> Outcome {
        if self.wants_json() {
            return self.json(events::stopped(torrent));
        }
        if let Some(failure) = torrent.failure()
            && !last_word
        {
            let (name, message) = (clean(torrent.name()), clean(failure.message()));
            self.output.warn(&format!("{name} failed: {message}"));
        }
        Ok(())
    }

    /// Takes the bars away.
    pub(crate) fn finish(&mut self) {
        for bar in self.bars.drain(..) {
            bar.finish_and_clear();
        }
    }

    fn wants_json(&self) -> bool {
        self.output.json() && !self.silent
    }

    fn json(&mut self, mut line: Value) -> Outcome {
        if !self.schema_told {
            line["schema"] = SCHEMA.into();
            self.schema_told = true;
        }
        self.output.object(&line)
    }

    fn started(&self, torrent: &Torrent, have: u32, wanted: u32) {
        let name = clean(torrent.name());
        if torrent.goal.serve_only {
            let all = torrent.metainfo.info().geometry().piece_count();
            self.output.note(&format!("{name}: serving {have} of {all} pieces"));
        } else if have > 0 && have < wanted {
            self.output.note(&format!("{name}: {have} of {wanted} pieces are there already"));
        }
    }

    fn completed(&self, torrent: &Torrent) -> Outcome {
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
        let received = status.map_or(0, |status| status.downloaded);
        let time = torrent.elapsed();
        let speed = rate((received as f64 / time.as_secs_f64().max(0.001)) as u64);
        let (total, time) = (size(total), took(time));
        self.output.line(&format!("{name}: complete, {total} in {time} ({speed}): {output}"))
    }
}

fn tracker_told(name: &str, url: &str, result: &Result<session::TrackerReport, String>) {
    let url = tracker_http::shorten_url(url);
    match result {
        Ok(report) => {
            log::info!("{name}: {url} gave {} peers", report.peers.len());
            if let Some(warning) = &report.warning {
                log::warn!("{name}: {url} says: {warning}");
            }
        }
        Err(error) => log::info!("{name}: {url}: {error}"),
    }
}

fn show(torrent: &Torrent, bar: &ProgressBar) {
    let Some(status) = &torrent.status else { return };
    if status.phase == PhaseKind::Checking {
        bar.set_length(u64::from(status.checked.1));
        bar.set_position(u64::from(status.checked.0));
    } else {
        let total = torrent.totals(status).0;
        bar.set_length(total.max(1));
        bar.set_position(if total == 0 { 1 } else { status.bytes_done });
    }
    let message = match torrent.failure() {
        Some(failure) => clean(failure.message()),
        None => sentence(torrent, status),
    };
    bar.set_message(cut(&message, SENTENCE_WIDTH));
}

/// Where a torrent stands, in words.
fn sentence(torrent: &Torrent, status: &TorrentStatus) -> String {
    let peers = format!("peers {}/{}", status.peers_connected, status.peers_known);
    match status.phase {
        PhaseKind::Opening => "opening".to_owned(),
        PhaseKind::Checking => {
            format!("checking what is there, piece {}/{}", status.checked.0, status.checked.1)
        }
        PhaseKind::Stopping => "stopping".to_owned(),
        PhaseKind::Stopped if torrent.has_reached_goal() => "done".to_owned(),
        PhaseKind::Stopped => "stopped".to_owned(),
        _ if torrent.is_complete() || torrent.goal.serve_only => {
            format!("seeding, {} up, ratio {:.2}, {peers}", rate(status.up_rate), torrent.ratio())
        }
        _ => {
            let left = status.seconds_left.map(|seconds| duration(Duration::from_secs(seconds)));
            let left = left.map_or_else(String::new, |left| format!("{left} left, "));
            let (rate, pieces) = (rate(status.down_rate), status.pieces_done);
            format!("{rate}, {left}{peers}, pieces {pieces}/{}", status.pieces_total)
        }
    }
}

fn percent(torrent: &Torrent, status: &TorrentStatus) -> u64 {
    let (done, total) = match status.phase {
        PhaseKind::Checking => (u64::from(status.checked.0), u64::from(status.checked.1)),
        _ => (status.bytes_done, torrent.totals(status).0),
    };
    (u128::from(done) * 100).checked_div(u128::from(total)).map_or(100, |percent| percent as u64)
}

/// `text`, of at most `width` characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let start: String = text.chars().take(width - 1).collect();
    format!("{start}…")
}

/// How long a download took; many take less than a second.
fn took(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1}s", time.as_secs_f64()),
        _ => duration(time),
    }
}
