//! One connection of a scripted peer.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpStream;

use bt_types::{Bitfield, BlockRequest, InfoHashV1, PieceIndex};

use super::wire::{self, Handshake, Wire};
use super::{Behaviour, Shared, State, metadata};
use crate::payload;
use crate::raw;

/// How many requests of a leecher are outstanding at one peer.
const PIPELINE: usize = 16;

pub(super) fn incoming(shared: &Shared, stream: TcpStream) {
    serve(shared, stream, false);
}

pub(super) fn outgoing(shared: &Shared, stream: TcpStream) {
    serve(shared, stream, true);
}

fn serve(shared: &Shared, stream: TcpStream, is_outgoing: bool) {
    shared.note(|seen| seen.connections += 1);
    // Tests read from `Seen` what happened before the end.
    let _result = Connection::open(shared, Wire::new(stream), is_outgoing)
        .and_then(|connection| connection.map_or(Ok(()), Connection::run));
    shared.note(|seen| seen.ended += 1);
}

pub(super) struct Connection<'a> {
    pub(super) shared: &'a Shared,
    pub(super) wire: Wire,
    /// The other side's id of the metadata extension.
    pub(super) their_metadata_id: u8,
    fast: bool,
    theirs: Bitfield,
    choked: bool,
    unchoked_them: bool,
    requested: BTreeSet<BlockRequest>,
    pieces_in_flight: BTreeSet<PieceIndex>,
    sent: u64,
}

impl<'a> Connection<'a> {
    /// Exchanges handshakes and announces pieces. Returns `None` if the script ends before that.
    fn open(shared: &'a Shared, mut wire: Wire, is_outgoing: bool) -> io::Result<Option<Self>> {
        let script = &shared.script;
        match script.behaviour {
            Behaviour::Silent => return wire.hold().map(|()| None),
            Behaviour::Garbage => {
                wire.write(&payload::bytes(1, 4096))?;
                return wire.hold().map(|()| None);
            }
            _ => {}
        }
        let theirs = exchange_handshakes(shared, &mut wire, is_outgoing)?;
        if theirs.info_hash != script.info_hash {
            return Err(wire::invalid("another torrent".to_owned()));
        }
        shared.note(|seen| seen.peer_ids.push(theirs.peer_id));
        let mut connection = Self {
            shared,
            wire,
            their_metadata_id: 0,
            fast: script.fast && theirs.fast,
            theirs: Bitfield::new(script.geometry.piece_count()),
            choked: true,
            unchoked_them: false,
            requested: BTreeSet::new(),
            pieces_in_flight: BTreeSet::new(),
            sent: 0,
        };
        if theirs.extensions {
            connection.send_extension_handshake()?;
        }
        connection.announce_pieces()?;
        Ok(Some(connection))
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let (id, payload) = self.wire.read()?;
            self.handle(id, &payload)?;
            self.send_requests()?;
        }
    }

    /// Sends a message in one write.
    fn send(&mut self, id: u8, payload: &[u8]) -> io::Result<()> {
        self.wire.write(&raw::message(id, payload))
    }

    /// Sends the extension handshake (BEP 10), if the script has one.
    fn send_extension_handshake(&mut self) -> io::Result<()> {
        let Some(handshake) = self.shared.script.extension_handshake() else { return Ok(()) };
        self.wire.write(&raw::extended(0, &handshake))
    }

    fn announce_pieces(&mut self) -> io::Result<()> {
        let have = self.shared.lock().have.clone();
        match () {
            () if self.fast && have.is_full() => self.send(raw::HAVE_ALL, &[]),
            () if self.fast && have.is_empty() => self.send(raw::HAVE_NONE, &[]),
            () if have.is_empty() => Ok(()),
            () => self.send(raw::BITFIELD, &have.as_bytes()),
        }
    }

    fn handle(&mut self, id: u8, payload: &[u8]) -> io::Result<()> {
        match id {
            raw::CHOKE => self.choked = true,
            raw::UNCHOKE => self.handle_unchoke(),
            raw::INTERESTED => self.handle_interested()?,
            raw::HAVE => self.handle_have(payload)?,
            raw::BITFIELD => {
                let count = self.theirs.pieces();
                self.theirs = Bitfield::from_bytes(payload, count)
                    .map_err(|error| wire::invalid(error.to_string()))?;
                self.send_interest()?;
            }
            raw::HAVE_ALL => {
                self.theirs = Bitfield::full(self.theirs.pieces());
                self.send_interest()?;
            }
            raw::REQUEST => self.handle_request(payload)?,
            raw::PIECE => self.handle_block(payload)?,
            raw::CANCEL => self.shared.note(|seen| seen.cancels += 1),
            raw::REJECT => self.handle_reject(payload)?,
            raw::EXTENDED => match payload.split_first() {
                Some((0, handshake)) => self.handle_extension_handshake(handshake)?,
                Some((&metadata::OUR_ID, message)) => self.handle_metadata(message)?,
                _ => {}
            },
            _ => {}
        }
        if id == raw::CHOKE && !self.fast {
            self.requested.clear();
            self.pieces_in_flight.clear();
        }
        Ok(())
    }

    fn handle_unchoke(&mut self) {
        self.choked = false;
        self.shared.note(|seen| seen.unchokes += 1);
    }

    fn handle_interested(&mut self) -> io::Result<()> {
        if self.unchoked_them || self.shared.script.behaviour == Behaviour::Chokes {
            return Ok(());
        }
        self.unchoked_them = true;
        self.send(raw::UNCHOKE, &[])
    }

    fn handle_have(&mut self, payload: &[u8]) -> io::Result<()> {
        let [index] = wire::numbers(payload).ok_or_else(short)?;
        let piece = self.shared.script.geometry.piece(index);
        self.theirs.insert(piece.ok_or_else(|| wire::invalid(format!("HAVE of {index}")))?);
        self.shared.note(|seen| seen.haves.push(index));
        self.send_interest()
    }

    fn send_interest(&mut self) -> io::Result<()> {
        let missing = self.shared.script.leech && {
            let state = self.shared.lock();
            let mut pieces = self.shared.script.geometry.pieces();
            pieces.any(|piece| self.theirs.contains(piece) && !state.have.contains(piece))
        };
        if missing { self.send(raw::INTERESTED, &[]) } else { Ok(()) }
    }

    fn handle_request(&mut self, payload: &[u8]) -> io::Result<()> {
        let [index, offset, length] = wire::numbers(payload).ok_or_else(short)?;
        self.shared.note(|seen| seen.requests.push((index, offset, length)));
        let range = self.shared.script.geometry.request(index, offset, length);
        let range = range.ok_or_else(|| wire::invalid("a range outside the torrent".to_owned()))?;
        if !self.unchoked_them {
            return Ok(());
        }
        match self.shared.script.behaviour {
            Behaviour::Stalls => Ok(()),
            Behaviour::DisconnectAfter { blocks } if self.sent >= blocks => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => self.send_block(range),
        }
    }

    fn send_block(&mut self, range: BlockRequest) -> io::Result<()> {
        self.shared.wait_to_send();
        let start = self.shared.script.geometry.offset_of(range.piece()) as usize;
        let start = start + range.offset() as usize;
        let mut block = self.shared.lock().data[start..start + range.length() as usize].to_vec();
        self.sent += 1;
        if let Behaviour::Corrupt { every } = self.shared.script.behaviour
            && self.sent.is_multiple_of(every.max(1))
        {
            block[0] ^= 1;
        }
        self.wire.write(&raw::block(range.piece().get(), range.offset(), &block))?;
        self.shared.note(|seen| seen.blocks_sent += 1);
        Ok(())
    }

    fn handle_reject(&mut self, payload: &[u8]) -> io::Result<()> {
        let [index, offset, length] = wire::numbers(payload).ok_or_else(short)?;
        if let Some(range) = self.shared.script.geometry.request(index, offset, length) {
            self.requested.remove(&range);
            self.pieces_in_flight.remove(&range.piece());
        }
        self.shared.note(|seen| seen.rejects += 1);
        Ok(())
    }

    /// Requests blocks from a peer that unchoked us, piece after piece.
    fn send_requests(&mut self) -> io::Result<()> {
        if !self.shared.script.leech || self.choked {
            return Ok(());
        }
        while self.requested.len() < PIPELINE
            && let Some(piece) = self.next_piece()
        {
            self.pieces_in_flight.insert(piece);
            for range in self.shared.script.geometry.blocks(piece) {
                self.requested.insert(range);
                let numbers = [piece.get(), range.offset(), range.length()];
                self.wire.write(&raw::numbers(raw::REQUEST, &numbers))?;
            }
        }
        Ok(())
    }

    fn next_piece(&self) -> Option<PieceIndex> {
        let state = self.shared.lock();
        self.shared.script.geometry.pieces().find(|piece| {
            self.theirs.contains(*piece)
                && !state.have.contains(*piece)
                && !self.pieces_in_flight.contains(piece)
        })
    }

    fn handle_block(&mut self, payload: &[u8]) -> io::Result<()> {
        let [index, offset] = wire::numbers(payload).ok_or_else(short)?;
        let bytes = payload.get(8..).ok_or_else(short)?;
        let range = self.shared.script.geometry.request(index, offset, bytes.len() as u32);
        let Some(range) = range.filter(|range| self.requested.remove(range)) else {
            return Err(wire::invalid("an unrequested block".to_owned()));
        };
        self.keep(range, bytes);
        let piece = range.piece();
        let whole = !self.requested.iter().any(|requested| requested.piece() == piece);
        if whole { self.check(piece) } else { Ok(()) }
    }

    fn keep(&self, range: BlockRequest, bytes: &[u8]) {
        let start = self.shared.script.geometry.offset_of(range.piece()) as usize;
        let start = start + range.offset() as usize;
        let mut state = self.shared.lock();
        state.data[start..start + bytes.len()].copy_from_slice(bytes);
        state.seen.bytes_received += bytes.len() as u64;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Verifies a piece whose blocks have all come.
    fn check(&mut self, piece: PieceIndex) -> io::Result<()> {
        self.pieces_in_flight.remove(&piece);
        let mut state = self.shared.lock();
        let good = self.hash_matches(&state, piece);
        if good {
            state.have.insert(piece);
            state.seen.complete = state.have.is_full();
        } else {
            state.seen.bad_pieces.push(piece.get());
        }
        let have = state.have.clone();
        drop(state);
        self.shared.changed.notify_all();
        if !good {
            return Err(wire::invalid(format!("piece {piece} is bad")));
        }
        if self.shared.script.announces_by_bitfield {
            return self.send(raw::BITFIELD, &have.as_bytes());
        }
        self.send(raw::HAVE, &piece.get().to_be_bytes())
    }

    fn hash_matches(&self, state: &State, piece: PieceIndex) -> bool {
        let geometry = self.shared.script.geometry;
        let start = geometry.offset_of(piece) as usize;
        let bytes = &state.data[start..start + geometry.length_of(piece) as usize];
        self.shared.script.hashes.get(piece.as_usize()) == Some(&payload::sha1(bytes))
    }
}

fn exchange_handshakes(
    shared: &Shared,
    wire: &mut Wire,
    is_outgoing: bool,
) -> io::Result<Handshake> {
    let script = &shared.script;
    let mut ours = Handshake {
        info_hash: script.info_hash,
        peer_id: script.peer_id,
        fast: script.fast,
        extensions: script.extension_handshake().is_some(),
    };
    if script.behaviour == Behaviour::WrongInfoHash {
        ours.info_hash = InfoHashV1(ours.info_hash.0.map(|byte| !byte));
    }
    if is_outgoing {
        wire.write_handshake(&ours)?;
        return wire.read_handshake();
    }
    let theirs = wire.read_handshake()?;
    wire.write_handshake(&ours)?;
    Ok(theirs)
}

fn short() -> io::Error {
    wire::invalid("a message that is too short".to_owned())
}
