//! The fuzz targets: each takes any bytes and panics if the crate breaks a promise.

use std::net::SocketAddr;
use std::time::Duration;

use bt_types::{Bitfield, BlockRequest, Geometry, InfoHashV1, PeerId};
use testkit::Choices;

use peer_wire::{
    Connection, ExtensionHandshake, Extensions, Handshake, MAX_EXTENDED_LENGTH,
    MAX_QUEUED_REQUESTS, MAX_REQUESTS, METADATA_PIECE_LENGTH, Message, MetadataMessage, PEX_LENGTH,
    PEX_READ, Pex, Received, Reserved, Transmit, WireRequest, client_name,
};

/// An upper bound for the bookkeeping of all requests, in bytes.
const BOOKKEEPING: usize = 64 * 1024;

/// Reads `data` as a handshake. A decoded one encodes to the same bytes, and the client's name is
/// printable.
pub(crate) fn handshake(data: &[u8]) {
    let Some((bytes, rest)) = data.split_first_chunk() else { return };
    let mut connection = Connection::incoming(Duration::ZERO);
    let mut input = &bytes[..];
    let received = connection.receive(Duration::ZERO, &mut input);
    match Handshake::decode(bytes) {
        Ok(handshake) => {
            assert_eq!(
                (&handshake.encode(), received),
                (bytes, Some(Received::Handshake(handshake)))
            );
            check_name(&handshake.peer_id);
            assert_eq!(handshake.reserved.to_string().len(), 16);
        }
        Err(_) => assert!(matches!(received, Some(Received::Misbehaved(_)))),
    }
    rest.as_chunks().0.iter().for_each(|id| check_name(&PeerId(*id)));
}

fn check_name(id: &PeerId) {
    let name = client_name(id);
    assert!((1..=40).contains(&name.len()), "{name:?}");
    assert!(name.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{name:?}");
}

/// Reads `data` as messages. The decoded ones encode to the same bytes.
pub(crate) fn messages(data: &[u8]) {
    let (mut rest, mut encoded) = (data, Vec::new());
    while let Ok(Some(message)) = Message::decode(&mut rest) {
        message.encode(&mut encoded);
    }
    assert_eq!(data.split_at(encoded.len()), (&encoded[..], rest));
}

/// Reads `data` as an extension handshake. A decoded one survives the round trip.
pub(crate) fn extension_handshake(data: &[u8]) {
    if let Ok(handshake) = ExtensionHandshake::decode(data) {
        assert_eq!(ExtensionHandshake::decode(&handshake.encode()), Ok(handshake));
    }
}

/// Reads `data` as a peer's stream, whole and in the parts that its first bytes choose. Both give
/// the same messages.
pub(crate) fn splits(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (flags, lengths) = (choices.byte(), choices.bytes(4));
    let stream = choices.bytes(usize::MAX);
    let whole = reported(flags, stream, &[]);
    assert_eq!(reported(flags, stream, lengths), whole);
    assert_eq!(reported(flags, stream, &[1]), whole);
}

/// Reads `data` as a message of the metadata extension. A decoded one survives the round trip, and
/// its piece is what follows the dictionary.
pub(crate) fn metadata(data: &[u8]) {
    let Ok(message) = MetadataMessage::decode(data) else { return };
    if let MetadataMessage::Data { bytes, .. } = &message {
        assert!((1..=METADATA_PIECE_LENGTH as usize).contains(&bytes.len()));
        assert!(data.ends_with(bytes));
    }
    let mut encoded = Vec::new();
    message.encode(&mut encoded);
    assert_eq!(MetadataMessage::decode(&encoded), Ok(message));
}

/// Reads `data` as a message of peer exchange. What is decoded is limited, has no port 0 and no
/// address twice, and survives the round trip.
pub(crate) fn pex(data: &[u8]) {
    let Ok(pex) = Pex::decode(data) else { return };
    assert!(data.len() <= PEX_LENGTH as usize);
    assert!(pex.added.len().max(pex.dropped.len()) <= 2 * PEX_READ);
    let added = pex.added.iter().map(|peer| peer.address);
    let mut addresses: Vec<SocketAddr> = added.chain(pex.dropped.iter().copied()).collect();
    assert!(addresses.iter().all(|address| address.port() != 0));
    let count = addresses.len();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), count);
    assert_eq!(Pex::decode(&pex.encode()), Ok(pex));
}

/// An extension handshake of ours that offers everything.
fn offer() -> ExtensionHandshake {
    let messages = Extensions { metadata: true, pex: true }.messages();
    ExtensionHandshake { messages, ..ExtensionHandshake::default() }
}

fn handshake_of(flags: u8, id: u8) -> Handshake {
    let reserved = if flags & 1 == 0 { Reserved::OURS } else { Reserved::NONE };
    Handshake { reserved, info_hash: InfoHashV1([7; 20]), peer_id: PeerId([id; 20]) }
}

/// Returns what a connection with four requests reports of `stream`, with the parts of blocks and
/// bitfields joined.
fn reported(flags: u8, stream: &[u8], lengths: &[u8]) -> Vec<String> {
    let geometry = Geometry::new(40, 8).expect("a small torrent");
    let mut connection = Connection::outgoing(Duration::ZERO, handshake_of(flags, 1), None);
    if flags & 2 == 0 {
        connection.set_geometry(geometry).expect("nothing was received");
    }
    let theirs = handshake_of(flags, 2).encode();
    let _theirs = connection.receive(Duration::ZERO, &mut &theirs[..]);
    if flags & 4 == 0 {
        let _unchoked = connection.receive(Duration::ZERO, &mut &[0, 0, 0, 1, 1][..]);
    }
    connection.extension_handshake(&offer());
    connection.metadata_request(0);
    for block in geometry.pieces().take(4).flat_map(|piece| geometry.blocks(piece)) {
        connection.request(block);
    }
    let (mut rest, mut reports) = (stream, Vec::new());
    let mut lengths = lengths.iter().cycle();
    let mut payload = Vec::new();
    while !rest.is_empty() && !connection.is_closed() {
        let length = lengths.next().map_or(rest.len(), |length| usize::from(*length).max(1));
        let (mut part, later) = rest.split_at(length.min(rest.len()));
        while let Some(received) = connection.receive(Duration::ZERO, &mut part) {
            note_report(&received, &mut payload, &mut reports);
        }
        assert!(part.is_empty() || connection.is_closed(), "input is left");
        rest = later;
    }
    reports.push(format!("{payload:?} {}", connection.outstanding()));
    reports
}

fn note_report(received: &Received<'_>, payload: &mut Vec<u8>, reports: &mut Vec<String>) {
    let (what, bytes, last) = match received {
        Received::Block { request, bytes, last, .. } => (format!("{request:?}"), *bytes, *last),
        Received::Bitfield { bytes, last, .. } => ("bitfield".to_owned(), *bytes, *last),
        other => (format!("{other:?}"), &[][..], true),
    };
    payload.extend(bytes);
    if last {
        reports.push(format!("{what} {:?}", std::mem::take(payload)));
    }
}

/// Drives a connection with the bytes and calls that `data` chooses. Memory stays bounded, parts
/// come without gaps, nothing follows a broken rule, and what is sent can be decoded.
pub(crate) fn connection(data: &[u8]) {
    let mut script = Choices::new(data);
    let mut driver = Driver::new(&mut script);
    while !script.is_empty() {
        driver.step(&mut script);
        driver.check();
    }
    driver.check_sent();
}

/// Returns a range that often, but not always, is in the torrent.
fn range(script: &mut Choices<'_>) -> WireRequest {
    let (index, block, odd) = (script.byte() % 5, script.byte() % 3, script.byte());
    let length = if odd == 0xff { u32::MAX } else { 0x4000 + u32::from(odd == 0xfe) };
    WireRequest { index: index.into(), offset: u32::from(block) * 0x4000, length }
}

struct Driver {
    connection: Connection,
    geometry: Geometry,
    now: Duration,
    /// The peer's bytes that were not consumed, while the connection waits to be accepted.
    held: Vec<u8>,
    /// The block that is coming in, and how much of it came.
    block: Option<(BlockRequest, u32)>,
    /// How much of the bitfield came.
    bitfield: usize,
    misbehaved: bool,
    sent: Vec<u8>,
}

impl Driver {
    fn new(script: &mut Choices<'_>) -> Self {
        let geometry = Geometry::new(4 * 0x8000 - 1, 0x8000).expect("a small torrent");
        let flags = script.byte();
        let outgoing = flags & 2 == 0;
        let mut connection = if outgoing {
            Connection::outgoing(Duration::ZERO, handshake_of(flags, 1), None)
        } else {
            Connection::incoming(Duration::ZERO)
        };
        if flags & 4 == 0 {
            connection.set_geometry(geometry).expect("nothing was received");
        }
        let mut driver = Self {
            connection,
            geometry,
            now: Duration::ZERO,
            held: Vec::new(),
            block: None,
            bitfield: 0,
            misbehaved: false,
            sent: Vec::new(),
        };
        if flags & 8 == 0 {
            driver.feed(&handshake_of(flags, 2).encode());
            driver.connection.accept(handshake_of(flags, 1));
        }
        driver
    }

    fn step(&mut self, script: &mut Choices<'_>) {
        let op = script.byte();
        match op {
            0..=0x3f => self.feed(script.bytes(usize::from(op))),
            0x40..=0x7f => self.feed_message(op, script),
            0x80..=0xbf => self.call(op, script),
            0xc0..=0xdf => self.transmit(usize::from(script.byte()) << (op % 9)),
            _ => {
                self.now += Duration::from_secs(u64::from(op - 0xe0));
                let _ = self.connection.handle_timeout(self.now);
            }
        }
    }

    fn feed_message(&mut self, op: u8, script: &mut Choices<'_>) {
        let range = range(script);
        let zeros = [0; 0x4000];
        let WireRequest { index, offset, length } = range;
        let bytes = &zeros[..zeros.len().min(length as usize)];
        let message = match op % 18 {
            0 => Message::KeepAlive,
            1 => Message::Choke,
            2 => Message::Unchoke,
            3 => Message::Interested,
            4 => Message::NotInterested,
            5 => Message::Have(index),
            6 => Message::Bitfield(script.bytes(1)),
            7 => Message::Request(range),
            8 | 9 => Message::Block { index, offset, bytes },
            10 => Message::Cancel(range),
            11 => Message::Port(9),
            12 => Message::Suggest(index),
            13 => Message::HaveAll,
            14 => Message::Reject(range),
            15 => Message::AllowedFast(index),
            16 => Message::Extended { id: script.byte() % 3, payload: script.bytes(40) },
            _ => Message::Unknown { id: 99, payload: bytes },
        };
        let mut wire = Vec::new();
        message.encode(&mut wire);
        let (first, second) = wire.split_at(usize::from(script.byte()).min(wire.len()));
        self.feed(first);
        self.feed(second);
    }

    fn feed(&mut self, bytes: &[u8]) {
        let held = [std::mem::take(&mut self.held).as_slice(), bytes].concat();
        let mut input = &held[..];
        while let Some(received) = self.connection.receive(self.now, &mut input) {
            assert!(!self.misbehaved, "something follows a broken rule");
            self.note(&received);
        }
        let waits = self.connection.handshake().is_some() && !self.connection.is_open();
        assert!(input.is_empty() || waits, "input is left");
        self.held = input.to_vec();
    }

    fn note(&mut self, received: &Received<'_>) {
        match received {
            Received::Block { request, offset, bytes, last } => {
                assert_eq!(self.block.take().unwrap_or((*request, 0)), (*request, *offset));
                let end = offset + bytes.len() as u32;
                assert!(!bytes.is_empty() && *last == (end == request.length()));
                self.block = (!last).then_some((*request, end));
            }
            Received::Bitfield { offset, bytes, last } => {
                assert_eq!(self.bitfield, *offset);
                // The bitfield may be repeated.
                self.bitfield = if *last { 0 } else { offset + bytes.len() };
            }
            Received::Misbehaved(rule) => {
                assert!(self.connection.is_closed() && !rule.to_string().is_empty());
                self.misbehaved = true;
            }
            _ => assert_eq!(self.block, None, "a message inside a block"),
        }
    }

    fn call(&mut self, op: u8, script: &mut Choices<'_>) {
        let WireRequest { index, offset, length } = range(script);
        let Some(request) = self.geometry.request(index, offset, length) else { return };
        let connection = &mut self.connection;
        match op % 18 {
            0 => connection.choke(),
            1 => connection.unchoke(),
            2 => connection.interested(),
            3 => connection.not_interested(),
            4 => connection.have(request.piece()),
            5 => connection.bitfield(&Bitfield::full(4)),
            6 => connection.bitfield(&Bitfield::new(4)),
            7..=9 => drop(connection.request(request)),
            10 => drop(connection.cancel(request)),
            11 => drop(connection.send_block(request)),
            12 => drop(connection.next_request()),
            13 => drop(connection.reject(request)),
            14 => connection.allowed_fast(request.piece()),
            15 => {
                connection.extension_handshake(&offer());
                connection.metadata_request(index);
                connection.metadata_data(index, 1, b"e");
            }
            16 => {
                connection.keep_alive();
                connection.metadata_reject(index);
                connection.pex(&Pex::default());
            }
            _ => self.misbehaved |= connection.set_geometry(self.geometry).is_err(),
        }
    }

    /// Sends up to `limit` bytes.
    fn transmit(&mut self, limit: usize) {
        let mut left = limit;
        while left > 0 {
            let Some(next) = self.connection.poll_transmit() else { break };
            let step = left.min(next.length());
            match next {
                Transmit::Bytes(bytes) => self.sent.extend_from_slice(&bytes[..step]),
                Transmit::Payload { .. } => self.sent.resize(self.sent.len() + step, 0),
            }
            self.connection.transmitted(step);
            left -= step;
        }
    }

    fn check(&self) {
        let connection = &self.connection;
        assert!(connection.outstanding() <= MAX_REQUESTS);
        assert!(connection.unanswered() <= MAX_QUEUED_REQUESTS);
        let waiting: usize = connection.transmits().map(|transmit| transmit.length()).sum();
        let bound = 2 * MAX_EXTENDED_LENGTH as usize + BOOKKEEPING + 4 * waiting;
        assert!(connection.buffered() <= bound, "{} bytes held", connection.buffered());
        if connection.is_closed() {
            assert!(connection.poll_transmit().is_none() && connection.poll_timeout().is_none());
        }
    }

    /// The bytes sent are our handshake and messages. The last may be truncated.
    fn check_sent(&mut self) {
        self.transmit(usize::MAX);
        let Some((handshake, mut rest)) = self.sent.split_first_chunk() else { return };
        assert!(Handshake::decode(handshake).is_ok());
        while Message::decode(&mut rest).expect("we send nothing illegal").is_some() {}
        assert!(rest.is_empty() || self.connection.is_closed());
    }
}
