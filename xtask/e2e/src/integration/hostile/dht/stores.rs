//! Announces and items that a node must not store.

use anyhow::{Result, ensure};
use testkit::sha1;

use super::wire::{Id, code, field, has, is_reply, text};
use super::{Asker, HASH, Node, Story};
use crate::integration::scene::Scene;

pub(super) const CASES: &[Story] = &[
    ("tokens of others", "error 203, and nothing is stored", foreign_tokens),
    ("ports that are none", "error 203, and nothing is stored", bad_ports),
    ("items that break a rule", "errors 203, 205, 206, 207", bad_items),
    ("old versions of an item", "the newest stays", old_versions),
];

/// The public key of the items, and their signature, which fits none.
const KEY: [u8; 32] = [7; 32];
const SIGNATURE: [u8; 64] = [9; 64];

/// Returns the arguments of an announce.
fn announce(hash: &Id, port: &str, token: &[u8]) -> Vec<u8> {
    let (hash, token) = (text(hash), text(token));
    [b"9:info_hash", &hash[..], b"4:porti", port.as_bytes(), b"e5:token", &token].concat()
}

fn foreign_tokens(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let (asker, other) = (Asker::new(node.address)?, Asker::new(node.address)?);
    let other_id = Asker { id: *b"the id of another 1!", ..Asker::new(node.address)? };
    let hash = *b"another torrent's #!";
    let (token, others) = (asker.token(&HASH)?, other.token(&HASH)?);
    // A token that is a checksum of the address would differ from another one by as much as for any
    // other secret.
    let forged = |sign: u8| token.iter().zip(&others).map(|(a, b)| a ^ b ^ sign).collect();
    let tries: [(&str, &Asker, &Id, Vec<u8>); 8] = [
        ("another port", &other, &HASH, token.clone()),
        ("another id", &other_id, &HASH, token.clone()),
        ("another torrent", &asker, &hash, token.clone()),
        ("a difference", &asker, &HASH, forged(0)),
        ("an inverted difference", &asker, &HASH, forged(0xff)),
        ("nothing", &asker, &HASH, Vec::new()),
        ("a prefix", &asker, &HASH, token[..token.len() - 1].to_vec()),
        ("a long one", &asker, &HASH, token.repeat(9)),
    ];
    let count = tries.len();
    for (what, by, hash, token) in tries {
        let answer = by.ask("announce_peer", &announce(hash, "7000", &token))?;
        ensure!(code(&answer) == Some(203), "the token of {what}: {}", answer.escape_ascii());
    }
    for hash in [HASH, hash] {
        let answer = other.ask("get_peers", &[b"9:info_hash", &text(hash)[..]].concat())?;
        ensure!(!has(&answer, b"6:values"), "a peer is stored: {}", answer.escape_ascii());
    }
    let answer = asker.ask("announce_peer", &announce(&HASH, "7000", &token))?;
    ensure!(is_reply(&answer), "its own token: {}", answer.escape_ascii());
    Ok(format!("{count} refused, its own taken"))
}

fn bad_ports(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let asker = Asker::new(node.address)?;
    let token = asker.token(&HASH)?;
    let ports = ["0", "1", "-1", "65536", "9223372036854775807", "9223372036854775808"];
    for port in ports {
        let answer = asker.ask("announce_peer", &announce(&HASH, port, &token))?;
        ensure!(code(&answer) == Some(203), "port {port}: {}", answer.escape_ascii());
    }
    let answer = asker.ask("get_peers", &[b"9:info_hash", &text(HASH)[..]].concat())?;
    ensure!(!has(&answer, b"6:values"), "a peer is stored: {}", answer.escape_ascii());
    Ok(format!("{} refused", ports.len()))
}

/// An item to put.
enum Item<'a> {
    /// A value.
    Immutable(&'a [u8]),
    /// Text with a salt of this length and a version, and a signature that fits nothing.
    Mutable { salt: usize, seq: i64 },
}

impl Item<'_> {
    fn target(&self) -> Id {
        match self {
            Self::Immutable(value) => sha1(value).0,
            Self::Mutable { salt, .. } => sha1(&[&KEY[..], &vec![b's'; *salt]].concat()).0,
        }
    }

    /// Returns the arguments of a put.
    fn arguments(&self, token: &[u8]) -> Vec<u8> {
        let token = [b"5:token", &text(token)[..]].concat();
        match self {
            Self::Immutable(value) => [&token[..], b"1:v", value].concat(),
            Self::Mutable { salt, seq } => {
                let (key, salt, sig) = (text(KEY), text(vec![b's'; *salt]), text(SIGNATURE));
                let seq = format!("3:seqi{seq}e3:sig");
                let signed = [b"1:k", &key[..], b"4:salt", &salt, seq.as_bytes(), &sig].concat();
                [&signed[..], &token, b"1:v4:text"].concat()
            }
        }
    }

    /// Sends the item to a node, with a token that is right for it. Returns the error, or 0.
    fn put(&self, asker: &Asker) -> Result<u16> {
        let answer = asker.ask("get", &[b"6:target", &text(self.target())[..]].concat())?;
        let token = field(&answer, "5:token").unwrap_or_default();
        let answer = asker.ask("put", &self.arguments(token))?;
        Ok(code(&answer).unwrap_or(0))
    }
}

fn bad_items(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    // 996 bytes, and those for the length.
    let (most, long) = (text([b'x'; 996]), text([b'x'; 997]));
    let rows = [
        ("a value of 1,000 bytes", Item::Immutable(&most), 0),
        ("a value of 1,001 bytes", Item::Immutable(&long), 205),
        ("keys in the wrong order", Item::Immutable(b"d1:b0:1:a0:e"), 203),
        ("a salt of 65 bytes", Item::Mutable { salt: 65, seq: 1 }, 207),
        ("a version of -1", Item::Mutable { salt: 0, seq: -1 }, 203),
        ("a signature of nothing", Item::Mutable { salt: 0, seq: 1 }, 206),
        ("the last version, unsigned", Item::Mutable { salt: 64, seq: i64::MAX }, 206),
    ];
    for (what, item, expected) in &rows {
        let got = item.put(&Asker::new(node.address)?)?;
        ensure!(got == *expected, "{what}: {got} instead of {expected}");
    }
    Ok(format!("{} refused", rows.len() - 1))
}

/// Signs with `bt-cli dht put`. Returns its exit code.
fn put_by_program(scene: &Scene, node: &Node, text: &str, more: &[&str]) -> Result<i32> {
    let (key, address) = (scene.path("key"), node.address.to_string());
    let key = crate::integration::scene::text(&key)?;
    let arguments = ["dht", "put", text, "--key", key, "--dht-node", &address];
    Ok(scene.user("owner").run("put", arguments.iter().chain(more).copied())?.code)
}

fn old_versions(scene: &Scene) -> Result<String> {
    let node = Node::start(scene)?;
    let last = i64::MAX.to_string();
    let rows: [(&str, &[&str], i32); 8] = [
        ("first", &["--seq", "5"], 0),
        ("equal", &["--seq", "5"], 4),
        ("older", &["--seq", "4"], 4),
        ("newer", &["--seq", "6", "--cas", "4"], 4),
        ("newer", &["--seq", "6", "--cas", "5"], 0),
        ("last", &["--seq", &last], 0),
        ("last, too", &["--seq", &last], 4),
        ("after the last", &[], 2),
    ];
    for (value, more, expected) in rows {
        let code = put_by_program(scene, &node, value, more)?;
        ensure!(code == expected, "{value} {more:?}: exit code {code} instead of {expected}");
    }
    Ok("3 of 8 stored".to_owned())
}
