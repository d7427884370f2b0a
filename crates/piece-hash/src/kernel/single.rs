//! One message, hashed by the `sha1` crate. It uses the SHA instructions of x86 and ARM if
//! available.

use super::{Block, State};

pub(super) fn compress(states: &mut [State], strips: &[&[Block]]) {
    for (state, strip) in states.iter_mut().zip(strips) {
        sha1::block_api::compress(state, strip);
    }
}
