//! From a [`Message`] to a datagram, with the keys in order and without an allocation.

use std::net::SocketAddr;

use bt_types::compact;

use super::{Body, ErrorCode, Message, Method, MutablePut, Query, Reply, Want};

impl Message<'_> {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.open();
        match &self.body {
            Body::Query(query) => writer.arguments(query),
            Body::Refused(code) => writer.error(code.number()),
            Body::Reply(_) => {}
            Body::Error(code) => writer.error(*code),
        }
        if let Some(ip) = self.ip {
            writer.key("ip");
            writer.endpoint(ip);
        }
        match &self.body {
            Body::Query(query) => writer.string("q", name(&query.method).as_bytes()),
            Body::Reply(reply) => writer.fields(reply),
            Body::Refused(_) | Body::Error(_) => {}
        }
        if self.read_only {
            writer.int("ro", 1);
        }
        writer.string("t", self.transaction);
        if let Some(version) = self.version {
            writer.string("v", version);
        }
        let kind = match self.body {
            Body::Query(_) => "q",
            Body::Reply(_) => "r",
            Body::Refused(_) | Body::Error(_) => "e",
        };
        writer.string("y", kind.as_bytes());
        writer.close();
    }
}

fn name(method: &Method<'_>) -> &'static str {
    match method {
        Method::Ping => "ping",
        Method::FindNode { .. } => "find_node",
        Method::GetPeers { .. } => "get_peers",
        Method::AnnouncePeer { .. } => "announce_peer",
        Method::Get { .. } => "get",
        Method::Put { .. } => "put",
    }
}

fn text(code: i64) -> &'static str {
    const KNOWN: [(ErrorCode, &str); 8] = [
        (ErrorCode::Server, "Server Error"),
        (ErrorCode::Protocol, "Protocol Error"),
        (ErrorCode::MethodUnknown, "Method Unknown"),
        (ErrorCode::ValueTooLong, "value too big"),
        (ErrorCode::BadSignature, "invalid signature"),
        (ErrorCode::SaltTooLong, "salt too big"),
        (ErrorCode::CasMismatch, "CAS mismatch"),
        (ErrorCode::OldSequenceNumber, "old seq"),
    ];
    let known = KNOWN.iter().find(|(known, _)| known.number() == code);
    known.map_or("Generic Error", |(_, text)| *text)
}

struct Writer<'b>(&'b mut Vec<u8>);

impl Writer<'_> {
    fn arguments(&mut self, query: &Query<'_>) {
        self.key("a");
        self.open();
        if let Method::Put { mutable: Some(MutablePut { cas: Some(cas), .. }), .. } = query.method {
            self.int("cas", cas);
        }
        self.string("id", &query.id.0);
        match &query.method {
            Method::Ping => {}
            Method::FindNode { target, want } => {
                self.string("target", &target.0);
                self.want(*want);
            }
            Method::GetPeers { info_hash, want, noseed, scrape } => {
                self.string("info_hash", &info_hash.0);
                self.flag("noseed", *noseed);
                self.flag("scrape", *scrape);
                self.want(*want);
            }
            Method::AnnouncePeer { info_hash, port, seed, token } => {
                self.flag("implied_port", port.is_none());
                self.string("info_hash", &info_hash.0);
                if let Some(port) = port {
                    self.int("port", i64::from(*port));
                }
                self.flag("seed", *seed);
                self.string("token", token);
            }
            Method::Get { target, want, seq } => {
                if let Some(seq) = seq {
                    self.int("seq", *seq);
                }
                self.string("target", &target.0);
                self.want(*want);
            }
            Method::Put { token, value, mutable } => self.put(token, value, mutable.as_ref()),
        }
        self.close();
    }

    fn put(&mut self, token: &[u8], value: &[u8], mutable: Option<&MutablePut<'_>>) {
        if let Some(item) = mutable {
            self.string("k", item.key);
            if !item.salt.is_empty() {
                self.string("salt", item.salt);
            }
            self.int("seq", item.seq);
            self.string("sig", item.signature);
        }
        self.string("token", token);
        self.key("v");
        self.raw(value);
    }

    fn fields(&mut self, reply: &Reply<'_>) {
        self.key("r");
        self.open();
        self.optional("BFpe", reply.peers.map(<[u8; _]>::as_slice));
        self.optional("BFsd", reply.seeds.map(<[u8; _]>::as_slice));
        self.string("id", &reply.id.0);
        self.optional("k", reply.key.map(<[u8; _]>::as_slice));
        self.optional("nodes", reply.nodes.map(super::Nodes::as_bytes));
        self.optional("nodes6", reply.nodes6.map(super::Nodes::as_bytes));
        if let Some(seq) = reply.seq {
            self.int("seq", seq);
        }
        self.optional("sig", reply.signature.map(<[u8; _]>::as_slice));
        self.optional("token", reply.token);
        if let Some(value) = reply.value {
            self.key("v");
            self.raw(value);
        }
        if let Some(values) = reply.values {
            self.key("values");
            self.raw(b"l");
            self.raw(values.as_bytes());
            self.close();
        }
        self.close();
    }

    fn error(&mut self, code: i64) {
        self.key("e");
        self.raw(b"l");
        self.integer(code);
        self.bytes(text(code).as_bytes());
        self.close();
    }

    fn want(&mut self, want: Want) {
        if want.v4 || want.v6 {
            self.key("want");
            self.raw(b"l");
            self.raw(if want.v4 { b"2:n4" } else { b"" });
            self.raw(if want.v6 { b"2:n6" } else { b"" });
            self.close();
        }
    }

    fn endpoint(&mut self, address: SocketAddr) {
        let length = if address.is_ipv4() { compact::V4_LENGTH } else { compact::V6_LENGTH };
        self.digits(length as u64);
        self.raw(b":");
        compact::encode(address, self.0);
    }

    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.int(key, 1);
        }
    }

    fn int(&mut self, key: &str, value: i64) {
        self.key(key);
        self.integer(value);
    }

    fn optional(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.string(key, value);
        }
    }

    fn string(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.bytes(value);
    }

    fn key(&mut self, key: &str) {
        self.bytes(key.as_bytes());
    }

    fn integer(&mut self, value: i64) {
        self.raw(b"i");
        if value < 0 {
            self.raw(b"-");
        }
        self.digits(value.unsigned_abs());
        self.close();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.digits(bytes.len() as u64);
        self.raw(b":");
        self.raw(bytes);
    }

    /// Formatting through `std::fmt` would take longer than all the rest.
    fn digits(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.raw(&digits[at..]);
    }

    fn open(&mut self) {
        self.raw(b"d");
    }

    fn close(&mut self) {
        self.raw(b"e");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}
