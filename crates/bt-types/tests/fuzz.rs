//! Checks what must hold for any input. The fuzzer calls it, and a test here replays its corpus.

use std::net::SocketAddr;

use bt_types::{BLOCK_LENGTH, Bitfield, Geometry, MAX_REQUEST_LENGTH, PieceIndex, compact};
use testkit::Choices;

#[test]
fn fuzz_corpus_breaks_no_promise() {
    testkit::replay("types", fuzz);
}

/// Reads `data` as compact addresses, as a bitfield and as the numbers of a torrent, and asserts
/// what the crate promises about the result.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn fuzz(data: &[u8]) {
    check_packed(compact::decode_v4(data), data, compact::V4_LENGTH);
    check_packed(compact::decode_v6(data), data, compact::V6_LENGTH);
    let mut choices = Choices::new(data);
    check_bitfield(u32::from(choices.byte()), choices.bytes(32));
    let total = u64::from(choices.number()) << choices.below(16);
    let piece_length = choices.number() >> choices.below(32);
    if let Ok(geometry) = Geometry::new(total, piece_length.into()) {
        check_geometry(&geometry, &mut choices);
    }
}

fn check_packed(addresses: impl Iterator<Item = SocketAddr>, data: &[u8], length: usize) {
    let mut packed = Vec::new();
    addresses.for_each(|address| compact::encode(address, &mut packed));
    let rest = data.strip_prefix(&packed[..]).expect("packing restores the bytes");
    assert!(rest.len() < length, "every complete address is decoded");
}

fn check_bitfield(pieces: u32, bytes: &[u8]) {
    let Ok(mut set) = Bitfield::from_bytes(bytes, pieces) else { return };
    assert_eq!(set.as_bytes(), bytes);
    let members: Vec<u32> = set.iter().collect();
    assert_eq!(set.count() as usize, members.len());
    assert!(members.is_sorted() && members.iter().all(|piece| *piece < pieces));
    let piece = PieceIndex::get;
    let Ok(geometry) = Geometry::new(pieces.into(), 1) else { return };
    for each in geometry.pieces() {
        assert_eq!(set.contains(each), members.binary_search(&piece(each)).is_ok());
        assert_eq!(set.insert(each), members.binary_search(&piece(each)).is_err());
    }
    assert_eq!(set, Bitfield::full(pieces));
}

fn check_geometry(geometry: &Geometry, choices: &mut Choices<'_>) {
    let last = geometry.pieces().next_back();
    let end = last.map(|last| geometry.offset_of(last) + u64::from(geometry.length_of(last)));
    assert_eq!(end.unwrap_or(0), geometry.total(), "the pieces cover the data");
    while !choices.is_empty() {
        let (index, offset) = (choices.number() >> 8, choices.number() >> 2);
        let length = choices.number() >> choices.below(32);
        let Some(request) = geometry.request(index, offset, length) else { continue };
        let piece = request.piece();
        assert_eq!((piece.get(), request.offset(), request.length()), (index, offset, length));
        assert!((1..=MAX_REQUEST_LENGTH).contains(&length));
        assert!(u64::from(offset) + u64::from(length) <= geometry.length_of(piece).into());
        let at = geometry.offset_of(piece) + u64::from(offset);
        assert_eq!(geometry.piece_at(at), Some(piece));
        let Some(block) = geometry.block(piece, request.block()) else { panic!("{request:?}") };
        assert!((block.offset()..block.offset() + BLOCK_LENGTH).contains(&offset));
    }
}
