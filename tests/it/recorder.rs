//! The record of signatures and refusals: what stands in it, what becomes of signatures when it is
//! full or broken, and that nobody finds the key that seals it.

mod crash;
mod floods;
mod hidden;
mod outage;
mod signatures;

use crate::harness::memory::{Memory, soon};
use crate::harness::ring::{Life, World};
use async_trait::async_trait;
use signkeep::app::{KeyringSeal, StoreSink};
use signkeep::audit::recorder::{Settings, Writers};
use signkeep::audit::sink::{Changes, Failure, Opened, Seal, Sink, Unsealed};
use signkeep::audit::{Checkpoint, Keys, Known, Record, Recorder, Verdict, Verifier};
use signkeep::clock::Clock;
use signkeep::key::{Algorithm, KeySetId};
use signkeep::keyring::Internal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A keyring whose signatures are recorded in its store.
struct Kept {
    world: World<Memory>,
    life: Life,
    door: Arc<Semaphore>,
    writing: JoinHandle<()>,
}

/// The store's sink behind a door that can be shut: whoever writes then waits.
struct Behind(StoreSink, Arc<Semaphore>);

#[async_trait]
impl Sink for Behind {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn changes(&self) -> Changes {
        self.0.changes()
    }

    async fn open(&mut self) -> Result<Opened, Failure> {
        self.0.open().await
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), Failure> {
        drop(self.1.acquire().await.unwrap());
        self.0.append(records).await
    }

    async fn unsealed(&mut self) -> Result<Unsealed, Failure> {
        self.0.unsealed().await
    }

    async fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.0.append_checkpoint(checkpoint).await
    }
}

fn small() -> Settings {
    Settings { queue: 8, batch: 4, linger: Duration::ZERO, ..Settings::default() }
}

impl Kept {
    /// With the key set `default` and the key that seals the record.
    async fn new(settings: Settings) -> Self {
        let kept = Self::on(World::new().await, settings).await;
        kept.life.ring.internal(internal()).await.unwrap();
        kept.life.create().await.unwrap();
        kept
    }

    async fn on(mut world: World<Memory>, settings: Settings) -> Self {
        let door = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let sink = Behind(StoreSink::new(Arc::clone(&world.store)), Arc::clone(&door));
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let (recorder, writers): (Recorder, Writers) =
            Recorder::new(settings, vec![Box::new(sink)], clock);
        world.recorder = recorder;
        let life = world.life().await;
        let seal = KeyringSeal::new(life.ring.clone(), audit());
        let writing = tokio::spawn(writers.run(Arc::new(seal) as Arc<dyn Seal>));
        Self { world, life, door, writing }
    }

    fn shut(&self) {
        self.door.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.door.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Ends the record, which must hold together, and returns what it says.
    async fn end(self) -> Vec<Record> {
        self.end_with(Algorithm::Es256).await.0
    }

    async fn end_with(self, algorithm: Algorithm) -> (Vec<Record>, Verdict) {
        self.world.recorder.stop();
        tokio::time::timeout(PATIENCE, self.writing).await.unwrap().unwrap();
        let store = &self.world.store;
        let mut keys = Keys::default();
        if let Some(set) = self.life.ring.internal_key_set(&audit()) {
            set.keys.iter().for_each(|key| keys.insert(algorithm, key.public.clone()));
        }
        let mut verifier = Verifier::new(keys, Known::default()).unwrap();
        let mut checkpoints = store.checkpoints(0, 10_000).await.unwrap().into_iter();
        let trail = store.audit_trail(0, 100_000).await.unwrap();
        for linked in &trail {
            while verifier.wants_checkpoint() {
                let Some(checkpoint) = checkpoints.next() else { break };
                verifier.checkpoint(Ok(checkpoint)).unwrap();
            }
            verifier.record(linked).unwrap();
        }
        let verdict = verifier.finish().unwrap();
        (trail.into_iter().map(|linked| linked.record).collect(), verdict)
    }
}

fn audit() -> KeySetId {
    signkeep::audit::KEY_SET.parse().unwrap()
}

fn internal() -> Internal {
    Internal { id: audit(), algorithm: Algorithm::Es256, backend: "token".parse().unwrap() }
}
