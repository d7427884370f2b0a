//! A bar for work of known size that happens here: hashing, verifying.

use indicatif::{ProgressBar, ProgressStyle};

use super::Output;

/// Shows how far a piece of work is; on a pipe it shows nothing.
pub(crate) struct Meter {
    bar: ProgressBar,
}

impl Meter {
    /// A bar labelled `what`, if there is a terminal for it.
    pub(crate) fn new(output: &Output, what: &str) -> Self {
        let Some(bars) = output.bars() else { return Self { bar: ProgressBar::hidden() } };
        let template = "{msg} {wide_bar} {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
        // What is said of a bar before it is added does not show it yet: its length is not known.
        let mut bar = ProgressBar::new(0).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar = bar.with_style(style.progress_chars("━╸ "));
        }
        Self { bar: bars.add(bar) }
    }

    /// `done` of `total` bytes are through, or more: threads may overtake one another.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
        }
        self.bar.set_position(done.max(self.bar.position()));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
