//! The promise of *have*, against a model: whatever is done, killed or cut off in between.

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

/// One thing that happens to a torrent.
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

/// What must be had, and what must be had even after a power cut.
#[derive(Debug, Default)]
struct Model {
    had: BTreeSet<u32>,
    durable: BTreeSet<u32>,
}

fn play(steps: &[Step]) {
    let torrent = torrent(&FILES, PIECE);
    let spec = torrent.with_state(Path::new("/save"), Path::new("/state"));
    let disk = Arc::new(MemDisk::forgetful());
    let mut model = Model::default();
    let mut run = Some(try_open_on(&disk, &spec).unwrap().check());
    for step in steps {
        let mut now = run.take().unwrap();
        match *step {
            Step::Commit(piece) => {
                now.commit(&torrent, [piece % torrent.pieces()]);
                model.had.insert(piece % torrent.pieces());
            }
            Step::Sync => {
                now.store.sync().unwrap();
                model.durable = model.had.clone();
            }
            Step::FailedSync => {
                disk.fail("sync", "t/d", EIO, 1);
                if now.store.sync().is_err() {
                    model.had = model.durable.clone();
                }
                model.durable = model.had.clone();
                disk.heal();
            }
            Step::Close => {
                now.store.close(0, 0, &[]).unwrap();
                model.durable = model.had.clone();
            }
            Step::CutPower => {
                disk.cut_power();
                model.had = model.durable.clone();
            }
            Step::Kill => {}
        }
        if matches!(step, Step::Commit(_) | Step::Sync | Step::FailedSync) {
            assert_eq!(now.have(), model.had.iter().copied().collect::<Vec<_>>());
            run = Some(now);
            continue;
        }
        drop(now);
        let opened = try_open_on(&disk, &spec).unwrap();
        let trusted: BTreeSet<u32> = opened.opened.have.iter().collect();
        assert_eq!(trusted, model.durable, "only what is durable is believed");
        let verified = opened.to_verify();
        assert!(verified.iter().all(|piece| !model.durable.contains(piece)));
        let checked = opened.check();
        let have: BTreeSet<u32> = checked.have().into_iter().collect();
        if matches!(step, Step::CutPower) {
            // More may be found on the disk than had to be there.
            assert!(have.is_superset(&model.had));
            model.had = have;
        }
        assert_eq!(checked.have(), model.had.iter().copied().collect::<Vec<_>>());
        run = Some(checked);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn have_is_a_promise(steps in proptest::collection::vec(step(), 1..40)) {
        play(&steps);
    }
}
