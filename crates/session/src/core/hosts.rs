//! Manners towards tracker hosts: at most two requests under way to one host, and one back-off for
//! all torrents together.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::announces::AnnounceKey;
use crate::limits::{MAX_NAMES, MAX_REQUESTS_PER_HOST};

/// After the first failure; doubles with each further one. Half of what one torrent waits by
/// itself, so that a torrent never meets its own failure here.
const FIRST_BACK_OFF: Duration = Duration::from_secs(30);
const MAX_BACK_OFF: Duration = Duration::from_secs(30 * 60);

/// Whether a request may go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Go,
    /// It goes out when [`Hosts::handle_finished`] names it.
    Wait,
    /// The host failed a moment ago, with these words.
    Failing(String),
}

/// Who waited for a request to end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// This one may go.
    pub(super) next: Option<AnnounceKey>,
    /// These fail with the host.
    pub(super) failed: VecDeque<AnnounceKey>,
}

#[derive(Debug, Default)]
struct Host {
    running: usize,
    waiting: VecDeque<AnnounceKey>,
    failures: u32,
    rest: Option<(Duration, String)>,
}

/// All hosts that were asked.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: BTreeMap<String, Host>,
}

impl Hosts {
    /// Asks whether `key` may go to `host` now. `urgent` ones (`started`, `stopped`) do not mind a
    /// back-off.
    pub(super) fn admit(
        &mut self,
        now: Duration,
        host: &str,
        key: AnnounceKey,
        urgent: bool,
    ) -> Admission {
        self.make_room(now);
        let host = self.hosts.entry(host.to_owned()).or_default();
        if let Some((until, message)) = &host.rest
            && now < *until
            && !urgent
        {
            return Admission::Failing(message.clone());
        }
        if host.running < MAX_REQUESTS_PER_HOST {
            host.running += 1;
            Admission::Go
        } else {
            host.waiting.push_back(key);
            Admission::Wait
        }
    }

    /// A request to `host` that went out has ended. After a failure of the host those that wait fail
    /// too: their torrents have other trackers to ask.
    #[must_use]
    pub(super) fn handle_finished(
        &mut self,
        now: Duration,
        name: &str,
        failure: Option<&str>,
    ) -> Released {
        let Some(host) = self.hosts.get_mut(name) else { return Released::default() };
        host.note_result(now, failure);
        let failed = match failure {
            Some(_) => std::mem::take(&mut host.waiting),
            None => VecDeque::new(),
        };
        let next = host.waiting.pop_front();
        if next.is_none() {
            host.running = host.running.saturating_sub(1);
        }
        if host.running == 0 && host.rest.is_none() {
            self.hosts.remove(name);
        }
        Released { next, failed }
    }

    /// A request to `host` takes too long. It keeps its turn; those that wait fail.
    pub(super) fn handle_late(
        &mut self,
        now: Duration,
        name: &str,
        failure: &str,
    ) -> VecDeque<AnnounceKey> {
        let Some(host) = self.hosts.get_mut(name) else { return VecDeque::new() };
        host.note_result(now, Some(failure));
        std::mem::take(&mut host.waiting)
    }

    /// Forgets hosts that failed long ago, once there are [`MAX_NAMES`].
    fn make_room(&mut self, now: Duration) {
        if self.hosts.len() >= MAX_NAMES {
            let rests = |host: &Host| host.rest.as_ref().is_some_and(|(until, _)| *until > now);
            self.hosts.retain(|_, host| host.running > 0 || rests(host));
        }
    }

    /// A request that waits is no longer needed.
    pub(super) fn forget(&mut self, name: &str, key: AnnounceKey) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.waiting.retain(|waiting| *waiting != key);
        }
    }
}

impl Host {
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
    use super::*;

    fn key(number: u64) -> AnnounceKey {
        AnnounceKey::new(number)
    }

    #[test]
    fn two_at_a_time_then_in_order() {
        let mut hosts = Hosts::default();
        let now = Duration::ZERO;
        let admissions: Vec<Admission> =
            (0..4).map(|number| hosts.admit(now, "t", key(number), false)).collect();
        use Admission::{Go, Wait};
        assert_eq!(admissions, [Go, Go, Wait, Wait]);
        let mut finish = || hosts.handle_finished(now, "t", None).next;
        assert_eq!(
            [finish(), finish(), finish(), finish()],
            [Some(key(2)), Some(key(3)), None, None]
        );
        assert!(hosts.hosts.is_empty());
    }

    #[test]
    fn those_that_wait_fail_with_their_host() {
        let mut hosts = Hosts::default();
        let now = Duration::ZERO;
        (0..4).for_each(|number| _ = hosts.admit(now, "t", key(number), true));
        let released = hosts.handle_finished(now, "t", Some("refused"));
        assert_eq!(released, Released { next: None, failed: [key(2), key(3)].into() });
        assert_eq!(hosts.handle_finished(now, "t", None), Released::default());
        assert!(hosts.hosts.is_empty());
    }

    #[test]
    fn a_failure_is_shared_and_forgiven() {
        let mut hosts = Hosts::default();
        let at = Duration::from_secs;
        assert_eq!(hosts.admit(at(0), "t", key(0), false), Admission::Go);
        assert_eq!(hosts.handle_finished(at(0), "t", Some("refused")).next, None);
        let failing = Admission::Failing("refused".to_owned());
        assert_eq!(hosts.admit(at(29), "t", key(1), false), failing);
        assert_eq!(hosts.admit(at(29), "t", key(1), true), Admission::Go);
        assert_eq!(hosts.admit(at(30), "t", key(2), false), Admission::Go);
        assert_eq!(hosts.handle_finished(at(30), "t", None).next, None);
        assert_eq!(hosts.admit(at(30), "t", key(3), false), Admission::Go);
    }
}
