//! The record as the configuration wants it: its sinks, what writes them, and the key set that
//! checkpoints are signed with.

mod refused;
mod seal;
mod store_sink;

pub(super) use refused::Noticed;
pub use seal::KeyringSeal;
pub use store_sink::StoreSink;

use crate::audit;
use crate::audit::recorder::{Recorder, Settings, Signatures, WhenFull, Writers};
use crate::audit::sink::file::{self, FileSink};
use crate::audit::sink::stdout::StdoutSink;
use crate::audit::sink::{Seal, Sink};
use crate::clock::Clock;
use crate::config;
use crate::key::KeySetId;
use crate::keyring::{Internal, Keyring};
use crate::store::Store;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The first pause after its key set could not be made; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The record of this service.
pub(super) struct Audit {
    pub(super) recorder: Recorder,
    writers: Writers,
    wanted: Internal,
}

/// The record being written.
pub(super) struct Writing {
    recorder: Recorder,
    writers: JoinHandle<()>,
    key_set: JoinHandle<()>,
}

impl Audit {
    /// Sets the record up; nothing is written yet.
    pub(super) fn new(
        settings: &config::Audit,
        store: &Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let sinks = settings.sinks.iter().map(|sink| -> Box<dyn Sink> {
            match sink {
                config::Sink::Store => Box::new(StoreSink::new(Arc::clone(store))),
                config::Sink::File => Box::new(FileSink::new(file_settings(&settings.file))),
                config::Sink::Stdout => Box::new(StdoutSink::default()),
            }
        });
        let (recorder, writers) =
            Recorder::new(recorder_settings(settings), sinks.collect(), clock);
        let wanted = Internal {
            id: key_set()?,
            algorithm: settings.algorithm,
            backend: settings.backend.clone(),
        };
        Ok(Self { recorder, writers, wanted })
    }

    /// Begins to write, and to make the key set for checkpoints if there is none: however long its
    /// backend is out, nothing waits for it but the checkpoints.
    pub(super) fn begin(self, keyring: &Keyring) -> Writing {
        let Self { recorder, writers, wanted } = self;
        let seal: Arc<dyn Seal> = Arc::new(KeyringSeal::new(keyring.clone(), wanted.id.clone()));
        Writing {
            recorder,
            writers: tokio::spawn(writers.run(seal)),
            key_set: tokio::spawn(make(keyring.clone(), wanted)),
        }
    }
}

impl Writing {
    /// Writes what is left, for at most `patience`.
    pub(super) async fn end(self, patience: Duration) {
        let Self { recorder, mut writers, key_set } = self;
        key_set.abort();
        recorder.stop();
        if tokio::time::timeout(patience, &mut writers).await.is_err() {
            writers.abort();
            for status in recorder.status() {
                let (sink, depth) = (status.sink, status.depth);
                tracing::error!(
                    sink,
                    depth,
                    why = status.broken,
                    "the end of the audit record could not be written in time; the next start will say so"
                );
            }
        }
    }
}

/// The name of the key set for checkpoints.
fn key_set() -> Result<KeySetId> {
    audit::KEY_SET.parse().context("the name of the key set for checkpoints")
}

async fn make(keyring: Keyring, wanted: Internal) {
    let mut pause = PAUSE_FIRST;
    loop {
        match keyring.internal(wanted.clone()).await {
            Ok(there) => {
                if (there.algorithm, &there.backend) != (wanted.algorithm, &wanted.backend) {
                    tracing::warn!(
                        algorithm = there.algorithm.name(), backend = %there.backend,
                        "[audit] names another algorithm or backend than the key for checkpoints was made with; it stays as it is",
                    );
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, retry_in_s = pause.as_secs(), "the key for checkpoints of the audit record cannot be made yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

fn recorder_settings(settings: &config::Audit) -> Settings {
    Settings {
        when_full: match settings.when_full {
            config::WhenFull::Block => WhenFull::Block,
            config::WhenFull::CountAndContinue => WhenFull::CountAndContinue,
        },
        signatures: match settings.signatures {
            None => Signatures::None,
            Some(number) if number.get() == 1 => Signatures::All,
            Some(number) => Signatures::OneIn(number),
        },
        queue: settings.queue,
        refusal_interval: settings.refusal_interval,
        checkpoint_records: settings.checkpoint_records,
        checkpoint_interval: settings.checkpoint_interval,
        ..Settings::default()
    }
}

fn file_settings(settings: &config::AuditFile) -> file::Settings {
    file::Settings {
        path: settings.path.clone(),
        rotate_size: settings.rotate_size,
        rotate_age: settings.rotate_age,
        keep: settings.keep,
        sync: match settings.sync {
            config::Sync::Always => file::Sync::Always,
            config::Sync::Never => file::Sync::Never,
        },
    }
}
