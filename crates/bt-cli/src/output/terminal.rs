//! The terminal on which progress bars are drawn.

use std::io;

use console::Term;
use indicatif::{ProgressDrawTarget, TermLike};

/// Columns left free for the `^C` that a terminal shows at Ctrl-C. It would make a full line wrap,
/// and a wrapped line can't be erased.
const ECHO_WIDTH: u16 = 2;
/// The most draws of the bars per second.
const DRAWS_PER_SECOND: u8 = 20;

/// Standard error, narrower by [`ECHO_WIDTH`].
#[derive(Debug)]
struct Terminal(Term);

/// Returns how many columns a line may have.
pub(super) fn width() -> usize {
    usize::from(Terminal(Term::stderr()).width())
}

/// Returns where bars are drawn.
pub(super) fn draw_target() -> ProgressDrawTarget {
    let terminal = Terminal(Term::buffered_stderr());
    ProgressDrawTarget::term_like_with_hz(Box::new(terminal), DRAWS_PER_SECOND)
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.0.size().1.saturating_sub(ECHO_WIDTH)
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.0.write_line(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}
