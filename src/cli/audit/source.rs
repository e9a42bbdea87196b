//! Where a record is read from: files of lines, or the database.
//!
//! Either is read twice over, once for its records and once for its checkpoints, side by side, so
//! that a verifier can have each when it wants it and memory holds a page at most.

use crate::audit::{Checkpoint, Entry, Linked};
use crate::cli::Failure;
use crate::store::sqlite::Archive;
use crate::store::{Error, Kind};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No line of a record comes near it.
const LINE_MAX: u64 = 1 << 20;
/// Rows read at a time.
const PAGE: u32 = 1000;

/// Where the record is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Place {
    /// Its files, the oldest first.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    file: Vec<PathBuf>,
    /// Its database, as the configuration's store.url names it.
    #[arg(long, value_name = "sqlite:PATH", value_parser = database)]
    store: Option<PathBuf>,
}

/// The database alone.
#[derive(Debug, clap::Args)]
pub(super) struct Database {
    /// The database, as the configuration's store.url names it.
    #[arg(long, value_name = "sqlite:PATH", value_parser = database)]
    store: PathBuf,
}

/// What could not be had from a source.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What stands there is not what should; what, and where.
    Malformed(String),
    /// It cannot be read at all.
    Failure(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Malformed(what) => Self::new(what)
                .mend("the record is damaged; `signkeep audit verify` says how far it is sound"),
            Trouble::Failure(failure) => failure,
        }
    }
}

/// A record that is being read.
#[derive(Debug)]
pub(super) enum Source {
    Files { records: Box<Lines>, checkpoints: Box<Lines> },
    Database { archive: Arc<Archive>, records: Rows<Linked>, checkpoints: Rows<Checkpoint> },
}

impl Place {
    pub(super) async fn open(&self) -> Result<Source, Failure> {
        match &self.store {
            Some(store) => Source::database(store, 0).await,
            None => {
                let files = self.file.iter().map(|path| Stretch::of(path));
                let files = files.collect::<Result<VecDeque<_>, _>>()?;
                Ok(Source::Files {
                    records: Box::new(Lines::of(files.clone())),
                    checkpoints: Box::new(Lines::of(files)),
                })
            }
        }
    }
}

impl Database {
    /// The database from record number `since` on.
    pub(super) async fn open(&self, since: u64) -> Result<Source, Failure> {
        Source::database(&self.store, since).await
    }

    pub(super) async fn archive(&self) -> Result<Archive, Failure> {
        archive(&self.store).await
    }
}

impl Source {
    async fn database(path: &Path, since: u64) -> Result<Self, Failure> {
        let records = Rows { after: since.saturating_sub(1), page: VecDeque::new() };
        let checkpoints = Rows { after: 0, page: VecDeque::new() };
        Ok(Self::Database { archive: Arc::new(archive(path).await?), records, checkpoints })
    }

    /// The next record; none at the end.
    pub(super) async fn record(&mut self) -> Result<Option<Linked>, Trouble> {
        match self {
            Self::Files { records, .. } => loop {
                match records.next(|line| !Entry::is_checkpoint(line))? {
                    Some(Entry::Record(linked)) => return Ok(Some(linked)),
                    Some(Entry::Checkpoint(_)) => {}
                    None => return Ok(None),
                }
            },
            Self::Database { archive, records, .. } => {
                if records.page.is_empty() {
                    let page = archive.trail(records.after, PAGE).await.map_err(failed)?;
                    records.page = page.into();
                }
                let next = records.page.pop_front().transpose().map_err(impossible)?;
                records.after = next.as_ref().map_or(records.after, |linked| linked.number);
                Ok(next)
            }
        }
    }

    /// The next checkpoint; none at the end.
    pub(super) async fn checkpoint(&mut self) -> Result<Option<Checkpoint>, Trouble> {
        match self {
            Self::Files { checkpoints, .. } => loop {
                match checkpoints.next(Entry::is_checkpoint)? {
                    Some(Entry::Checkpoint(checkpoint)) => return Ok(Some(checkpoint)),
                    Some(Entry::Record(_)) => {}
                    None => return Ok(None),
                }
            },
            Self::Database { archive, checkpoints, .. } => {
                if checkpoints.page.is_empty() {
                    let page = archive.checkpoints(checkpoints.after, PAGE).await;
                    for (place, row) in page.map_err(failed)? {
                        checkpoints.after = place;
                        checkpoints.page.push_back(row);
                    }
                }
                checkpoints.page.pop_front().transpose().map_err(impossible)
            }
        }
    }

    /// The file whose last line has no end, if there is one: it was being written, or torn.
    pub(super) fn torn(&self) -> Option<&Path> {
        match self {
            Self::Files { records, .. } => records.torn.as_deref(),
            Self::Database { .. } => None,
        }
    }
}

/// Rows of a database that come a page at a time.
#[derive(Debug)]
pub(super) struct Rows<T> {
    after: u64,
    page: VecDeque<Result<T, Error>>,
}

/// A file as far as it had been written when the source was opened: what comes later is left out
/// for records and checkpoints alike.
#[derive(Clone, Debug)]
struct Stretch {
    path: PathBuf,
    inode: (u64, u64),
    len: u64,
}

impl Stretch {
    fn of(path: &Path) -> Result<Self, Failure> {
        let found = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        let inode = (found.dev(), found.ino());
        Ok(Self { path: path.to_owned(), inode, len: found.len() })
    }

    fn open(self) -> Result<Open, Failure> {
        let failed = |error| unreadable(&self.path, &error);
        let file = File::open(&self.path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if (found.dev(), found.ino()) != self.inode || found.len() < self.len {
            let what = format!("{} was replaced while it was being read", self.path.display());
            return Err(Failure::new(what).mend("start again; name rotated files, which stay"));
        }
        Ok(Open { path: self.path, file: BufReader::new(file.take(self.len)), number: 0 })
    }
}

/// The lines of some files, one after the other.
#[derive(Debug)]
pub(super) struct Lines {
    left: VecDeque<Stretch>,
    open: Option<Open>,
    torn: Option<PathBuf>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: BufReader<Take<File>>,
    number: u64,
}

impl Lines {
    fn of(files: VecDeque<Stretch>) -> Self {
        Self { left: files, open: None, torn: None }
    }

    /// The next line that is `wanted`; none at the end of the last file.
    fn next(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Entry>, Trouble> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(next) = self.left.pop_front() else { return Ok(None) };
                self.open = Some(next.open()?);
                continue;
            };
            open.number += 1;
            let mut line = Vec::new();
            let read = (&mut open.file).take(LINE_MAX).read_until(b'\n', &mut line);
            read.map_err(|error| unreadable(&open.path, &error))?;
            let complete = line.pop_if(|last| *last == b'\n').is_some();
            match complete {
                false if line.is_empty() => self.open = None,
                false if self.left.is_empty() && (line.len() as u64) < LINE_MAX => {
                    self.torn = Some(open.path.clone());
                    return Ok(None);
                }
                false => return Err(open.malformed("the line has no end")),
                true if !wanted(&line) => {}
                true => {
                    let text = str::from_utf8(&line).map_err(|_| open.malformed("is no UTF-8"))?;
                    return Entry::from_json(text).map(Some).map_err(|wrong| open.malformed(wrong));
                }
            }
        }
    }
}

impl Open {
    fn malformed(&self, what: impl std::fmt::Display) -> Trouble {
        Trouble::Malformed(format!("{}, line {}: {what}", self.path.display(), self.number))
    }
}

async fn archive(path: &Path) -> Result<Archive, Failure> {
    Archive::open(path).await.map_err(|error| Failure::new(error.message))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be read: {error}", path.display()))
}

fn failed(error: Error) -> Trouble {
    Trouble::Failure(Failure::new(error.message))
}

fn impossible(error: Error) -> Trouble {
    match error.kind {
        Kind::Corrupt => Trouble::Malformed(error.message),
        _ => failed(error),
    }
}

fn database(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("must be sqlite:<path>, e.g. sqlite:/var/lib/signkeep/signkeep.db".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Action, Head, Origin, Record};
    use std::io::Write;

    /// Numbers of the records that are read from `source` to its end.
    async fn numbers(source: &mut Source) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(linked) = source.record().await.unwrap() {
            numbers.push(linked.number);
        }
        numbers
    }

    fn line(head: &mut Head) -> String {
        let time = "2026-11-23T18:00:00Z".parse().unwrap();
        head.link(Record::new(time, &Origin::service(""), Action::Start)).to_json() + "\n"
    }

    #[tokio::test]
    async fn what_is_written_after_the_start_is_left_out_and_a_file_put_in_its_place_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.jsonl"), folder.path().join("b.jsonl"));
        let mut head = Head::EMPTY;
        std::fs::write(&path, line(&mut head) + &line(&mut head)).unwrap();
        let place = Place { file: vec![path.clone()], store: None };
        let mut before = place.open().await.unwrap();
        let mut replaced = place.open().await.unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(line(&mut head).as_bytes()).unwrap();
        assert_eq!(numbers(&mut before).await, [1, 2]);
        assert_eq!(before.torn(), None);
        assert_eq!(numbers(&mut place.open().await.unwrap()).await, [1, 2, 3]);

        std::fs::copy(&path, &other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let Err(Trouble::Failure(failure)) = replaced.record().await else {
            panic!("another file was read");
        };
        assert!(failure.what.contains("a.jsonl was replaced"), "{failure:?}");
    }
}
