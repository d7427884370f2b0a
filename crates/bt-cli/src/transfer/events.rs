//! The events that `download --json` and `seed --json` print, one object per line.

use serde_json::{Map, Value, json};
use session::{EventKind, MetadataStatus, PeerState, PhaseKind, Source, TrackerReport};

use super::torrent::Torrent;
use crate::failure::without_code;
use crate::output::tracker_peer;

/// The version of these objects, in the first line.
pub(crate) const SCHEMA: u32 = 1;

/// Returns the line for an event, or `None` if the event is not shown.
pub(crate) fn event(torrent: &Torrent, kind: &EventKind) -> Option<Value> {
    Some(match kind {
        EventKind::MetadataReceived(metainfo) => {
            let (name, size) = (metainfo.info().name(), metainfo.info().content_size());
            let path = torrent.saved_as().map(|path| path.display().to_string());
            let fields = json!({ "name": name, "size": size, "torrent": path });
            line(torrent, "metadata_received", fields)
        }
        EventKind::Started { have, wanted, .. } => {
            let total = if torrent.seed_only { torrent.piece_count() } else { *wanted };
            let output = torrent.output.display().to_string();
            let listen: Vec<String> = torrent.listen.iter().map(ToString::to_string).collect();
            let fields = json!({
                "name": torrent.name(), "size": torrent.size(), "output": output,
                "pieces_done": have, "pieces_total": total, "listen": listen,
            });
            line(torrent, "started", fields)
        }
        EventKind::PieceVerified(index) => line(torrent, "piece", json!({ "index": index.get() })),
        EventKind::PieceFailed(index) => {
            let message = format!("piece {index} failed its hash check and is downloaded again");
            line(torrent, "warning", json!({ "message": message, "index": index.get() }))
        }
        EventKind::Peer { address, source, state, reason } => {
            let (source, state) = (source_name(*source), state_name(*state));
            let fields = json!({
                "address": address.to_string(), "source": source, "state": state,
                "reason": reason.as_deref().map(without_code),
            });
            line(torrent, "peer", fields)
        }
        EventKind::Tracker { url, result } => line(torrent, "tracker", tracker(url, result)),
        EventKind::Warning(message) => line(torrent, "warning", json!({ "message": message })),
        EventKind::Completed if !torrent.seed_only => {
            let status = torrent.status.as_ref();
            let size = status.map_or(0, |status| status.bytes_total);
            let buffers_peak = status.map_or(0, |status| status.buffers_peak);
            let output = torrent.output.display().to_string();
            let seconds = torrent.elapsed().as_secs_f64();
            line(
                torrent,
                "completed",
                json!({
                    "output": output, "size": size, "seconds": seconds,
                    "buffers_peak": buffers_peak,
                }),
            )
        }
        EventKind::Completed | EventKind::Checking { .. } | EventKind::Stopped { .. } => {
            return None;
        }
    })
}

/// Returns the line that says how far the metadata of a link is.
pub(crate) fn metadata(torrent: &Torrent, status: &MetadataStatus) -> Value {
    let fields = json!({
        "pieces_done": status.pieces_done,
        "pieces_total": status.pieces_total,
        "peers": status.peers,
    });
    line(torrent, "metadata", fields)
}

/// Returns the line with the state of a torrent.
pub(crate) fn progress(torrent: &Torrent) -> Option<Value> {
    let status = torrent.status.as_ref()?;
    let (bytes_total, pieces_total) = torrent.totals(status);
    let fields = json!({
        "phase": phase_name(status.phase),
        "bytes_done": status.bytes_done,
        "bytes_total": bytes_total,
        "pieces_done": status.pieces_done,
        "pieces_total": pieces_total,
        "down_rate": status.down_rate,
        "up_rate": status.up_rate,
        "peers_connected": status.peers_connected,
        "peers_known": status.peers_known,
        "nodes": status.nodes,
        "seconds_left": status.seconds_left,
        "uploaded": status.uploaded,
        "downloaded": status.downloaded,
        "buffers_peak": status.buffers_peak,
    });
    Some(line(torrent, "progress", fields))
}

/// Returns the line for a warning that does not come from the session.
pub(crate) fn warning(torrent: &Torrent, message: &str) -> Value {
    line(torrent, "warning", json!({ "message": message }))
}

/// Returns the last line of a torrent.
pub(crate) fn stopped(torrent: &Torrent) -> Value {
    let reason = match torrent.failure() {
        Some(failure) => failure.text(),
        None if torrent.has_reached_goal() => "done".to_owned(),
        None => "interrupted".to_owned(),
    };
    line(torrent, "stopped", json!({ "reason": reason }))
}

fn line(torrent: &Torrent, event: &str, fields: Value) -> Value {
    let mut object = Map::new();
    object.insert("event".to_owned(), event.into());
    object.insert("info_hash".to_owned(), torrent.info_hash().into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

fn phase_name(phase: PhaseKind) -> &'static str {
    match phase {
        PhaseKind::Metadata => "metadata",
        PhaseKind::Opening => "opening",
        PhaseKind::Checking => "checking",
        PhaseKind::Transfer => "transfer",
        PhaseKind::Stopping => "stopping",
        PhaseKind::Stopped => "stopped",
    }
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Tracker => "tracker",
        Source::User => "user",
        Source::Incoming => "incoming",
        Source::Pex => "pex",
        Source::Dht => "dht",
        Source::Local => "lsd",
    }
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Connected => "connected",
        PeerState::Disconnected => "disconnected",
        PeerState::Failed => "failed",
        PeerState::Banned => "banned",
    }
}

fn tracker(url: &str, result: &Result<TrackerReport, String>) -> Value {
    match result {
        Ok(report) => json!({
            "url": url,
            "interval": report.interval,
            "seeders": report.seeders,
            "leechers": report.leechers,
            "warning": report.warning,
            "peers": report.peers.iter().map(tracker_peer).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "url": url, "error": without_code(error) }),
    }
}
