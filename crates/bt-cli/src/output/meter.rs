//! A bar for work of known size that happens here: hashing, verifying.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::bar::Bar;
use super::{Output, duration, mean_rate, rate, size};

/// How often the line is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Shows how far a piece of work is; on a pipe it shows nothing.
pub(crate) struct Meter {
    output: Output,
    bar: Option<ProgressBar>,
    what: &'static str,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    /// The most that is known to be done: threads may overtake one another.
    done: u64,
    drawn: Option<Instant>,
}

impl Meter {
    /// A bar labelled `what`, if there is a terminal for it.
    pub(crate) fn new(output: &Output, what: &'static str) -> Self {
        let state = Mutex::new(State { done: 0, drawn: None });
        Self { output: output.clone(), bar: output.new_bar(), what, began: Instant::now(), state }
    }

    /// `done` of `total` bytes are through, or more.
    pub(crate) fn set(&self, done: u64, total: u64) {
        let Some(bar) = &self.bar else { return };
        let Ok(mut state) = self.state.lock() else { return };
        state.done = state.done.max(done);
        let now = Instant::now();
        if state.drawn.is_some_and(|at| now.duration_since(at) < DRAW_INTERVAL) {
            return;
        }
        state.drawn = Some(now);
        let words = words(state.done, total, now.duration_since(self.began));
        let line = Bar { name: self.what, done: state.done, total, words: &words };
        bar.set_message(self.output.bar_line(&line));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn words(done: u64, total: u64, elapsed: Duration) -> String {
    let speed = mean_rate(done, elapsed);
    let left = total.saturating_sub(done).checked_div(speed);
    let left = left.map_or_else(String::new, |seconds| {
        format!(", {} left", duration(Duration::from_secs(seconds)))
    });
    format!("{}/{}, {}{left}", size(done), size(total), rate(speed))
}

/// A bar's whole line is its message.
pub(super) fn plain_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}
