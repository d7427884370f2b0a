//! Ctrl-C, SIGTERM and SIGHUP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::failure::{Class, Failure};
use crate::output::Output;

/// The signals with which users and programs ask this program to end.
const REQUESTS: [i32; 2] = [SIGINT, SIGTERM];

/// Sends the first signal on the returned channel, so that the command can shut down cleanly. A
/// second one of [`REQUESTS`] ends the program at once.
pub(crate) fn first_signal() -> io::Result<Receiver<()>> {
    let armed = Arc::new(AtomicBool::new(false));
    let exit_code = i32::from(Class::Interrupted.exit_code());
    // Not for SIGHUP: shells and session managers send it together with another signal.
    for signal in REQUESTS {
        // In this order: the first signal finds the flag unset and sets it.
        flag::register_conditional_shutdown(signal, exit_code, Arc::clone(&armed))?;
        flag::register(signal, Arc::clone(&armed))?;
    }
    // One is enough, because only the first signal is ever received.
    let (sender, receiver) = bounded(1);
    on_signal(move || {
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

/// Ends the program with a message at the first signal, for commands that need no clean shutdown.
pub(crate) fn exit_on_signal(output: &Output) -> io::Result<()> {
    let output = output.clone();
    on_signal(move || {
        output.failure(&Failure::interrupted());
        std::process::exit(i32::from(Class::Interrupted.exit_code()));
    })
}

fn on_signal(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let mut signals = Signals::new(REQUESTS.into_iter().chain(hangup))?;
    let thread = thread::Builder::new().name("bt-signals".to_owned());
    thread.spawn(move || {
        for _ in signals.forever() {
            act();
        }
    })?;
    Ok(())
}

/// Whether the program was started with `signal` ignored, as `nohup` does with SIGHUP. False if the
/// system does not say.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
