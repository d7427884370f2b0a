//! Peers that break rules: the download succeeds beside an honest one, and fails alone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{Behaviour, Script};

use super::Case;
use super::scene::{LIMIT, Scene, file};
use crate::bt_cli::{COMMAND_LIMIT, finish};

pub(super) const CASES: &[Case] = &[
    ("corrupt seeder beside an honest one", corrupt_and_honest),
    ("corrupt seeder alone", corrupt_alone),
    ("seeder that is corrupt now and then", corrupt_sometimes),
    ("wrong info-hash", |scene| beside_an_honest_one(scene, Behaviour::WrongInfoHash)),
    ("garbage", |scene| beside_an_honest_one(scene, Behaviour::Garbage)),
    ("garbage messages", |scene| beside_an_honest_one(scene, Behaviour::GarbageMessages)),
    ("oversized message", |scene| beside_an_honest_one(scene, Behaviour::Oversized)),
    ("bitfield too long", |scene| beside_an_honest_one(scene, Behaviour::LongBitfield)),
    ("piece that is not there", |scene| beside_an_honest_one(scene, Behaviour::IllegalHave)),
    ("unrequested blocks", |scene| beside_an_honest_one(scene, Behaviour::Unrequested)),
    ("illegal requests", |scene| beside_an_honest_one(scene, Behaviour::IllegalRequests)),
    ("silent", |scene| beside_an_honest_one(scene, Behaviour::Silent)),
    ("never unchokes", |scene| beside_an_honest_one(scene, Behaviour::Chokes)),
    ("takes requests and sends nothing", |scene| beside_an_honest_one(scene, Behaviour::Stalls)),
    ("hangs up", |scene| beside_an_honest_one(scene, Behaviour::DisconnectAfter { blocks: 5 })),
    ("only peers that are no use", no_use),
];

/// The honest one is slow enough that the other is talked to as well.
fn beside_an_honest_one(scene: &Scene, behaviour: Behaviour) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let hostile = Script::seeder(&payload).behaviour(behaviour).listen();
    let honest = Script::seeder(&payload).delay(Duration::from_millis(10)).listen();
    let addresses = [hostile.address().to_string(), honest.address().to_string()];
    let peers = ["--peer", &addresses[0], "--peer", &addresses[1]];
    let mut running = scene.download("leecher", &payload, &peers)?;
    let met = hostile.wait_for(LIMIT, |seen| seen.connections > 0);
    ensure!(met, "nobody talked to the hostile one\n{}", running.last_words());
    scene.complete("leecher", &payload, &mut running).map(drop)
}

fn corrupt_and_honest(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let corrupt = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 1 }).listen();
    let honest = Script::seeder(&payload).delay(Duration::from_millis(20)).listen();
    let addresses = [corrupt.address().to_string(), honest.address().to_string()];
    let peers = ["--peer", &addresses[0], "--peer", &addresses[1]];
    let mut running = scene.download("leecher", &payload, &peers)?;
    let finished = scene.complete("leecher", &payload, &mut running)?;
    let banned = finished.lines.iter().find(|line| line["state"] == "banned");
    let banned = banned.context("nobody was banned")?;
    ensure!(banned["address"] == addresses[0].as_str(), "{banned} instead of {}", addresses[0]);
    Ok(())
}

/// All sources banned for bad data: exit 5.
fn corrupt_alone(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let corrupt = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 1 }).listen();
    let address = corrupt.address().to_string();
    let mut running = scene.download("leecher", &payload, &["--peer", &address])?;
    finish(&mut running, COMMAND_LIMIT)?.expect(5)
}

fn corrupt_sometimes(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(128))?;
    let corrupt = Script::seeder(&payload).behaviour(Behaviour::Corrupt { every: 17 }).listen();
    let honest = Script::seeder(&payload).delay(Duration::from_millis(5)).listen();
    let addresses = [corrupt.address().to_string(), honest.address().to_string()];
    let peers = ["--peer", &addresses[0], "--peer", &addresses[1]];
    let mut running = scene.download("leecher", &payload, &peers)?;
    scene.complete("leecher", &payload, &mut running).map(drop)
}

/// Nobody sends anything: `--stall-timeout` ends it with exit 4.
fn no_use(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(64))?;
    let peers =
        [Behaviour::WrongInfoHash, Behaviour::Garbage, Behaviour::Silent, Behaviour::Chokes]
            .map(|behaviour| Script::seeder(&payload).behaviour(behaviour).listen());
    let addresses = peers.each_ref().map(|peer| peer.address().to_string());
    let mut arguments = vec!["--stall-timeout", "3"];
    arguments.extend(addresses.iter().flat_map(|address| ["--peer", address.as_str()]));
    let mut running = scene.download("leecher", &payload, &arguments)?;
    finish(&mut running, COMMAND_LIMIT)?.expect(4)
}
