//! The limit of open files and sockets.

use piece_store::Resources;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use session::StartError;
use session::limits::MIN_DESCRIPTORS;

use crate::failure::{Class, Failure, chain};

/// The soft limit is raised to at most this.
const MAX_DESCRIPTORS: u64 = 16_384;
/// Descriptors besides those of a torrent's files: three for standard input and outputs, two for
/// signals, and three that the process may have inherited.
const FIXED: usize = 8;

/// Raises the soft limit of descriptors as far as the system allows, up to [`MAX_DESCRIPTORS`], and
/// returns it.
pub(crate) fn raise_limit() -> usize {
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(MAX_DESCRIPTORS, |hard| hard.min(MAX_DESCRIPTORS));
    let mut soft = now.current.unwrap_or(MAX_DESCRIPTORS);
    let raised = Rlimit { current: Some(wanted), ..now };
    if soft < wanted && setrlimit(Resource::Nofile, raised).is_ok() {
        soft = wanted;
    }
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// Returns the threads and open files of a command without a session.
///
/// # Errors
/// Failure if there are fewer descriptors than a session needs.
pub(crate) fn resources() -> Result<Resources, Failure> {
    let got = raise_limit();
    if got < MIN_DESCRIPTORS {
        return Err(Failure::new(Class::Failure, chain(&StartError::Descriptors { got })));
    }
    Ok(Resources::within(got - FIXED, 0))
}
