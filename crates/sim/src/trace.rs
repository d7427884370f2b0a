//! The events of a simulation, in order: always as one number that two simulations can compare, and
//! as text for people if that is asked for.

use std::fmt::Write as _;
use std::time::Duration;

/// The record of a simulation.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

/// FNV-1a, 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

impl Trace {
    /// Starts a record, with text if `readable`.
    pub(crate) fn new(readable: bool) -> Self {
        Self { digest: BASIS, events: 0, lines: readable.then(Vec::new) }
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.lines.is_some()
    }

    /// Records an event at `who`. `numbers` are part of the digest; `detail` is called only if text
    /// is kept.
    pub(crate) fn note(
        &mut self,
        now: Duration,
        who: &str,
        what: &str,
        numbers: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        self.events += 1;
        let bytes = who.bytes().chain(what.bytes());
        let numbers_bytes = [now.as_nanos() as u64, numbers[0], numbers[1]];
        let words = bytes.map(u64::from).chain(numbers_bytes);
        self.digest = words.fold(self.digest, |digest, word| (digest ^ word).wrapping_mul(PRIME));
        if let Some(lines) = &mut self.lines {
            let mut line = String::new();
            let _ = write!(line, "{:>12.6}  {who:<4} {what:<12} {}", now.as_secs_f64(), detail());
            lines.push(line);
        }
    }

    /// Adds text only: it is no part of the digest.
    pub(crate) fn remark(&mut self, now: Duration, who: &str, text: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6}  {who:<4} {:<12} {text}", now.as_secs_f64(), ""));
        }
    }

    /// Returns the digest of all events.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
