//! What must hold for any bytes. Called by the fuzzer and by tests.

use bt_types::Geometry;

use self::choices::Choices;
use super::super::history::History;
use super::*;

#[allow(dead_code, unreachable_pub)] // The fuzzer builds this crate without testkit.
#[path = "../../../../testkit/src/choices.rs"]
mod choices;

const PIECES: u32 = 100;

/// Reads `data` as the bytes after a journal's header. Then reads it as whole records of any kind
/// and payload. Then cuts and damages those: replay returns all records before the damage and none
/// after it.
///
/// # Panics
/// If a promise is broken.
pub fn journal(data: &[u8]) {
    let header =
        Header { info_hash: InfoHashV1([0; 20]), path: Sha1Digest([0; 20]), pieces: PIECES };
    replay(&[header.encode(), data.to_vec()].concat(), &header);
    let mut choices = Choices::new(data);
    let mut number = || choices.number() as usize >> 16;
    let (cut, position) = (number(), number());
    let damage = choices.byte();
    let mut whole = header.encode();
    let mut ends = vec![whole.len()];
    while !choices.is_empty() {
        let (kind, length) = (choices.byte() % 17, choices.byte());
        let payload = choices.bytes(length.into());
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
    torn.truncate(whole.len() - cut % (whole.len() - HEADER_LENGTH + 1));
    let position = HEADER_LENGTH + position % (torn.len() - HEADER_LENGTH + 1);
    torn.iter_mut().skip(position).take(1).for_each(|byte| *byte ^= damage);
    let good = if damage == 0 { torn.len() } else { position };
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
