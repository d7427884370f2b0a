//! Peers of a magnet link that are bad before the metadata is there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::hostile::{Crowd, Hostile};
use testkit::{InfoHashV1, MetadataBehaviour, Payload, Script, ScriptedPeer, raw, sha1};

use super::Reaction::{Dropped, Tolerated};
use super::{Row, Story, TALK, lines_of, state_of};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, file, free_address, link};
use tasks::process::wait_until;

/// Our id of the metadata extension.
const OURS: u8 = 2;
/// How long the right metadata may take among liars.
const SOON: Duration = Duration::from_secs(10);
/// How many bitfields of the greatest length come at once. Four fit into the memory for them.
const LONG_BITFIELDS: usize = 200;

/// bt-cli has a link, and connects to these. An honest peer comes later.
pub(super) const ROWS: &[Row] = &[
    Row("a length of 0", Tolerated, || claims("0")),
    Row("a length of -1", Tolerated, || claims("-1")),
    Row("a length of 1", Tolerated, || claims("1")),
    Row("a length of 2³¹", Tolerated, || claims("2147483648")),
    Row("a length of 2⁶³", Tolerated, || claims("9223372036854775808")),
    Row("a length of 32 MiB + 1", Tolerated, || claims("33554433")),
    Row("a length of 32 MiB, and nothing", Tolerated, || claims("33554432")),
    Row("a length of 16 KiB, and nothing", Tolerated, || claims("16384")),
    Row("a length that is no number", Tolerated, || {
        Hostile::new()
            .extensions()
            .sends(raw::extended(0, b"d1:md11:ut_metadatai3ee13:metadata_size3:abce"))
    }),
    Row("twenty lengths, one after another", Tolerated, || {
        (1..=20u32).fold(claims("1"), |peer, length| peer.sends(hello(&length.to_string())))
    }),
    Row("new lengths without end", TALK, || claims("7").floods(hello("8"))),
    Row("a piece of 16 KiB + 1", Tolerated, || {
        claims("16384").sends(data("d8:msg_typei1e5:piecei0ee", &[b'x'; 16385]))
    }),
    Row("data that nobody requested", Tolerated, || {
        let unasked = data("d8:msg_typei1e5:piecei7ee", &[b'x'; 16384]);
        claims("40").sends(unasked.repeat(10))
    }),
    Row("data without end", TALK, || {
        claims("40").floods(data("d8:msg_typei1e5:piecei7ee", &[b'x'; 16384]))
    }),
    Row("messages that are no bencode", Tolerated, || {
        claims("40").sends(data("d8:msg_typei", b"")).sends(data("", &[0xff; 100]))
    }),
    Row("a message of an unknown kind", Tolerated, || {
        claims("40").sends(data("d8:msg_typei9e5:piecei0ee", b""))
    }),
    Row("rejects without end", TALK, || {
        claims("40").floods(data("d8:msg_typei2e5:piecei7ee", b""))
    }),
    Row("requests for what we do not have", Tolerated, || {
        claims("0").sends(data("d8:msg_typei0e5:piecei0ee", b"").repeat(100))
    }),
    Row("requests without end", TALK, || {
        claims("0").floods(data("d8:msg_typei0e5:piecei0ee", b""))
    }),
    Row("a request for a block", Dropped("before we announced any piece"), || {
        claims("0").sends(raw::numbers(raw::REQUEST, &[0, 0, 16384]))
    }),
    Row("a block", Dropped("unrequested block"), || {
        claims("0").fast().sends(raw::block(0, 0, &[1; 16384]))
    }),
    Row("HAVE of a piece that no torrent has", Dropped("names piece 2097152"), || {
        claims("0").sends(raw::numbers(raw::HAVE, &[1 << 21]))
    }),
    Row("HAVE without end", TALK, || claims("0").floods(raw::numbers(raw::HAVE, &[7]))),
    Row("bitfields without end", Dropped("repeats the list of all pieces"), || {
        claims("0").floods(raw::message(raw::BITFIELD, &[0; 8]))
    }),
];

pub(super) const CASES: &[Story] = &[
    ("nine liars of ten peers", nine_liars),
    ("nine of ten peers send wrong bytes", nine_send_wrong_bytes),
    ("a dictionary that seems to end early", verbose),
    ("everybody lies", everybody_lies),
    ("long bitfields before the metadata", long_bitfields),
    ("a bitfield that turns out too short", wrong_bitfield),
    ("metadata of no torrent", no_torrent),
    ("two links, each with liars", two_links),
];

/// Returns a peer that claims a length.
fn claims(length: &str) -> Hostile {
    Hostile::new().extensions().sends(hello(length))
}

fn hello(length: &str) -> Vec<u8> {
    let handshake = format!("d1:md11:ut_metadatai3ee13:metadata_sizei{length}ee");
    raw::extended(0, handshake.as_bytes())
}

/// Returns a message of the metadata extension.
fn data(dictionary: &str, bytes: &[u8]) -> Vec<u8> {
    raw::extended(OURS, &[dictionary.as_bytes(), bytes].concat())
}

fn seeder(payload: &Payload, behaviour: MetadataBehaviour) -> Script {
    Script::seeder(payload).fast().metadata(payload, behaviour)
}

/// The hostile peer is the only one of a link. Once bt-cli has reacted, an honest one connects.
pub(super) fn linked(scene: &Scene, row: &Row) -> Result<String> {
    let payload = scene.payload(file(250))?;
    let crowd = Crowd::start(&payload, [row.2()])?;
    let own = free_address()?;
    let link = link(&payload, &[crowd.address(0)], &[]);
    let mut launch = scene.download_link_at("leecher", &link, own.port(), &[])?;
    row.1.wait(&crowd, &launch, |_| Some(crowd.address(0)))?;
    let honest = seeder(&payload, MetadataBehaviour::Honest).connect(own)?;
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    ensure!(honest.seen().connections == 1, "the honest one was disconnected");
    row.1.check(&finished.lines, crowd.address(0))
}

/// Eight pieces of metadata, and a ninth.
fn nine_pieces(scene: &Scene) -> Result<Payload> {
    let payload = scene.payload(Payload::file("file.bin", 420_000).piece_length(64))?;
    ensure!(payload.info().len() > 128 << 10, "{} bytes", payload.info().len());
    Ok(payload)
}

/// Each lies in another way. The right metadata is there soon, and none but those of the first five
/// are banned.
fn nine_liars(scene: &Scene) -> Result<String> {
    let payload = nine_pieces(scene)?;
    let (length, pace) = (payload.info().len() as i64, Duration::from_millis(1));
    use MetadataBehaviour as Behaviour;
    let liars = [
        Behaviour::Claims { length: 32 << 20 },
        Behaviour::Claims { length: length + 1 },
        Behaviour::Claims { length: 1 },
        Behaviour::Corrupt { piece: 0 },
        Behaviour::Corrupt { piece: 5 },
        Behaviour::Rejects,
        Behaviour::Silent,
        Behaviour::Dribbles { pace },
        Behaviour::Oversized,
    ];
    among_liars(scene, &payload, &liars, 5)
}

/// Each is wrong at another place of every piece, and the last has two pieces in each other's place.
fn nine_send_wrong_bytes(scene: &Scene) -> Result<String> {
    let payload = nine_pieces(scene)?;
    let garbled = |at| MetadataBehaviour::Garbled { at };
    let liars: Vec<_> = (0..8).map(garbled).chain([MetadataBehaviour::Swapped]).collect();
    among_liars(scene, &payload, &liars, liars.len())
}

/// bt-cli has a link to these and an honest peer. The first `wrong` of them send wrong bytes: no
/// other is banned.
fn among_liars(
    scene: &Scene,
    payload: &Payload,
    liars: &[MetadataBehaviour],
    wrong: usize,
) -> Result<String> {
    let peers: Vec<ScriptedPeer> =
        liars.iter().map(|liar| seeder(payload, *liar).held().listen()).collect();
    let honest = seeder(payload, MetadataBehaviour::Honest).listen();
    let mut addresses: Vec<SocketAddr> = peers.iter().map(ScriptedPeer::address).collect();
    addresses.push(honest.address());
    let start = Instant::now();
    let mut launch = scene.download_link("leecher", &link(payload, &addresses, &[]), &[])?;
    let is_there = || lines_of(&launch).iter().any(|line| line["event"] == "metadata_received");
    ensure!(wait_until(SOON, is_there), "no metadata\n{}", launch.output_tail());
    let time = start.elapsed();
    peers.iter().for_each(ScriptedPeer::release);
    let finished = scene.complete("leecher", payload, &mut launch)?;
    let banned: BTreeSet<usize> = (0..addresses.len())
        .filter(|number| state_of(&finished.lines, addresses[*number], "banned").is_some())
        .collect();
    let is_liar = |number: &usize| *number < wrong;
    ensure!(banned.iter().all(is_liar), "banned {banned:?}, some of whom sent no wrong bytes");
    let asked = honest.seen().metadata_requests.len();
    Ok(format!(
        "right after {:.1} s, {} banned of {wrong} that sent wrong bytes, none of the {} others; \
         {asked} pieces requested of the honest one",
        time.as_secs_f64(),
        banned.len(),
        addresses.len() - wrong
    ))
}

/// The dictionary of a message ends where bencode says, not where its end seems to be.
fn verbose(scene: &Scene) -> Result<String> {
    let payload = nine_pieces(scene)?;
    let verbose = seeder(&payload, MetadataBehaviour::Verbose).listen();
    let finished =
        scene.fetch_link("leecher", &payload, &link(&payload, &[verbose.address()], &[]), &[])?;
    let banned = state_of(&finished.lines, verbose.address(), "banned");
    ensure!(banned.is_none(), "it is banned");
    Ok("complete".to_owned())
}

/// Nobody has the metadata: the peers are banned, and bt-cli ends.
fn everybody_lies(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let lies = [
        MetadataBehaviour::Corrupt { piece: 0 },
        MetadataBehaviour::Claims { length: 100 },
        MetadataBehaviour::Claims { length: 50_000 },
    ];
    let peers = lies.map(|lie| seeder(&payload, lie).listen());
    let addresses = peers.each_ref().map(ScriptedPeer::address);
    let mut launch = scene.download_link("leecher", &link(&payload, &addresses, &[]), &[])?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(5)?;
    Ok("exit code 5".to_owned())
}

/// What bitfields of unknown length take is bounded: the longest go.
fn long_bitfields(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(64))?;
    let long = || claims("0").sends(raw::message(raw::BITFIELD, &vec![0xff; 256 << 10]));
    let crowd = Crowd::start(&payload, (0..LONG_BITFIELDS).map(|_| long()))?;
    let addresses: Vec<SocketAddr> = (0..LONG_BITFIELDS).map(|it| crowd.address(it)).collect();
    let own = free_address()?;
    let link = link(&payload, &addresses, &[]);
    let mut launch = scene.download_link_at("leecher", &link, own.port(), &[])?;
    let dropped = || {
        let lines = lines_of(&launch);
        let reason = |address| state_of(&lines, address, "disconnected").unwrap_or_default();
        addresses.iter().filter(|at| reason(**at).contains("limit")).count()
    };
    let enough = wait_until(LIMIT, || dropped() >= LONG_BITFIELDS - 4);
    ensure!(enough, "{} were dropped\n{}", dropped(), launch.output_tail());
    let dropped = dropped();
    let _honest = seeder(&payload, MetadataBehaviour::Honest).connect(own)?;
    scene.complete("leecher", &payload, &mut launch)?;
    Ok(format!("{dropped} dropped"))
}

/// The length of a bitfield is checked as soon as it is known.
fn wrong_bitfield(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(250))?;
    let short = claims("0").sends(raw::message(raw::BITFIELD, &[0xff; 7]));
    let crowd = Crowd::start(&payload, [short])?;
    let own = free_address()?;
    let link = link(&payload, &[crowd.address(0)], &[]);
    let mut launch = scene.download_link_at("leecher", &link, own.port(), &[])?;
    ensure!(crowd.wait_for(LIMIT, |met| met[0].done), "{}", launch.output_tail());
    let _honest = seeder(&payload, MetadataBehaviour::Honest).connect(own)?;
    let finished = scene.complete("leecher", &payload, &mut launch)?;
    let row = Dropped("bitfield");
    row.check(&finished.lines, crowd.address(0))
}

/// The hash is right, and it is no torrent that can be downloaded.
fn no_torrent(scene: &Scene) -> Result<String> {
    let payload = scene.payload(file(16))?;
    let deep = format!(
        "d5:filesld6:lengthi1e4:pathl{}eee4:name1:a12:piece lengthi16384e6:pieces20:{}e",
        "1:a".repeat(101),
        "h".repeat(20)
    );
    let v2 = "d9:file treedee12:meta versioni2e4:name1:a12:piece lengthi16384ee";
    let nested = format!("d1:a{}{}e", "l".repeat(200), "e".repeat(200));
    let many = format!("d5:filesl{}e4:name1:ae", "d6:lengthi0e4:pathl1:aee".repeat(700_000));
    for info in [deep.as_str(), v2, &nested, &many, "i7e", "garbage"] {
        let info = info.as_bytes();
        let info_hash = InfoHashV1(sha1(info).0);
        let script = Script::serving(info_hash, payload.geometry(), payload.data());
        let peer = script.info(info, MetadataBehaviour::Honest).listen();
        let link = format!("magnet:?xt=urn:btih:{info_hash}&x.pe={}", peer.address());
        let mut launch = scene.download_link("leecher", &link, &[])?;
        finish(&mut launch, COMMAND_LIMIT)?.expect(3)?;
    }
    Ok("exit code 3".to_owned())
}

/// The memory for metadata is shared: liars of one link do not stop the other.
fn two_links(scene: &Scene) -> Result<String> {
    let payloads = [1, 2].map(|number| {
        let payload = Payload::file(&format!("{number}.bin"), 100_000).seed(number);
        payload.create_in(scene.path(&format!("payload-{number}")))
    });
    let [one, two] = payloads;
    let payloads = [one?, two?];
    let mut peers = Vec::new();
    let links = payloads.each_ref().map(|payload| {
        let lie = |it: i64| MetadataBehaviour::Claims { length: (32 << 20) - it };
        let liars = (0..4).map(|it| seeder(payload, lie(it)).listen());
        let first = peers.len();
        peers.extend(liars.chain([seeder(payload, MetadataBehaviour::Honest).listen()]));
        let addresses: Vec<_> = peers[first..].iter().map(ScriptedPeer::address).collect();
        link(payload, &addresses, &[])
    });
    let mut launch = scene.download_link("leecher", &links[0], &[&links[1]])?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
    for payload in payloads {
        payload.compare(scene.downloads("leecher"))?;
    }
    Ok("both complete".to_owned())
}
