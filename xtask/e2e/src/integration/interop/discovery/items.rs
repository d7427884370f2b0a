//! `bt-cli dht` and libtorrent get the same answers from a DHT, and find what the other one put there.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cloud::Kind;
use super::dht::{ANNOUNCE_LIMIT, LOOK_INTERVAL};
use super::{Plan, SEEDER, Suite, THIRD, folder, party};
use crate::bt_cli::BtCli;
use crate::clients::{Discovery, Libtorrent, PORT, Program as _, namespace};
use crate::integration::interop::Peer;
use crate::integration::interop::transfer::{Party, Side, payload};
use tasks::process::wait_until_every;
use tasks::workspace;

/// The seed of an Ed25519 key (RFC 8032, 7.1, test 1).
const KEY: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const SALT: &str = "news";

/// Adds the cases.
pub(super) fn add_cases<'a>(suite: Suite<'a>, peers: &'a [Peer], plan: &mut Plan<'a>) {
    for (libtorrent, kind) in
        [(Libtorrent::pypi as fn() -> _, Kind::Items), (Libtorrent::debian, Kind::Debian)]
    {
        let name = libtorrent().name();
        let peer = peers.iter().find(|peer| peer.program.name() == name);
        let Some(peer) = peer.filter(|_| suite.wants("dht", name)) else { continue };
        plan.clouds.extend([kind, Kind::Ours]);
        let asking = move |number: u8, kind: Kind| {
            let nodes = &suite.fixtures.cloud(kind)?.nodes;
            Asking::new(number, libtorrent(), nodes)
        };
        plan.add(peer, "dht put and get: the same items", move |number| {
            asking(number, kind)?.exchange_items()
        });
        plan.add(peer, "dht put and get in bt-cli's DHT: the same items", move |number| {
            asking(number, Kind::Ours)?.exchange_items()
        });
        plan.add(peer, "dht ping, peers and scrape: the same answers", move |number| {
            asking(number, kind)?.compare_answers()
        });
    }
    let name = Libtorrent::pypi().name();
    let peer = peers.iter().find(|peer| peer.program.name() == name);
    if let Some(peer) = peer.filter(|_| suite.wants("dht", name)) {
        plan.clouds.insert(Kind::V6);
        plan.add(peer, "dht put and get over IPv6: the same items", move |number| {
            let nodes = &suite.fixtures.cloud(Kind::V6)?.nodes;
            Asking::new(number, Libtorrent::pypi(), nodes)?.exchange_items()
        });
    }
}

/// bt-cli and libtorrent ask the same DHT.
struct Asking<'a> {
    number: u8,
    libtorrent: Libtorrent,
    nodes: &'a [SocketAddr],
    bt_cli: BtCli,
    base: TempDir,
    /// How many questions were asked.
    asked: Cell<u8>,
}

impl<'a> Asking<'a> {
    fn new(number: u8, libtorrent: Libtorrent, nodes: &'a [SocketAddr]) -> Result<Self> {
        let base = TempDir::with_prefix("interop-")?;
        let bt_cli = BtCli::new(&workspace::build_bt_cli()?, &base.path().join("bt-cli"));
        Ok(Self { number, libtorrent, nodes, bt_cli, base, asked: Cell::new(0) })
    }

    /// Returns where the next question is asked from. Nodes ignore an address at which there is
    /// another node each time, and one that asks much.
    fn next_ip(&self) -> IpAddr {
        let network = THIRD + self.asked.get();
        self.asked.set((self.asked.get() + 1) % 100);
        match self.nodes[0].ip() {
            IpAddr::V4(_) => namespace::public_address(network, self.number).into(),
            IpAddr::V6(_) => namespace::public_v6(network).into(),
        }
    }

    /// Runs `bt-cli dht`.
    fn ours(&self, arguments: &[&str]) -> Result<Value> {
        let (ip, node) = (self.next_ip().to_string(), self.nodes[0].to_string());
        let asking = ["--bind", &ip, "--dht-node", &node];
        self.bt_cli.json("dht", ["dht"].iter().chain(arguments).chain(&asking))
    }

    fn theirs(&self, question: &Value) -> Result<Value> {
        let listen = SocketAddr::new(self.next_ip(), PORT);
        let home = folder(self.base.path(), "libtorrent")?;
        self.libtorrent.ask_dht(listen, self.nodes[0], question, &home)
    }

    fn exchange_items(&self) -> Result<()> {
        let (first, second) = (format!("ours {}", self.number), format!("theirs {}", self.number));
        let put = self.ours(&["put", &first])?;
        let got = self.theirs(&json!({ "get": put["target"] }))?;
        ensure!(got["value"] == first, "it got {got} instead of {first:?}");
        let put = self.theirs(&json!({ "put": second }))?;
        let target = put["target"].as_str().context("no target")?;
        let got = self.ours(&["get", target])?;
        ensure!(got["value"] == second, "bt-cli got {got} instead of {second:?}");
        self.exchange_versions()
    }

    /// Each replaces the other one's version of a mutable item.
    fn exchange_versions(&self) -> Result<()> {
        let key = self.base.path().join("key");
        std::fs::write(&key, KEY)?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        let salt = format!("{SALT} {}", self.number);
        let put = |text: &str| {
            let key = key.to_str().context("a path that is text")?;
            self.ours(&["put", text, "--key", key, "--salt", &salt])
        };
        let public = put("version 1")?["key"].as_str().context("no key")?.to_owned();
        let expect = |got: &Value, version: u64| {
            let is_expected = got["seq"] == version && got["value"] == format!("version {version}");
            ensure!(is_expected, "{got} instead of version {version}");
            Ok(())
        };
        let get =
            |version| self.theirs(&json!({ "get_mutable": public, "salt": salt, "seq": version }));
        expect(&get(1)?, 1)?;
        let next =
            json!({ "put_mutable": "version 2", "salt": salt, "seed": KEY, "public": public });
        self.theirs(&next)?;
        expect(&self.ours(&["get", &public, "--salt", &salt])?, 2)?;
        put("version 3")?;
        expect(&get(3)?, 3)
    }

    /// libtorrent seeds a torrent; both find it, and bt-cli counts it.
    fn compare_answers(&self) -> Result<()> {
        for node in self.nodes {
            self.ping(&node.to_string())?;
        }
        let payload = payload().seed(self.number.into()).create_in(self.base.path())?;
        let discovery = Discovery { dht_nodes: self.nodes.to_vec(), ..Discovery::default() };
        let seeder = party(&self.libtorrent, SEEDER, self.number);
        let seeder = Party { discovery: Some(&discovery), ..seeder };
        let seeding = Side::seed(seeder, &payload, self.base.path())?;
        let hash = payload.info_hash().to_string();
        let mut ours = Value::Null;
        let ask = || self.ours(&["peers", &hash]).map(|answer| ours = answer).is_ok();
        wait_until_every(LOOK_INTERVAL, ANNOUNCE_LIMIT, ask);
        let peers = json!([seeder.address().to_string()]);
        ensure!(ours["peers"] == peers, "{ours}\n{}", seeding.launch.output_tail());
        let theirs = self.theirs(&json!({ "peers": hash }))?;
        ensure!(theirs["peers"] == peers, "it got {theirs}, bt-cli {peers}");
        let counts = self.ours(&["scrape", &hash])?;
        ensure!(counts["seeders"] == 1 && counts["leechers"] == 0, "{counts}");
        Ok(())
    }

    fn ping(&self, node: &str) -> Result<()> {
        let arguments = ["dht", "ping", node, "--bind", &self.next_ip().to_string()];
        let answer = self.bt_cli.json("ping", arguments)?;
        let id = answer["id"].as_str().unwrap_or_default();
        ensure!(answer["address"] == node && id.len() == 40, "{answer}");
        Ok(())
    }
}
