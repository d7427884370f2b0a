//! Helpers: an open connection, and bytes of its peer.

use std::time::Duration;

use peer_wire::{
    BlockRequest, Connection, Geometry, Handshake, InfoHashV1, Message, PeerId, Received, Reserved,
    Rule, Transmit, WireRequest,
};

pub(crate) const NOW: Duration = Duration::from_secs(1000);

/// Four pieces of 32 KiB, the last one byte shorter.
pub(crate) fn geometry() -> Geometry {
    Geometry::new(4 * 0x8000 - 1, 0x8000).unwrap()
}

pub(crate) fn handshake(id: u8, reserved: Reserved) -> Handshake {
    Handshake { reserved, info_hash: InfoHashV1([7; 20]), peer_id: PeerId([id; 20]) }
}

/// Returns block `block` of piece `piece`.
pub(crate) fn block(piece: u32, block: u32) -> BlockRequest {
    let geometry = geometry();
    geometry.block(geometry.piece(piece).unwrap(), block).unwrap()
}

pub(crate) fn wire(message: Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// Returns the data of `request`. Each byte depends on its position in the torrent.
pub(crate) fn data(request: BlockRequest) -> Vec<u8> {
    let start = u64::from(request.piece().get()) * 0x8000 + u64::from(request.offset());
    (start..start + u64::from(request.length())).map(|at| (at % 251) as u8).collect()
}

/// Returns the block message that answers `request`.
pub(crate) fn block_message(request: BlockRequest) -> Vec<u8> {
    let WireRequest { index, offset, .. } = request.into();
    wire(Message::Block { index, offset, bytes: &data(request) })
}

/// Makes an open outgoing connection with geometry and nothing queued.
pub(crate) fn open(reserved: Reserved) -> Connection {
    let mut connection = open_without_geometry(reserved);
    connection.set_geometry(geometry()).unwrap();
    connection
}

pub(crate) fn open_without_geometry(reserved: Reserved) -> Connection {
    let mut connection = Connection::outgoing(NOW, handshake(1, reserved), None);
    let theirs = handshake(2, reserved);
    let got = receive(&mut connection, &theirs.encode());
    assert_eq!(got, [Event::Received(Received::Handshake(theirs))]);
    sent(&mut connection);
    connection
}

/// What a connection reports, with the parts of a block or bitfield joined.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Received(Received<'static>),
    Bitfield(Vec<u8>),
    Block(BlockRequest, Vec<u8>),
}

/// Joins the parts of blocks and bitfields.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) events: Vec<Event>,
    partial: Vec<u8>,
}

impl Collector {
    /// Leaks a copy of `input`, so that what is reported of it can be kept.
    pub(crate) fn receive(&mut self, connection: &mut Connection, input: &[u8]) {
        let mut input: &'static [u8] = input.to_vec().leak();
        while let Some(received) = connection.receive(NOW, &mut input) {
            self.add(received);
        }
        assert!(input.is_empty());
    }

    fn add(&mut self, received: Received<'static>) {
        match received {
            Received::Block { request, offset, bytes, last } => {
                self.add_part(offset as usize, bytes, last, |bytes| Event::Block(request, bytes));
            }
            Received::Bitfield { offset, bytes, last } => {
                self.add_part(offset, bytes, last, Event::Bitfield);
            }
            other => self.events.push(Event::Received(other)),
        }
    }

    fn add_part(
        &mut self,
        offset: usize,
        bytes: &[u8],
        last: bool,
        event: impl FnOnce(Vec<u8>) -> Event,
    ) {
        assert_eq!(offset, self.partial.len());
        self.partial.extend_from_slice(bytes);
        if last {
            self.events.push(event(std::mem::take(&mut self.partial)));
        }
    }
}

/// Passes `bytes` to `connection`. Returns what it reports.
pub(crate) fn receive(connection: &mut Connection, bytes: &[u8]) -> Vec<Event> {
    let mut collector = Collector::default();
    collector.receive(connection, bytes);
    collector.events
}

/// Passes one message to `connection`, which must report one thing.
#[track_caller]
pub(crate) fn receive_one(connection: &mut Connection, message: Message<'_>) -> Received<'static> {
    match receive(connection, &wire(message)).as_slice() {
        [Event::Received(received)] => received.clone(),
        other => panic!("expected one thing, got {other:?}"),
    }
}

/// Checks that `bytes` break `rule` and close the connection.
#[track_caller]
pub(crate) fn breaks(connection: &mut Connection, bytes: &[u8], rule: Rule) {
    let events = receive(connection, bytes);
    assert_eq!(events.last(), Some(&Event::Received(Received::Misbehaved(rule))));
    assert!(connection.is_closed() && !connection.is_open());
    assert_eq!(receive(connection, &wire(Message::Choke)), []);
    connection.keep_alive();
    assert_eq!((connection.poll_transmit(), connection.poll_timeout()), (None, None));
    assert_eq!(connection.buffered(), 0);
}

/// Takes everything that is queued, with payload filled in.
pub(crate) fn sent(connection: &mut Connection) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(next) = connection.poll_transmit() {
        match next {
            Transmit::Bytes(bytes) => all.extend_from_slice(bytes),
            Transmit::Payload { request, offset, length } => {
                let range = offset as usize..(offset + length) as usize;
                all.extend_from_slice(&data(request)[range]);
            }
        }
        let length = next.length();
        connection.transmitted(length);
    }
    all
}
