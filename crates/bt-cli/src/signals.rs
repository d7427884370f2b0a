//! Ctrl-C and SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::failure::{Class, Failure};
use crate::output::Output;

const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// For commands that have something to bring home: the first signal arrives on the channel, the
/// second one leaves at once.
pub(crate) fn first_signal() -> io::Result<Receiver<()>> {
    let armed = Arc::new(AtomicBool::new(false));
    let exit_code = i32::from(Class::Interrupted.exit_code());
    for signal in SIGNALS {
        // In this order: the first signal finds the flag unset and sets it.
        flag::register_conditional_shutdown(signal, exit_code, Arc::clone(&armed))?;
        flag::register(signal, Arc::clone(&armed))?;
    }
    // One place is enough: only the first signal is ever taken from it.
    let (sender, receiver) = bounded(1);
    on_signal(move || {
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

/// For commands that have nothing to bring home: the first signal ends the run, with a word.
pub(crate) fn leave_on_signal(output: &Output) -> io::Result<()> {
    let output = output.clone();
    on_signal(move || {
        output.failure(&Failure::interrupted());
        std::process::exit(i32::from(Class::Interrupted.exit_code()));
    })
}

fn on_signal(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(SIGNALS)?;
    let thread = thread::Builder::new().name("bt-signals".to_owned());
    thread.spawn(move || {
        for _ in signals.forever() {
            act();
        }
    })?;
    Ok(())
}
