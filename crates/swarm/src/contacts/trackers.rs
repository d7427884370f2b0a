//! Which tracker to ask, and when (BEP 12).
//!
//! Trackers are walked tier by tier, each tier in an order shuffled once, until one answers. That
//! one moves to the front of its tier. The next walk starts after the interval of the answer, from
//! the first tier again. A tracker that failed is skipped until its back-off is over. At most one
//! announce is under way at a time; those with `stopped` go out together.

use std::time::Duration;

use bt_types::{AnnounceEvent, AnnounceReply};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::vocabulary::{AnnounceFailure, Output, TrackerIndex, TrackerView};

/// The most trackers of one torrent; the others are not asked. Each that fails at once costs a
/// look at all of them.
pub const MAX_TRACKERS: usize = 100;
/// The back-off after a tracker's first failure; it doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_secs(60);
/// The longest back-off.
const MAX_BACK_OFF: Duration = Duration::from_secs(60 * 60);
/// The shortest interval that is honoured, so that no reply makes us flood a tracker.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The longest interval that is honoured.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The same while pieces are missing: an absurd interval must not stop a download for a day.
const MAX_LEECH_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// What a swarm needs of its trackers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// It has every piece.
    Nothing,
    /// Pieces are missing.
    Pieces,
    /// Pieces are missing, and no peer is left to try.
    Peers,
}

#[derive(Debug, Clone)]
struct Tracker {
    url: Box<str>,
    tier: u32,
    /// Its rank in its tier: the lowest is asked first.
    rank: i32,
    /// Whether it was sent `started`, and not `stopped` since.
    started: bool,
    /// Whether it has yet to be sent `completed`.
    owed_completed: bool,
    /// Whether it is not asked any more.
    dropped: bool,
    announcing: Option<AnnounceEvent>,
    failures: u32,
    error: Option<Box<str>>,
    /// Whether it has replied.
    replied: bool,
    /// The last one that it gave.
    tracker_id: Option<Box<[u8]>>,
    next: Duration,
}

/// The trackers of one torrent.
#[derive(Debug, Clone)]
pub(crate) struct Trackers {
    list: Box<[Tracker]>,
    /// When the next walk starts, or continues.
    due: Duration,
    /// The one asked in the walk.
    asking: Option<usize>,
    /// When the last announce was made, or the swarm started.
    pub(crate) announced_at: Duration,
}

impl Trackers {
    /// Returns the trackers of these tiers; the first is asked at `now`.
    pub(crate) fn new(now: Duration, urls: &[Vec<String>], rng: &mut impl Rng) -> Self {
        let tiers = (0u32..).zip(urls);
        let mut list: Box<[Tracker]> = tiers
            .flat_map(|(tier, urls)| urls.iter().map(move |url| Tracker::new(url, tier, now)))
            .take(MAX_TRACKERS)
            .collect();
        for tier in list.chunk_by_mut(|a, b| a.tier == b.tier) {
            let mut order: Vec<usize> = (0..tier.len()).collect();
            order.shuffle(rng);
            (0..).zip(order).for_each(|(rank, index)| tier[index].rank = rank);
        }
        Self { list, due: now, asking: None, announced_at: now }
    }

    /// Returns the announce that is due, if any.
    pub(crate) fn poll(&mut self, now: Duration, num_want: u32) -> Option<Output> {
        if self.asking.is_some() {
            return None;
        }
        let is_due = |tracker: &Tracker| tracker.owes() && tracker.completed_at() <= now;
        let completed = self.list.iter().position(is_due);
        if let Some(index) = completed {
            return Some(self.ask(now, index, AnnounceEvent::Completed, num_want));
        }
        if now < self.due {
            return None;
        }
        let is_ready = |tracker: &Tracker| !tracker.dropped && tracker.next <= now;
        let ready = (0..self.list.len()).filter(|index| is_ready(&self.list[*index]));
        let first = ready.min_by_key(|index| (self.list[*index].tier, self.list[*index].rank));
        let Some(index) = first else {
            let asked = self.list.iter().filter(|tracker| !tracker.dropped);
            self.due = asked.map(|tracker| tracker.next).min()?;
            return None;
        };
        let started = self.list[index].started;
        let event = if started { AnnounceEvent::None } else { AnnounceEvent::Started };
        Some(self.ask(now, index, event, num_want))
    }

    /// Returns when [`Self::poll`] has the next announce.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let mut asked = self.list.iter().filter(|tracker| !tracker.dropped).peekable();
        if self.asking.is_some() || asked.peek().is_none() {
            return None;
        }
        asked.filter(|tracker| tracker.owes()).map(Tracker::completed_at).chain([self.due]).min()
    }

    /// A tracker answered. While no peer is left to try, the shortest interval that the tracker
    /// allows counts.
    pub(crate) fn answered(
        &mut self,
        now: Duration,
        TrackerIndex(index): TrackerIndex,
        reply: &AnnounceReply,
        need: Need,
    ) {
        let Some(tracker) = self.list.get_mut(index) else { return };
        let event = tracker.announcing.take();
        tracker.note_reply(reply, event);
        let seconds = match reply.min_interval {
            Some(least) if need == Need::Peers => least.max(60).min(reply.interval),
            least => reply.interval.max(least.unwrap_or(0)),
        };
        let most = if need == Need::Nothing { MAX_INTERVAL } else { MAX_LEECH_INTERVAL };
        let interval = Duration::from_secs(seconds.into()).clamp(MIN_INTERVAL, most);
        tracker.next = now + interval;
        if self.asking == Some(index) {
            self.asking = None;
            self.due = now + interval;
            self.move_to_front(index);
        }
    }

    /// An announce failed.
    pub(crate) fn failed(
        &mut self,
        now: Duration,
        TrackerIndex(index): TrackerIndex,
        failure: AnnounceFailure,
    ) {
        let Some(tracker) = self.list.get_mut(index) else { return };
        if tracker.announcing.take().is_none() {
            return;
        }
        tracker.failures = tracker.failures.saturating_add(1);
        tracker.next = now + back_off(tracker.failures, failure.retry_in);
        tracker.error = Some(failure.message.into());
        if self.asking == Some(index) {
            self.asking = None;
        }
    }

    /// We have the whole torrent now.
    pub(crate) fn completed(&mut self) {
        for tracker in &mut self.list {
            tracker.owed_completed = tracker.may_know_us();
        }
    }

    /// Announces `stopped` to each tracker that may know us. The caller does not poll afterwards.
    pub(crate) fn stop(&mut self) -> Vec<Output> {
        self.asking = None;
        let knows_us = |index: &usize| self.list[*index].may_know_us();
        let notified: Vec<usize> = (0..self.list.len()).filter(knows_us).collect();
        notified
            .into_iter()
            .map(|index| {
                self.list[index].started = false;
                self.list[index].owed_completed = false;
                self.ask_aside(index, AnnounceEvent::Stopped, 0)
            })
            .collect()
    }

    /// Whether a tracker is not asked any more, so that what it says counts for nothing.
    pub(crate) fn is_dropped(&self, tracker: TrackerIndex) -> bool {
        self.list.get(tracker.0).is_some_and(|tracker| tracker.dropped)
    }

    /// Stops asking these, and asks the others again. Announces `stopped` to those of them that
    /// may know us.
    pub(crate) fn drop_all(&mut self, now: Duration, urls: &[String]) -> Vec<Output> {
        let is_meant = |tracker: &Tracker| urls.iter().any(|url| **url == *tracker.url);
        let dropped: Vec<usize> =
            (0..self.list.len()).filter(|index| is_meant(&self.list[*index])).collect();
        let mut outputs = Vec::new();
        for index in dropped {
            let knows_us = self.list[index].may_know_us();
            let tracker = &mut self.list[index];
            (tracker.dropped, tracker.started, tracker.owed_completed) = (true, false, false);
            if self.asking == Some(index) {
                self.asking = None;
            }
            if knows_us {
                outputs.push(self.ask_aside(index, AnnounceEvent::Stopped, 0));
            }
        }
        self.due = now;
        self.list.iter_mut().for_each(|tracker| tracker.next = now);
        outputs
    }

    /// Whether each has failed last. None at all has not answered either.
    pub(super) fn have_all_failed(&self) -> bool {
        self.list.iter().all(|tracker| tracker.dropped || tracker.error.is_some())
    }

    /// Whether no further tracker is asked now: one answers, or all have failed.
    pub(super) fn are_settled(&self) -> bool {
        let answers = |tracker: &Tracker| tracker.error.is_none() && tracker.replied;
        self.list.iter().any(answers) || self.have_all_failed()
    }

    /// Returns what there is to see of each tracker, by number.
    pub(crate) fn views(&self) -> impl Iterator<Item = TrackerView> + '_ {
        self.list.iter().filter(|tracker| !tracker.dropped).map(Tracker::view)
    }

    /// Moves the tracker to the front of its tier.
    fn move_to_front(&mut self, index: usize) {
        let tier = self.list[index].tier;
        let ranks = self.list.iter().filter(|tracker| tracker.tier == tier).map(|it| it.rank);
        let first = ranks.min().unwrap_or(0);
        if self.list[index].rank > first {
            self.list[index].rank = first - 1;
        }
    }

    fn ask(&mut self, now: Duration, index: usize, event: AnnounceEvent, num_want: u32) -> Output {
        (self.asking, self.announced_at) = (Some(index), now);
        self.ask_aside(index, event, num_want)
    }

    fn ask_aside(&mut self, index: usize, event: AnnounceEvent, num_want: u32) -> Output {
        let tracker = &mut self.list[index];
        tracker.announcing = Some(event);
        let tracker_id = tracker.tracker_id.as_deref().map(Vec::from);
        let (tracker, url) = (TrackerIndex(index), tracker.url.to_string());
        Output::Announce { tracker, url, event, num_want, tracker_id }
    }
}

impl Tracker {
    fn new(url: &str, tier: u32, next: Duration) -> Self {
        Self {
            url: url.into(),
            tier,
            rank: 0,
            started: false,
            owed_completed: false,
            dropped: false,
            announcing: None,
            failures: 0,
            error: None,
            replied: false,
            tracker_id: None,
            next,
        }
    }

    /// Whether it was sent `started`, or is being sent it.
    fn may_know_us(&self) -> bool {
        self.started || self.announcing == Some(AnnounceEvent::Started)
    }

    /// Whether `completed` may be sent. A tracker that does not know us is sent `started` first.
    fn owes(&self) -> bool {
        self.owed_completed && self.started
    }

    /// Returns when `completed` may be sent: at once, or after a back-off.
    fn completed_at(&self) -> Duration {
        if self.failures == 0 { Duration::ZERO } else { self.next }
    }

    fn note_reply(&mut self, reply: &AnnounceReply, event: Option<AnnounceEvent>) {
        self.failures = 0;
        self.error = None;
        match event {
            Some(AnnounceEvent::Started) => self.started = true,
            Some(AnnounceEvent::Completed) => self.owed_completed = false,
            Some(AnnounceEvent::Stopped) => self.started = false,
            Some(AnnounceEvent::None | AnnounceEvent::Paused) | None => {}
        }
        self.replied = true;
        if let Some(id) = &reply.tracker_id {
            self.tracker_id = Some(id.as_slice().into());
        }
    }

    fn view(&self) -> TrackerView {
        TrackerView {
            url: self.url.to_string(),
            failures: self.failures,
            error: self.error.as_deref().map(str::to_owned),
            replied: self.replied,
            next_announce: self.next,
        }
    }
}

/// Returns how long a tracker is not asked after its `failures`th failure in a row: the longer of
/// our back-off and what the tracker said.
fn back_off(failures: u32, retry_in: Option<u32>) -> Duration {
    let ours = (FIRST_BACK_OFF * 2u32.pow(failures.saturating_sub(1).min(6))).min(MAX_BACK_OFF);
    let theirs = Duration::from_secs(retry_in.unwrap_or(0).into()).min(MAX_INTERVAL);
    ours.max(theirs)
}
