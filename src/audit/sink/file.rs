//! The record in a file that is rotated: one chain through all its files, over restarts too.
//!
//! Readable by its owner only. A full file is renamed to the same name with the number of its
//! first record after it, twenty digits, so that the files in the order of their names are the
//! chain. If the file is taken away from under the service, the next one goes on where it ended.

use super::scan::{Found, scan};
use super::{Changes, Failure, Opened, Sink, Unsealed};
use crate::audit::{Checkpoint, Entry, Head, Record, Span};
use async_trait::async_trait;
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Digits in the name of a full file.
const DIGITS: usize = 20;

/// Where the file is, and when it is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that is written to.
    pub path: PathBuf,
    /// It is full at this size, in bytes,
    pub rotate_size: u64,
    /// or when its first record is this old.
    pub rotate_age: Duration,
    /// Full files that are kept; the oldest beyond are removed.
    pub keep: usize,
    /// When what was written is sure to be on the disk.
    pub sync: Sync,
}

/// When what was written is sure to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before it counts as written.
    Always,
    /// When the operating system gets round to it.
    Never,
}

/// The sink. All its work is done on threads that may wait for a disk.
pub struct FileSink(Option<Chain>, Settings);

/// The chain in the files, and its end.
struct Chain {
    settings: Settings,
    head: Head,
    before: Option<Checkpoint>,
    /// The records after that checkpoint.
    span: Span,
    /// Those of them that the checkpoint which is being made does not cover; none: none is.
    after: Option<Span>,
    file: Option<File>,
    /// The first record in the file that is written to.
    first: Option<(u64, Timestamp)>,
    /// What is certain to be in the file that was written last.
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    place: (u64, u64),
    len: u64,
}

impl FileSink {
    /// A sink at `settings.path`; nothing is touched before it is opened.
    pub fn new(settings: Settings) -> Self {
        Self(None, settings)
    }

    async fn work<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Chain) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let path = self.1.path.clone();
        let failed = |why: String| Failure(format!("{}: {why}", path.display()));
        let Some(mut chain) = self.0.take() else {
            return Err(failed("it is not open".to_owned()));
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = act(&mut chain);
            (chain, done)
        });
        let (chain, done) = done.await.map_err(|error| failed(error.to_string()))?;
        self.0 = Some(chain);
        done.map_err(|error| failed(error.to_string()))
    }

    /// After a panic in its midst, the files are the only ones to know where the chain stands.
    async fn open_again(&mut self) -> Result<(), Failure> {
        if self.0.is_none() {
            self.open().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &'static str {
        "file"
    }

    fn changes(&self) -> Changes {
        Changes::Handed
    }

    async fn open(&mut self) -> Result<Opened, Failure> {
        self.0 = None;
        let settings = self.1.clone();
        let path = settings.path.clone();
        let failed = |why: String| Failure(format!("{}: {why}", path.display()));
        let opened = tokio::task::spawn_blocking(move || Chain::open(settings)).await;
        let opened = opened.map_err(|error| failed(error.to_string()))?;
        let (chain, opened) = opened.map_err(|error| failed(error.to_string()))?;
        self.0 = Some(chain);
        Ok(opened)
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), Failure> {
        self.open_again().await?;
        let records = records.to_vec();
        self.work(move |chain| chain.append(records)).await
    }

    async fn unsealed(&mut self) -> Result<Unsealed, Failure> {
        self.open_again().await?;
        self.work(|chain| {
            chain.after = Some(Span::default());
            let (before, span) = (chain.before.clone(), chain.span.clone());
            Ok(Unsealed { before, span, more: false })
        })
        .await
    }

    async fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.open_again().await?;
        let checkpoint = checkpoint.clone();
        self.work(move |chain| chain.append_checkpoint(checkpoint)).await
    }
}

impl Chain {
    fn open(settings: Settings) -> io::Result<(Self, Opened)> {
        let mut files = full_files(&settings.path)?;
        files.push(settings.path.clone());
        let Found { head, ending, before, span, flaws, whole, len, first } = scan(&files)?;
        let checkpoint = before.as_ref().map(|before| before.statement.time);
        let opened = Opened { ending, flaws, cut: len - whole, checkpoint };
        let known = place(&settings.path).map(|place| Known { place, len: whole });
        let mut chain =
            Self { settings, head, before, span, after: None, file: None, first, known };
        chain.current()?;
        Ok((chain, opened))
    }

    fn append(&mut self, records: Vec<Record>) -> io::Result<()> {
        self.rotate_if_full(records.first().map(|record| record.time))?;
        let mut head = self.head;
        let linked: Vec<_> = records.into_iter().map(|record| head.link(record)).collect();
        let mut text = String::with_capacity(linked.len() * 640);
        for linked in &linked {
            text.push_str(&linked.to_json());
            text.push('\n');
        }
        self.write(text.as_bytes())?;
        if let Some(first) = linked.first() {
            self.first.get_or_insert((first.number, first.record.time));
        }
        for linked in &linked {
            self.span.push(linked);
            self.after.iter_mut().for_each(|after| after.push(linked));
        }
        self.head = head;
        Ok(())
    }

    fn append_checkpoint(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let line = Entry::Checkpoint(checkpoint.clone()).to_json() + "\n";
        self.write(line.as_bytes())?;
        self.before = Some(checkpoint);
        self.span = self.after.take().unwrap_or_default();
        Ok(())
    }

    /// Writes all of `text` or, as far as anyone will read, nothing: what a failure leaves behind
    /// is cut off before anything else is written.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let sync = self.settings.sync;
        let file = self.current()?;
        let written = file.write_all(text).and_then(|()| match sync {
            Sync::Always => file.sync_data(),
            Sync::Never => Ok(()),
        });
        match (&written, &mut self.known) {
            (Ok(()), Some(known)) => known.len += u64::try_from(text.len()).unwrap_or(u64::MAX),
            _ => self.file = None,
        }
        written
    }

    /// The file to write to: the one that is open if it still is what its name stands for.
    fn current(&mut self) -> io::Result<&mut File> {
        let there = place(&self.settings.path);
        let ours = self.known.map(|known| known.place);
        let file = match self.file.take() {
            Some(open) if there.is_some() && there == ours => open,
            _ => {
                let goes_on = there.is_some() && there == ours;
                let file = open(&self.settings.path)?;
                let meta = file.metadata()?;
                if !meta.is_file() {
                    return Err(io::Error::other("must be a regular file"));
                }
                let place = (meta.dev(), meta.ino());
                let len = match self.known.filter(|_| goes_on) {
                    // What a failure or a crash has left behind.
                    Some(known) if known.len < meta.len() => {
                        file.set_len(known.len)?;
                        known.len
                    }
                    _ => meta.len(),
                };
                self.known = Some(Known { place, len });
                self.first = self.first.filter(|_| goes_on);
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn rotate_if_full(&mut self, now: Option<Timestamp>) -> io::Result<()> {
        self.current()?;
        let Some((number, since)) = self.first else { return Ok(()) };
        let len = self.known.map_or(0, |known| known.len);
        let age = now.and_then(|now| Duration::try_from(now.duration_since(since)).ok());
        let old = age.is_some_and(|age| age >= self.settings.rotate_age);
        if len < self.settings.rotate_size && !old {
            return Ok(());
        }
        let path = &self.settings.path;
        fs::rename(path, numbered(path, number))?;
        (self.file, self.first, self.known) = (None, None, None);
        self.current()?;
        self.remove_old();
        Ok(())
    }

    fn remove_old(&self) {
        let full = full_files(&self.settings.path).unwrap_or_default();
        let beyond = full.len().saturating_sub(self.settings.keep);
        for old in full.into_iter().take(beyond) {
            if let Err(error) = fs::remove_file(&old) {
                tracing::warn!(file = %old.display(), %error, "an old file of the audit record could not be removed");
            }
        }
    }
}

/// Opens a file to append to, made if it is not there, for its owner only.
fn open(path: &Path) -> io::Result<File> {
    let new = !path.exists();
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if new && let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

/// Device and inode of what `path` stands for.
fn place(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:0DIGITS$}"));
    name.into()
}

/// The full files beside `path`, oldest first.
fn full_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut full = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let digits = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
        if digits.is_some_and(|it| it.len() == DIGITS && it.bytes().all(|b| b.is_ascii_digit())) {
            full.push(entry.path());
        }
    }
    full.sort();
    Ok(full)
}

#[cfg(test)]
mod tests;
