//! A peer is known to another one only through a third (BEP 11).
//!
//! ```text
//! finder --tracker--> middle <--its address-- hidden: bt-cli, which ignores what others name
//!    `----------- what the middle names ----------^
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::{HttpTracker, Tracker};

use super::{LEECHER, Plan, SEEDER, Suite, THIRD, folder, is_connected, party};
use crate::clients::{Discovery, Program, namespace};
use crate::integration::interop::Peer;
use crate::integration::interop::transfer::{Party, Side, payload};
use tasks::process::wait_until;

/// How long two programs may take to connect when one knows the other.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a program may take to name a peer, and the other one to connect to it.
const NAME_LIMIT: Duration = Duration::from_secs(180);
/// The programs that name a peer only after more than a minute; the others do within seconds.
const SLOW: &[&str] = &["rtorrent"];

/// Adds the cases.
pub(super) fn add_cases<'a>(suite: Suite<'a>, peers: &'a [Peer], plan: &mut Plan<'a>) {
    for peer in peers.iter().filter(|peer| suite.wants("pex", peer.program.name())) {
        let (theirs, ours) = (peer.program.as_ref(), suite.ours);
        if !suite.options.short || !SLOW.contains(&theirs.name()) {
            let direction = "it names a peer (PEX), bt-cli connects";
            plan.add(peer, direction, move |number| find_third(number, ours, theirs, ours));
        }
        plan.add(peer, "bt-cli names a peer (PEX), it connects", move |number| {
            find_third(number, theirs, ours, ours)
        });
    }
}

/// `finder` connects to `hidden`, bt-cli, because `middle` names it. Nobody has any data, so that
/// nobody is done before.
fn find_third(
    number: u8,
    finder: &dyn Program,
    middle: &dyn Program,
    hidden: &dyn Program,
) -> Result<()> {
    let base = TempDir::with_prefix("interop-")?;
    let tracker = HttpTracker::bind((namespace::TRACKER, 0).into(), Tracker::new())?;
    let tracked = payload().seed(number.into()).tracker(tracker.url());
    let tracked = tracked.create_in(base.path().join("tracked"))?;
    let untracked = payload().seed(number.into()).create_in(base.path().join("untracked"))?;
    ensure!(tracked.info_hash() == untracked.info_hash(), "two torrents");

    let pex = Discovery { pex: true, ..Discovery::default() };
    let middle = Party { discovery: Some(&pex), ..party(middle, THIRD, number) };
    let start =
        |party, torrent: &Path, name| Side::download(party, torrent, &folder(base.path(), name)?);
    let middling = start(middle, tracked.torrent_path(), "middle")?;
    middling.wait_for_announce(&tracker, |announce| announce.left > 0)?;

    let (deaf, known) = (Discovery::default(), [middle.address()]);
    let hidden = party(hidden, SEEDER, number);
    let hidden = Party { discovery: Some(&deaf), peers: &known, ..hidden };
    let hiding = start(hidden, untracked.torrent_path(), "hidden")?;
    let meets = || is_connected(&hiding.launch, middle, "user");
    ensure!(wait_until(CONNECT_LIMIT, meets), "no first peer\n{}", middling.launch.output_tail());

    let finder = Party { discovery: Some(&pex), ..party(finder, LEECHER, number) };
    let finding = start(finder, tracked.torrent_path(), "finder")?;
    let is_found = || is_connected(&hiding.launch, finder, "incoming");
    // Each of them reports the connection, one a moment later.
    let knows_how = || is_connected(&finding.launch, hidden, "pex");
    let is_found = wait_until(NAME_LIMIT, is_found)
        && (finder.program.name() != "bt-cli" || wait_until(CONNECT_LIMIT, knows_how));
    let outputs = [&finding, &middling, &hiding].map(|side| side.launch.output_tail());
    ensure!(is_found, "not found by PEX\n{}", outputs.concat());
    Ok(())
}
