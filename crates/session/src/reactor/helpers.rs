//! Threads for what may block: looking names up and fetching from HTTP(S) trackers.
//!
//! A crew is a few named threads that take jobs from one bounded channel and put answers into
//! another. They end once the reactor drops its end of the channel. They are not joined, since a
//! thread may be stuck in a system call.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use bt_types::AnnounceRequest;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tracker_http::{AnnounceError, Fetcher};

use super::Wake;
use crate::descriptors::Descriptors;
use crate::engine::{AnnounceKey, Family, FetchFailure, Fetched, Resolved};
use crate::limits::{FETCH_QUEUE, PEER_RESOLVE_THREADS};

/// An announce over HTTP(S).
pub(super) struct FetchJob {
    pub(super) key: AnnounceKey,
    pub(super) leg: usize,
    pub(super) url: String,
    pub(super) request: AnnounceRequest,
    pub(super) family: Option<Family>,
}

/// The answer of a helper.
pub(super) enum Reply {
    Fetched { key: AnnounceKey, leg: usize, result: Fetched },
    Resolved { host: String, result: Resolved },
}

/// An HTTP client for each choice of address family.
pub(crate) struct Fetchers {
    pub(crate) any: Fetcher,
    pub(crate) v4: Fetcher,
    pub(crate) v6: Fetcher,
}

/// The crews, and the channel their answers come through.
pub(super) struct Helpers {
    fetches: Sender<FetchJob>,
    names: Sender<String>,
    peer_names: Sender<String>,
    replies: Receiver<Reply>,
}

impl Helpers {
    /// Starts the threads; `wake` is called after each answer.
    pub(super) fn start(
        fetchers: Fetchers,
        descriptors: &Descriptors,
        wake: &Wake,
    ) -> std::io::Result<Self> {
        let Descriptors { fetch_threads, resolve_threads, .. } = *descriptors;
        let (reply_sender, replies) = bounded(2 * FETCH_QUEUE);
        let fetch = move |job: FetchJob| Reply::Fetched {
            result: fetch(&fetchers, &job),
            key: job.key,
            leg: job.leg,
        };
        let resolve = |host: String| Reply::Resolved { result: resolve(&host), host };
        Ok(Self {
            fetches: crew("bt-fetch", fetch_threads, fetch, &reply_sender, wake)?,
            names: crew("bt-resolve", resolve_threads, resolve, &reply_sender, wake)?,
            peer_names: crew("bt-peer", PEER_RESOLVE_THREADS, resolve, &reply_sender, wake)?,
            replies,
        })
    }

    /// Gives an announce to a thread. Returns whether there was room.
    pub(super) fn fetch(&self, job: FetchJob) -> bool {
        self.fetches.try_send(job).is_ok()
    }

    /// Has the name of a peer or a tracker looked up. Returns it if too many wait already.
    pub(super) fn resolve(&self, host: String, of_peer: bool) -> Result<(), String> {
        let names = if of_peer { &self.peer_names } else { &self.names };
        names.try_send(host).map_err(TrySendError::into_inner)
    }

    /// The next answer, if there is one.
    pub(super) fn poll_reply(&self) -> Option<Reply> {
        self.replies.try_recv().ok()
    }
}

fn crew<J: Send + 'static>(
    name: &str,
    threads: usize,
    work: impl Fn(J) -> Reply + Send + Sync + 'static,
    replies: &Sender<Reply>,
    wake: &Wake,
) -> std::io::Result<Sender<J>> {
    // When full, the announce fails and is repeated after its back-off.
    let (sender, jobs) = bounded::<J>(FETCH_QUEUE);
    let work = Arc::new(work);
    for number in 0..threads {
        let (jobs, replies) = (jobs.clone(), replies.clone());
        let (work, wake) = (Arc::clone(&work), Arc::clone(wake));
        thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
            for job in jobs {
                if replies.send(work(job)).is_err() {
                    return;
                }
                wake();
            }
        })?;
    }
    Ok(sender)
}

fn fetch(fetchers: &Fetchers, job: &FetchJob) -> Fetched {
    let fetcher = match job.family {
        None => &fetchers.any,
        Some(Family::V4) => &fetchers.v4,
        Some(Family::V6) => &fetchers.v6,
    };
    fetcher.announce(&job.url, &job.request).map_err(|error| {
        let message = error.to_string();
        match error {
            AnnounceError::Failure { retry_in, .. } => {
                FetchFailure { message, retry_in, refused: true }
            }
            _ => FetchFailure { message, retry_in: None, refused: false },
        }
    })
}

/// Looks a name up. Takes as long as the system does.
pub(crate) fn resolve(host: &str) -> Resolved {
    let addresses = (host, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut found: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The failure of an announce for which there was no room.
pub(super) fn too_busy() -> FetchFailure {
    let message = "too many announces are waiting already".to_owned();
    FetchFailure { message, retry_in: None, refused: true }
}
