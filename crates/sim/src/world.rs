//! One run: a virtual clock, everything that is to happen in order of its time, and the rules that
//! are checked whenever something did.

mod actions;
mod finish;
mod jobs;
mod links;
mod mishaps;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::AnnounceReply;
use piece_store::Torrents;
use session::engine::{AnnounceKey, FetchFailure, LinkKey, Resolved};

use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::liar::{self, Liar};
use crate::network::{At, Network};
use crate::node::{Node, liar_address};
use crate::payload::Payload;
use crate::scenario::{Scenario, Shape, Want};
use crate::trace::Trace;
use crate::tracker::Trackers;
use crate::watch::Broken;

/// A run that takes longer, by its own clock, has got stuck.
const MAX_TIME: Duration = Duration::from_secs(3 * 3600);
/// Events without the clock moving, at most.
const MAX_AT_ONCE: u32 = 200_000;

/// Something that is to happen.
#[derive(Debug)]
enum Event {
    /// A process's timer is due.
    Wake {
        node: usize,
        life: u32,
    },
    /// A node's attempt to connect reaches the other machine.
    Dial {
        node: usize,
        life: u32,
        link: LinkKey,
        to: SocketAddr,
    },
    /// The attempt is answered: by the end of a wire, or by a refusal.
    Dialed {
        node: usize,
        life: u32,
        link: LinkKey,
        wire: Option<u64>,
    },
    /// Something may come out of a wire at this end.
    Arrive(At),
    /// A rate limit may have room again.
    Refill {
        node: usize,
        life: u32,
        link: LinkKey,
    },
    /// The store does a job.
    Job {
        node: usize,
        life: u32,
        job: u64,
    },
    /// The engine hears of it.
    Answer {
        node: usize,
        life: u32,
        job: u64,
    },
    /// A tracker answers over HTTP.
    Fetched {
        node: usize,
        life: u32,
        key: AnnounceKey,
        leg: usize,
        result: Box<Result<AnnounceReply, FetchFailure>>,
    },
    Resolved {
        node: usize,
        life: u32,
        host: String,
        result: Resolved,
    },
    /// A datagram reaches a tracker.
    Asked {
        node: usize,
        life: u32,
        bytes: Vec<u8>,
    },
    /// A datagram reaches a node.
    Datagram {
        node: usize,
        life: u32,
        bytes: Vec<u8>,
    },
    /// The scenario's n-th mishap.
    Mishap(usize),
    /// A process begins on a machine that has none.
    Start(usize),
    /// A disk is well again.
    Heal(usize),
    /// The user has a torrent go on that stopped with an error.
    Resume {
        node: usize,
        life: u32,
    },
    /// Liars do what they do unasked.
    Lies,
}

/// All of a run.
pub(crate) struct World {
    scenario: Scenario,
    /// That of the first torrent.
    payload: Arc<Payload>,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    at_once: u32,
    nodes: Vec<Node>,
    liars: Vec<Liar>,
    network: Network,
    trackers: Trackers,
    dice: Dice,
    jobs: u64,
    mishaps_left: usize,
    /// Everyone has what is to be had, and is told to stop.
    closing: bool,
    bans: Vec<Duration>,
    trace: Trace,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) result: Result<(), Broken>,
    /// When everyone had everything.
    pub(crate) done: Duration,
    /// When somebody was banned.
    pub(crate) bans: Vec<Duration>,
    pub(crate) time: Duration,
    pub(crate) trace: Trace,
    pub(crate) scenario: Scenario,
}

/// All machines, with what is on their disks at the start.
fn new_nodes(scenario: &Scenario, payload: &Arc<Payload>, dice: &mut Dice) -> Vec<Node> {
    let rival = scenario.rival.as_ref().map(|rival| {
        let bytes = payload.file(rival.file_of_first);
        let fixed = rival.same.then_some((rival.file, bytes));
        (rival, Arc::new(Payload::new(&rival.layout, fixed, dice.split())))
    });
    let mut nodes: Vec<Node> = Vec::new();
    for (at, plan) in scenario.nodes.iter().cloned().enumerate() {
        let payload =
            rival.as_ref().map_or(payload, |(_, other)| if plan.rival { other } else { payload });
        let machine = plan.machine;
        let disk = machine.map(|host| Arc::clone(&nodes[host].site.disk));
        nodes.push(Node::new(at, plan, payload, disk.as_ref(), scenario.missing, dice));
        if let (Some(host), Some((rival, _))) = (machine, &rival) {
            if let Some(length) = rival.blank {
                let path = nodes[host].site.usual_path(rival.file_of_first).to_owned();
                nodes[host].disk().put(&path, vec![0; length as usize]);
            }
            (nodes[at].mate, nodes[at].contested) = (Some(host), Some(rival.file));
            (nodes[host].mate, nodes[host].contested) = (Some(at), Some(rival.file_of_first));
        }
    }
    nodes
}

impl World {
    /// The scenario of `seed`.
    pub(crate) fn new(seed: u64, readable: bool) -> Self {
        let mut dice = Dice::new(seed);
        let scenario = Scenario::draw(&mut dice);
        Self::of(scenario, dice, readable)
    }

    /// A scenario of this shape.
    pub(crate) fn shaped(shape: &Shape, readable: bool) -> Self {
        Self::of(Scenario::shaped(shape), Dice::new(0), readable)
    }

    fn of(scenario: Scenario, mut dice: Dice, readable: bool) -> Self {
        let payload = Arc::new(Payload::new(&scenario.layout, None, dice.split()));
        let nodes = new_nodes(&scenario, &payload, &mut dice);
        let tricks = scenario.liars.iter().enumerate();
        let liars: Vec<Liar> = tricks.map(|(at, trick)| Liar::new(at, *trick, &mut dice)).collect();
        let addresses = (0..liars.len()).map(liar_address).collect();
        let first = payload.metainfo.info_hash();
        let trackers = Trackers::new(scenario.trackers, (first, addresses), &mut dice);
        Self {
            payload,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            next_event: 0,
            at_once: 0,
            nodes,
            liars,
            network: Network::default(),
            trackers,
            dice,
            jobs: 0,
            mishaps_left: scenario.mishaps.len(),
            closing: false,
            bans: Vec::new(),
            trace: Trace::new(readable),
            scenario,
        }
    }

    /// Lets everything happen, to the end or until a rule is broken.
    pub(crate) fn run(mut self) -> Ending {
        let played = self.play();
        let done = self.now;
        let result = played.and_then(|()| self.close());
        let (time, bans, trace, scenario) = (self.now, self.bans, self.trace, self.scenario);
        Ending { result, done, bans, time, trace, scenario }
    }

    fn play(&mut self) -> Result<(), Broken> {
        for node in 0..self.nodes.len() {
            self.after(self.nodes[node].plan.from, Event::Start(node));
        }
        for mishap in 0..self.scenario.mishaps.len() {
            self.after(self.scenario.mishaps[mishap].0, Event::Mishap(mishap));
        }
        if !self.liars.is_empty() {
            self.after(Duration::ZERO, Event::Lies);
        }
        while !self.is_done() {
            self.step()?;
            if self.now > MAX_TIME {
                return Err(self.stuck());
            }
        }
        Ok(())
    }

    /// Whether every machine runs and has all that is to be had.
    fn is_done(&self) -> bool {
        // Asked after every event: what costs little comes first.
        self.mishaps_left == 0
            && self.nodes.iter().all(|node| self.has_heard(node))
            && self.nodes.iter().all(|node| self.has_all(node))
    }

    fn has_all(&self, node: &Node) -> bool {
        if node.gave_way {
            return true;
        }
        let missing = self.missing_of(node);
        let found = |piece: &u32| Some(*piece) == missing || node.had.contains(piece);
        self.has_heard(node) && node.watch.wanted.iter().all(found)
    }

    /// Whether the node runs, and its user knows of all that is to be known.
    fn has_heard(&self, node: &Node) -> bool {
        if node.gave_way {
            return true;
        }
        let complete = node.completed || self.missing_of(node).is_some();
        node.process.is_some() && node.started && complete
    }

    /// The piece that the node wants and nobody has.
    fn missing_of(&self, node: &Node) -> Option<u32> {
        let missing = self.scenario.missing.filter(|_| !node.plan.rival);
        missing.filter(|missing| node.watch.wanted.contains(missing))
    }

    /// The pieces that the node needs, or of one that only serves, has.
    fn wanted(&self, node: &Node) -> BTreeSet<u32> {
        match node.want() {
            Want::ToServe => node.had.clone(),
            want => node.site.payload.wanted(want),
        }
    }

    /// Who is not done, and where it stands.
    fn stuck(&self) -> Broken {
        let mut text = "not done after 3 hours:".to_owned();
        for node in self.nodes.iter().filter(|node| !self.has_all(node)) {
            let status = node.process.as_ref().map(|process| process.engine.status());
            let (had, all) = (node.had.len(), self.wanted(node).len());
            text += &format!(" {} has {had} pieces, wants {all}, {status:?}", node.name);
        }
        text
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.next_event += 1;
        self.queue.insert((time.max(self.now), self.next_event), event);
    }

    /// The next thing happens.
    fn step(&mut self) -> Result<(), Broken> {
        let Some(((time, _), event)) = self.queue.pop_first() else {
            return Err(format!("nothing more will happen: {}", self.stuck()));
        };
        self.at_once = if time > self.now { 0 } else { self.at_once + 1 };
        if self.at_once > MAX_AT_ONCE {
            return Err(format!("time stands still; next is {event:?}"));
        }
        self.now = time;
        self.handle(event)
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Wake { node, life } => self.wake(node, life),
            Event::Dial { node, life, link, to } => {
                self.dial(node, life, link, to);
                Ok(())
            }
            Event::Dialed { node, life, link, wire } => self.dialed(node, life, link, wire),
            Event::Arrive(at) => self.arrive(at),
            Event::Refill { node, life, link } => {
                if let Some(process) = self.process(node, life) {
                    process.sending.insert(link);
                }
                self.settle(node)
            }
            Event::Job { node, life, job } => self.do_job(node, life, job),
            Event::Answer { node, life, job } => self.answer_job(node, life, job),
            Event::Fetched { node, life, key, leg, result } => {
                let now = self.now;
                if let Some(process) = self.process(node, life) {
                    process.engine.handle_fetched(now, key, leg, *result);
                }
                self.settle(node)
            }
            Event::Resolved { node, life, host, result } => {
                let now = self.now;
                if let Some(process) = self.process(node, life) {
                    process.engine.handle_resolved(now, &host, result);
                }
                self.settle(node)
            }
            Event::Asked { node, life, bytes } => self.ask_tracker(node, life, &bytes),
            Event::Datagram { node, life, bytes } => {
                let (now, from) = (self.now, actions::tracker_address());
                if let Some(process) = self.process(node, life) {
                    process.engine.handle_datagram(now, from, &bytes);
                }
                self.settle(node)
            }
            Event::Mishap(index) => self.mishap(index),
            Event::Start(node) => self.start(node),
            Event::Heal(node) => {
                self.heal(node);
                Ok(())
            }
            Event::Resume { node, life } => self.resume(node, life),
            Event::Lies => self.lie(),
        }
    }

    fn start(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].process.is_some() || self.closing {
            return Ok(());
        }
        self.meddle(node);
        self.note(node, "starts", [0; 2], String::new);
        let now = self.now;
        self.nodes[node].promised = self.nodes[node].had.clone();
        let session = self.session_of(node);
        self.nodes[node].start(now, session);
        let this = &self.nodes[node];
        if let Some(death) = this.plan.dies_early.filter(|death| death.life == this.life) {
            for node in self.machine(node) {
                self.nodes[node].back_at = now + death.back_after;
            }
            self.die(node, death.how, Some(death.operation))?;
        }
        self.begin_opening(node);
        self.settle(node)
    }

    /// The torrents of the process that a node is to join, if it is to and there is one.
    fn session_of(&self, node: usize) -> Option<Arc<Torrents<SimDisk>>> {
        let mate = &self.nodes[self.nodes[node].mate?];
        let joins = self.nodes[node].plan.same_process || mate.plan.same_process;
        mate.process.as_ref().filter(|_| joins).map(|process| Arc::clone(&process.torrents))
    }

    /// The nodes on the machine of one, itself included.
    fn machine(&self, node: usize) -> Vec<usize> {
        std::iter::once(node).chain(self.nodes[node].mate).collect()
    }

    /// The process of that life, if it still runs.
    fn process(&mut self, node: usize, life: u32) -> Option<&mut crate::node::Process> {
        let node = &mut self.nodes[node];
        if node.life == life { node.process.as_mut() } else { None }
    }

    fn wake(&mut self, node: usize, life: u32) -> Result<(), Broken> {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return Ok(()) };
        if process.alarm != Some(now) {
            return Ok(());
        }
        process.alarm = None;
        if process.engine.poll_timeout().is_some_and(|at| at <= now) {
            process.engine.handle_timeout(now);
        }
        self.settle(node)
    }

    fn lie(&mut self) -> Result<(), Broken> {
        let mut acts = Vec::new();
        for liar in &mut self.liars {
            liar.tick(&self.payload, &mut acts);
        }
        self.call_as_liars();
        self.after(liar::TICK, Event::Lies);
        self.act_as_liar(acts);
        Ok(())
    }

    fn note(
        &mut self,
        node: usize,
        what: &str,
        numbers: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        self.trace.note(self.now, &self.nodes[node].name, what, numbers, detail);
    }
}
