//! Limits and back-off per tracker host: at most two requests under way, and one back-off for all
//! torrents together. Hosts take turns, so that ten thousand torrents on one do not delay the
//! others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::keys::AnnounceKey;
use crate::limits::{MAX_ANNOUNCES, MAX_NAMES, MAX_REQUESTS_PER_HOST};

/// After the first failure; doubles with each further one. Half of the swarm's back-off for a
/// tracker, so that it is over when the torrent that failed announces again.
const FIRST_BACK_OFF: Duration = Duration::from_secs(30);
const MAX_BACK_OFF: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Default)]
struct Host {
    under_way: usize,
    /// Of those, the ones that are not awaited any more.
    late: usize,
    /// By the number in the key, so that the first to come is served first.
    waiting: BTreeMap<u64, AnnounceKey>,
    /// Whether it is in [`Hosts::line`].
    in_line: bool,
    failures: u32,
    rest: Option<(Duration, String)>,
}

/// All hosts that were asked.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: BTreeMap<Arc<str>, Host>,
    /// Awaited requests under way to all hosts. Late ones do not count, so that silent hosts do not
    /// delay the others.
    under_way: usize,
    /// Hosts with announces that wait, and with fewer requests under way than allowed.
    line: VecDeque<Arc<str>>,
}

impl Hosts {
    /// Has an announce wait at the host `name`, until [`Self::poll_next`] returns its key. `urgent`
    /// ones (`started`, `stopped`) ignore a back-off. Returns the name, shared by all that wait
    /// there.
    ///
    /// # Errors
    /// The host is in back-off after this failure.
    pub(super) fn admit(
        &mut self,
        now: Duration,
        name: &str,
        key: AnnounceKey,
        urgent: bool,
    ) -> Result<Arc<str>, String> {
        self.make_room(now);
        let known = self.hosts.get_key_value(name).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| name.into());
        let host = self.hosts.entry(Arc::clone(&name)).or_default();
        if let Some((until, message)) = &host.rest
            && now < *until
            && !urgent
        {
            return Err(message.clone());
        }
        host.waiting.insert(key.number, key);
        self.line_up(&name);
        Ok(name)
    }

    /// The next announce to send.
    pub(super) fn poll_next(&mut self) -> Option<AnnounceKey> {
        while self.under_way < MAX_ANNOUNCES {
            let name = self.line.pop_front()?;
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            host.in_line = false;
            if host.under_way >= MAX_REQUESTS_PER_HOST {
                continue;
            }
            let Some((_, key)) = host.waiting.pop_first() else { continue };
            host.under_way += 1;
            self.under_way += 1;
            self.line_up(&name);
            return Some(key);
        }
        None
    }

    /// A request to a host has ended. If the host failed, returns the announces that wait there:
    /// they fail too, so that their torrents ask other trackers.
    #[must_use]
    pub(super) fn handle_finished(
        &mut self,
        now: Duration,
        name: &str,
        failure: Option<&str>,
    ) -> Vec<AnnounceKey> {
        let Some(host) = self.hosts.get_mut(name) else { return Vec::new() };
        host.note_result(now, failure);
        let failed = failure.map(|_| host.take_waiting()).unwrap_or_default();
        host.under_way = host.under_way.saturating_sub(1);
        match host.late {
            0 => self.under_way = self.under_way.saturating_sub(1),
            _ => host.late -= 1,
        }
        if host.under_way == 0 && host.waiting.is_empty() && host.rest.is_none() {
            self.hosts.remove(name);
        } else {
            self.line_up(name);
        }
        failed
    }

    /// A request under way is not awaited any more. It still counts as one of the host's requests.
    pub(super) fn release(&mut self, name: &str) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.late += 1;
            self.under_way = self.under_way.saturating_sub(1);
        }
    }

    /// A request takes too long, and still counts. Returns the announces that wait there: they
    /// fail.
    pub(super) fn handle_late(
        &mut self,
        now: Duration,
        name: &str,
        failure: &str,
    ) -> Vec<AnnounceKey> {
        self.release(name);
        let Some(host) = self.hosts.get_mut(name) else { return Vec::new() };
        host.note_result(now, Some(failure));
        host.take_waiting()
    }

    fn line_up(&mut self, name: &str) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let ready = !host.waiting.is_empty() && host.under_way < MAX_REQUESTS_PER_HOST;
        if ready && !std::mem::replace(&mut host.in_line, true) {
            self.line.push_back(name.into());
        }
    }

    /// Forgets hosts whose back-off is over, once there are [`MAX_NAMES`].
    fn make_room(&mut self, now: Duration) {
        if self.hosts.len() >= MAX_NAMES {
            let rests = |host: &Host| host.rest.as_ref().is_some_and(|(until, _)| *until > now);
            let waits = |host: &Host| host.under_way > 0 || !host.waiting.is_empty();
            self.hosts.retain(|_, host| waits(host) || rests(host));
        }
    }

    /// Removes an announce that waits.
    pub(super) fn forget(&mut self, name: &str, key: AnnounceKey) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.waiting.remove(&key.number);
        }
    }
}

impl Host {
    fn take_waiting(&mut self) -> Vec<AnnounceKey> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    fn note_result(&mut self, now: Duration, failure: Option<&str>) {
        match failure {
            None => (self.failures, self.rest) = (0, None),
            Some(message) => {
                let doubled = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(10));
                self.rest = Some((now + doubled.min(MAX_BACK_OFF), message.to_owned()));
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use piece_store::TorrentKey;

    use super::*;

    fn key(number: u64) -> AnnounceKey {
        AnnounceKey { torrent: TorrentKey(9 - number % 10), number }
    }

    fn admit(hosts: &mut Hosts, name: &str, numbers: std::ops::Range<u64>) {
        numbers
            .for_each(|number| _ = hosts.admit(Duration::ZERO, name, key(number), true).unwrap());
    }

    fn going(hosts: &mut Hosts) -> Vec<AnnounceKey> {
        std::iter::from_fn(|| hosts.poll_next()).collect()
    }

    #[test]
    fn two_are_sent_then_in_order() {
        let mut hosts = Hosts::default();
        admit(&mut hosts, "t", 0..4);
        assert_eq!(going(&mut hosts), [key(0), key(1)]);
        let mut finish = || {
            assert!(hosts.handle_finished(Duration::ZERO, "t", None).is_empty());
            going(&mut hosts)
        };
        assert_eq!([finish(), finish()], [[key(2)], [key(3)]]);
        assert!(finish().is_empty() && finish().is_empty());
        assert!(hosts.hosts.is_empty());
    }

    #[test]
    fn silent_hosts_delay_no_others() {
        let mut hosts = Hosts::default();
        let names: Vec<String> = (0..MAX_ANNOUNCES).map(|host| format!("host-{host}")).collect();
        (0..).zip(&names).for_each(|(at, name)| admit(&mut hosts, name, at..at + 1));
        assert_eq!(going(&mut hosts).len(), MAX_ANNOUNCES);
        admit(&mut hosts, "good", 1000..1001);
        assert!(going(&mut hosts).is_empty());
        assert!(hosts.handle_late(Duration::ZERO, &names[0], "no answer").is_empty());
        assert_eq!(going(&mut hosts), [key(1000)]);
        // The end of the late one makes no more room.
        assert!(hosts.handle_finished(Duration::ZERO, &names[0], None).is_empty());
        admit(&mut hosts, "another", 1001..1002);
        assert!(going(&mut hosts).is_empty());
        assert!(hosts.handle_finished(Duration::ZERO, "good", None).is_empty());
        assert_eq!(going(&mut hosts), [key(1001)]);
    }

    #[test]
    fn hosts_take_turns() {
        let mut hosts = Hosts::default();
        let names: Vec<String> = (0..MAX_ANNOUNCES).map(|host| format!("host-{host}")).collect();
        for (at, name) in (0..).zip(&names) {
            admit(&mut hosts, name, 2 * at..2 * at + 2);
        }
        let first = going(&mut hosts);
        assert_eq!(first.len(), MAX_ANNOUNCES);
        assert!(first.iter().zip(0..).all(|(got, at)| *got == key(2 * at)), "one of each host");
        assert!(hosts.handle_finished(Duration::ZERO, &names[0], None).is_empty());
        assert_eq!(going(&mut hosts), [key(1)]);
    }

    #[test]
    fn waiting_announces_fail_with_host() {
        let mut hosts = Hosts::default();
        let now = Duration::ZERO;
        admit(&mut hosts, "t", 0..4);
        assert_eq!(going(&mut hosts).len(), 2);
        let failed = hosts.handle_finished(now, "t", Some("refused"));
        assert_eq!(failed, [key(2), key(3)]);
        assert!(hosts.handle_finished(now, "t", None).is_empty());
        assert!(going(&mut hosts).is_empty() && hosts.hosts.is_empty());
    }

    #[test]
    fn forgotten_announce_is_not_sent() {
        let mut hosts = Hosts::default();
        admit(&mut hosts, "t", 0..3);
        assert_eq!(going(&mut hosts).len(), 2);
        hosts.forget("t", key(2));
        assert!(hosts.handle_finished(Duration::ZERO, "t", None).is_empty());
        assert!(going(&mut hosts).is_empty());
    }

    #[test]
    fn failure_is_shared_during_back_off() {
        let mut hosts = Hosts::default();
        let at = Duration::from_secs;
        assert!(hosts.admit(at(0), "t", key(0), false).is_ok());
        assert_eq!(hosts.poll_next(), Some(key(0)));
        assert!(hosts.handle_finished(at(0), "t", Some("refused")).is_empty());
        assert_eq!(hosts.admit(at(29), "t", key(1), false), Err("refused".to_owned()));
        assert!(hosts.admit(at(29), "t", key(1), true).is_ok());
        assert!(hosts.admit(at(30), "t", key(2), false).is_ok());
        assert_eq!(going(&mut hosts), [key(1), key(2)]);
        assert!(hosts.handle_finished(at(30), "t", None).is_empty());
        assert!(hosts.admit(at(30), "t", key(3), false).is_ok());
    }
}
