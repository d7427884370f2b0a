//! The bugs that the simulator must find. Those of one crate stand together: to build the next is
//! quicker then. How many seeds each may take is some multiple of what it took when it was written.

use super::mutants::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    // What is announced, and what is served.
    Mutant {
        name: "HAVE before the piece is verified",
        file: "crates/swarm/src/swarm/blocks.rs",
        before: "        self.outputs.push_back(Output::Commit { piece, digests });\n",
        after: "        for peer in self.keys() {
            self.outputs.push_back(Output::Have { peer, piece });
        }
        self.outputs.push_back(Output::Commit { piece, digests });\n",
        seeds: 20,
    },
    Mutant {
        name: "endgame without cancel",
        file: "crates/swarm/src/swarm/blocks.rs",
        before: "if finished.others {",
        after: "if false {",
        seeds: 100,
    },
    Mutant {
        name: "the wrong peer is banned",
        file: "crates/swarm/src/blame.rs",
        before: "|((bad, good), _)| bad != good",
        after: "|((bad, good), _)| bad == good",
        seeds: 200,
    },
    Mutant {
        name: "requests while choked",
        file: "crates/swarm/src/swarm/requests.rs",
        before: "peer.peer_choking = true;",
        after: "peer.peer_choking = false;",
        seeds: 100,
    },
    Mutant {
        name: "a ready peer is dropped if another one waits",
        file: "crates/swarm/src/swarm/requests.rs",
        before: "            self.ready.push_back(key);\n",
        after: "            if self.ready.is_empty() {
                self.ready.push_back(key);
            }\n",
        seeds: 100,
    },
    Mutant {
        name: "a request for what the peer lacks",
        file: "crates/swarm/src/peer.rs",
        before: "allowed && self.has.contains(piece)",
        after: "allowed",
        seeds: 20,
    },
    Mutant {
        name: "a piece is fetched again though it is had",
        file: "crates/swarm/src/pieces.rs",
        before: "if self.is_missing(piece) && !self.open.contains_key(&piece) {",
        after: "if self.wanted.contains(piece) && !self.open.contains_key(&piece) {",
        seeds: 20,
    },
    Mutant {
        name: "`completed` to a tracker that did not hear `started`",
        file: "crates/swarm/src/trackers.rs",
        before: "self.owed_completed && self.started",
        after: "self.owed_completed",
        seeds: 500,
    },
    // The session's core.
    Mutant {
        name: "a link with something to send is not signalled",
        file: "crates/session/src/core/transmit.rs",
        before: "link.transmit_due = false;",
        after: "",
        seeds: 20,
    },
    Mutant {
        name: "a link that ends is not closed",
        file: "crates/session/src/core/peers.rs",
        before: "self.actions.push_back(Action::Close { link: key });",
        after: "",
        seeds: 200,
    },
    Mutant {
        name: "memory of committed spans is not given back",
        file: "crates/session/src/core/disk.rs",
        before: "        self.take_back(key, spans);\n",
        after: "        drop(spans.into_iter().collect::<Vec<_>>());\n",
        seeds: 100,
    },
    Mutant {
        name: "complete before it is durable",
        file: "crates/session/src/core/disk.rs",
        before: "torrent.completion_due && torrent.durability.is_clean()",
        after: "torrent.completion_due",
        seeds: 20,
    },
    Mutant {
        name: "a torrent's timer is not set",
        file: "crates/session/src/core/outputs.rs",
        before: "        self.set_timer(key);\n",
        after: "",
        seeds: 20,
    },
    // The store.
    Mutant {
        name: "a piece with the wrong hash is taken",
        file: "crates/piece-store/src/store/commit.rs",
        before: "if digest != self.metainfo.info().piece_hash(piece) {",
        after: "if digest != self.metainfo.info().piece_hash(piece) && digests {",
        seeds: 200,
    },
    Mutant {
        name: "a short write is taken for a whole one",
        file: "crates/piece-store/src/store/files.rs",
        before: "done += count as u64;",
        after: "done = range.length;",
        seeds: 200,
    },
    Mutant {
        name: "durable before files are synced",
        file: "crates/piece-store/src/store/sync.rs",
        before: "(file, whole || self.is_parts(slot))",
        after: "(file, !whole || self.is_parts(slot))",
        seeds: 20,
    },
    Mutant {
        name: "durable before folders are synced",
        file: "crates/piece-store/src/store/sync.rs",
        before: "for folder in &plan.folders {",
        after: "for folder in plan.folders.iter().take(1) {",
        seeds: 20,
    },
    Mutant {
        name: "a failed sync proves what it was to sync",
        file: "crates/piece-store/src/store/sync.rs",
        before: "return Err((error, self.lose_undurable(plan.folders)));",
        after: "return Err((error, Vec::new()));",
        seeds: 1000,
    },
    Mutant {
        name: "names of files that a start finds are not synced",
        file: "crates/piece-store/src/store/check.rs",
        before: "        touched.slots().for_each(|slot| ledger.dirty.name(self.slot_path(slot)));\n",
        after: "",
        seeds: 500,
    },
    Mutant {
        name: "what was written counts as durable after a crash",
        file: "crates/piece-store/src/store/resume.rs",
        before: "if durable || (written && orderly) => {",
        after: "if durable || written => {",
        seeds: 200,
    },
    Mutant {
        name: "a file that somebody changed is trusted",
        file: "crates/piece-store/src/store/resume.rs",
        before: "file.length == stat.length && file.modified == stat.modified",
        after: "file.length == stat.length",
        seeds: 1000,
    },
    Mutant {
        name: "data is taken for a hole",
        file: "crates/piece-store/src/hashing.rs",
        before: "Some(data) => data,",
        after: "Some(data) => data + 4096,",
        seeds: 200,
    },
    // Files that are wanted, and others.
    Mutant {
        name: "selection: files that are not wanted are fetched",
        file: "crates/piece-store/src/store/layout.rs",
        before: "filter(|slot| slot.selected && slot.length > 0) {",
        after: "filter(|slot| slot.length > 0) {",
        seeds: 20,
    },
    Mutant {
        name: "selection: the name of the parts file is not synced",
        file: "crates/piece-store/src/store/parts.rs",
        before: "if !self.parts.named.load(Ordering::Relaxed) {",
        after: "if false {",
        seeds: 20,
    },
    Mutant {
        name: "selection: who only serves looks for the parts in files",
        file: "crates/piece-store/src/store.rs",
        before: "slot.keep_in_parts(apart);",
        after: "",
        seeds: 1000,
    },
    Mutant {
        name: "selection: who only serves looks into the user's own file for the parts",
        file: "crates/piece-store/src/store.rs",
        before: "let is_unknown = history.used(self.layout.parts_slot()) && !history.may_use(number);",
        after: "let is_unknown = false;",
        seeds: 4000,
    },
    Mutant {
        name: "selection: what is copied from the parts file is not synced",
        file: "crates/piece-store/src/store/parts.rs",
        before: "self.carry_out(&mut SyncPlan::new(copied, Vec::new()))",
        after: "Ok(())",
        seeds: 4000,
    },
    Mutant {
        name: "selection: blocks in the parts file are looked for in files",
        file: "crates/piece-store/src/store/resume.rs",
        before: "Trust::Missing => parts.trust == Trust::Missing,",
        after: "Trust::Missing => true,",
        seeds: 4000,
    },
    Mutant {
        name: "selection: the parts file stands for a file that was removed",
        file: "crates/piece-store/src/store/resume.rs",
        before: "layout.pieces_touching(slot).for_each(|piece| _ = gone.insert(piece));",
        after: "layout.pieces_touching(slot).for_each(drop);",
        seeds: 4000,
    },
    // The numbers that all share.
    Mutant {
        name: "the last block is a byte too long",
        file: "crates/bt-types/src/geometry.rs",
        before: "length: BLOCK_LENGTH.min(length - offset) })",
        after: "length: BLOCK_LENGTH.min(length - offset + 1) })",
        seeds: 20,
    },
];
