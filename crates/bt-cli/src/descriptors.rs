//! How many files and sockets the program may have open.

use piece_store::Resources;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use session::limits::MIN_DESCRIPTORS;

use crate::failure::{Class, Failure};

/// The soft limit is raised to at most this.
const MAX_DESCRIPTORS: u64 = 16_384;
/// Descriptors that a command has open besides a torrent's files: standard input and outputs, two
/// for signals, and three that it may have inherited.
const FIXED: usize = 8;

/// Raises the soft limit of descriptors as far as the system allows, up to [`MAX_DESCRIPTORS`], and
/// returns it.
///
/// # Errors
/// There are fewer than [`MIN_DESCRIPTORS`].
pub(crate) fn available() -> Result<usize, Failure> {
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(MAX_DESCRIPTORS, |hard| hard.min(MAX_DESCRIPTORS));
    let mut soft = now.current.unwrap_or(MAX_DESCRIPTORS);
    let raised = Rlimit { current: Some(wanted), ..now };
    if soft < wanted && setrlimit(Resource::Nofile, raised).is_ok() {
        soft = wanted;
    }
    let count = usize::try_from(soft).unwrap_or(usize::MAX);
    if count >= MIN_DESCRIPTORS {
        return Ok(count);
    }
    let message = format!(
        "{count} open files are too few: raise the limit to at least {MIN_DESCRIPTORS} (ulimit -n)"
    );
    Err(Failure::new(Class::Failure, message))
}

/// The threads and open files of a command that only reads or hashes files.
pub(crate) fn resources() -> Result<Resources, Failure> {
    Ok(Resources::within(available()?.saturating_sub(FIXED), 0))
}
