//! A progress bar for hashing and verifying.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::bar::Bar;
use super::{Output, duration, mean_rate, rate, size};

/// How often the line is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Shows the progress of a task on a terminal. Shows nothing on a pipe.
pub(crate) struct Meter {
    output: Output,
    bar: Option<ProgressBar>,
    task: &'static str,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    /// The highest number reported. Threads may report out of order.
    done: u64,
    drawn: Option<Instant>,
}

impl Meter {
    /// Adds a bar labelled `task`, if there is a terminal for it.
    pub(crate) fn new(output: &Output, task: &'static str) -> Self {
        let state = Mutex::new(State { done: 0, drawn: None });
        let (output, bar) = (output.clone(), output.new_bar());
        Self { output, bar, task, started: Instant::now(), state }
    }

    /// Reports that at least `done` of `total` bytes are done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        let Some(bar) = &self.bar else { return };
        let Ok(mut state) = self.state.lock() else { return };
        state.done = state.done.max(done);
        let now = Instant::now();
        if state.drawn.is_some_and(|at| now.duration_since(at) < DRAW_INTERVAL) {
            return;
        }
        state.drawn = Some(now);
        let text = text(state.done, total, now.duration_since(self.started));
        let line = Bar { name: self.task, done: state.done, total, text: &text };
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

fn text(done: u64, total: u64, elapsed: Duration) -> String {
    let speed = mean_rate(done, elapsed);
    let left = total.saturating_sub(done).checked_div(speed);
    let left = left.map_or_else(String::new, |seconds| {
        format!(", {} left", duration(Duration::from_secs(seconds)))
    });
    format!("{}/{}, {}{left}", size(done), size(total), rate(speed))
}

/// Returns the style of a bar whose message is its whole line.
pub(super) fn plain_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}
