//! Connections between machines. Bytes arrive in order, delayed, at some rate, in any portions, or
//! not at all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use session::engine::LinkKey;

/// A machine: an index of the world's nodes, or of its liars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Node(usize),
    Liar(usize),
}

/// One end of a wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) party: Party,
    /// The key that the engine of a node gave the connection.
    pub(crate) link: Option<LinkKey>,
    pub(crate) open: bool,
}

/// What comes out of a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    /// The other end closed the connection, or reset it.
    End {
        reset: bool,
    },
}

/// One direction of a wire.
#[derive(Debug)]
pub(crate) struct Pipe {
    segments: VecDeque<(Duration, Segment)>,
    queued: usize,
    quality: Quality,
    /// When the last byte leaves.
    sent_at: Duration,
    stalled_until: Duration,
    /// When the receiving end next looks for arrived segments.
    alarm: Option<Duration>,
}

/// The properties of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    /// Bytes that fit before the sender must wait.
    pub(crate) capacity: usize,
    /// Bytes per second.
    pub(crate) rate: u64,
    pub(crate) latency: Duration,
}

impl Pipe {
    fn new(quality: Quality) -> Self {
        Self {
            segments: VecDeque::new(),
            queued: 0,
            quality,
            sent_at: Duration::ZERO,
            stalled_until: Duration::ZERO,
            alarm: None,
        }
    }

    /// Returns how many bytes the sender may send now. As real systems do, it reports no room while
    /// there is only a little.
    pub(crate) fn room(&self) -> usize {
        let room = self.quality.capacity.saturating_sub(self.queued);
        if room * 4 < self.quality.capacity && self.queued > 0 { 0 } else { room }
    }

    /// Takes a segment; returns when it arrives.
    pub(crate) fn send(&mut self, now: Duration, segment: Segment) -> Duration {
        if let Segment::Bytes(bytes) = &segment {
            self.queued += bytes.len();
            let nanos = bytes.len() as u64 * 1_000_000_000 / self.quality.rate.max(1);
            self.sent_at = self.sent_at.max(now) + Duration::from_nanos(nanos);
        }
        let at = self.sent_at.max(now) + self.quality.latency;
        self.segments.push_back((at, segment));
        at
    }

    /// Returns when the next segment arrives.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.segments.front().map(|(at, _)| (*at).max(self.stalled_until))
    }

    /// Returns the next segment, at most `most` bytes of it.
    pub(crate) fn take(&mut self, most: usize) -> Option<Segment> {
        let (at, segment) = self.segments.pop_front()?;
        let Segment::Bytes(mut bytes) = segment else { return Some(segment) };
        if bytes.len() > most {
            let rest = bytes.split_off(most);
            self.segments.push_front((at, Segment::Bytes(rest)));
        }
        self.queued -= bytes.len();
        Some(Segment::Bytes(bytes))
    }

    /// Delivers nothing before `until`.
    pub(crate) fn stall(&mut self, until: Duration) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Sets the alarm to `time`; returns false if one is set that is not later.
    pub(crate) fn set_alarm(&mut self, time: Duration) -> bool {
        let earlier = self.alarm.is_none_or(|alarm| time < alarm);
        if earlier {
            self.alarm = Some(time);
        }
        earlier
    }

    /// Clears the alarm if it is due; returns whether it was.
    pub(crate) fn take_alarm(&mut self, now: Duration) -> bool {
        let due = self.alarm == Some(now);
        if due {
            self.alarm = None;
        }
        due
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.queued = 0;
    }
}

/// A connection. Pipe 0 carries what end 0 sends.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) ends: [End; 2],
    pub(crate) pipes: [Pipe; 2],
    /// Nothing gets through any more, and neither end is notified.
    pub(crate) dead: bool,
}

/// One end of a wire: the wire's number, which is never used again, and 0 or 1.
pub(crate) type At = (u64, usize);

/// All wires.
#[derive(Debug, Default)]
pub(crate) struct Network {
    wires: BTreeMap<u64, Wire>,
    next: u64,
}

impl Network {
    pub(crate) fn join(&mut self, ends: [End; 2], quality: Quality) -> u64 {
        let number = self.next;
        self.next += 1;
        let pipes = [Pipe::new(quality), Pipe::new(quality)];
        self.wires.insert(number, Wire { ends, pipes, dead: false });
        number
    }

    pub(crate) fn get(&self, wire: u64) -> Option<&Wire> {
        self.wires.get(&wire)
    }

    pub(crate) fn get_mut(&mut self, wire: u64) -> Option<&mut Wire> {
        self.wires.get_mut(&wire)
    }

    /// Returns every open end of `party`.
    pub(crate) fn ends_of(&self, party: Party) -> Vec<At> {
        let open = |(number, wire): (&u64, &Wire)| {
            let side = |side: usize| {
                (wire.ends[side].party == party && wire.ends[side].open).then_some((*number, side))
            };
            [side(0), side(1)]
        };
        self.wires.iter().flat_map(open).flatten().collect()
    }

    /// Closes one end. Sent bytes still arrive, unless it is a reset. Returns when the other end
    /// notices; `None` if never.
    pub(crate) fn close(&mut self, now: Duration, at: At, reset: bool) -> Option<Duration> {
        let wire = self.wires.get_mut(&at.0)?;
        let (dead, other_open) = (wire.dead, wire.ends[1 - at.1].open);
        wire.ends[at.1].open = false;
        wire.pipes[1 - at.1].clear();
        if !other_open {
            self.wires.remove(&at.0);
            return None;
        }
        let pipe = &mut wire.pipes[at.1];
        if reset {
            pipe.clear();
        }
        (!dead).then(|| pipe.send(now, Segment::End { reset }))
    }
}
