#![allow(clippy::single_range_in_vec_init, clippy::reversed_empty_ranges)] // Ranges are the data here.

use super::super::history::{History, RecordedFile, claims_in};
use super::super::owner::{self, Known, LastSeen};
use super::*;
use crate::{Kind, Stat};
use bt_types::Geometry;
use proptest::prelude::*;

fn geometry() -> Geometry {
    Geometry::new(100 * 16, 16).unwrap()
}

fn header() -> Header {
    Header { info_hash: InfoHashV1([1; 20]), path: Sha1Digest([2; 20]), pieces: 100 }
}

fn journal(records: &[Record]) -> Vec<u8> {
    let mut bytes = header().encode();
    records.iter().for_each(|record| record.encode(0, &mut bytes));
    bytes
}

fn replay(bytes: &[u8]) -> Option<History> {
    History::replay(bytes, &header(), &geometry()).map(|(history, _)| history)
}

const ID: FileId = FileId { device: 7, inode: 8, born: 9 };

fn file(slot: u32, hold: Hold) -> Record {
    Record::File { slot, id: ID, hold, path: "a/b".into() }
}

fn save_path() -> SavePath {
    SavePath { naming: Naming::Windows, folder: "/save".into(), name: "t".to_owned() }
}

fn one_of_each() -> Vec<Record> {
    let closed = |slot, id| ClosedFile { slot, length: 1 << 40, modified: (-5, 999_999_999), id };
    vec![
        Record::SavePath(save_path()),
        Record::Open { uploaded: 1, downloaded: 2 },
        file(3, Hold::Ours),
        file(4, Hold::Read),
        Record::InParts(vec![1..3]),
        Record::Written(vec![4..5, 9..20]),
        Record::Durable(vec![9..12]),
        Record::Lost(vec![11..12, 19..20]),
        Record::Expected(Expected { boot: 1 << 100, slots: vec![0..2, 5..6] }),
        Record::Changed(vec![6..7]),
        Record::Unfinished { piece: 50, masks: vec![0xffff, 1] },
        Record::Closed {
            uploaded: 3,
            downloaded: u64::MAX,
            files: vec![closed(3, Some(ID)), closed(4, None)],
        },
    ]
}

#[test]
fn each_record_is_read_back() {
    let history = replay(&journal(&one_of_each())).unwrap();
    let written: Vec<u32> = [4].into_iter().chain(9..11).chain(12..19).collect();
    assert_eq!(history.written.iter().collect::<Vec<_>>(), written);
    assert_eq!(history.durable.iter().collect::<Vec<_>>(), [9, 10]);
    assert_eq!(history.save_path, Some(save_path()));
    assert_eq!(history.unfinished[&50], [0xffff, 1]);
    assert_eq!((history.uploaded, history.downloaded), (3, u64::MAX));
    let in_parts: Vec<u32> = (0..8).filter(|slot| history.is_in_parts(*slot)).collect();
    assert_eq!(in_parts, [1, 2]);
    let left = |slot| history.known(slot);
    assert!(
        matches!(left(3), Known::Recorded { hold: Hold::Ours, last_seen: LastSeen::Closed(file) } if file.id == Some(ID))
    );
    assert!(
        matches!(left(4), Known::Recorded { hold: Hold::Read, last_seen: LastSeen::Closed(file) } if file.id.is_none())
    );
    assert_eq!((left(0), left(5), left(2)), (Known::Nothing, Known::Nothing, Known::Nothing));
    let created: Vec<u32> = (0..8).filter(|slot| history.was_created(*slot, 1)).collect();
    assert_eq!(created, [0, 1, 5]);
}

#[test]
fn expected_file_of_earlier_boot() {
    let mut history = replay(&journal(&one_of_each())).unwrap();
    assert!(!history.was_created(5, 1 << 100), "the system was not restarted");
    let stat = stat(FileId { device: 9, ..ID });
    history.record_created(5, Path::new("f"), &stat);
    assert!(owner::may_trust(history.known(5), &stat));
    assert!(!history.was_created(5, 2), "it is recorded now");
}

#[test]
fn created_file_is_recorded_once() {
    let mut history = replay(&journal(&one_of_each())).unwrap();
    history.record_created(5, Path::new("f"), &stat(ID));
    assert_eq!(history.known(5), Known::Nothing, "it is the file of slot 3");
}

fn stat(id: FileId) -> Stat {
    Stat { kind: Kind::File, linked: false, id, length: 5, modified: (1, 2) }
}

#[test]
fn claims_name_used_files() {
    let claims = claims_in(&journal(&one_of_each())).unwrap();
    assert_eq!((claims.torrent.as_str(), claims.folder.as_path()), ("t", Path::new("/save")));
    let used = |hold| RecordedFile { id: ID, hold, path: "a/b".into() };
    assert_eq!(claims.files, [used(Hold::Ours), used(Hold::Read)]);
    assert_eq!(claims.name, header().name());
    assert!(claims_in(&journal(&one_of_each()[1..])).is_none(), "it does not say where");
}

#[test]
fn new_launch_forgets_last_end() {
    let mut records = one_of_each();
    records.push(Record::Open { uploaded: 3, downloaded: 4 });
    let history = replay(&journal(&records)).unwrap();
    assert_eq!((history.closed, history.unfinished.len(), history.downloaded), (None, 0, 4));
}

#[test]
fn torn_tail_is_dropped() {
    let records = one_of_each();
    let whole = journal(&records);
    for length in 0..whole.len() {
        let got = replay(&whole[..length]);
        let complete =
            (0..=records.len()).rev().find(|count| journal(&records[..*count]).len() <= length);
        let expected = complete.and_then(|count| replay(&journal(&records[..count])));
        assert_eq!(got, expected, "cut at {length}");
        assert_eq!(got.is_some(), length >= HEADER_LENGTH);
    }
}

#[test]
fn flipped_bit_ends_replay() {
    let records = one_of_each();
    let whole = journal(&records);
    for at in HEADER_LENGTH..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let good = (0..records.len()).rev().find(|count| journal(&records[..*count]).len() <= at);
        let expected = replay(&journal(&records[..good.unwrap()]));
        assert_eq!(replay(&bytes), expected, "flipped at {at}");
    }
}

#[test]
fn unknown_kinds_are_skipped() {
    let mut bytes = header().encode();
    frame(0, 200, b"new", &mut bytes);
    Record::Written(vec![1..2]).encode(0, &mut bytes);
    assert_eq!(replay(&bytes).unwrap().written.iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn other_torrents_journal_is_not_read() {
    let bytes = journal(&one_of_each());
    for other in [
        Header { info_hash: InfoHashV1([9; 20]), ..header() },
        Header { path: Sha1Digest([9; 20]), ..header() },
        Header { pieces: 99, ..header() },
    ] {
        assert_eq!(History::replay(&bytes, &other, &geometry()), None);
    }
}

#[test]
fn nonexistent_pieces_are_ignored() {
    let bytes = journal(&[Record::Durable(vec![98..u32::MAX, 5..2, 200..300])]);
    assert_eq!(replay(&bytes).unwrap().durable.iter().collect::<Vec<_>>(), [98, 99]);
}

#[test]
fn ranges_of_a_list() {
    assert_eq!(to_ranges([]), Vec::<Range<u32>>::new());
    assert_eq!(to_ranges([1, 2, 3, 7, 9, 10]), [1..4, 7..8, 9..11]);
}

#[test]
#[allow(clippy::disallowed_methods)] // It reads the corpus.
fn corpus_breaks_no_promise() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/fuzz/journal");
    let inputs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inputs: Vec<_> = inputs.collect();
    assert!(!inputs.is_empty(), "no corpus");
    inputs.iter().for_each(|input| fuzz::journal(&std::fs::read(input).unwrap()));
}

proptest! {
    #[test]
    fn any_set_is_read_back(pieces in proptest::collection::btree_set(0u32..100, 0..100)) {
        let record = Record::Written(to_ranges(pieces.iter().copied()));
        let history = replay(&journal(&[record])).unwrap();
        prop_assert_eq!(history.written.iter().collect::<Vec<_>>(), pieces.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn fuzz_target_holds(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz::journal(&data);
    }

    #[test]
    fn fuzz_target_holds_for_whole_records(
        records in proptest::collection::vec((0u8..17, proptest::collection::vec(0u8..120, 0..64)), 0..8),
        damage in any::<[u8; 9]>(),
    ) {
        let join = |(kind, payload): &(u8, Vec<u8>)| [&[*kind, payload.len() as u8], &payload[..]].concat();
        let records = records.iter().flat_map(join).collect::<Vec<u8>>();
        fuzz::journal(&[&damage[..], &records].concat());
    }

    #[test]
    fn any_tail_is_read_without_harm(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = journal(&one_of_each());
        bytes.extend(tail);
        prop_assert!(replay(&bytes).is_some());
    }
}
