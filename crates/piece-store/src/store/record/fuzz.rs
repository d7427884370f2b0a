//! What must hold for any bytes at all. Run by the fuzzer, and by ordinary tests.

use bt_types::Geometry;
use bt_types::fuzz::Choices;

use super::super::history::History;
use super::*;

const PIECES: u32 = 100;

/// Reads `data` as what follows a journal's header; then as records of any kind and payload that
/// are whole, and the same cut short and damaged, where all before the damage is told and nothing
/// after.
///
/// # Panics
/// If a promise is broken.
pub fn journal(data: &[u8]) {
    let header =
        Header { info_hash: InfoHashV1([0; 20]), path: Sha1Digest([0; 20]), pieces: PIECES };
    replay(&[header.encode(), data.to_vec()].concat(), &header);
    let mut choices = Choices::new(data);
    let (cut, place, damage) = (choices.number() >> 16, choices.number() >> 16, choices.byte());
    let mut whole = header.encode();
    let mut ends = vec![whole.len()];
    while !choices.is_empty() {
        let (kind, length) = (choices.byte() % 17, choices.byte());
        let payload = choices.bytes(usize::from(length));
        if let Some(record) = Record::decode(kind, payload) {
            // Kinds 5 and 7 are of version 0.1.0.
            let is_written = !matches!(kind, 5 | 7);
            assert!(!is_written || (record.kind(), record.payload().as_slice()) == (kind, payload));
        }
        frame(0, kind, payload, &mut whole);
        ends.push(whole.len());
    }
    replay(&whole, &header);
    let mut torn = whole.clone();
    torn.truncate(whole.len() - cut as usize % (whole.len() - HEADER_LENGTH + 1));
    let place = HEADER_LENGTH + place as usize % (torn.len() - HEADER_LENGTH + 1);
    torn.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= damage);
    let good = if damage == 0 { torn.len() } else { place };
    let good = ends.iter().rfind(|end| **end <= good).copied().unwrap_or(HEADER_LENGTH);
    assert_eq!(replay(&torn, &header), replay(&whole[..good], &header));
}

fn replay(bytes: &[u8], header: &Header) -> History {
    let geometry = Geometry::new(u64::from(PIECES), 1).expect("a small torrent");
    let history = History::replay(bytes, header, &geometry);
    let (history, length) = history.expect("a journal with a good header is read");
    let durable = geometry.pieces().filter(|piece| history.durable.contains(*piece));
    durable.for_each(|piece| assert!(history.written.contains(piece)));
    assert!((HEADER_LENGTH..=bytes.len()).contains(&length));
    assert_eq!(history.written.pieces(), PIECES);
    history
}
