//! Single datagrams to a node, and what each gets. The node answers a ping afterwards.

use std::fmt;

use anyhow::{Result, ensure};

use super::wire::{code, error, is_reply, query, query_with, reply, text};
use super::{ASKER, Asker, HASH, Node};
use crate::integration::scene::Scene;

/// What a datagram gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gets {
    Nothing,
    /// An error with this code.
    Error(u16),
    Reply,
}

impl fmt::Display for Gets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no answer"),
            Self::Error(code) => write!(f, "error {code}"),
            Self::Reply => f.write_str("a reply"),
        }
    }
}

/// The name of a case, what the datagram gets, and the datagram.
pub(super) struct Row(pub(super) &'static str, pub(super) Gets, fn(&Node) -> Vec<u8>);

use Gets::{Error, Nothing, Reply};

/// The bytes of the headers of IP and UDP.
const HEADERS: usize = 28;

pub(super) const ROWS: &[Row] = &[
    Row("a d, then noise", Nothing, |_| [b"d", &testkit::bytes(1, 500)[..]].concat()),
    Row("1,000 levels", Nothing, |_| nested(1000)),
    Row("eleven levels", Nothing, |_| nested(11)),
    Row("700 values", Nothing, |_| with_unknown(&[b"l", &b"0:".repeat(700)[..], b"e"].concat())),
    Row("a query of 64 KiB", Nothing, |_| with_unknown(&text([b'x'; 65_000]))),
    Row("a query of 1,501 bytes", Nothing, |_| {
        let short = with_unknown(&text([b'x'; 1000])).len();
        with_unknown(&text(vec![b'x'; 1000 + 1501 - short]))
    }),
    Row("a query of 1,500 bytes", Reply, |_| {
        let short = with_unknown(&text([b'x'; 1000])).len();
        with_unknown(&text(vec![b'x'; 1000 + 1500 - short]))
    }),
    Row("the same key twice", Nothing, |_| {
        query_with(
            b"aa",
            "ping",
            &[b"d2:id", &text(ASKER)[..], b"2:id", &text(HASH), b"e"].concat(),
        )
    }),
    Row("keys in any order", Reply, |_| {
        let id = text(ASKER);
        [b"d1:y1:q1:t2:aa1:q4:ping1:ad1:zi1e2:id", &id[..], b"ee"].concat()
    }),
    Row("a number above 2⁶³", Reply, |_| with_unknown(b"i9223372036854775808e")),
    Row("a number of 400 digits", Nothing, |_| {
        with_unknown(&[b"i", &[b'9'; 400][..], b"e"].concat())
    }),
    Row("an id of 19 bytes", Error(203), |_| query(b"aa", &ASKER[1..], "ping", b"")),
    Row("an id of 21 bytes", Error(203), |_| query(b"aa", &[7; 21], "ping", b"")),
    Row("an id that is a number", Error(203), |_| query_with(b"aa", "ping", b"d2:idi7ee")),
    Row("no id", Error(203), |_| query_with(b"aa", "ping", b"de")),
    Row("arguments in a list", Error(203), |_| query_with(b"aa", "ping", b"le")),
    Row("an id of zeros", Reply, |_| query(b"aa", &[0; 20], "ping", b"")),
    Row("the node's own id", Nothing, |node| query(b"aa", &node.id, "ping", b"")),
    Row("no transaction id", Nothing, |_| {
        [b"d1:ad2:id", &text(ASKER)[..], b"e1:q4:ping1:y1:qe"].concat()
    }),
    Row("a transaction id of 0 bytes", Reply, |_| query(b"", &ASKER, "ping", b"")),
    Row("a transaction id of 1 byte", Reply, |_| query(b"a", &ASKER, "ping", b"")),
    Row("a transaction id of 32 bytes", Reply, |_| query(&[7; 32], &ASKER, "ping", b"")),
    Row("a transaction id of 33 bytes", Nothing, |_| query(&[7; 33], &ASKER, "ping", b"")),
    Row("a transaction id of 1,000 bytes", Nothing, |_| query(&[7; 1000], &ASKER, "ping", b"")),
    Row("400 wanted families", Reply, |_| {
        find_node(&[b"l", &b"1:x".repeat(400)[..], b"e"].concat())
    }),
    Row("10,000 wanted families", Nothing, |_| {
        find_node(&[b"l", &b"1:x".repeat(10_000)[..], b"e"].concat())
    }),
    Row("wanted families in a dictionary", Reply, |_| find_node(b"de")),
    Row("find_node without a target", Error(203), |_| query(b"aa", &ASKER, "find_node", b"")),
    Row("get_peers of a short hash", Error(203), |_| {
        query(b"aa", &ASKER, "get_peers", b"9:info_hash3:abc")
    }),
    Row("an unknown method", Error(204), |_| query(b"aa", &ASKER, "vote", b"")),
    Row("a method without a name", Error(204), |_| query(b"aa", &ASKER, "", b"")),
    Row("a method of 1,000 bytes", Error(204), |_| query(b"aa", &ASKER, &"m".repeat(1000), b"")),
    Row("a reply to nothing", Nothing, |_| reply(b"aa", &ASKER, b"")),
    Row("an error about nothing", Nothing, |_| error(b"aa", 203)),
    Row("a kind of message that is not known", Nothing, |_| b"d1:t2:aa1:y1:xe".to_vec()),
];

/// Sends the datagram of a row to a node.
pub(super) fn run(scene: &Scene, Row(_, gets, datagram): &Row) -> Result<String> {
    let node = Node::start(scene)?;
    let datagram = datagram(&node);
    let answers = Asker::new(node.address)?.exchange(&datagram)?;
    let is_right = match (gets, &answers[..]) {
        (Nothing, []) => true,
        (Error(expected), [answer]) => code(answer) == Some(*expected),
        (Reply, [answer]) => is_reply(answer),
        _ => false,
    };
    let shown: Vec<_> = answers.iter().map(|answer| answer.escape_ascii().to_string()).collect();
    ensure!(is_right, "expected {gets}, got {shown:?}");
    let (sent, got) =
        (datagram.len() + HEADERS, answers.first().map_or(0, |it| it.len() + HEADERS));
    let most = if matches!(gets, Error(_)) { sent * 3 / 2 } else { 4 * sent };
    ensure!(got <= most, "{got} bytes for {sent}");
    Ok(format!("{gets}, {got} bytes for {sent}"))
}

fn nested(depth: usize) -> Vec<u8> {
    // Less two: the lists are in a dictionary that is in another one.
    let lists = depth - 2;
    with_unknown(&[b"l".repeat(lists), b"e".repeat(lists)].concat())
}

/// A ping with a value that nobody knows.
fn with_unknown(value: &[u8]) -> Vec<u8> {
    query(b"aa", &ASKER, "ping", &[b"1:z", value].concat())
}

fn find_node(want: &[u8]) -> Vec<u8> {
    query(b"aa", &ASKER, "find_node", &[b"6:target", &text(HASH)[..], b"4:want", want].concat())
}
