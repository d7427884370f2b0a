//! Compares the promise of *have* with a model, through any steps, kills and power cuts.

#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::mem::MemDisk;
use common::*;
use proptest::prelude::*;

const PIECE: u32 = 16 * 1024;
const FILES: [(&str, usize); 4] = [("a", 40_000), ("b", 5_000), ("c", 0), ("d", 80_000)];
const EIO: i32 = 5;

/// One event in the life of a torrent.
#[derive(Debug, Clone, Copy)]
enum Step {
    Commit(u32),
    Sync,
    FailedSync,
    Close,
    Kill,
    CutPower,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u32..8).prop_map(Step::Commit),
        3 => Just(Step::Sync),
        1 => Just(Step::FailedSync),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => Just(Step::CutPower),
    ]
}

/// The pieces that we must have, and those that we must have even after a power cut.
#[derive(Debug, Default)]
struct Model {
    have: BTreeSet<u32>,
    durable: BTreeSet<u32>,
    /// Whether a sync has failed since the last power cut. Then the cache has bytes that are not on
    /// the disk, and a clean shutdown records files as they are in the cache. A power cut changes
    /// such a file, so that its durable pieces are verified before they are trusted.
    sync_failed: bool,
}

impl Model {
    /// Whether a launch after `step` may trust these pieces without verifying them.
    fn permits(&self, trusted: &BTreeSet<u32>, step: Step) -> bool {
        match step {
            Step::CutPower if self.sync_failed => trusted.is_subset(&self.durable),
            _ => *trusted == self.durable,
        }
    }
}

fn play(steps: &[Step]) {
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::forgetful());
    let mut model = Model::default();
    let mut launch = Some(try_open_on(&disk, &spec).unwrap().check());
    for step in steps {
        let mut now = launch.take().unwrap();
        match *step {
            Step::Commit(piece) => {
                now.commit(&torrent, [piece % torrent.pieces()]);
                model.have.insert(piece % torrent.pieces());
            }
            Step::Sync => {
                now.store.sync().unwrap();
                model.durable = model.have.clone();
            }
            Step::FailedSync => {
                disk.fail("sync", "t/d", EIO, 1);
                if now.store.sync().is_err() {
                    model.have = model.durable.clone();
                    model.sync_failed = true;
                }
                model.durable = model.have.clone();
                disk.heal();
            }
            Step::Close => {
                now.store.close(0, 0, &[]).unwrap();
                model.durable = model.have.clone();
            }
            Step::CutPower => {
                disk.cut_power();
                model.have = model.durable.clone();
            }
            Step::Kill => {}
        }
        if matches!(step, Step::Commit(_) | Step::Sync | Step::FailedSync) {
            assert_eq!(now.have(), model.have.iter().copied().collect::<Vec<_>>());
            launch = Some(now);
            continue;
        }
        drop(now);
        let opened = try_open_on(&disk, &spec).unwrap();
        let trusted: BTreeSet<u32> = opened.opened.have.iter().collect();
        assert!(model.permits(&trusted, *step), "{model:?} trusts {trusted:?}");
        let verified: BTreeSet<u32> = opened.to_verify().into_iter().collect();
        let durable: BTreeSet<u32> = model.durable.difference(&verified).copied().collect();
        assert_eq!(durable, trusted, "a durable piece is either trusted or verified");
        // What is verified again is durable once it is synced again.
        model.durable = trusted;
        let checked = opened.check();
        let have: BTreeSet<u32> = checked.have().into_iter().collect();
        if matches!(step, Step::CutPower) {
            // More may be found on the disk than had to be there.
            assert!(have.is_superset(&model.have));
            model.have = have;
            model.sync_failed = false;
        }
        assert_eq!(checked.have(), model.have.iter().copied().collect::<Vec<_>>());
        launch = Some(checked);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn have_keeps_its_promise(steps in proptest::collection::vec(step(), 1..40)) {
        play(&steps);
    }
}
