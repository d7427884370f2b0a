//! A session at work for a command: torrents in, progress and results out, until every torrent is
//! done or failed, or the user interrupts it.
//!
//! ```text
//!  signal --.                 .--> View   (bars, lines, JSON)
//!  events --+--> Transfer ----+
//!  clock  --'    `-> Torrent  `--> Session (stop, shutdown)
//! ```

mod advice;
mod events;
mod patience;
mod setup;
mod torrent;
mod tracker_news;
mod tracker_results;
mod view;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select, tick};
use metainfo::Metainfo;
use session::{AddTorrent, Event, Session, SessionConfig, TorrentKey};

use crate::failure::{Class, Classify, End, Failure, Outcome, chain};
use crate::output::Output;
use crate::signals;

pub(crate) use patience::Goal;
pub(crate) use setup::{session_config, state_dir, writable_state_dir};
pub(crate) use torrent::Torrent;

use advice::{Reach, address_list};
use torrent::Step;
use view::View;

/// How often the state of the session is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long a clean shutdown may take: a slow disk has much to sync. A second signal is quicker.
const SHUTDOWN_TIME: Duration = Duration::from_secs(30);

/// The torrents of one command and the session that works on them.
pub(crate) struct Transfer {
    session: Session,
    torrents: Vec<Torrent>,
    /// Why torrents that were asked for never began.
    left_out: Vec<Failure>,
    /// Torrents that are to be stopped, until the session took the order.
    to_stop: Vec<TorrentKey>,
    view: View,
    signal: Receiver<()>,
}

impl Transfer {
    /// A session that listens, without torrents yet.
    pub(crate) fn start(config: &SessionConfig, output: &Output) -> Result<Self, Failure> {
        let signal = signals::first_signal().or_fail(Class::Failure, "cannot watch for signals")?;
        let session = Session::start(config).map_err(|error| setup::start_failure(&error))?;
        log::info!("listening on {}", address_list(session.listen_addresses()));
        let view = View::new(output);
        let (torrents, left_out, to_stop) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { session, torrents, left_out, to_stop, view, signal })
    }

    /// Tells the user where peers can reach this program.
    pub(crate) fn show_addresses(&self, output: &Output) {
        if !output.json() {
            let addresses = address_list(self.session.listen_addresses());
            output.note(&format!("listening on {addresses}"));
        }
    }

    /// The command prints its result itself.
    pub(crate) fn print_no_results(&mut self) {
        self.view.silence();
    }

    /// Takes one more torrent in, which is over when `goal` says so.
    pub(crate) fn add(&mut self, order: AddTorrent, goal: Goal) -> Result<(), Failure> {
        let (metainfo, output) = (order.metainfo.clone(), setup::output_path(&order));
        let reach = Reach {
            has_peers: !order.peers.is_empty(),
            listen: self.session.listen_addresses().into(),
        };
        let key = self
            .session
            .add(order)
            .map_err(|error| Failure::new(setup::add_class(&error), chain(&error)))?;
        let torrent = Torrent::new(key, metainfo, output, goal, reach);
        self.view.add();
        self.torrents.push(torrent);
        Ok(())
    }

    /// Counts a torrent that cannot begin as failed, for the reason that `failure` gives.
    pub(crate) fn leave_out(&mut self, metainfo: &Metainfo, failure: Failure) {
        self.left_out.push(about(metainfo, failure));
    }

    /// Works until every torrent is over; the first failure is the outcome.
    pub(crate) fn run(mut self) -> Result<Vec<Torrent>, End> {
        let worked = self.work();
        self.view.finish();
        let Self { session, mut torrents, left_out, mut view, .. } = self;
        let events = session.events().clone();
        // Syncs, writes the journals, says goodbye. A second signal cuts it short.
        session.shut_down(SHUTDOWN_TIME);
        tell_the_end(&events, &mut torrents, &mut view);
        match worked {
            Ok(()) => verdict(torrents, &left_out),
            Err(End::StdoutClosed(_)) => Err(End::StdoutClosed(undone(&torrents, &left_out))),
            Err(end) => Err(end),
        }
    }

    fn work(&mut self) -> Outcome {
        let events = self.session.events().clone();
        let (ticker, signal) = (tick(TICK), self.signal.clone());
        while !self.torrents.iter().all(Torrent::is_over) {
            select! {
                recv(events) -> event => self.handle_event(&event.map_err(|_| session_ended())?)?,
                recv(ticker) -> _ => self.handle_tick()?,
                recv(signal) -> _ => return Err(Failure::interrupted().into()),
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, event: &Event) -> Outcome {
        let now = Instant::now();
        let Some(index) = self.torrents.iter().position(|torrent| torrent.key == event.torrent)
        else {
            return Ok(());
        };
        if event.kind.is_lasting() {
            // The newest numbers go with the news.
            self.refresh(now);
        }
        let step = self.torrents[index].handle_event(now, &event.kind);
        self.view.event(&self.torrents[index], &event.kind)?;
        self.take_step(index, step)
    }

    fn handle_tick(&mut self) -> Outcome {
        let now = Instant::now();
        self.refresh(now);
        self.view.progress(now, &self.torrents)?;
        for index in 0..self.torrents.len() {
            for advice in self.torrents[index].take_advice(now) {
                self.view.warning(&self.torrents[index], &advice)?;
            }
            if let Some(why) = self.torrents[index].why_waiting(now) {
                self.view.waiting(&self.torrents[index], &why)?;
            }
            let step = self.torrents[index].handle_tick(now);
            self.take_step(index, step)?;
        }
        self.to_stop.retain(|torrent| self.session.stop(*torrent).is_err());
        Ok(())
    }

    /// Asks the session for the state of every torrent. A busy one is asked again at the next tick.
    fn refresh(&mut self, now: Instant) {
        for status in self.session.snapshot().unwrap_or_default() {
            let torrent = self.torrents.iter_mut().find(|torrent| torrent.key == status.torrent);
            if let Some(torrent) = torrent {
                torrent.handle_status(now, status);
            }
        }
    }

    fn take_step(&mut self, index: usize, step: Step) -> Outcome {
        let torrent = &self.torrents[index];
        match step {
            Step::Go => Ok(()),
            Step::Stop => {
                if self.session.stop(torrent.key).is_err() {
                    self.to_stop.push(torrent.key);
                }
                Ok(())
            }
            Step::Over => {
                let is_alone = self.torrents.len() + self.left_out.len() == 1;
                self.view.over(torrent, is_alone)
            }
        }
    }
}

/// Passes on the last events of the torrents, which came while the session was shut down. A closed
/// standard output no longer changes how the command ends.
fn tell_the_end(events: &Receiver<Event>, torrents: &mut [Torrent], view: &mut View) {
    for event in events.try_iter() {
        let torrent = torrents.iter_mut().find(|torrent| torrent.key == event.torrent);
        let Some(torrent) = torrent else { continue };
        if torrent.handle_event(Instant::now(), &event.kind) == Step::Over {
            drop(view.over(torrent, false));
        }
    }
}

fn verdict(torrents: Vec<Torrent>, left_out: &[Failure]) -> Result<Vec<Torrent>, End> {
    let failures = failures(&torrents, left_out);
    let Some(first) = failures.first().cloned() else { return Ok(torrents) };
    let (failed, all) = (failures.len(), torrents.len() + left_out.len());
    if all == 1 {
        return Err(first.into());
    }
    let which = if failed == 1 { "" } else { "; the first" };
    Err(first.within(format!("{failed} of {all} torrents failed{which}")).into())
}

/// Returns why torrents failed, the earliest first, each with the torrent it is about.
fn failures(torrents: &[Torrent], left_out: &[Failure]) -> Vec<Failure> {
    let mut failed: Vec<(&Torrent, &Failure)> =
        torrents.iter().filter_map(|torrent| Some((torrent, torrent.failure()?))).collect();
    failed.sort_by_key(|(torrent, _)| torrent.over_since());
    let failed =
        failed.into_iter().map(|(torrent, failure)| about(&torrent.metainfo, failure.clone()));
    left_out.iter().cloned().chain(failed).collect()
}

/// Adds the torrent that `failure` is about.
fn about(metainfo: &Metainfo, failure: Failure) -> Failure {
    let (hash, name) = (metainfo.info_hash().to_string(), metainfo.info().name());
    failure.with("info_hash", hash).within(name)
}

/// The class of what a launch that ends now leaves undone. A seed-only torrent leaves nothing.
fn undone(torrents: &[Torrent], left_out: &[Failure]) -> Option<Class> {
    let done = |torrent: &Torrent| torrent.is_complete() || torrent.goal().seed_only;
    let interrupted = (!torrents.iter().all(done)).then_some(Class::Interrupted);
    failures(torrents, left_out).first().map(Failure::class).or(interrupted)
}

fn session_ended() -> End {
    Failure::new(
        Class::Failure,
        "the session ended unexpectedly; run it again with -v to see its log",
    )
    .into()
}
