//! `[audit]`: how the record of signatures, refusals and changes is kept.

use super::backends::Backend;
use super::document::{Document, Error};
use super::span::Span;
use crate::key::{Algorithm, BackendName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the record is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where it is kept; at least one place.
    pub sinks: Vec<Sink>,
    /// What becomes of a signature that it has no room for.
    pub when_full: WhenFull,
    /// Which signatures are recorded; none: none. One in so many, else.
    pub signatures: Option<NonZeroU32>,
    /// Records that may wait for each sink.
    pub queue: usize,
    /// The backend that holds the key which checkpoints are signed with.
    pub backend: BackendName,
    /// What that key signs with.
    pub algorithm: Algorithm,
    /// A checkpoint is made after so many records,
    pub checkpoint_records: u64,
    /// or once so much time has passed.
    pub checkpoint_interval: Duration,
    /// How often repeated refusals are written down.
    pub refusal_interval: Duration,
    /// The file, if the record is kept in one.
    pub file: AuditFile,
}

/// A place where the record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The store.
    Store,
    /// A file with rotation.
    File,
    /// Standard output.
    Stdout,
}

/// What becomes of a signature that the record has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It waits, and is refused at its deadline.
    Block,
    /// It is made and counted.
    CountAndContinue,
}

/// The file that the record is kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    /// The file that is written to.
    pub path: PathBuf,
    /// It is full at this size, in bytes,
    pub rotate_size: u64,
    /// or when its first record is this old.
    pub rotate_age: Duration,
    /// Full files that are kept.
    pub keep: usize,
    /// Whether what was written is sure to be on the disk before it counts as written.
    pub sync: Sync,
}

/// When what was written is sure to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// Before it counts as written.
    Always,
    /// When the operating system gets round to it.
    Never,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    sinks: String,
    when_full: WhenFull,
    signatures: String,
    queue: usize,
    backend: Option<BackendName>,
    algorithm: Algorithm,
    checkpoint_records: u64,
    checkpoint_interval: Span,
    refusal_interval: Span,
    file: File,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct File {
    path: PathBuf,
    rotate_size: u64,
    rotate_age: Span,
    keep: usize,
    sync: Sync,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            sinks: "store".to_owned(),
            when_full: WhenFull::Block,
            signatures: "all".to_owned(),
            queue: 8192,
            backend: None,
            algorithm: Algorithm::Es256,
            checkpoint_records: 10_000,
            checkpoint_interval: Span::from_secs(60),
            refusal_interval: Span::from_secs(60),
            file: File::default(),
        }
    }
}

impl Default for File {
    fn default() -> Self {
        Self {
            path: "audit.jsonl".into(),
            rotate_size: 64 * 1024 * 1024,
            rotate_age: Span::from_secs(24 * 3600),
            keep: 30,
            sync: Sync::Always,
        }
    }
}

impl Section {
    pub(super) fn build(
        self,
        document: &Document<'_>,
        backends: &BTreeMap<BackendName, Backend>,
        directory: &Path,
    ) -> Result<Audit, Error> {
        let wrong = |field: &str, what: &str| document.wrong(&format!("audit.{field}"), what);
        let sinks = sinks(&self.sinks).ok_or_else(|| {
            wrong("sinks", "must be one or more of store, file and stdout, with commas between")
        })?;
        let signatures = signatures(&self.signatures)
            .ok_or_else(|| wrong("signatures", "must be all, none, or 1 in a number: 1 in 100"))?;
        if !(64..=1_048_576).contains(&self.queue) {
            return Err(wrong("queue", "must be between 64 and 1048576"));
        }
        if !(1..=1_000_000).contains(&self.checkpoint_records) {
            return Err(wrong("checkpoint_records", "must be between 1 and 1000000"));
        }
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
        for (field, span) in [
            ("checkpoint_interval", self.checkpoint_interval),
            ("refusal_interval", self.refusal_interval),
        ] {
            if !(second..=day).contains(&span.get()) {
                return Err(wrong(field, "must be between 1s and 24h"));
            }
        }
        let file = self.file;
        if file.path.file_name().is_none() {
            return Err(wrong("file.path", "must be the path of a file"));
        }
        if file.rotate_size < 1024 * 1024 {
            return Err(wrong("file.rotate_size", "must be at least 1048576 bytes"));
        }
        if file.rotate_age.get() < Duration::from_secs(60) {
            return Err(wrong("file.rotate_age", "must be at least 1m"));
        }
        Ok(Audit {
            sinks,
            when_full: self.when_full,
            signatures,
            queue: self.queue,
            backend: chosen(document, self.backend, backends)?,
            algorithm: self.algorithm,
            checkpoint_records: self.checkpoint_records,
            checkpoint_interval: self.checkpoint_interval.get(),
            refusal_interval: self.refusal_interval.get(),
            file: AuditFile {
                path: directory.join(file.path),
                rotate_size: file.rotate_size,
                rotate_age: file.rotate_age.get(),
                keep: file.keep,
                sync: file.sync,
            },
        })
    }
}

/// The backend that is named, else the first by name.
fn chosen(
    document: &Document<'_>,
    named: Option<BackendName>,
    backends: &BTreeMap<BackendName, Backend>,
) -> Result<BackendName, Error> {
    let names = || backends.keys().map(BackendName::as_str).collect::<Vec<_>>().join(", ");
    let found = match &named {
        Some(name) => backends.get_key_value(name),
        None => backends.first_key_value(),
    };
    found.map(|(name, _)| name.clone()).ok_or_else(|| {
        let what = format!("must be one of the backends: {}", names());
        document.wrong("audit.backend", what)
    })
}

fn sinks(text: &str) -> Option<Vec<Sink>> {
    let mut sinks = Vec::new();
    for word in text.split(',') {
        let sink = match word.trim() {
            "store" => Sink::Store,
            "file" => Sink::File,
            "stdout" => Sink::Stdout,
            _ => return None,
        };
        if !sinks.contains(&sink) {
            sinks.push(sink);
        }
    }
    Some(sinks)
}

/// One in how many; none for none.
#[expect(clippy::option_option, reason = "the outer one says whether the text can be read")]
fn signatures(text: &str) -> Option<Option<NonZeroU32>> {
    match text.trim() {
        "all" => Some(NonZeroU32::new(1)),
        "none" => Some(None),
        other => other.strip_prefix("1 in ")?.trim().parse().ok().map(Some),
    }
}
