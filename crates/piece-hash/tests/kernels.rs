//! Every kernel of this processor computes the same digests as the `sha1` crate, for any number and
//! lengths of messages and strips.

use piece_hash::{Kernel, Lanes, lane_count};
use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

/// Returns bytes that differ between messages and within each.
fn message(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i + 31 * seed) * (i + 7) / 5) as u8).collect()
}

/// Hashes the messages in parallel with every kernel, a strip of each at a time. The lengths of the
/// strips are those in `cuts`, repeated.
#[track_caller]
fn check(messages: &[Vec<u8>], cuts: &[usize]) {
    let expected: Vec<[u8; 20]> =
        messages.iter().map(|message| Sha1::digest(message).into()).collect();
    for kernel in Kernel::available() {
        let mut lanes = Lanes::with_kernel(kernel, messages.len());
        let mut rests: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut cuts = cuts.iter().cycle();
        while rests.iter().any(|rest| !rest.is_empty()) {
            let strips = rests.iter_mut().map(|rest| {
                let cut = (*cuts.next().unwrap()).min(rest.len());
                rest.split_off(..cut).unwrap()
            });
            lanes.update(&strips.collect::<Vec<_>>());
        }
        let digests: Vec<[u8; 20]> = lanes.finish().iter().map(|digest| digest.0).collect();
        assert_eq!(digests, expected, "{kernel}");
    }
}

#[test]
fn any_number_of_equal_messages() {
    for count in 0..=40 {
        let messages: Vec<Vec<u8>> = (0..count).map(|seed| message(seed, 64 * 5 + 3)).collect();
        check(&messages, &[usize::MAX]);
        check(&messages, &[128]);
    }
}

#[test]
fn every_length_around_the_padding() {
    let messages: Vec<Vec<u8>> = (0..200).map(|length| message(length, length)).collect();
    check(&messages, &[usize::MAX]);
    check(&messages, &[64]);
}

#[test]
fn long_messages_are_hashed() {
    let messages: Vec<Vec<u8>> = (0..17).map(|seed| message(seed, 100_000 + seed)).collect();
    check(&messages, &[65536]);
}

#[test]
fn best_kernel_comes_first() {
    let kernels: Vec<Kernel> = Kernel::available().collect();
    assert_eq!(kernels[0].to_string(), Kernel::best().to_string());
    assert_eq!(lane_count(), kernels[0].lane_count());
    assert_eq!(kernels.last().map(|kernel| kernel.lane_count()), Some(1));
    assert!(kernels.iter().all(|kernel| (1..=16).contains(&kernel.lane_count())));
}

proptest! {
    #[test]
    fn any_messages_in_any_strips(
        lengths in proptest::collection::vec(0..700_usize, 0..40),
        cuts in proptest::collection::vec(1..300_usize, 1..10),
    ) {
        let messages: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(seed, length)| message(seed, *length)).collect();
        check(&messages, &cuts);
    }
}
