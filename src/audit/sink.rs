//! Where the record is kept: the port, and the two sinks that need nothing but the system. The
//! store's is in [`crate::app`], since the record may not know the store.

pub mod file;
pub mod stdout;

mod scan;

use super::{Checkpoint, Record, Span};
use async_trait::async_trait;
use jiff::Timestamp;

/// A place that keeps a chain of records of its own. One task asks it, one thing at a time.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Its name in log, metrics and configuration.
    fn name(&self) -> &'static str;

    /// How changes of keys come into it.
    fn changes(&self) -> Changes;

    /// Finds the end of its chain and mends what a crash left of it. Asked first, and again until
    /// it succeeds.
    async fn open(&mut self) -> Result<Opened, Failure>;

    /// Chains and writes `records`, all of them or none. After a failure it is asked again with
    /// the same records, and finds out by itself if they are there after all.
    async fn append(&mut self, records: &[Record]) -> Result<(), Failure>;

    /// What the next checkpoint is to cover.
    async fn unsealed(&mut self) -> Result<Unsealed, Failure>;

    /// Keeps a checkpoint over what [`Sink::unsealed`] said last.
    async fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure>;
}

/// How changes of keys come into a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The recorder hands them over like any other record.
    Handed,
    /// They are there by the commit that made the change.
    Committed,
}

/// What a sink found when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How its chain ended before.
    pub ending: Ending,
    /// What does not hold together in it, each in words.
    pub flaws: Vec<String>,
    /// Bytes of an entry that was cut short, and are gone now.
    pub cut: u64,
    /// When its last checkpoint was made.
    pub checkpoint: Option<Timestamp>,
}

/// How a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There was none.
    Empty,
    /// In good order.
    Stopped,
    /// The service before did not come to its end.
    CutShort,
}

/// Records that no checkpoint covers.
#[derive(Clone, Debug, Default)]
pub struct Unsealed {
    /// The last checkpoint.
    pub before: Option<Checkpoint>,
    /// The records after it, or the first of them.
    pub span: Span,
    /// Whether there are more than in `span`.
    pub more: bool,
}

/// Why a sink did not do what it was asked; nothing of it was done, or will be found out to have
/// been. For the operator: what happened, and where possible what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Makes checkpoints.
#[async_trait]
pub trait Seal: Send + Sync + 'static {
    /// A checkpoint over `unsealed`, which is not empty; or why there is none.
    async fn seal(&self, unsealed: &Unsealed) -> Result<Checkpoint, Failure>;
}
