//! Prints results on stdout and everything else on stderr.

mod bar;
mod bencode_json;
mod meter;
mod style;
mod terminal;
mod text;
mod tracker_peer;
mod tree;

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use rustix::io::Errno;
use serde_json::Value;

use crate::cli::GlobalArgs;
use crate::failure::{Class, End, Failure, without_code};

pub(crate) use bar::{Bar, percent};
pub(crate) use bencode_json::{hex, to_json};
pub(crate) use meter::Meter;
pub(crate) use style::Style;
pub(crate) use text::{
    clean, count, date, duration, is_unsafe, mean_rate, rate, short_duration, size, size_exactly,
};
pub(crate) use tracker_peer::tracker_peer;
pub(crate) use tree::{TreeFile, file_tree};

/// How and where this launch prints.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Whether stdout was a terminal at the start. Once closed, a terminal is no longer recognised.
    terminal: bool,
    stdout: Style,
    stderr: Style,
    bars: Option<MultiProgress>,
}

impl Output {
    /// Returns the output for these flags, on the terminals or pipes of this process.
    pub(crate) fn new(global: GlobalArgs) -> Self {
        let (stdout, stderr) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        // Bars and JSON on the same terminal would overwrite each other.
        let refused = global.quiet || style::is_dumb() || (global.json && stdout);
        let bars = stderr && !refused;
        Self {
            json: global.json,
            quiet: global.quiet,
            terminal: stdout,
            stdout: Style::for_terminal(stdout),
            stderr: Style::for_terminal(stderr),
            bars: bars.then(|| MultiProgress::with_draw_target(terminal::draw_target())),
        }
    }

    /// Whether results are JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Returns the group of all progress bars, if there is a terminal for them.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Adds a bar below the others, if there is a terminal. The bar's message is its whole line.
    pub(crate) fn new_bar(&self) -> Option<ProgressBar> {
        let bars = self.bars.as_ref()?;
        Some(bars.add(ProgressBar::new_spinner().with_style(meter::plain_style())))
    }

    /// Returns the line of `bar`, as wide as the terminal allows.
    pub(crate) fn bar_line(&self, bar: &Bar<'_>) -> String {
        bar.line(terminal::width(), self.stderr.charset())
    }

    /// Prints a result: `object` with `--json`, else `text`.
    pub(crate) fn result(
        &self,
        object: impl FnOnce() -> Value,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), End> {
        if self.json { self.object(&object()) } else { self.line(&text(self.stdout)) }
    }

    /// Prints one or more lines of text.
    pub(crate) fn line(&self, text: &str) -> Result<(), End> {
        self.bytes(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
    }

    /// Prints a JSON object on one line.
    pub(crate) fn object(&self, object: &Value) -> Result<(), End> {
        self.line(&terminal_safe(object.to_string()))
    }

    /// Writes exactly these bytes. Drops them if stdout was a terminal and is closed.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), End> {
        let written = self.without_bars(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        match written {
            Err(error) if self.terminal && is_hung_up(&error) => Ok(()),
            written => written.map_err(|error| stdout_error(&error)),
        }
    }

    /// Prints a note for people on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.stderr_line(&clean(text));
        }
    }

    /// Prints a warning for people on stderr.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            self.warn_also_quiet(text);
        }
    }

    /// Prints a warning for people on stderr, even with `--quiet`.
    pub(crate) fn warn_also_quiet(&self, text: &str) {
        self.stderr_line(&format!("{} {}", self.stderr.yellow("warning:"), clean(text)));
    }

    /// Prints the failure that ends this launch. Removes the bars.
    pub(crate) fn failure(&self, failure: &Failure) {
        if let Some(bars) = &self.bars {
            // An error of stderr cannot be reported.
            drop(bars.clear());
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        if self.json {
            // Not if stdout was closed, but if its disk is full.
            if let Err(End::Failed(_)) = self.object(&failure.to_json()) {
                self.error(failure);
            }
        } else if failure.class() == Class::Interrupted {
            self.note(failure.message());
        } else {
            self.error(failure);
        }
    }

    fn error(&self, failure: &Failure) {
        let lines = failure.lines().map(clean).collect::<Vec<_>>().join("\n");
        self.stderr_line(&format!("{} {lines}", self.stderr.red("error:")));
    }

    fn stderr_line(&self, text: &str) {
        // An error of stderr cannot be reported.
        drop(self.without_bars(|| writeln!(io::stderr().lock(), "{text}")));
    }

    fn without_bars<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

/// Formats a value on several lines, for people.
pub(crate) fn pretty(value: &Value) -> String {
    terminal_safe(format!("{value:#}"))
}

/// Whether a write failed because the terminal was closed.
fn is_hung_up(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

fn stdout_error(error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return End::StdoutClosed(None);
    }
    let why = without_code(&error.to_string());
    Failure::new(Class::Disk, format!("cannot write to standard output: {why}")).into()
}

/// Escapes the characters of `json` that [`clean`] would drop, so that a terminal shows them and
/// programs still get them. Except for line ends, such characters are inside strings.
fn terminal_safe(json: String) -> String {
    let is_escaped = |c| is_unsafe(c) && c != '\n';
    if !json.contains(is_escaped) {
        return json;
    }
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_escaped(c) {
            // Four digits are enough, because all of them are below U+10000.
            safe += &format!("\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}
