//! One announce or scrape, without I/O. An exchange gets a connection id from its [`UdpTracker`],
//! sends the action, and sends it again if no answer comes (BEP 15, "Time outs"). It ends with a
//! reply, with an error, or at the caller's deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceReply, AnnounceRequest, InfoHashV1, ScrapeEntry, interval_or_default};

use crate::packet::{self, MAX_SCRAPE, PacketError, Response, ScrapeCounts};
use crate::tracker::{MAX_BACK_OFF, UdpTracker, back_off};

/// A tracker's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The reply to an announce.
    Announce(AnnounceReply),
    /// The reply to a scrape: one entry per requested torrent, in the order of the request.
    Scrape(Vec<ScrapeEntry>),
}

/// Why an exchange ended without a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Occurs when the caller's deadline passes.
    #[error("no answer within {:.0} s ({} sent)", waited.as_secs_f64(), datagrams(*sent))]
    TimedOut {
        /// How long the exchange lasted.
        waited: Duration,
        /// How many datagrams it sent: 0 if it waited for another exchange's connect request.
        sent: u32,
    },
    /// Occurs when the tracker answers with an error packet.
    #[error("the tracker refused: {message}")]
    Refused {
        /// The tracker's message, without control characters.
        message: String,
    },
    /// Occurs when the tracker's answer is not a packet of the protocol.
    #[error("the tracker's answer is malformed: {0}")]
    Packet(#[from] PacketError),
    /// Occurs when the tracker's answer is the response to another action.
    #[error("expected the response to {expected}, got one with action {got}")]
    Action {
        /// The action that was sent.
        expected: &'static str,
        /// The action's number in the answer.
        got: u32,
    },
    /// Occurs when the answer to a scrape has fewer entries than requested torrents.
    #[error("expected {expected} entries in the scrape response, got {got}")]
    Entries {
        /// How many torrents were requested.
        expected: usize,
        /// How many complete entries the answer has.
        got: usize,
    },
}

/// Occurs when a scrape is of no torrent, or of more than fit into a datagram.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {MAX_SCRAPE} torrents in a scrape, got {got}")]
pub struct ScrapeCountError {
    /// How many torrents were given.
    pub got: usize,
}

/// One announce or scrape at one tracker.
///
/// 1. What happened: [`Self::handle_datagram`], [`Self::handle_timeout`].
/// 2. What we want: [`Self::announce`], [`Self::scrape`].
/// 3. What the caller must do now: [`Self::poll_transmit`], [`Self::poll_timeout`].
/// 4. Getters: [`Self::transaction_id`], [`Self::is_done`].
///
/// Pass the same tracker to every call. Exchanges that share a tracker share its connect request,
/// so after a call on one of them drain the polls of all. Drop an exchange to cancel it.
#[derive(Debug)]
pub struct Exchange {
    action: Action,
    transaction_id: u32,
    /// The connection id that the action was last sent with.
    connection_id: u64,
    /// Whether the tracker has rejected a connection id of this exchange.
    reconnected: bool,
    started_at: Duration,
    deadline: Duration,
    sent: u32,
    state: State,
}

#[derive(Debug)]
enum Action {
    Announce { request: Box<AnnounceRequest>, url_data: Vec<u8> },
    Scrape { info_hashes: Vec<InfoHashV1> },
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The action will be sent as soon as there is a connection id. `is_retry`: it was sent before,
    /// so an answer may still come.
    Ready { timeouts: u32, is_retry: bool },
    /// The action was sent, and will be sent again at `retry_at`.
    Sent { timeouts: u32, retry_at: Duration },
    /// The exchange has ended.
    Done,
}

impl Exchange {
    /// Makes an exchange that announces `request` and ends at `deadline`, on the clock of `now`.
    /// `url_data` is the path and query of the tracker's URL, or empty (BEP 41).
    pub fn announce(
        tracker: &mut UdpTracker,
        now: Duration,
        deadline: Duration,
        request: AnnounceRequest,
        url_data: &[u8],
    ) -> Self {
        // The field holds an IPv4 address, and stays empty over IPv6 (BEP 15, "IPv6").
        let ip = request.ip.filter(|_| tracker.address().is_ipv4());
        let request = Box::new(AnnounceRequest { ip, ..request });
        Self::new(tracker, now, deadline, Action::Announce { request, url_data: url_data.to_vec() })
    }

    /// Makes an exchange that scrapes `info_hashes` and ends at `deadline`.
    ///
    /// # Errors
    /// There are no info-hashes, or more than [`MAX_SCRAPE`].
    pub fn scrape(
        tracker: &mut UdpTracker,
        now: Duration,
        deadline: Duration,
        info_hashes: &[InfoHashV1],
    ) -> Result<Self, ScrapeCountError> {
        if !(1..=MAX_SCRAPE).contains(&info_hashes.len()) {
            return Err(ScrapeCountError { got: info_hashes.len() });
        }
        let action = Action::Scrape { info_hashes: info_hashes.to_vec() };
        Ok(Self::new(tracker, now, deadline, action))
    }

    fn new(tracker: &mut UdpTracker, now: Duration, deadline: Duration, action: Action) -> Self {
        Self {
            action,
            transaction_id: tracker.draw_transaction_id(),
            connection_id: 0,
            reconnected: false,
            started_at: now,
            deadline,
            sent: 0,
            state: State::Ready { timeouts: 0, is_retry: false },
        }
    }

    /// Handles a datagram from `sender`. Returns the result if the datagram ends the exchange.
    ///
    /// Ignores a datagram that is not from the tracker, or whose transaction id is neither that of
    /// the action nor that of the tracker's connect request. Therefore a reactor may pass each
    /// datagram to every exchange of the tracker.
    ///
    /// The first error about the connection id, such as opentracker's "Connection ID missmatch.",
    /// does not end the exchange: [`Self::poll_transmit`] then asks for another connection id, and
    /// sends the action again once there is one.
    pub fn handle_datagram(
        &mut self,
        tracker: &mut UdpTracker,
        now: Duration,
        sender: SocketAddr,
        bytes: &[u8],
    ) -> Option<Result<Reply, ExchangeError>> {
        if self.is_done() || !tracker.is_from(sender) {
            return None;
        }
        let transaction_id = packet::response_transaction_id(bytes)?;
        if tracker.connecting() == Some(transaction_id) {
            let error = tracker.handle_connect(now, bytes).err()?;
            self.state = State::Done;
            return Some(Err(error));
        }
        if transaction_id != self.transaction_id || !self.was_sent() {
            return None;
        }
        let response = Response::decode(bytes, tracker.family());
        if matches!(&response, Ok(Response::Error { message, .. }) if is_mismatch(message))
            && !std::mem::replace(&mut self.reconnected, true)
        {
            self.reconnect(tracker);
            return None;
        }
        self.state = State::Done;
        Some(response.map_err(ExchangeError::from).and_then(|response| self.reply(response)))
    }

    /// Starts again after the tracker rejected the connection id, because the tracker was restarted
    /// or our address changed. The new transaction id makes late answers to old datagrams invalid.
    fn reconnect(&mut self, tracker: &mut UdpTracker) {
        tracker.reject(self.connection_id);
        self.transaction_id = tracker.draw_transaction_id();
        self.state = State::Ready { timeouts: 0, is_retry: false };
    }

    /// Ends the exchange and returns the error if the deadline has passed. Retransmissions come
    /// from [`Self::poll_transmit`].
    pub fn handle_timeout(&mut self, now: Duration) -> Option<ExchangeError> {
        if self.is_done() || now < self.deadline {
            return None;
        }
        self.state = State::Done;
        let waited = now.saturating_sub(self.started_at);
        Some(ExchangeError::TimedOut { waited, sent: self.sent })
    }

    /// Returns the next datagram to send to the tracker's address, if one is due. A caller that
    /// cannot send it may drop it, as the network could.
    #[must_use]
    pub fn poll_transmit(&mut self, tracker: &mut UdpTracker, now: Duration) -> Option<Vec<u8>> {
        if now >= self.deadline {
            return None;
        }
        if let State::Sent { timeouts, retry_at } = self.state
            && now >= retry_at
        {
            let timeouts = (timeouts + 1).min(MAX_BACK_OFF);
            self.state = State::Ready { timeouts, is_retry: true };
        }
        let State::Ready { timeouts, .. } = self.state else { return None };
        let datagram = match tracker.connection_id(now) {
            Some(connection_id) => {
                let retry_at = now.saturating_add(back_off(timeouts));
                self.state = State::Sent { timeouts, retry_at };
                self.connection_id = connection_id;
                self.encode(connection_id)
            }
            None => tracker.poll_connect(now, self.started_at, timeouts)?,
        };
        self.sent = self.sent.saturating_add(1);
        Some(datagram)
    }

    /// Returns the latest time to call [`Self::handle_timeout`] and drain the polls again, or
    /// `None` once the exchange is done.
    #[must_use]
    pub fn poll_timeout(&self, tracker: &UdpTracker) -> Option<Duration> {
        let next = match self.state {
            State::Ready { .. } => tracker.next_connect(self.started_at),
            State::Sent { retry_at, .. } => retry_at,
            State::Done => return None,
        };
        Some(next.min(self.deadline))
    }

    /// Returns the transaction id of the action. It changes if the tracker rejects the connection
    /// id. The connect request has another one, [`UdpTracker::connecting`].
    pub fn transaction_id(&self) -> u32 {
        self.transaction_id
    }

    /// Whether the exchange has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn was_sent(&self) -> bool {
        matches!(self.state, State::Sent { .. } | State::Ready { is_retry: true, .. })
    }

    fn encode(&self, connection_id: u64) -> Vec<u8> {
        let transaction_id = self.transaction_id;
        match &self.action {
            Action::Announce { request, url_data } => {
                packet::encode_announce(connection_id, transaction_id, request, url_data)
            }
            Action::Scrape { info_hashes } => {
                packet::encode_scrape(connection_id, transaction_id, info_hashes)
            }
        }
    }

    fn reply(&self, response: Response) -> Result<Reply, ExchangeError> {
        match (&self.action, response) {
            (_, Response::Error { message, .. }) => Err(ExchangeError::Refused { message }),
            (
                Action::Announce { .. },
                Response::Announce { interval, leechers, seeders, peers, .. },
            ) => Ok(Reply::Announce(AnnounceReply {
                interval: interval_or_default(Some(interval.into())),
                leechers: Some(leechers),
                seeders: Some(seeders),
                peers: peers.into_iter().map(Into::into).collect(),
                ..AnnounceReply::default()
            })),
            (Action::Scrape { info_hashes }, Response::Scrape { counts, .. }) => {
                scrape_entries(info_hashes, &counts).map(Reply::Scrape)
            }
            (action, other) => {
                Err(ExchangeError::Action { expected: action.name(), got: other.action() })
            }
        }
    }
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Announce { .. } => "announce",
            Self::Scrape { .. } => "scrape",
        }
    }
}

/// Whether an error message is about the connection id. The wording differs between trackers, and
/// opentracker misspells "mismatch".
fn is_mismatch(message: &str) -> bool {
    let letters = message.chars().filter(char::is_ascii_alphanumeric);
    let letters: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    letters.contains("connectionid")
}

fn scrape_entries(
    info_hashes: &[InfoHashV1],
    counts: &[ScrapeCounts],
) -> Result<Vec<ScrapeEntry>, ExchangeError> {
    if counts.len() < info_hashes.len() {
        return Err(ExchangeError::Entries { expected: info_hashes.len(), got: counts.len() });
    }
    let entry = |(info_hash, counts): (&InfoHashV1, &ScrapeCounts)| ScrapeEntry {
        info_hash: *info_hash,
        seeders: counts.seeders,
        leechers: counts.leechers,
        completed: counts.completed,
    };
    Ok(info_hashes.iter().zip(counts).map(entry).collect())
}

fn datagrams(count: u32) -> String {
    match count {
        1 => "1 datagram".to_owned(),
        count => format!("{count} datagrams"),
    }
}

#[cfg(test)]
mod tests;
