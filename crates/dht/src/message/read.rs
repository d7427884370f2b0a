//! From a datagram to a [`Message`].

use std::net::SocketAddr;

use bencode::{Dict, Options, Value};
use bt_types::{InfoHashV1, compact};

use super::{
    Body, ErrorCode, MAX_BENCODE_TOKENS, MAX_DATAGRAM_IN, MAX_DEPTH, MAX_TOKEN_LENGTH,
    MAX_TRANSACTION_LENGTH, MIN_DATAGRAM, Message, MessageError, Method, MutablePut, Nodes, Query,
    Reply, Values, Want,
};
use crate::{Family, NodeId};

impl<'a> Message<'a> {
    /// Reads a datagram. Keys may be in any order; unknown ones are ignored, duplicate ones are an
    /// error. A query with bad arguments becomes [`Body::Refused`].
    ///
    /// # Errors
    /// If the datagram must get no answer; see [`MessageError`].
    pub fn decode(datagram: &'a [u8]) -> Result<Self, MessageError> {
        if !(MIN_DATAGRAM..=MAX_DATAGRAM_IN).contains(&datagram.len()) {
            return Err(MessageError::Length(datagram.len()));
        }
        // Anything else would have the parser describe an error that nobody reads.
        if datagram.first() != Some(&b'd') {
            return Err(MessageError::Bencode);
        }
        let options =
            Options { max_depth: MAX_DEPTH, max_tokens: MAX_BENCODE_TOKENS, ..Options::new() };
        let document = options.parse(datagram).map_err(|_| MessageError::Bencode)?;
        let root = document.root().as_dict().ok_or(MessageError::Bencode)?;
        let transaction =
            bytes(root, "t").filter(|transaction| transaction.len() <= MAX_TRANSACTION_LENGTH);
        Ok(Self {
            transaction: transaction.ok_or(MessageError::Transaction)?,
            body: body(root)?,
            ip: bytes(root, "ip").and_then(endpoint),
            read_only: flag(root, "ro"),
            version: bytes(root, "v"),
        })
    }
}

fn body<'a>(root: Dict<'a, '_>) -> Result<Body<'a>, MessageError> {
    match bytes(root, "y") {
        Some(b"q") => {
            let name = bytes(root, "q").ok_or(MessageError::Kind)?;
            Ok(query(name, root).map_or_else(Body::Refused, Body::Query))
        }
        Some(b"r") => {
            let fields = root.get("r").and_then(Value::as_dict);
            fields.and_then(reply).map(Body::Reply).ok_or(MessageError::Kind)
        }
        Some(b"e") => {
            let list = root.get("e").and_then(Value::as_list);
            let code = list.and_then(|list| list.get(0)).and_then(Value::as_int);
            Ok(Body::Error(code.unwrap_or(0)))
        }
        _ => Err(MessageError::Kind),
    }
}

fn query<'a>(name: &[u8], root: Dict<'a, '_>) -> Result<Query<'a>, ErrorCode> {
    let arguments = root.get("a").and_then(Value::as_dict).ok_or(ErrorCode::Protocol)?;
    let id = id(arguments, "id").ok_or(ErrorCode::Protocol)?;
    Ok(Query { id, method: method(name, arguments)? })
}

fn method<'a>(name: &[u8], arguments: Dict<'a, '_>) -> Result<Method<'a>, ErrorCode> {
    let refused = ErrorCode::Protocol;
    let want = want(arguments);
    let target = id(arguments, "target");
    let info_hash = id(arguments, "info_hash").map(InfoHashV1::from);
    Ok(match name {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode { target: target.ok_or(refused)?, want },
        b"get_peers" => Method::GetPeers {
            info_hash: info_hash.ok_or(refused)?,
            want,
            noseed: flag(arguments, "noseed"),
            scrape: flag(arguments, "scrape"),
        },
        b"announce_peer" => announce(info_hash.ok_or(refused)?, arguments).ok_or(refused)?,
        b"get" => Method::Get { target: target.ok_or(refused)?, want, seq: int(arguments, "seq") },
        b"put" => put(arguments).ok_or(refused)?,
        // A method of the future: the closest nodes help whoever looks for its target (BEP 5 has
        // no rule for it; libtorrent does the same).
        _ => {
            let target = target.or(info_hash.map(NodeId::from)).ok_or(ErrorCode::MethodUnknown)?;
            Method::FindNode { target, want }
        }
    })
}

fn announce<'a>(info_hash: InfoHashV1, arguments: Dict<'a, '_>) -> Option<Method<'a>> {
    let token = token(arguments)?;
    let port = if flag(arguments, "implied_port") {
        None
    } else {
        // Port 1 is the flag `implied_port` in the wrong place: nobody listens there.
        Some(u16::try_from(int(arguments, "port")?).ok().filter(|port| *port > 1)?)
    };
    Some(Method::AnnouncePeer { info_hash, port, seed: int(arguments, "seed") == Some(1), token })
}

fn put<'a>(arguments: Dict<'a, '_>) -> Option<Method<'a>> {
    let mutable = match arguments.get("k") {
        None => None,
        Some(key) => Some(MutablePut {
            key: key.as_bytes()?.try_into().ok()?,
            salt: match arguments.get("salt") {
                Some(salt) => salt.as_bytes()?,
                None => &[],
            },
            seq: int(arguments, "seq")?,
            cas: match arguments.get("cas") {
                Some(cas) => Some(cas.as_int()?),
                None => None,
            },
            signature: array(arguments, "sig")?,
        }),
    };
    Some(Method::Put { token: token(arguments)?, value: arguments.get("v")?.raw(), mutable })
}

fn reply<'a>(fields: Dict<'a, '_>) -> Option<Reply<'a>> {
    let nodes = |key, family| bytes(fields, key).and_then(|bytes| Nodes::new(family, bytes));
    Some(Reply {
        id: id(fields, "id")?,
        nodes: nodes("nodes", Family::V4),
        nodes6: nodes("nodes6", Family::V6),
        values: fields.get("values").and_then(values),
        token: token(fields),
        seeds: array(fields, "BFsd"),
        peers: array(fields, "BFpe"),
        value: fields.get("v").map(Value::raw),
        key: array(fields, "k"),
        seq: int(fields, "seq"),
        signature: array(fields, "sig"),
    })
}

fn values<'a>(value: Value<'a, '_>) -> Option<Values<'a>> {
    value.as_list()?;
    let elements = value.raw().strip_prefix(b"l")?.strip_suffix(b"e")?;
    Some(Values::new(elements))
}

fn want(arguments: Dict<'_, '_>) -> Want {
    let list = arguments.get("want").and_then(Value::as_list);
    let has = |name: &[u8]| {
        list.is_some_and(|list| list.iter().any(|value| value.as_bytes() == Some(name)))
    };
    if list.is_none() {
        return Want::default();
    }
    Want { v4: has(b"n4"), v6: has(b"n6") }
}

fn endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    match bytes.len() {
        compact::V4_LENGTH => compact::decode_v4(bytes).next(),
        compact::V6_LENGTH => compact::decode_v6(bytes).next(),
        _ => None,
    }
}

fn token<'a>(dict: Dict<'a, '_>) -> Option<&'a [u8]> {
    bytes(dict, "token").filter(|token| token.len() <= MAX_TOKEN_LENGTH)
}

fn id(dict: Dict<'_, '_>, key: &str) -> Option<NodeId> {
    bytes(dict, key).and_then(NodeId::from_slice)
}

fn array<'a, const N: usize>(dict: Dict<'a, '_>, key: &str) -> Option<&'a [u8; N]> {
    bytes(dict, key)?.try_into().ok()
}

fn bytes<'a>(dict: Dict<'a, '_>, key: &str) -> Option<&'a [u8]> {
    dict.get(key).and_then(Value::as_bytes)
}

fn int(dict: Dict<'_, '_>, key: &str) -> Option<i64> {
    dict.get(key).and_then(Value::as_int)
}

fn flag(dict: Dict<'_, '_>, key: &str) -> bool {
    int(dict, key).is_some_and(|value| value != 0)
}
