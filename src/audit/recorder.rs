//! The way into the record for what happens often and must not wait for a disk: signatures,
//! refusals, and copies of key changes for sinks other than the store.
//!
//! A signature takes its place in every sink's queue before the backend is asked, so none is made
//! that the record has no room for, unless the operator chose to go on and have the gap counted.
//! The place is filled on every way out: released, withheld, failed, or dropped with a caller who
//! went away. Writing, chaining and sealing happen behind the queues, in a task for each sink, so
//! that a sink that hangs keeps only itself waiting. Nothing here ever delays a change of keys:
//! those are written with the change itself, in the store.

mod lane;
mod place;
mod sampler;
mod worker;

pub use lane::Status;
pub use place::Place;
pub use worker::Writers;

use super::refusals::Refusals;
use super::sink::Sink;
use super::{Origin, Record};
use crate::clock::Clock;
use jiff::Timestamp;
use lane::Lane;
use sampler::Sampler;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use worker::Worker;

/// The way into the record. Clones share one state.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

/// How the record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of a signature that the record has no room for.
    pub when_full: WhenFull,
    /// Which signatures are recorded.
    pub signatures: Signatures,
    /// Records that may wait for each sink.
    pub queue: usize,
    /// The most records that are written at once.
    pub batch: usize,
    /// How long a record may wait for others to be written with it.
    pub linger: Duration,
    /// How often repeated refusals are written down.
    pub refusal_interval: Duration,
    /// A checkpoint is made after so many records,
    pub checkpoint_records: u64,
    /// or once so much time has passed.
    pub checkpoint_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            when_full: WhenFull::Block,
            signatures: Signatures::All,
            queue: 8192,
            batch: 512,
            linger: Duration::from_millis(50),
            refusal_interval: Duration::from_secs(60),
            checkpoint_records: 10_000,
            checkpoint_interval: Duration::from_secs(60),
        }
    }
}

/// What becomes of a signature that the record has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits until there is room, and is refused at its deadline.
    Block,
    /// It is made; how many went unrecorded is written down as soon as that is possible.
    CountAndContinue,
}

/// Which signatures are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Every one.
    All,
    /// None. Refusals and changes of keys are recorded all the same.
    None,
    /// One in so many, drawn at random; its record says how many it stands for.
    OneIn(NonZeroU32),
}

/// There was no room in the record before the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit record has no room: {sink} does not take records fast enough, or not at all")]
pub struct NoRoom {
    /// The sink that is behind.
    pub sink: &'static str,
}

struct Inner {
    settings: Settings,
    lanes: Vec<Lane>,
    sampler: Sampler,
    refusals: Refusals,
    clock: Arc<dyn Clock>,
    stopping: watch::Sender<bool>,
}

impl Recorder {
    /// A record kept in `sinks`, and what writes it; nothing is written until that runs.
    pub fn new(
        settings: Settings,
        sinks: Vec<Box<dyn Sink>>,
        clock: Arc<dyn Clock>,
    ) -> (Self, Writers) {
        let (lanes, ends): (Vec<_>, Vec<_>) = sinks
            .into_iter()
            .map(|sink| {
                let (sender, queue) = mpsc::channel(settings.queue.max(1));
                (Lane::new(sink.name(), sink.changes(), sender), (sink, queue))
            })
            .unzip();
        let recorder = Self(Arc::new(Inner {
            settings,
            lanes,
            sampler: Sampler::new(settings.signatures),
            refusals: Refusals::default(),
            clock,
            stopping: watch::Sender::new(false),
        }));
        let worker = |(lane, (sink, queue))| Worker::new(recorder.clone(), lane, sink, queue);
        let workers = ends.into_iter().enumerate().map(worker).collect();
        let writers = Writers::new(recorder.clone(), workers);
        (recorder, writers)
    }

    /// One that keeps no record.
    pub fn none(clock: Arc<dyn Clock>) -> Self {
        let settings = Settings { signatures: Signatures::None, ..Settings::default() };
        Self::new(settings, Vec::new(), clock).0
    }

    /// A place in the record for a signature that is about to be made. Where a full record blocks,
    /// waits for it until shortly before `deadline`; else never waits.
    pub async fn place(&self, deadline: Instant) -> Result<Place, NoRoom> {
        let inner = &self.0;
        let stands_for = if inner.lanes.is_empty() { 0 } else { inner.sampler.draw() };
        let mut place = Place::new(self.clone(), stands_for);
        if stands_for > 0 {
            for lane in &inner.lanes {
                let seat = match inner.settings.when_full {
                    WhenFull::Block => Some(lane.seat(deadline).await?),
                    WhenFull::CountAndContinue => lane.seat_at_once(),
                };
                place.seats.push(seat);
            }
        }
        Ok(place)
    }

    /// Takes note of something that was refused. Never waits: the first of its kind is written at
    /// once, its repeats are counted and written once in an interval.
    pub fn refused(&self, record: Record) {
        if self.0.lanes.is_empty() {
            return;
        }
        if let Some(record) = self.0.refusals.note(record) {
            self.push(record);
        }
    }

    /// Takes note of a committed change, for those sinks that do not hold it by the commit. Never
    /// waits.
    pub fn changed(&self, record: &Record) {
        let mut shared: Option<Arc<Record>> = None;
        for lane in self.0.lanes.iter().filter(|lane| lane.takes_changes()) {
            let record = shared.get_or_insert_with(|| Arc::new(record.clone()));
            lane.push(Arc::clone(record));
        }
    }

    /// How each sink is.
    pub fn status(&self) -> Vec<Status> {
        self.0.lanes.iter().map(Lane::status).collect()
    }

    /// Takes nothing more; what waits is still written.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    fn push(&self, record: Record) {
        let record = Arc::new(record);
        for lane in &self.0.lanes {
            lane.push(Arc::clone(&record));
        }
    }

    /// Writes down what was counted of refusals since the last time.
    fn tell_refusals(&self) {
        for record in self.0.refusals.due(self.now()) {
            self.push(record);
        }
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn own(&self, action: super::Action) -> Record {
        Record::new(self.now(), &Origin::service(""), action)
    }
}

#[cfg(test)]
mod tests;
