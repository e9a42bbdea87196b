//! A process that dies at its n-th act: a store and a backend that share a fuse. Once it has blown
//! nothing they are asked is ever answered, as nothing is when the process is gone.

use async_trait::async_trait;
use jiff::Timestamp;
use signkeep::audit::{Checkpoint, Head, Linked, Record};
use signkeep::backend::{self, Backend, Input, KeyRef, Listed, Material, ObjectRef, Order};
use signkeep::key::{
    Algorithm, BackendName, Key, KeySet, KeySetId, KeySpec, Kid, MaterialId, Reservation, StateName,
};
use signkeep::store::{Answer, Change, Error, Image, Kind, RequestKey, Store};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Whether the act at which the process dies is still carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// What becomes of a commit whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is carried out at once.
    Landed,
    /// It is carried out when somebody waits for the store to settle.
    Landing,
    /// It is not carried out.
    Failed,
}

/// Counts acts, and blows at one of them.
pub(crate) struct Fuse {
    acts: AtomicUsize,
    blows_at: usize,
    moment: Moment,
    blown: Notify,
    /// What becomes of the next commit, if its answer is to be lost.
    lost: Mutex<Option<Lost>>,
    /// A commit that is on its way.
    landing: Mutex<Option<Change>>,
}

impl Fuse {
    pub(crate) fn new(blows_at: usize, moment: Moment) -> Arc<Self> {
        Arc::new(Self {
            acts: AtomicUsize::new(0),
            blows_at,
            moment,
            blown: Notify::new(),
            lost: Mutex::default(),
            landing: Mutex::default(),
        })
    }

    /// A fuse that holds.
    pub(crate) fn none() -> Arc<Self> {
        Self::new(usize::MAX, Moment::Before)
    }

    /// Loses the answer to the next commit.
    pub(crate) fn lose_next_commit(&self, lost: Lost) {
        *self.lost.lock().unwrap() = Some(lost);
    }

    /// Completes when the process dies.
    pub(crate) async fn blown(&self) {
        self.blown.notified().await;
    }

    async fn act<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let act = self.acts.fetch_add(1, Ordering::SeqCst) + 1;
        if act < self.blows_at {
            return work.await;
        }
        if act == self.blows_at {
            if self.moment == Moment::After {
                drop(work.await);
            }
            self.blown.notify_one();
        }
        std::future::pending().await
    }
}

pub(crate) struct FusedStore(pub(crate) Arc<dyn Store>, pub(crate) Arc<Fuse>);

impl FusedStore {
    /// A commit that is on its way comes before whatever is written next.
    async fn land(&self) {
        let landing = self.1.landing.lock().unwrap().take();
        if let Some(change) = landing {
            self.0.commit(&change).await.unwrap();
        }
    }
}

#[async_trait]
impl Store for FusedStore {
    async fn load(&self) -> Result<Image, Error> {
        self.1.act(self.0.load()).await
    }

    async fn key_set(&self, id: &KeySetId) -> Result<Option<KeySet>, Error> {
        self.1.act(self.0.key_set(id)).await
    }

    async fn key(&self, id: &KeySetId, kid: &Kid) -> Result<Option<Key>, Error> {
        self.1.act(self.0.key(id, kid)).await
    }

    async fn keys(
        &self,
        id: &KeySetId,
        states: &[StateName],
        after: Option<(Timestamp, Kid)>,
        limit: u32,
    ) -> Result<Vec<Key>, Error> {
        self.1.act(self.0.keys(id, states, after, limit)).await
    }

    async fn reserve(&self, reservation: &Reservation) -> Result<(), Error> {
        self.land().await;
        self.1.act(self.0.reserve(reservation)).await
    }

    async fn reserved(&self, id: &KeySetId, limit: u32) -> Result<Vec<Reservation>, Error> {
        self.1.act(self.0.reserved(id, limit)).await
    }

    async fn abandon(&self, material: MaterialId) -> Result<(), Error> {
        self.land().await;
        self.1.act(self.0.abandon(material)).await
    }

    async fn forget(&self, material: MaterialId) -> Result<(), Error> {
        self.land().await;
        self.1.act(self.0.forget(material)).await
    }

    async fn commit(&self, change: &Change) -> Result<u64, Error> {
        self.land().await;
        let lost = self.1.lost.lock().unwrap().take();
        match lost {
            None => return self.1.act(self.0.commit(change)).await,
            Some(Lost::Landed) => drop(self.0.commit(change).await?),
            Some(Lost::Landing) => *self.1.landing.lock().unwrap() = Some(change.clone()),
            Some(Lost::Failed) => {}
        }
        let late = Error::new(Kind::Unavailable, "commit", "the answer is lost");
        Err(Error { outcome: backend::Outcome::Unknown, ..late })
    }

    async fn answer(
        &self,
        request: &RequestKey,
        since: Timestamp,
    ) -> Result<Option<Answer>, Error> {
        self.1.act(self.0.answer(request, since)).await
    }

    async fn keep_answer(&self, answer: &Answer) -> Result<(), Error> {
        self.land().await;
        self.1.act(self.0.keep_answer(answer)).await
    }

    fn standing(&self) -> Result<(), Error> {
        self.0.standing()
    }

    async fn settle(&self) -> Result<(), Error> {
        self.land().await;
        self.1.act(self.0.settle()).await
    }

    async fn drop_answers(&self, until: Timestamp) -> Result<(), Error> {
        self.1.act(self.0.drop_answers(until)).await
    }

    async fn append_audit(&self, records: &[Record]) -> Result<Head, Error> {
        self.1.act(self.0.append_audit(records)).await
    }

    async fn audit_head(&self) -> Result<Head, Error> {
        self.1.act(self.0.audit_head()).await
    }

    async fn audit_trail(&self, after: u64, limit: u32) -> Result<Vec<Linked>, Error> {
        self.1.act(self.0.audit_trail(after, limit)).await
    }

    async fn append_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.1.act(self.0.append_checkpoint(checkpoint)).await
    }

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, Error> {
        self.1.act(self.0.checkpoints(after, limit)).await
    }

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        self.1.act(self.0.last_checkpoint()).await
    }

    async fn refused_pin(&self, token: &str) -> Result<Option<String>, Error> {
        self.1.act(self.0.refused_pin(token)).await
    }

    async fn set_refused_pin(&self, token: &str, hash: Option<&str>) -> Result<(), Error> {
        self.1.act(self.0.set_refused_pin(token, hash)).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.1.act(self.0.probe()).await
    }

    async fn close(&self) {
        self.1.act(self.0.close()).await;
    }
}

pub(crate) struct FusedBackend(pub(crate) Arc<dyn Backend>, pub(crate) Arc<Fuse>);

#[async_trait]
impl Backend for FusedBackend {
    fn name(&self) -> &BackendName {
        self.0.name()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn supports(&self, algorithm: Algorithm, spec: KeySpec) -> Result<(), backend::Error> {
        self.1.act(self.0.supports(algorithm, spec)).await
    }

    async fn generate(&self, order: &Order) -> Result<Material, backend::Error> {
        self.1.act(self.0.generate(order)).await
    }

    async fn find(
        &self,
        material: MaterialId,
        spec: KeySpec,
    ) -> Result<Option<Material>, backend::Error> {
        self.1.act(self.0.find(material, spec)).await
    }

    async fn sign(
        &self,
        key: &Arc<KeyRef>,
        input: Input,
        deadline: Instant,
    ) -> Result<Vec<u8>, backend::Error> {
        self.1.act(self.0.sign(key, input, deadline)).await
    }

    async fn disable(&self, key: &KeyRef) -> Result<(), backend::Error> {
        self.1.act(self.0.disable(key)).await
    }

    async fn destroy(
        &self,
        material: MaterialId,
        object: Option<&ObjectRef>,
    ) -> Result<(), backend::Error> {
        self.1.act(self.0.destroy(material, object)).await
    }

    async fn list(&self, expected: &HashSet<MaterialId>) -> Result<Vec<Listed>, backend::Error> {
        self.1.act(self.0.list(expected)).await
    }

    fn deletion_window(&self) -> Duration {
        self.0.deletion_window()
    }

    async fn probe(&self) -> Result<(), backend::Error> {
        self.1.act(self.0.probe()).await
    }

    async fn stop(&self) {
        self.1.act(self.0.stop()).await;
    }
}
