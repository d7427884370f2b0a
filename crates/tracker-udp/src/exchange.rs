//! One announce or scrape, without I/O. An exchange asks its [`UdpTracker`] for a connection id,
//! sends the action, and sends it again when no answer comes (BEP 15, "Time outs"). It ends with a
//! reply, an error or the caller's deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{AnnounceReply, AnnounceRequest, InfoHashV1, ScrapeEntry, interval_or_default};

use crate::packet::{self, MAX_SCRAPE, PacketError, Response, ScrapeCounts};
use crate::tracker::{MAX_BACK_OFF, UdpTracker, back_off};

/// What a tracker answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To an announce.
    Announce(AnnounceReply),
    /// To a scrape: one entry for each torrent asked for, in that order.
    Scrape(Vec<ScrapeEntry>),
}

/// Why an exchange ended without a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Occurs when the caller's deadline passed.
    #[error("no answer within {:.0} s ({} sent)", waited.as_secs_f64(), datagrams(*sent))]
    TimedOut {
        /// How long the exchange lasted.
        waited: Duration,
        /// How many datagrams it sent. 0: it waited for another exchange's connect request.
        sent: u32,
    },
    /// Occurs when the tracker answers with an error packet.
    #[error("the tracker refused: {message}")]
    Refused {
        /// What the tracker says, without control characters.
        message: String,
    },
    /// Occurs when the tracker's answer is no packet of the protocol.
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
    /// Occurs when a scrape is answered for fewer torrents than were asked for.
    #[error("expected {expected} entries in the scrape response, got {got}")]
    Entries {
        /// How many torrents were asked for.
        expected: usize,
        /// How many whole entries there were.
        got: usize,
    },
}

/// A scrape of no torrent at all, or of more than fit into a datagram.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {MAX_SCRAPE} torrents in a scrape, got {got}")]
pub struct ScrapeCountError {
    /// How many were given.
    pub got: usize,
}

/// One announce or scrape at one tracker.
///
/// 1. What happened: [`Self::handle_datagram`], [`Self::handle_timeout`].
/// 2. What we want: [`Self::announce`] or [`Self::scrape`], which make the exchange.
/// 3. What the caller must do now: [`Self::poll_transmit`], [`Self::poll_timeout`].
/// 4. Getters: [`Self::transaction_id`], [`Self::is_done`].
///
/// Pass every call the tracker that the exchange was made with. Exchanges that share a tracker
/// share its connect request: after a call on one of them, drain the polls of all. Drop an exchange
/// to abandon it.
#[derive(Debug)]
pub struct Exchange {
    action: Action,
    transaction_id: u32,
    /// The connection id that the action was last sent with.
    connection_id: u64,
    /// Whether the tracker has rejected a connection id of this exchange.
    reconnected: bool,
    began: Duration,
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
    /// The action is to be sent as soon as there is a connection id. `asked`: it was sent before,
    /// so an answer may still come.
    Ready { timeouts: u32, asked: bool },
    /// The action was sent, and is sent again at `retry_at`.
    Sent { timeouts: u32, retry_at: Duration },
    /// The exchange has ended.
    Done,
}

impl Exchange {
    /// Makes an exchange that announces `request` and ends at `deadline`, a time on the same clock
    /// as `now`. `url_data` is the path and query of the tracker's URL, or empty (BEP 41).
    pub fn announce(
        tracker: &mut UdpTracker,
        now: Duration,
        deadline: Duration,
        request: AnnounceRequest,
        url_data: &[u8],
    ) -> Self {
        // The field is for an IPv4 address, to be left empty over IPv6 (BEP 15, "IPv6").
        let ip = request.ip.filter(|_| tracker.address().is_ipv4());
        let request = Box::new(AnnounceRequest { ip, ..request });
        Self::new(tracker, now, deadline, Action::Announce { request, url_data: url_data.to_vec() })
    }

    /// Makes an exchange that scrapes `info_hashes` and ends at `deadline`.
    ///
    /// # Errors
    /// There is no info-hash, or there are more than [`MAX_SCRAPE`].
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
        let transaction_id = tracker.draw_transaction_id();
        let state = State::Ready { timeouts: 0, asked: false };
        let (connection_id, reconnected, began, sent) = (0, false, now, 0);
        Self { action, transaction_id, connection_id, reconnected, began, deadline, sent, state }
    }

    /// Handles a datagram from `source`. Returns the result if that ends the exchange.
    ///
    /// A datagram from elsewhere, with another transaction id or without one changes nothing, so a
    /// reactor may offer each datagram to every exchange of the tracker.
    ///
    /// The first error about the connection id, such as opentracker's "Connection ID missmatch.",
    /// does not end the exchange. It asks for another id and sends the action again at once.
    pub fn handle_datagram(
        &mut self,
        tracker: &mut UdpTracker,
        now: Duration,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Option<Result<Reply, ExchangeError>> {
        if self.is_done() || !tracker.is_source(source) {
            return None;
        }
        let transaction_id = packet::response_transaction_id(bytes)?;
        if tracker.connecting() == Some(transaction_id) {
            let error = tracker.handle_connect(now, bytes).err()?;
            self.state = State::Done;
            return Some(Err(error));
        }
        if transaction_id != self.transaction_id || !self.was_asked() {
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

    /// Starts again after the tracker rejected the connection id, because it was restarted or our
    /// address changed. Ignores answers to what was sent with that id.
    fn reconnect(&mut self, tracker: &mut UdpTracker) {
        tracker.reject(self.connection_id);
        self.transaction_id = tracker.draw_transaction_id();
        self.state = State::Ready { timeouts: 0, asked: false };
    }

    /// Ends the exchange and returns the error if the deadline has passed. A retransmission that is
    /// due comes from [`Self::poll_transmit`].
    pub fn handle_timeout(&mut self, now: Duration) -> Option<ExchangeError> {
        if self.is_done() || now < self.deadline {
            return None;
        }
        self.state = State::Done;
        let waited = now.saturating_sub(self.began);
        Some(ExchangeError::TimedOut { waited, sent: self.sent })
    }

    /// Returns the next datagram to send to the tracker's address, if one is due. The caller may
    /// drop a datagram that it cannot send, as if the network had lost it.
    #[must_use]
    pub fn poll_transmit(&mut self, tracker: &mut UdpTracker, now: Duration) -> Option<Vec<u8>> {
        if now >= self.deadline {
            return None;
        }
        if let State::Sent { timeouts, retry_at } = self.state
            && now >= retry_at
        {
            let timeouts = (timeouts + 1).min(MAX_BACK_OFF);
            self.state = State::Ready { timeouts, asked: true };
        }
        let State::Ready { timeouts, .. } = self.state else { return None };
        let datagram = match tracker.connection_id(now) {
            Some(connection_id) => {
                let retry_at = now.saturating_add(back_off(timeouts));
                self.state = State::Sent { timeouts, retry_at };
                self.connection_id = connection_id;
                self.encode(connection_id)
            }
            None => tracker.poll_connect(now, self.began, timeouts)?,
        };
        self.sent = self.sent.saturating_add(1);
        Some(datagram)
    }

    /// Returns when to call [`Self::handle_timeout`] and drain the polls again, at the latest; `None`
    /// once the exchange is done.
    #[must_use]
    pub fn poll_timeout(&self, tracker: &UdpTracker) -> Option<Duration> {
        let next = match self.state {
            State::Ready { .. } => tracker.next_connect(self.began),
            State::Sent { retry_at, .. } => retry_at,
            State::Done => return None,
        };
        Some(next.min(self.deadline))
    }

    /// Returns the transaction id of the action. It changes when the tracker rejects a connection
    /// id. The connect request has its own, [`UdpTracker::connecting`].
    pub fn transaction_id(&self) -> u32 {
        self.transaction_id
    }

    /// Whether the exchange has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn was_asked(&self) -> bool {
        matches!(self.state, State::Sent { .. } | State::Ready { asked: true, .. })
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

/// Whether an error says that the connection id is wrong. Trackers word it differently; one
/// of the most used trackers misspells it as "missmatch".
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
