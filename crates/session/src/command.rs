//! What a caller asks of the reactor.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A command carries a channel for its reply.

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::Sender;
use piece_store::TorrentKey;

use crate::config::AddTorrent;
use crate::engine::AddError;
use crate::event::TorrentStatus;

pub(crate) enum Command {
    Add { add: Box<AddTorrent>, reply: Sender<Result<TorrentKey, AddError>> },
    Select { torrent: TorrentKey, selected: Option<Vec<bool>> },
    Stop { torrent: TorrentKey },
    Resume { torrent: TorrentKey },
    Remove { torrent: TorrentKey },
    AddPeers { torrent: TorrentKey, peers: Vec<SocketAddr> },
    SetLimits { down: Option<u64>, up: Option<u64> },
    DhtState { reply: Sender<Option<Vec<u8>>> },
    Snapshot { reply: Sender<Vec<TorrentStatus>> },
    ShutDown { within: Duration },
}
