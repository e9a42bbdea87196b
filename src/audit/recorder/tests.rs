use super::*;
use crate::audit::sink::{Changes, Ending, Failure, Opened, Seal, Unsealed};
use crate::audit::{Action, Checkpoint, Draft, Outcome, Span};
use crate::clock::FrozenClock;
use crate::key::{Algorithm, Kid};
use async_trait::async_trait;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, Semaphore};

/// What a test sees of a sink.
#[derive(Default)]
struct Seen {
    records: Mutex<Vec<Record>>,
    checkpoints: Mutex<Vec<Checkpoint>>,
    broken: AtomicBool,
    changed: Notify,
}

/// A sink in memory that fails, or hangs, as it is told.
struct Pretend {
    name: &'static str,
    seen: Arc<Seen>,
    chain: Mutex<crate::audit::Head>,
    span: Span,
    turns: Arc<Semaphore>,
}

#[async_trait]
impl Sink for Pretend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn changes(&self) -> Changes {
        Changes::Handed
    }

    async fn open(&mut self) -> Result<Opened, Failure> {
        Ok(Opened { ending: Ending::CutShort, flaws: Vec::new(), cut: 0, checkpoint: None })
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), Failure> {
        drop(self.turns.acquire().await.unwrap());
        if self.seen.broken.load(Ordering::SeqCst) {
            return Err(Failure("the disk is full".to_owned()));
        }
        for record in records {
            self.span.push(&self.chain.lock().unwrap().link(record.clone()));
        }
        self.seen.records.lock().unwrap().extend_from_slice(records);
        self.seen.changed.notify_waiters();
        Ok(())
    }

    async fn unsealed(&mut self) -> Result<Unsealed, Failure> {
        let before = self.seen.checkpoints.lock().unwrap().last().cloned();
        Ok(Unsealed { before, span: self.span.clone(), more: false })
    }

    async fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.span = Span::default();
        self.seen.checkpoints.lock().unwrap().push(checkpoint.clone());
        self.seen.changed.notify_waiters();
        Ok(())
    }
}

/// Signs with nothing, unless its backend is out.
#[derive(Default)]
struct Sealer(AtomicBool);

#[async_trait]
impl Seal for Sealer {
    async fn seal(&self, unsealed: &Unsealed) -> Result<Checkpoint, Failure> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Failure("the backend is out".to_owned()));
        }
        let key = (Algorithm::Es256, Kid::from_thumbprint([7; 32]));
        let draft = Draft::new(unsealed.before.as_ref(), &unsealed.span, now(), key).unwrap();
        Ok(draft.finish(&[1; 64]))
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

struct Bench {
    recorder: Recorder,
    seen: Vec<Arc<Seen>>,
    turns: Arc<Semaphore>,
    sealer: Arc<Sealer>,
    writing: tokio::task::JoinHandle<()>,
}

const SMALL: Settings = Settings {
    when_full: WhenFull::Block,
    signatures: Signatures::All,
    queue: 4,
    batch: 2,
    linger: Duration::ZERO,
    refusal_interval: Duration::from_millis(20),
    checkpoint_records: 1_000_000,
    checkpoint_interval: Duration::from_secs(3600),
};

impl Bench {
    fn new(settings: Settings, sinks: &[&'static str]) -> Self {
        let turns = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let seen: Vec<Arc<Seen>> = sinks.iter().map(|_| Arc::default()).collect();
        let pretend = sinks.iter().zip(&seen).map(|(name, seen)| -> Box<dyn Sink> {
            Box::new(Pretend {
                name,
                seen: Arc::clone(seen),
                chain: Mutex::new(crate::audit::Head::EMPTY),
                span: Span::default(),
                turns: Arc::clone(&turns),
            })
        });
        let clock = Arc::new(FrozenClock::at(now()));
        let (recorder, writers) = Recorder::new(settings, pretend.collect(), clock);
        let sealer = Arc::new(Sealer::default());
        let writing = tokio::spawn(writers.run(Arc::clone(&sealer) as Arc<dyn Seal>));
        Self { recorder, seen, turns, sealer, writing }
    }

    fn hang(&self) {
        self.turns.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn go_on(&self) {
        self.turns.add_permits(Semaphore::MAX_PERMITS);
    }

    async fn until(&self, what: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let seen = &self.seen[0];
        let met = async {
            loop {
                let changed = seen.changed.notified();
                let records = seen.records.lock().unwrap().clone();
                if what(&records) {
                    return records;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), met).await.expect("it comes about")
    }

    /// Stops, and returns what was recorded of signatures and gaps: action, outcome, count.
    async fn stop(self) -> Vec<(Action, Outcome, u64)> {
        self.recorder.stop();
        self.writing.await.unwrap();
        let records = self.seen[0].records.lock().unwrap().clone();
        assert_eq!(records.first().map(|record| record.action), Some(Action::Start));
        assert_eq!(records.last().map(|record| record.action), Some(Action::Stop));
        told(&records)
    }
}

fn told(records: &[Record]) -> Vec<(Action, Outcome, u64)> {
    let own = [Action::Start, Action::Stop];
    let others = records.iter().filter(|record| !own.contains(&record.action));
    others.map(|record| (record.action, record.outcome, record.count)).collect()
}

fn signature() -> Record {
    let origin = Origin { caller: "uid:7".into(), listener: "l".into(), request: "r".into() };
    Record { outcome: Outcome::Withheld, ..Record::new(now(), &origin, Action::Sign) }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn sign(recorder: &Recorder, deadline: Instant) -> Result<(), NoRoom> {
    let mut place = recorder.place(deadline).await?;
    place.draft(signature);
    place.fill(|record| record.outcome = Outcome::Done);
    Ok(())
}

#[tokio::test]
async fn every_way_out_of_a_place_is_recorded() {
    let bench = Bench::new(SMALL, &["store", "file"]);
    sign(&bench.recorder, soon()).await.unwrap();
    let mut dropped = bench.recorder.place(soon()).await.unwrap();
    dropped.draft(signature);
    drop(dropped);
    let mut left = bench.recorder.place(soon()).await.unwrap();
    left.draft(signature);
    left.leave();
    drop(bench.recorder.place(soon()).await.unwrap());
    let second = Arc::clone(&bench.seen[1]);
    let expected =
        [(Action::Sign, Outcome::Done, 1), (Action::Sign, Outcome::Withheld, 1)].to_vec();
    assert_eq!(bench.stop().await, expected);
    assert_eq!(told(&second.records.lock().unwrap()), expected);
}

#[tokio::test]
async fn a_full_record_that_blocks_refuses_at_the_deadline_and_loses_nothing() {
    let bench = Bench::new(SMALL, &["store"]);
    bench.until(|records| !records.is_empty()).await;
    bench.hang();
    let mut made = 0;
    let refused = loop {
        match sign(&bench.recorder, Instant::now() + Duration::from_millis(50)).await {
            Ok(()) => made += 1,
            Err(no_room) => break no_room,
        }
    };
    assert_eq!(refused, NoRoom { sink: "store" });
    // The queue, and what its worker holds.
    assert!((4..=6).contains(&made), "{made}");
    // Neither refusals nor changes wait.
    bench.recorder.refused(signature());
    bench.recorder.changed(&signature());
    // One that waits gets its place as soon as there is one.
    let waiting = {
        let recorder = bench.recorder.clone();
        tokio::spawn(async move { sign(&recorder, soon()).await })
    };
    bench.go_on();
    waiting.await.unwrap().unwrap();
    let told = bench.stop().await;
    let signed: u64 = told.iter().filter(|it| it.1 == Outcome::Done).map(|it| it.2).sum();
    assert_eq!(signed, made + 1);
    let gaps: u64 = told.iter().filter(|it| it.0 == Action::Gap).map(|it| it.2).sum();
    assert_eq!(gaps, 2, "the refusal and the change found no room: {told:?}");
}

#[tokio::test]
async fn a_full_record_that_counts_never_waits_and_tells_the_gap() {
    let bench = Bench::new(Settings { when_full: WhenFull::CountAndContinue, ..SMALL }, &["store"]);
    bench.until(|records| !records.is_empty()).await;
    bench.hang();
    for _ in 0..100 {
        sign(&bench.recorder, Instant::now()).await.unwrap();
    }
    assert!(bench.recorder.status()[0].missed >= 94);
    bench.go_on();
    let records = bench.until(|records| records.iter().any(|it| it.action == Action::Gap)).await;
    let gap = records.iter().find(|it| it.action == Action::Gap).unwrap();
    assert!(gap.detail.contains("no room") && gap.outcome == Outcome::Lost, "{gap:?}");
    let told = bench.stop().await;
    assert_eq!(told.iter().map(|it| it.2).sum::<u64>(), 100, "{told:?}");
}

#[tokio::test]
async fn a_broken_sink_is_told_and_mends_and_keeps_the_other_going() {
    let bench = Bench::new(SMALL, &["file", "store"]);
    bench.until(|records| !records.is_empty()).await;
    bench.seen[0].broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        sign(&bench.recorder, soon()).await.unwrap();
    }
    let other = Arc::clone(&bench.seen[1]);
    let broken = async {
        while bench.recorder.status()[0].broken.is_none()
            || told(&other.records.lock().unwrap()).len() < 3
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), broken).await.unwrap();
    assert_eq!(bench.recorder.status()[0].broken.as_deref(), Some("the disk is full"));
    assert_eq!(bench.recorder.status()[1].broken, None);
    bench.seen[0].broken.store(false, Ordering::SeqCst);
    let records = bench.until(|records| told(records).len() == 3).await;
    assert_eq!(told(&records), [(Action::Sign, Outcome::Done, 1); 3]);
    assert_eq!(bench.stop().await.len(), 3);
}

#[tokio::test]
async fn a_draw_of_one_in_many_says_what_it_stands_for() {
    let signatures = Signatures::OneIn(NonZeroU32::new(7).unwrap());
    let bench = Bench::new(Settings { signatures, queue: 64, ..SMALL }, &["store"]);
    for _ in 0..500 {
        sign(&bench.recorder, soon()).await.unwrap();
    }
    let seen = Arc::clone(&bench.seen[0]);
    let told = bench.stop().await;
    let stop = seen.records.lock().unwrap().last().unwrap().detail.clone();
    let over: u64 = stop.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert_eq!(told.iter().map(|it| it.2).sum::<u64>() + over, 500, "{stop}");
    assert!(told.len() < 250, "{}", told.len());
}

#[tokio::test]
async fn a_flood_of_refusals_is_bounded_and_counted() {
    let bench = Bench::new(Settings { queue: 4096, ..SMALL }, &["store"]);
    for _ in 0..50_000 {
        bench.recorder.refused(Record { outcome: Outcome::Refused, ..signature() });
    }
    let records =
        bench.until(|records| told(records).iter().map(|it| it.2).sum::<u64>() == 50_000).await;
    assert!(told(&records).len() < 1000, "{}", told(&records).len());
}

#[tokio::test]
async fn checkpoints_wait_for_their_backend_and_catch_up() {
    let settings = Settings { checkpoint_records: 2, queue: 64, ..SMALL };
    let bench = Bench::new(settings, &["store"]);
    bench.sealer.0.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        sign(&bench.recorder, soon()).await.unwrap();
    }
    let records = bench.until(|records| told(records).len() == 10).await;
    let waiting = async {
        while bench.recorder.status()[0].unsealed.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    assert_eq!(bench.recorder.status()[0].unsealed.as_deref(), Some("the backend is out"));
    let before = bench.seen[0].checkpoints.lock().unwrap().len();
    bench.sealer.0.store(false, Ordering::SeqCst);
    bench.until(|_| bench.seen[0].checkpoints.lock().unwrap().len() > before).await;
    let last = bench.seen[0].checkpoints.lock().unwrap().last().unwrap().statement;
    assert_eq!(last.head.number, u64::try_from(records.len()).unwrap());
    let seen = Arc::clone(&bench.seen[0]);
    bench.stop().await;
    let (checkpoints, records) = (seen.checkpoints.lock().unwrap(), seen.records.lock().unwrap());
    let end = checkpoints.last().unwrap().statement;
    assert_eq!(end.head.number, u64::try_from(records.len()).unwrap(), "the end is sealed");
}
