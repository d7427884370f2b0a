//! One message, by the `sha1` crate: with the SHA instructions of x86 and ARM where they are.

use super::{Block, State};

pub(super) fn compress(states: &mut [State], strips: &[&[Block]]) {
    for (state, strip) in states.iter_mut().zip(strips) {
        sha1::block_api::compress(state, strip);
    }
}
