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
        let bar = bars.add(ProgressBar::new(0));
        let template = "{msg} {wide_bar} {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// `done` of `total` bytes are through.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
