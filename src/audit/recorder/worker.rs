//! The far end of a sink's queue: gathers records, has the sink chain and write them, and has
//! checkpoints made. It never gives a record up: what cannot be written is tried again, the queue
//! fills meanwhile, and whoever wants a place in it hears of that.

use super::lane::Lane;
use super::{Recorder, Signatures, WhenFull};
use crate::audit::sink::{Ending, Failure, Opened, Seal, Sink, Unsealed};
use crate::audit::{Action, Checkpoint, Outcome, Record};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// How often a worker looks around when no record comes.
const TICK: Duration = Duration::from_millis(200);
/// The first pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long making a checkpoint may take.
const SEAL_MAX: Duration = Duration::from_secs(10);
/// The same when the service is stopping.
const LAST_SEAL_MAX: Duration = Duration::from_secs(2);
/// The first pause after a checkpoint could not be made; it doubles up to the usual interval.
const SEAL_PAUSE: Duration = Duration::from_millis(500);

/// What writes a record: a worker for each sink.
pub struct Writers {
    recorder: Recorder,
    workers: Vec<Worker>,
}

impl Writers {
    pub(super) fn new(recorder: Recorder, workers: Vec<Worker>) -> Self {
        Self { recorder, workers }
    }

    /// Writes until [`Recorder::stop`] was called and everything is written.
    pub async fn run(self, seal: Arc<dyn Seal>) {
        let Self { recorder, workers } = self;
        let mut running = JoinSet::new();
        for worker in workers {
            running.spawn(worker.run(Arc::clone(&seal)));
        }
        let mut stopping = recorder.0.stopping.subscribe();
        let refusals = async {
            loop {
                tokio::time::sleep(recorder.0.settings.refusal_interval).await;
                recorder.tell_refusals();
            }
        };
        tokio::select! {
            () = stopped(&mut stopping) => {}
            () = refusals => {}
        }
        while let Some(ended) = running.join_next().await {
            if let Err(panic) = ended {
                tracing::error!(%panic, "a sink of the audit record came to an end of its own");
            }
        }
    }
}

/// Serves one sink.
pub(super) struct Worker {
    recorder: Recorder,
    /// Which of the recorder's lanes is ours.
    lane: usize,
    sink: Box<dyn Sink>,
    queue: mpsc::Receiver<Arc<Record>>,
    batch: Vec<Record>,
    sealing: Option<JoinHandle<Result<Checkpoint, Failure>>>,
    /// Records written since a checkpoint was last begun.
    unsealed: u64,
    /// When to think of a checkpoint, and the pause after one that fails.
    seal_at: Instant,
    seal_pause: Duration,
}

impl Worker {
    pub(super) fn new(
        recorder: Recorder,
        lane: usize,
        sink: Box<dyn Sink>,
        queue: mpsc::Receiver<Arc<Record>>,
    ) -> Self {
        Self {
            recorder,
            lane,
            sink,
            queue,
            batch: Vec::new(),
            sealing: None,
            unsealed: 0,
            seal_at: Instant::now(),
            seal_pause: SEAL_PAUSE,
        }
    }

    async fn run(mut self, seal: Arc<dyn Seal>) {
        let mut stopping = self.recorder.0.stopping.subscribe();
        let opened = self.open().await;
        self.begin(opened);
        self.write().await;
        loop {
            let queue = self.gather(&mut stopping).await;
            self.admit_gap();
            self.write().await;
            if queue == Queue::Ended {
                return self.end(&seal).await;
            }
            self.tend_seal(&seal).await;
        }
    }

    /// Fills the batch: waits for a first record as long as a tick, for more as long as they may
    /// linger.
    async fn gather(&mut self, stopping: &mut watch::Receiver<bool>) -> Queue {
        let settings = self.recorder.0.settings;
        let mut received = Vec::new();
        let mut until = Instant::now() + TICK;
        while received.len() < settings.batch {
            let room = settings.batch - received.len();
            let more = tokio::select! {
                biased;
                () = stopped(stopping), if !self.queue.is_closed() => {
                    // What was counted of refusals comes before the end.
                    self.recorder.tell_refusals();
                    self.queue.close();
                    continue;
                }
                more = tokio::time::timeout_at(until.into(), self.queue.recv_many(&mut received, room)) => more,
            };
            match more {
                Ok(0) => {
                    self.take(received);
                    return Queue::Ended;
                }
                Ok(all) if all == received.len() => until = Instant::now() + settings.linger,
                Ok(_) => {}
                Err(_late) => break,
            }
        }
        self.take(received);
        Queue::Open
    }

    fn take(&mut self, received: Vec<Arc<Record>>) {
        self.batch.extend(received.into_iter().map(Arc::unwrap_or_clone));
    }

    /// Writes the batch, however long that takes.
    async fn write(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        let mut pause = PAUSE_MIN;
        loop {
            self.lane().standing().busy_since = Some(Instant::now());
            let written = self.sink.append(&batch).await;
            self.lane().standing().busy_since = None;
            match written {
                Ok(()) => break,
                Err(failure) => self.broken(&failure),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        self.unsealed = self.unsealed.saturating_add(count);
        self.mended();
        self.lane().standing().written += count;
    }

    async fn open(&mut self) -> Opened {
        let mut pause = PAUSE_MIN;
        loop {
            match self.sink.open().await {
                Ok(opened) => return opened,
                Err(failure) => self.broken(&failure),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Says how the chain goes on from what was there.
    fn begin(&mut self, opened: Opened) {
        let Opened { ending, flaws, cut, checkpoint } = opened;
        self.mended();
        self.lane().standing().checkpoint = checkpoint;
        let sink = self.sink.name();
        for flaw in flaws {
            tracing::error!(sink, flaw, "the audit record does not hold together; verify it");
            let flawed = self.recorder.own(Action::Flaw);
            self.batch.push(Record { outcome: Outcome::Failed, detail: flaw, ..flawed });
        }
        if cut > 0 {
            tracing::warn!(sink, bytes = cut, "an audit record was cut short by a crash");
            let detail = format!("a crash cut an entry short; {cut} bytes of it were removed");
            let gap = self.recorder.own(Action::Gap);
            self.batch.push(Record { outcome: Outcome::Lost, detail, ..gap });
        }
        let settings = self.recorder.0.settings;
        let at_most = settings.queue.saturating_add(settings.batch);
        let kept =
            format!("signatures: {}; when full: {}", settings.signatures, settings.when_full);
        let detail = match ending {
            Ending::Empty => format!("the first of its chain; {kept}"),
            Ending::Stopped => kept,
            Ending::CutShort => {
                tracing::warn!(
                    sink,
                    at_most,
                    "the service did not stop in good order: the last audit records before may be missing"
                );
                format!(
                    "the service before did not stop in good order: up to {at_most} records that waited to be written may be missing; {kept}"
                )
            }
        };
        let start = self.recorder.own(Action::Start);
        self.batch.push(Record { detail, ..start });
    }

    /// Puts what found no room on record.
    fn admit_gap(&mut self) {
        let missed = self.lane().take_missed();
        let Some(since) = missed.since else { return };
        let sink = self.sink.name();
        let count = missed.count;
        tracing::error!(
            sink,
            count,
            "the audit record had no room: so many records are missing from it"
        );
        let detail = format!("there was no room for them; the first was of {since}");
        let gap = self.recorder.own(Action::Gap);
        self.batch.push(Record { outcome: Outcome::Lost, count, detail, ..gap });
    }

    /// Says goodbye, and seals what can be sealed in a moment.
    async fn end(&mut self, seal: &Arc<dyn Seal>) {
        self.admit_gap();
        let passed_over = self.recorder.0.sampler.passed_over();
        let detail = match passed_over {
            0 => String::new(),
            count => format!("{count} signatures since the last that was drawn were not recorded"),
        };
        let stop = self.recorder.own(Action::Stop);
        self.batch.push(Record { detail, ..stop });
        self.write().await;
        if let Some(under_way) = self.sealing.take() {
            let made = tokio::time::timeout(LAST_SEAL_MAX, under_way).await;
            self.keep(made.map_or_else(|_late| Err(late(LAST_SEAL_MAX)), joined)).await;
        }
        let Ok(unsealed) = self.sink.unsealed().await else { return };
        if !unsealed.span.is_empty() {
            let sealed = tokio::time::timeout(LAST_SEAL_MAX, seal.seal(&unsealed)).await;
            self.keep(sealed.unwrap_or_else(|_late| Err(late(LAST_SEAL_MAX)))).await;
        }
    }

    /// Begins a checkpoint when one is due, and keeps it once it is made.
    async fn tend_seal(&mut self, seal: &Arc<dyn Seal>) {
        let settings = self.recorder.0.settings;
        if let Some(under_way) = &mut self.sealing {
            if !under_way.is_finished() {
                return;
            }
            let made = under_way.await;
            self.sealing = None;
            self.keep(joined(made)).await;
        }
        let now = Instant::now();
        let waits = self.seal_pause > SEAL_PAUSE;
        let enough = self.unsealed >= settings.checkpoint_records && !waits;
        if !enough && now < self.seal_at {
            return;
        }
        self.seal_at = now + settings.checkpoint_interval;
        match self.sink.unsealed().await {
            Ok(unsealed) if unsealed.span.is_empty() => self.unsealed = 0,
            Ok(unsealed) => {
                if unsealed.more {
                    self.seal_at = now;
                }
                self.unsealed = 0;
                let seal = Arc::clone(seal);
                self.sealing = Some(tokio::spawn(async move { made(&*seal, &unsealed).await }));
            }
            Err(failure) => self.seal_later(&failure),
        }
    }

    async fn keep(&mut self, made: Result<Checkpoint, Failure>) {
        let kept = match made {
            Ok(checkpoint) => {
                let kept = self.sink.append_checkpoint(&checkpoint).await;
                kept.map(|()| checkpoint.statement.time)
            }
            Err(failure) => Err(failure),
        };
        match kept {
            Ok(time) => {
                self.seal_pause = SEAL_PAUSE;
                let mut standing = self.lane().standing();
                standing.checkpoint = Some(time);
                if standing.unsealed.take().is_some() {
                    tracing::info!(
                        sink = self.sink.name(),
                        "checkpoints of the audit record are made again"
                    );
                }
            }
            Err(failure) => self.seal_later(&failure),
        }
    }

    fn seal_later(&mut self, failure: &Failure) {
        let most = self.recorder.0.settings.checkpoint_interval.max(SEAL_PAUSE);
        self.seal_at = Instant::now() + self.seal_pause;
        self.seal_pause = (self.seal_pause * 2).min(most);
        let why = failure.to_string();
        let told = self.lane().standing().unsealed.replace(why.clone());
        if told.as_ref() != Some(&why) {
            tracing::warn!(
                sink = self.sink.name(),
                why,
                "a checkpoint of the audit record has to wait"
            );
        }
    }

    fn broken(&self, failure: &Failure) {
        let why = failure.to_string();
        let told = self.lane().standing().broken.replace(why.clone());
        if told.as_ref() != Some(&why) {
            tracing::error!(
                sink = self.sink.name(),
                why,
                "the audit record cannot be written; trying again"
            );
        }
    }

    fn mended(&self) {
        if self.lane().standing().broken.take().is_some() {
            tracing::info!(sink = self.sink.name(), "the audit record is written again");
        }
    }

    #[expect(clippy::indexing_slicing, reason = "workers and lanes are made in pairs, for good")]
    fn lane(&self) -> &Lane {
        &self.recorder.0.lanes[self.lane]
    }
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Open,
    Ended,
}

async fn made(seal: &dyn Seal, unsealed: &Unsealed) -> Result<Checkpoint, Failure> {
    let made = tokio::time::timeout(SEAL_MAX, seal.seal(unsealed)).await;
    made.unwrap_or_else(|_late| Err(late(SEAL_MAX)))
}

fn joined(made: Result<Result<Checkpoint, Failure>, JoinError>) -> Result<Checkpoint, Failure> {
    made.unwrap_or_else(|panic| Err(Failure(panic.to_string())))
}

fn late(limit: Duration) -> Failure {
    Failure(format!("no signature within {} s", limit.as_secs()))
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The recorder lives as long as its workers.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl std::fmt::Display for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::OneIn(number) => write!(f, "1 in {number}"),
        }
    }
}

impl std::fmt::Display for WhenFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Block => "block",
            Self::CountAndContinue => "count-and-continue",
        })
    }
}
