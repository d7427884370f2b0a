//! The launches after which a disk is stored.
//!
//! | file  | pieces                    |
//! |-------|---------------------------|
//! | `a`   | 0, and 1 with `b`         |
//! | `e`   | none                      |
//! | `b`   | 1, 2, and 3 with `c`, `d` |
//! | `c`   | 3                         |
//! | `d/d` | 3, 4, 5                   |

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use piece_store::{Disk as _, HeldSpan};

use super::common::mem::MemDisk;
use super::common::*;
use super::dump::user_bytes;
use super::{SAVE, STATE, spec};

const FILES: [(&str, usize); 5] =
    [("a", 50_000), ("e", 0), ("b", 70_000), ("c", 9_000), ("d/d", 60_000)];
const PIECE: u32 = 32 * 1024;
/// All files, and `a` and `c` only.
const ALL: &str = "everything";
const SOME: &str = "only:10010";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A torrent and the events that lead to a stored disk.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub torrent: &'static str,
    pub play: fn(&Scene),
}

const fn plain(name: &'static str, about: &'static str, play: fn(&Scene)) -> Scenario {
    Scenario { name, about, torrent: "plain", play }
}

const fn long(name: &'static str, about: &'static str, play: fn(&Scene)) -> Scenario {
    Scenario { name, about, torrent: "long", play }
}

const fn padded(name: &'static str, about: &'static str, play: fn(&Scene)) -> Scenario {
    Scenario { name, about, torrent: "padded", play }
}

/// All scenarios.
#[rustfmt::skip] // One line each.
pub const SCENARIOS: &[Scenario] = &[
    plain("closed-complete", "Everything was downloaded.", closed_complete),
    plain("closed-half", "Half was downloaded.", |scene| closed(scene, ALL, &[0, 2, 5])),
    plain("closed-nothing", "Nothing was downloaded.", |scene| closed(scene, ALL, &[])),
    plain("closed-opened-killed", "A launch after the last one changed nothing and was killed.", closed_opened_killed),
    plain("closed-resumed-killed", "A launch after the last one wrote a piece and was killed.", closed_resumed_killed),
    plain("closed-without-check", "The launch ended before its check did.", closed_without_check),
    plain("killed-at-start", "Killed after the check, before the first piece.", |scene| killed(scene, ALL, &[], &[])),
    plain("killed-written", "Killed before the first sync.", |scene| killed(scene, ALL, &[], &[0, 1, 4])),
    plain("killed-durable", "Killed after pieces 0, 3 were synced and 2, 5 written.", |scene| killed(scene, ALL, &[0, 3], &[2, 5])),
    plain("killed-complete", "Killed after everything was synced.", |scene| killed(scene, ALL, &[0, 1, 2, 3, 4, 5], &[])),
    plain("killed-before-check", "Killed, and the next launch too, before its check.", killed_before_check),
    plain("killed-amid-check", "Killed, and the next launch too, amid its check.", killed_amid_check),
    plain("killed-at-rename", "Killed as a new journal was to take the name.", killed_at_rename),
    plain("power-cut-written", "The power was cut before the first sync.", |scene| power_cut(scene, &[], &[0, 1, 4])),
    plain("power-cut-durable", "The power was cut after pieces 0, 3 were synced.", |scene| power_cut(scene, &[0, 3], &[2, 5])),
    plain("power-cut-half-written", "Of piece 1, in two files, one was on the disk when the power was cut.", power_cut_half_written),
    plain("power-cut-seed-only", "After a power cut it was opened seed-only.", power_cut_seed_only),
    plain("power-cut-killed", "After a power cut the next launch was killed before its check.", power_cut_killed),
    long("unfinished-closed", "Blocks of an unfinished piece are on the disk.", unfinished_closed),
    long("unfinished-killed", "Killed with staged blocks.", unfinished_killed),
    long("unfinished-touched", "As unfinished-closed, then the file's time changed.", unfinished_touched),
    plain("unfinished-in-parts-file", "Blocks of unfinished pieces, some of them in the parts file.", unfinished_in_parts_file),
    plain("some-closed", "Files a and c were downloaded.", |scene| closed(scene, SOME, &[0, 1, 3])),
    plain("some-killed", "Killed with boundary pieces, one of them durable.", |scene| killed(scene, SOME, &[1], &[0, 3])),
    plain("some-killed-written", "Killed with boundary pieces, none of them durable.", |scene| killed(scene, SOME, &[], &[0, 1, 3])),
    plain("some-without-parts-file", "As some-closed, then the parts file was removed.", some_without_parts_file),
    plain("some-after-all", "Everything was wanted first, then a and c only.", some_after_all),
    plain("import-no-journal", "The journal could not be replaced before the import.", |scene| import_stopped(scene, "sync", ".journal.new")),
    plain("import-not-recorded", "The import could not be recorded.", |scene| import_stopped(scene, "append", ".journal.new")),
    plain("import-no-file", "File b could not be made for the import.", |scene| import_stopped(scene, "open", "t/b")),
    plain("import-no-second-file", "File d could not be made for the import.", |scene| import_stopped(scene, "open", "t/d/d")),
    plain("import-not-read", "The parts file could not be read.", |scene| import_stopped(scene, "read", ".parts")),
    plain("import-not-written", "File b could not be written by the import.", |scene| import_stopped(scene, "write", "t/b")),
    plain("import-half-written", "File d could not be written by the import, b was.", |scene| import_stopped(scene, "write", "t/d/d")),
    plain("import-not-synced", "File b could not be synced by the import.", |scene| import_stopped(scene, "sync", "t/b")),
    plain("import-folder-not-synced", "Folder t could not be synced by the import.", |scene| import_stopped(scene, "sync folder", "/save/t")),
    plain("import-power-cut", "The power was cut as the import could not sync b.", import_power_cut),
    plain("import-killed-before-check", "Killed between import and check.", import_killed_before_check),
    plain("import-killed-amid-check", "Killed amid the check after the import.", import_killed_amid_check),
    plain("import-cut", "Killed between import and check; b has 100 bytes of it.", import_cut),
    plain("import-then-user-file", "Killed between import and check; then b was replaced by the user's whole file.", import_then_user_file),
    plain("import-then-some", "Killed between import and check; the next launch wanted a and c.", import_then_some),
    plain("import-killed-later", "Killed after the import, its check and one more piece.", import_killed_later),
    plain("file-removed-closed", "Closed, then b was removed.", |scene| changed_after(scene, true, remove_b)),
    plain("file-removed-killed", "Killed, then b was removed.", |scene| changed_after(scene, false, remove_b)),
    plain("file-removed-after-import", "Closed with b, some of which is in the parts file too; then b was removed.", |scene| imported(scene, remove_b)),
    plain("file-copied-after-import", "The same, but b was replaced by a copy.", |scene| imported(scene, copy_b)),
    plain("file-copied-closed", "Closed, then b was replaced by a copy.", |scene| changed_after(scene, true, copy_b)),
    plain("file-copied-killed", "Killed, then b was replaced by a copy.", |scene| changed_after(scene, false, copy_b)),
    plain("file-replaced-closed", "Closed, then b was replaced by the user's.", |scene| changed_after(scene, true, replace_b)),
    plain("file-replaced-killed", "Killed, then b was replaced by the user's.", |scene| changed_after(scene, false, replace_b)),
    plain("file-cut-closed", "Closed, then b was cut.", |scene| changed_after(scene, true, cut_b)),
    plain("file-cut-killed", "Killed, then b was cut.", |scene| changed_after(scene, false, cut_b)),
    plain("file-emptied-closed", "Closed, then b was emptied.", |scene| changed_after(scene, true, empty_b)),
    plain("file-touched-closed", "Closed, then b got another time.", |scene| changed_after(scene, true, touch_b)),
    plain("file-edited-closed", "Closed, then b was edited in piece 2.", |scene| changed_after(scene, true, edit_b)),
    plain("file-edited-killed", "Killed, then b was edited in piece 2.", |scene| changed_after(scene, false, edit_b)),
    plain("file-extended-closed", "Closed, then b got bytes at its end.", |scene| changed_after(scene, true, extend_b)),
    plain("changed-amid-check", "Closed, b got another time, killed amid the check.", changed_amid_check),
    plain("changed-check-closed", "Closed, b got another time, closed before the check's end.", changed_check_closed),
    plain("changed-and-unselected", "Closed, b was replaced by a copy, the next launch wanted a and c and was killed before its check.", changed_and_unselected),
    plain("changed-with-parts-file", "Closed with a and b, b was replaced by a copy, killed before the check.", changed_with_parts_file),
    plain("changed-with-parts-file-unselected", "The same, but the last launch wanted a only.", changed_with_parts_file_unselected),
    plain("changed-with-parts-file-seed-only", "The same, but the last launch was seed-only.", changed_with_parts_file_seed_only),
    plain("user-file-unselected-closed", "The user's own file is in the place of b, which was not wanted.", |scene| user_file_unselected(scene, true)),
    plain("user-file-unselected-killed", "The same, killed.", |scene| user_file_unselected(scene, false)),
    plain("user-file-after-close", "Closed with a and c; then the user put a file in the place of b.", user_file_after_close),
    plain("user-file-after-kill", "Killed before b was made; then the user put a file there.", user_file_after_kill),
    plain("user-file-after-power-cut", "The power was cut before b was made; then the user put a file there.", user_file_after_power_cut),
    plain("user-file-refused", "The check refused the user's file in the place of b.", user_file_refused),
    plain("user-file-seen", "Killed before b was made; the user put a file there; a launch that wanted a and c was closed.", user_file_seen),
    plain("torrent-file-unselected", "The torrent's b was there and not wanted.", torrent_file_unselected),
    plain("seed-only-after-download", "Closed with half, then opened seed-only.", seed_only_after_download),
    plain("seed-only-after-some", "Closed with a and c, then all was opened seed-only and killed.", seed_only_after_some),
    plain("seed-only-own-files", "The user's complete files were seeded.", |scene| seed_only_own_files(scene, true)),
    plain("seed-only-own-files-killed", "The same, killed after the check.", |scene| seed_only_own_files(scene, false)),
    plain("seed-only-then-download", "The user's a and b were seeded, then the rest downloaded and killed.", seed_only_then_download),
    plain("failed-sync-killed", "A sync of b failed, then it was killed.", failed_sync_killed),
    plain("failed-sync-closed", "A sync of b failed, then it was closed.", failed_sync_closed),
    plain("failed-sync-unrecorded", "A sync of b failed, which could not be appended.", failed_sync_unrecorded),
    plain("journal-torn", "Killed in the middle of the last record.", journal_torn),
    plain("journal-damaged", "A byte in the middle of the journal is another.", journal_damaged),
    plain("journal-garbage", "The journal is noise.", |scene| journal(scene, |_| user_bytes(300).to_vec())),
    plain("journal-empty", "The journal is empty.", |scene| journal(scene, |_| Vec::new())),
    plain("journal-removed", "The journal was removed.", journal_removed),
    plain("journal-other-header", "The journal's header is of another version.", journal_other_header),
    plain("journal-unknown-record", "A record of an unknown kind is before the last.", journal_unknown_record),
    plain("journal-rewritten", "The journal had become long and was rewritten.", journal_rewritten),
    plain("preallocated-closed", "Files were preallocated.", |scene| closed(scene, "preallocate", &[0, 4])),
    plain("preallocated-killed", "Files were preallocated, killed.", |scene| killed(scene, "preallocate", &[0], &[4])),
    plain("verified-closed", "Closed, then opened without its journal and closed.", verified_closed),
    plain("overwritten-closed", "The user's file in the place of b was overwritten.", |scene| overwritten(scene, true)),
    plain("overwritten-killed", "The same, killed.", |scene| overwritten(scene, false)),
    plain("renumbering-closed", "Closed on a disk that gave all files new numbers.", |scene| renumbering(scene, true)),
    plain("renumbering-killed", "Killed on a disk that gave all files new numbers.", |scene| renumbering(scene, false)),
    plain("renumbering-import", "Killed after the import, on a disk that gave all files new numbers.", renumbering_import),
    padded("padded-closed", "Closed, a torrent with padding.", |scene| closed(scene, ALL, &[0, 1])),
    padded("padded-killed", "Killed, a torrent with padding.", |scene| killed(scene, ALL, &[1], &[0])),
];

/// The disk and the torrent of a scenario.
pub struct Scene {
    pub disk: Arc<MemDisk>,
    pub torrent: Torrent,
}

impl Scene {
    pub fn new(scenario: &Scenario, torrent: Torrent) -> Self {
        let renumbers = scenario.name.starts_with("renumbering");
        let disk = if renumbers { MemDisk::renumbering() } else { MemDisk::forgetful() };
        Self { disk: Arc::new(disk), torrent }
    }

    /// Opens the torrent without its check.
    fn open(&self, opening: &str) -> Run<MemDisk> {
        start(&self.disk, &spec(&self.torrent, opening))
    }

    fn start(&self, opening: &str) -> Run<MemDisk> {
        self.open(opening).check()
    }

    fn verify(&self, run: &Run<MemDisk>, pieces: Range<u32>) {
        assert_eq!(run.verify(pieces).1, None);
    }

    fn commit(&self, run: &mut Run<MemDisk>, pieces: &[u32]) {
        run.commit(&self.torrent, pieces.iter().copied());
    }

    fn close(&self, run: Run<MemDisk>) {
        run.store.close(5, 6, &[]).unwrap();
        drop(run);
    }

    /// Kills the process: the torrent stays locked in its name, and nothing is synced.
    fn kill(&self, run: Run<MemDisk>) {
        std::mem::forget(run);
        self.disk.kill();
    }

    fn end(&self, run: Run<MemDisk>, close: bool) {
        if close { self.close(run) } else { self.kill(run) }
    }

    fn cut_power(&self, run: Run<MemDisk>) {
        self.kill(run);
        self.disk.cut_power();
    }

    /// Puts a new file below the download folder, in the place of any other.
    fn put(&self, path: &str, bytes: &[u8]) {
        self.disk.put(&format!("{SAVE}/{path}"), bytes);
    }

    /// Changes a file below the download folder, which remains the same one.
    fn edit(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.bytes(path);
        edit(&mut bytes);
        self.disk.set_bytes(path, &bytes);
        self.disk.touch(path);
    }

    fn remove(&self, path: &str) {
        self.disk.remove(&PathBuf::from(SAVE), Path::new(path)).unwrap();
    }

    fn remove_state(&self, extension: &str) {
        let files = self.disk.files().into_iter().map(|(path, _, _)| path);
        let is_it = |path: &PathBuf| path.extension().is_some_and(|other| other == extension);
        let path = files.into_iter().find(is_it).unwrap();
        self.disk.remove(&PathBuf::from(STATE), Path::new(path.file_name().unwrap())).unwrap();
    }
}

fn closed(scene: &Scene, opening: &str, pieces: &[u32]) {
    let mut run = scene.start(opening);
    scene.commit(&mut run, pieces);
    scene.close(run);
}

fn killed(scene: &Scene, opening: &str, durable: &[u32], written: &[u32]) {
    let run = downloading(scene, opening, durable, written);
    scene.kill(run);
}

/// Starts a download, syncs some pieces and writes others.
fn downloading(scene: &Scene, opening: &str, durable: &[u32], written: &[u32]) -> Run<MemDisk> {
    let mut run = scene.start(opening);
    if !durable.is_empty() {
        scene.commit(&mut run, durable);
        run.store.sync().unwrap();
    }
    scene.commit(&mut run, written);
    run
}

fn closed_complete(scene: &Scene) {
    closed(scene, ALL, &[0, 1, 2, 3, 4, 5]);
}

fn closed_opened_killed(scene: &Scene) {
    closed(scene, ALL, &[0, 2, 5]);
    scene.kill(scene.start(ALL));
}

fn closed_resumed_killed(scene: &Scene) {
    closed(scene, ALL, &[0, 2, 5]);
    killed(scene, ALL, &[], &[1]);
}

fn closed_without_check(scene: &Scene) {
    killed(scene, ALL, &[0], &[1, 4]);
    let run = scene.open(ALL);
    scene.verify(&run, 0..2);
    scene.close(run);
}

fn killed_before_check(scene: &Scene) {
    killed(scene, ALL, &[0], &[1, 4]);
    scene.kill(scene.open(ALL));
}

fn killed_amid_check(scene: &Scene) {
    killed(scene, ALL, &[0], &[1, 4]);
    let run = scene.open(ALL);
    scene.verify(&run, 0..2);
    scene.kill(run);
}

fn killed_at_rename(scene: &Scene) {
    killed(scene, ALL, &[0], &[1, 4]);
    scene.disk.fail("rename", ".journal", EIO, 1);
    assert!(try_open_on(&scene.disk, &spec(&scene.torrent, ALL)).is_err());
}

fn power_cut(scene: &Scene, durable: &[u32], written: &[u32]) {
    let run = downloading(scene, ALL, durable, written);
    scene.cut_power(run);
}

fn power_cut_half_written(scene: &Scene) {
    let run = downloading(scene, ALL, &[], &[1]);
    scene.disk.write_back("t/a");
    scene.cut_power(run);
}

fn power_cut_seed_only(scene: &Scene) {
    power_cut_half_written(scene);
    scene.close(scene.start("seed-only"));
}

fn power_cut_killed(scene: &Scene) {
    power_cut_half_written(scene);
    scene.kill(scene.open(ALL));
}

/// Stages blocks 1 and 16 of the first piece, and block 0 of the second.
fn stage(scene: &Scene) -> Run<MemDisk> {
    let run = scene.start(ALL);
    for (piece, index, blocks) in [(0, 0, 0b10), (0, 1, 0b1), (1, 0, 0b1)] {
        let span = scene.torrent.spans(piece)[index as usize].clone().unwrap();
        run.store.stage(scene.torrent.piece(piece), 0, index, &span, blocks).unwrap();
    }
    run
}

fn unfinished_closed(scene: &Scene) {
    let run = stage(scene);
    let span = scene.torrent.spans(0)[0].clone().unwrap();
    let piece = scene.torrent.piece(0);
    let held = HeldSpan { piece, attempt: 0, span_index: 0, blocks: 0b1000_0001, span };
    run.store.close(5, 6, &[held]).unwrap();
}

fn unfinished_killed(scene: &Scene) {
    scene.kill(stage(scene));
}

fn unfinished_touched(scene: &Scene) {
    unfinished_closed(scene);
    scene.disk.touch("t/a");
}

fn unfinished_in_parts_file(scene: &Scene) {
    let run = downloading(scene, SOME, &[], &[3]);
    for (piece, blocks) in [(0, 0b1), (1, 0b11)] {
        let span = scene.torrent.spans(piece)[0].clone().unwrap();
        run.store.stage(scene.torrent.piece(piece), 0, 0, &span, blocks).unwrap();
    }
    scene.close(run);
}

fn some_without_parts_file(scene: &Scene) {
    closed(scene, SOME, &[0, 1, 3]);
    scene.remove_state("parts");
}

fn some_after_all(scene: &Scene) {
    closed(scene, ALL, &[0, 1, 2, 4]);
    closed(scene, SOME, &[3]);
}

/// The next launch wants everything. Its import of the boundary pieces of `a` and `c` fails.
fn import_stopped(scene: &Scene, operation: &'static str, path: &str) {
    closed(scene, SOME, &[0, 1, 3]);
    scene.disk.fail(operation, path, EIO, 1);
    assert!(try_open_on(&scene.disk, &spec(&scene.torrent, ALL)).is_err());
}

fn import_power_cut(scene: &Scene) {
    import_stopped(scene, "sync", "t/b");
    scene.disk.cut_power();
}

fn import_killed_before_check(scene: &Scene) {
    closed(scene, SOME, &[0, 1, 3]);
    scene.kill(scene.open(ALL));
}

fn import_killed_amid_check(scene: &Scene) {
    closed(scene, SOME, &[0, 1, 3]);
    let run = scene.open(ALL);
    scene.verify(&run, 1..2);
    scene.kill(run);
}

fn import_cut(scene: &Scene) {
    import_killed_before_check(scene);
    scene.edit("t/b", |bytes| bytes.truncate(100));
}

fn import_then_user_file(scene: &Scene) {
    import_killed_before_check(scene);
    scene.put("t/b", scene.torrent.file_data(2));
}

fn import_then_some(scene: &Scene) {
    import_killed_before_check(scene);
    scene.close(scene.start(SOME));
}

fn import_killed_later(scene: &Scene) {
    closed(scene, SOME, &[0, 1, 3]);
    killed(scene, ALL, &[], &[2]);
}

/// Pieces 0, 1, 2 and 4 were downloaded; then another program changed something.
fn changed_after(scene: &Scene, close: bool, change: fn(&Scene)) {
    let run = downloading(scene, ALL, &[0, 1, 2], &[4]);
    scene.end(run, close);
    change(scene);
}

/// Boundary pieces were in the parts file, then everything was downloaded; then another program
/// changed something.
fn imported(scene: &Scene, change: fn(&Scene)) {
    closed(scene, SOME, &[0, 1, 3]);
    closed(scene, ALL, &[2, 4, 5]);
    change(scene);
}

fn remove_b(scene: &Scene) {
    scene.remove("t/b");
}

fn copy_b(scene: &Scene) {
    let bytes = scene.disk.bytes("t/b");
    scene.put("t/b", &bytes);
}

fn replace_b(scene: &Scene) {
    scene.put("t/b", user_bytes(70_000));
}

fn cut_b(scene: &Scene) {
    scene.edit("t/b", |bytes| bytes.truncate(20_000));
}

fn empty_b(scene: &Scene) {
    scene.edit("t/b", Vec::clear);
}

fn touch_b(scene: &Scene) {
    scene.disk.touch("t/b");
}

fn edit_b(scene: &Scene) {
    scene.edit("t/b", |bytes| bytes[20_000..20_020].copy_from_slice(user_bytes(20)));
}

fn extend_b(scene: &Scene) {
    scene.edit("t/b", |bytes| {
        bytes.resize(70_000, 0);
        bytes.extend(b"notes");
    });
}

fn changed_amid_check(scene: &Scene) {
    changed_after(scene, true, touch_b);
    let run = scene.open(ALL);
    scene.verify(&run, 1..2);
    scene.kill(run);
}

fn changed_check_closed(scene: &Scene) {
    changed_after(scene, true, touch_b);
    let run = scene.open(ALL);
    scene.verify(&run, 1..2);
    scene.close(run);
}

/// All of `a` and `b`; what they need of `c` and `d` is in the parts file. Then `b` was replaced by
/// a copy.
fn copied_with_parts_file(scene: &Scene) {
    closed(scene, "only:10100", &[0, 1, 2, 3]);
    copy_b(scene);
}

fn changed_with_parts_file(scene: &Scene) {
    copied_with_parts_file(scene);
    scene.kill(scene.open("only:10100"));
}

fn changed_with_parts_file_unselected(scene: &Scene) {
    copied_with_parts_file(scene);
    scene.kill(scene.open("only:10000"));
}

fn changed_with_parts_file_seed_only(scene: &Scene) {
    copied_with_parts_file(scene);
    scene.kill(scene.open("seed-only only:10100"));
}

fn changed_and_unselected(scene: &Scene) {
    changed_after(scene, true, copy_b);
    scene.kill(scene.open(SOME));
}

fn user_file_unselected(scene: &Scene, close: bool) {
    scene.put("t/b", user_bytes(500));
    let run = downloading(scene, SOME, &[0], &[1, 3]);
    scene.end(run, close);
}

fn user_file_after_close(scene: &Scene) {
    closed(scene, SOME, &[0, 1, 3]);
    scene.put("t/b", user_bytes(70_000));
}

fn user_file_after_kill(scene: &Scene) {
    killed(scene, ALL, &[], &[0]);
    scene.put("t/b", user_bytes(70_000));
}

fn user_file_after_power_cut(scene: &Scene) {
    power_cut(scene, &[0], &[]);
    scene.put("t/b", user_bytes(70_000));
}

fn user_file_refused(scene: &Scene) {
    scene.put("t/b", user_bytes(70_000));
    let run = scene.open(ALL);
    verify_all(&run);
    assert!(run.store.finish_check().is_err());
    scene.close(run);
}

fn user_file_seen(scene: &Scene) {
    killed(scene, ALL, &[], &[0]);
    scene.put("t/b", user_bytes(70_000));
    closed(scene, SOME, &[1]);
}

fn torrent_file_unselected(scene: &Scene) {
    scene.put("t/b", scene.torrent.file_data(2));
    let run = downloading(scene, SOME, &[0], &[1, 3]);
    scene.kill(run);
}

fn seed_only_after_download(scene: &Scene) {
    closed(scene, ALL, &[0, 2, 5]);
    scene.close(scene.start("seed-only"));
}

fn seed_only_after_some(scene: &Scene) {
    closed(scene, SOME, &[0, 1, 3]);
    scene.kill(scene.start("seed-only"));
}

/// Puts the user's own complete files there.
fn own_files(scene: &Scene, files: Range<usize>) {
    scene.disk.put_folder(Path::new(SAVE));
    for index in files {
        scene.put(&format!("t/{}", FILES[index].0), scene.torrent.file_data(index));
    }
}

fn seed_only_own_files(scene: &Scene, close: bool) {
    own_files(scene, 0..5);
    scene.end(scene.start("seed-only"), close);
}

fn seed_only_then_download(scene: &Scene) {
    own_files(scene, 0..3);
    scene.close(scene.start("seed-only"));
    killed(scene, ALL, &[], &[5]);
}

/// Pieces 0 and 5 are durable. The sync of 2 and 4 fails.
fn failed_sync(scene: &Scene) -> Run<MemDisk> {
    let run = downloading(scene, ALL, &[0, 5], &[2, 4]);
    scene.disk.fail("sync", "t/b", EIO, 1);
    assert_eq!(run.store.sync().unwrap_err().1, [2, 4]);
    run
}

fn failed_sync_killed(scene: &Scene) {
    scene.kill(failed_sync(scene));
}

fn failed_sync_closed(scene: &Scene) {
    scene.close(failed_sync(scene));
}

fn failed_sync_unrecorded(scene: &Scene) {
    scene.disk.fail("append", ".journal.new", ENOSPC, 0);
    let run = downloading(scene, ALL, &[0, 5], &[2, 4]);
    scene.disk.fail("sync", "t/b", EIO, 1);
    scene.disk.fail("append", ".journal.new", ENOSPC, 1);
    assert!(run.store.sync().is_err());
    scene.kill(run);
}

/// Pieces 0 and 3 are durable, 2 and 5 written at the kill. Then the journal is changed.
fn journal(scene: &Scene, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    killed(scene, ALL, &[0, 3], &[2, 5]);
    scene.disk.set_bytes(".journal", &change(scene.disk.bytes(".journal")));
}

fn journal_torn(scene: &Scene) {
    journal(scene, |bytes| bytes[..bytes.len() - 5].to_vec());
}

fn journal_damaged(scene: &Scene) {
    journal(scene, |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
}

fn journal_removed(scene: &Scene) {
    killed(scene, ALL, &[0, 3], &[2, 5]);
    scene.remove_state("journal");
}

fn journal_other_header(scene: &Scene) {
    journal(scene, |mut bytes| {
        bytes[8] += 1;
        bytes
    });
}

fn journal_unknown_record(scene: &Scene) {
    journal(scene, |mut bytes| {
        append(&mut bytes, 200, b"from a later version");
        // Piece 4 was written.
        append(&mut bytes, 2, &[4, 0, 0, 0, 5, 0, 0, 0]);
        bytes
    });
}

/// Appends a record to a journal.
fn append(journal: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let mut summed = (journal.len() as u64).to_le_bytes().to_vec();
    summed.push(kind);
    summed.extend((payload.len() as u64).to_le_bytes());
    summed.extend(payload);
    journal.push(kind);
    journal.extend((payload.len() as u32).to_le_bytes());
    journal.extend(&piece_hash::sha1(&summed).0[..8]);
    journal.extend(payload);
}

fn journal_rewritten(scene: &Scene) {
    let mut run = downloading(scene, ALL, &[0, 3], &[5]);
    while scene.disk.bytes(".journal").len() < 70_000 {
        scene.verify(&run, 0..1);
    }
    scene.commit(&mut run, &[1]);
    run.store.sync().unwrap();
    scene.commit(&mut run, &[2]);
    scene.kill(run);
}

fn verified_closed(scene: &Scene) {
    closed(scene, ALL, &[0, 2, 5]);
    scene.close(scene.start("verify"));
}

fn overwritten(scene: &Scene, close: bool) {
    scene.put("t/b", user_bytes(75_000));
    let run = downloading(scene, "overwrite", &[0], &[2]);
    scene.end(run, close);
}

fn renumbering(scene: &Scene, close: bool) {
    let run = downloading(scene, ALL, &[0, 3], &[2, 5]);
    scene.end(run, close);
    scene.disk.forget_inodes();
}

fn renumbering_import(scene: &Scene) {
    import_killed_before_check(scene);
    scene.disk.forget_inodes();
}

/// The torrents that the journals belong to, by name: the bytes of their files.
pub fn torrents() -> [(&'static str, Vec<u8>); 3] {
    let plain = torrent(&FILES, PIECE).metainfo.raw().to_vec();
    // Two pieces of two spans and of one.
    let long = torrent(&[("a", 300_000)], 272 * 1024).metainfo.raw().to_vec();
    [("plain", plain), ("long", long), ("padded", padded_torrent())]
}

/// A file, padding to the end of its second piece, and a file of one piece.
fn padded_torrent() -> Vec<u8> {
    let mut data = noise(3 * 16_384, 1);
    data[20_000..32_768].fill(0);
    let hashes = data.chunks(16_384).flat_map(|piece| piece_hash::sha1(piece).0);
    let mut raw =
        b"d4:infod5:filesld6:lengthi20000e4:pathl1:aeed4:attr1:p6:lengthi12768e4:pathl4:.pad\
        5:12768eed6:lengthi16384e4:pathl1:beee4:name1:t12:piece lengthi16384e6:pieces60:"
            .to_vec();
    raw.extend(hashes);
    raw.extend(b"ee");
    raw
}
