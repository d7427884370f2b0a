//! The log for people, on stderr above the progress bars.

use std::io::{self, Write};

use env_logger::{Builder, Target};
use indicatif::MultiProgress;
use log::{Level, LevelFilter};

use crate::cli::GlobalArgs;
use crate::failure::without_code;
use crate::output::{Output, clean};

/// Starts the log at the level that the flags ask for.
pub(crate) fn start(global: GlobalArgs, output: &Output) {
    let level = match (global.quiet, global.verbose) {
        (true, 0) => LevelFilter::Off,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        (..) => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    // These crates log whole URLs, with passkeys.
    builder.filter_level(level).filter_module("ureq", level.min(LevelFilter::Warn));
    builder.filter_module("rustls", level.min(LevelFilter::Warn));
    builder.format(|out, record| {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        writeln!(out, "{level}: {}", clean(&without_code(&record.args().to_string())))
    });
    if let Some(bars) = output.bars() {
        builder.target(Target::Pipe(Box::new(AboveBars(bars.clone()))));
    }
    builder.init();
}

/// Hides the bars during a write.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
