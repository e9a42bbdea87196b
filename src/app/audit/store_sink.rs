//! The record in the store, where the changes of keys are too.

use crate::audit::sink::{Changes, Ending, Failure, Opened, Sink, Unsealed};
use crate::audit::{Action, Checkpoint, Linked, Record};
use crate::backend::Outcome;
use crate::store::{self, Store};
use async_trait::async_trait;
use std::sync::Arc;

/// Records that are read at once.
const PAGE: u32 = 1000;
/// Records that one checkpoint covers at most; what is more waits for the next, which follows at
/// once.
const SPAN_MAX: u64 = 50_000;

/// The sink.
pub struct StoreSink {
    store: Arc<dyn Store>,
    /// The end of the record when a write began of which it is not known whether it was done.
    doubt: Option<u64>,
    /// The end as far as we know.
    seen: u64,
}

impl StoreSink {
    /// A sink that appends to the record in `store`.
    pub const fn new(store: Arc<dyn Store>) -> Self {
        Self { store, doubt: None, seen: 0 }
    }

    /// Whether `records` were written by a call whose outcome was not known. They went in as one,
    /// so the first of them is enough.
    async fn landed(&mut self, records: &[Record]) -> Result<bool, Failure> {
        let (Some(mut after), Some(first)) = (self.doubt, records.first()) else {
            return Ok(false);
        };
        self.store.settle().await.map_err(failure)?;
        loop {
            let page = self.store.audit_trail(after, PAGE).await.map_err(failure)?;
            let Some(last) = page.last() else {
                self.doubt = None;
                return Ok(false);
            };
            after = last.number;
            if page.iter().any(|linked| same(linked, first)) {
                self.doubt = None;
                return Ok(true);
            }
        }
    }
}

#[async_trait]
impl Sink for StoreSink {
    fn name(&self) -> &'static str {
        "store"
    }

    fn changes(&self) -> Changes {
        Changes::Committed
    }

    async fn open(&mut self) -> Result<Opened, Failure> {
        let head = self.store.audit_head().await.map_err(failure)?;
        let last = self.store.audit_trail(head.number.saturating_sub(1), 1).await;
        let last = last.map_err(failure)?.pop();
        let checkpoint = self.store.last_checkpoint().await.map_err(failure)?;
        self.seen = head.number;
        Ok(Opened {
            ending: match last.map(|last| last.record.action) {
                None => Ending::Empty,
                Some(Action::Stop) => Ending::Stopped,
                Some(_) => Ending::CutShort,
            },
            flaws: Vec::new(),
            cut: 0,
            checkpoint: checkpoint.map(|checkpoint| checkpoint.statement.time),
        })
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), Failure> {
        if self.landed(records).await? {
            return Ok(());
        }
        match self.store.append_audit(records).await {
            Ok(head) => {
                self.seen = head.number;
                Ok(())
            }
            Err(error) => {
                if error.outcome == Outcome::Unknown {
                    self.doubt = Some(self.seen);
                }
                Err(failure(error))
            }
        }
    }

    async fn unsealed(&mut self) -> Result<Unsealed, Failure> {
        let before = self.store.last_checkpoint().await.map_err(failure)?;
        let mut after = before.as_ref().map_or(0, |before| before.statement.head.number);
        let mut unsealed = Unsealed { before, ..Unsealed::default() };
        while unsealed.span.len() < SPAN_MAX {
            let page = self.store.audit_trail(after, PAGE).await.map_err(failure)?;
            page.iter().for_each(|linked| unsealed.span.push(linked));
            match page.last() {
                Some(last) => after = last.number,
                None => return Ok(unsealed),
            }
        }
        Ok(Unsealed { more: true, ..unsealed })
    }

    async fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.store.append_checkpoint(checkpoint).await.map_err(failure)
    }
}

/// Whether `linked` is `record` as the store has it: times come back in whole microseconds.
fn same(linked: &Linked, record: &Record) -> bool {
    let there = &linked.record;
    let key = |record: &Record| (record.action, record.outcome, record.digest, record.count);
    key(there) == key(record)
        && there.time.as_microsecond() == record.time.as_microsecond()
        && (&there.caller, &there.request) == (&record.caller, &record.request)
        && (&there.key_set, &there.kid) == (&record.key_set, &record.kid)
        && (&there.reason, &there.detail) == (&record.reason, &record.detail)
}

fn failure(error: store::Error) -> Failure {
    Failure(error.to_string())
}
