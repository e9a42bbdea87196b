//! Reading back the end of a chain from files: where it stands, what its last checkpoint covers,
//! and what a crash left of an entry that was being written.

use super::Ending;
use crate::audit::{Action, Checkpoint, Entry, Head, Span};
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

/// No entry is longer, in bytes; a line that is comes from somebody else.
const LINE_MAX: u64 = 64 * 1024;
/// Flaws that are told; more are as bad.
const FLAWS_MAX: usize = 8;

/// What the files of one chain hold.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) ending: Ending,
    pub(super) before: Option<Checkpoint>,
    /// The records after that checkpoint.
    pub(super) span: Span,
    pub(super) flaws: Vec<String>,
    /// How much of the last file is whole entries, and how long that file is.
    pub(super) whole: u64,
    pub(super) len: u64,
    /// The first record of the last file.
    pub(super) first: Option<(u64, Timestamp)>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            head: Head::EMPTY,
            ending: Ending::Empty,
            before: None,
            span: Span::default(),
            flaws: Vec::new(),
            whole: 0,
            len: 0,
            first: None,
        }
    }
}

/// Reads the end of the chain in `files`, oldest first: from the file before the one with the last
/// checkpoint on. A file that is not there holds nothing.
pub(super) fn scan(files: &[PathBuf]) -> io::Result<Found> {
    let mut from = files.len();
    let mut before = None;
    while before.is_none() && from > 0 {
        from -= 1;
        if let Some(file) = files.get(from) {
            before = last_checkpoint(file)?;
        }
    }
    let mut found = Found { before, ..Found::default() };
    let covered = found.before.as_ref().map_or(0, |before| before.statement.head.number);
    let mut begun = false;
    for file in files.iter().skip(from.saturating_sub(1)) {
        (found.whole, found.len, found.first) = (0, 0, None);
        let mut bad = 0;
        for line in Lines::of(file)? {
            let line = line?;
            found.len += line.len;
            let Some(entry) = line.entry() else {
                bad += line.len;
                continue;
            };
            if bad > 0 {
                found.flaw(format!("{}: {bad} bytes are no entries", file.display()));
                bad = 0;
            }
            found.whole = found.len;
            let Entry::Record(linked) = entry else { continue };
            if begun && (linked.previous, linked.number) != (found.head.hash, found.head.number + 1)
            {
                let (number, after) = (linked.number, found.head.number);
                found.flaw(format!("record {number} does not follow record {after}"));
            }
            begun = true;
            found.first.get_or_insert((linked.number, linked.record.time));
            found.head = linked.head();
            found.ending = match linked.record.action {
                Action::Stop => Ending::Stopped,
                _ => Ending::CutShort,
            };
            if linked.number > covered {
                found.span.push(&linked);
            }
        }
    }
    Ok(found)
}

impl Found {
    fn flaw(&mut self, flaw: String) {
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(flaw);
        }
    }
}

fn last_checkpoint(file: &PathBuf) -> io::Result<Option<Checkpoint>> {
    let mut last = None;
    for line in Lines::of(file)? {
        let line = line?;
        if Entry::is_checkpoint(&line.text)
            && let Some(Entry::Checkpoint(checkpoint)) = line.entry()
        {
            last = Some(checkpoint);
        }
    }
    Ok(last)
}

/// The lines of a file, the last one perhaps without its end; a line that is too long in pieces.
struct Lines(Option<BufReader<File>>);

struct Line {
    text: Vec<u8>,
    /// With its end.
    len: u64,
    whole: bool,
}

impl Lines {
    fn of(file: &PathBuf) -> io::Result<Self> {
        match File::open(file) {
            Ok(file) => Ok(Self(Some(BufReader::new(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}

impl Iterator for Lines {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<io::Result<Line>> {
        let mut text = Vec::new();
        match self.0.as_mut()?.take(LINE_MAX).read_until(b'\n', &mut text) {
            Ok(0) => None,
            Ok(read) => {
                let whole = text.pop_if(|last| *last == b'\n').is_some();
                Some(Ok(Line { text, len: u64::try_from(read).unwrap_or(u64::MAX), whole }))
            }
            Err(error) => {
                self.0 = None;
                Some(Err(error))
            }
        }
    }
}

impl Line {
    fn entry(&self) -> Option<Entry> {
        let text = std::str::from_utf8(&self.text).ok().filter(|_| self.whole)?;
        Entry::from_json(text).ok()
    }
}
