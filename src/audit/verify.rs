//! The verifier: one pass, in memory that does not grow, over records and the checkpoints that
//! cover them.
//!
//! The two come from two readers, because a checkpoint is signed while the record goes on: in a
//! file it stands somewhere after the records that it covers. The verifier holds one checkpoint at
//! a time, and looks at it when the last record that it covers has come; so of all that is wrong it
//! is the first record that is named.
//!
//! A record that fits its own hash and not its successor's word for it could be either one's fault.
//! The successor is blamed if a checkpoint has signed the former, and the former otherwise: to
//! rewrite one record's hash is what somebody does who changes that record.

use super::chain::{Head, Linked, Malformed};
use super::checkpoint::{Checkpoint, Span};
use super::finding::Finding;
use super::keys::{Keys, Signature};
use super::{Action, Hash};

/// What the owner of the record knows without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// A checkpoint that was kept elsewhere: the record must have it.
    pub kept: Option<Checkpoint>,
    /// How many records there are at the least.
    pub at_least: u64,
    /// Where the record may begin.
    pub beginning: Beginning,
}

/// Where a record may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// With its first record.
    #[default]
    Whole,
    /// With any record up to the one after the kept checkpoint: what was before was moved away.
    Moved,
}

/// What a sound record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The number of the first record that was looked at; 0 if there was none.
    pub first: u64,
    /// The last record's number and hash.
    pub head: Head,
    /// How many checkpoints were looked at.
    pub checkpoints: u64,
    /// The last of them; the one to be kept.
    pub last: Option<Checkpoint>,
    /// How many records stand after what the last checkpoint covers: chained, not yet signed.
    pub unsigned: u64,
    /// How many records tell of a gap.
    pub gaps: u64,
    /// How many records tell of damage that the service itself has found.
    pub flaws: u64,
}

/// Verifies one record.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    known: Known,
    first: u64,
    head: Head,
    /// Records up to the kept checkpoint's last, of a record that does not begin at 1: until then
    /// what they say of the record before them is taken on trust.
    catching_up: bool,
    span: Span,
    last: Option<Checkpoint>,
    pending: Option<Result<Checkpoint, Malformed>>,
    /// Records or checkpoints that are not where they should be; they may still turn up elsewhere.
    absent: Option<Finding>,
    checkpoints: u64,
    gaps: u64,
    flaws: u64,
}

impl Verifier {
    /// A verifier that trusts `keys` and what is `known`. A kept checkpoint that none of the keys
    /// has signed is a finding itself.
    pub fn new(keys: Keys, known: Known) -> Result<Self, Finding> {
        if let Some(kept) = &known.kept {
            signed(&keys, kept)?;
        }
        Ok(Self { keys, known, ..Self::after(Head::EMPTY, None) })
    }

    /// A verifier of records alone, those after `head`; `last` is the checkpoint that signed it, if
    /// one did.
    pub(crate) fn after(head: Head, last: Option<Checkpoint>) -> Self {
        Self {
            keys: Keys::default(),
            known: Known::default(),
            first: if head == Head::EMPTY { 0 } else { head.number + 1 },
            head,
            catching_up: false,
            span: Span::default(),
            last,
            pending: None,
            absent: None,
            checkpoints: 0,
            gaps: 0,
            flaws: 0,
        }
    }

    /// Takes the next record.
    pub fn record(&mut self, linked: &Linked) -> Result<(), Finding> {
        match self.absent {
            Some(Finding::Missing { first, .. }) => {
                let after = self.head.number;
                self.head.number = linked.number;
                return if linked.number == first {
                    Err(Finding::Moved { number: first, after })
                } else {
                    Ok(())
                };
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let content = linked.content_hash();
        if content != linked.hash {
            let number = match self.known.beginning {
                Beginning::Moved if self.first == 0 => linked.number,
                _ => self.head.number + 1,
            };
            return Err(Finding::Changed { number, content, written: linked.hash });
        }
        if self.first == 0 {
            self.begin(linked)?;
        }
        let expected = self.head.number + 1;
        if linked.number < expected {
            let (number, after) = (linked.number, self.head.number);
            return Err(Finding::Inserted { number, after });
        }
        if linked.number > expected {
            let (last, found) = (linked.number - 1, linked.number);
            self.absent = Some(Finding::Missing { first: expected, last, found });
            self.head.number = linked.number;
            return Ok(());
        }
        if linked.previous != self.head.hash {
            return Err(if self.head.number == self.signed_up_to() {
                Finding::Replaced { number: expected }
            } else {
                Finding::Rehashed { number: self.head.number }
            });
        }
        self.head = linked.head();
        match linked.record.action {
            Action::Gap => self.gaps += 1,
            Action::Flaw => self.flaws += 1,
            _ => {}
        }
        if self.catching_up {
            self.catch_up()?;
        } else {
            self.span.push(linked);
        }
        self.settle_due()
    }

    /// What should be the next record is none.
    pub fn unreadable(self, what: &str) -> Finding {
        let number = self.head.number + 1;
        let what = what.to_owned();
        self.absent.unwrap_or(Finding::Unreadable { number, what })
    }

    /// Whether it takes another checkpoint now: to be asked after every record.
    pub const fn wants_checkpoint(&self) -> bool {
        self.pending.is_none()
    }

    /// Takes the next checkpoint, or what should be one.
    pub fn checkpoint(&mut self, checkpoint: Result<Checkpoint, Malformed>) -> Result<(), Finding> {
        self.pending = Some(checkpoint);
        if self.first == 0 { Ok(()) } else { self.settle_due() }
    }

    /// There are no more records, and no more checkpoints unless one is held.
    pub fn finish(mut self) -> Result<Verdict, Finding> {
        if let Some(absent) = self.absent.take() {
            return Err(absent);
        }
        if let Some(kept) = self.known.kept.as_ref().filter(|_| self.catching_up) {
            return Err(self.cut_off_before(kept));
        }
        match self.pending.take() {
            Some(Ok(checkpoint)) => {
                self.in_place(&checkpoint)?;
                return Err(self.absent.take().unwrap_or(self.cut_off_before(&checkpoint)));
            }
            Some(Err(what)) => {
                let (number, what) = (self.next_checkpoint(), what.to_string());
                return Err(Finding::CheckpointUnreadable { number, what });
            }
            None => {}
        }
        let ended = self.head.number;
        let last = self.last.as_ref().map_or(0, |last| last.statement.number);
        if let Some(kept) = self.known.kept.as_ref().map(|kept| kept.statement)
            && kept.number > last
        {
            return Err(Finding::KeptMissing { number: kept.number, last: kept.head.number });
        }
        if ended < self.known.at_least {
            return Err(Finding::TooShort { ended, at_least: self.known.at_least });
        }
        Ok(Verdict {
            first: self.first,
            head: self.head,
            checkpoints: self.checkpoints,
            unsigned: ended.saturating_sub(self.signed_up_to()),
            last: self.last,
            gaps: self.gaps,
            flaws: self.flaws,
        })
    }

    /// Where the first record leaves off: nowhere, or at the kept checkpoint, or somewhere before.
    fn begin(&mut self, linked: &Linked) -> Result<(), Finding> {
        let number = linked.number;
        self.first = number.max(1);
        if number <= 1 {
            return Ok(());
        }
        let kept = match self.known.beginning {
            Beginning::Moved => self.known.kept.as_ref(),
            Beginning::Whole => None,
        };
        let Some(kept) = kept else {
            return Err(Finding::Beheaded { number });
        };
        let head = kept.statement.head;
        if number > head.number + 1 {
            let (first, last) = (head.number + 1, number - 1);
            return Err(Finding::Missing { first, last, found: number });
        }
        self.catching_up = number <= head.number;
        self.head = Head { number: number - 1, hash: linked.previous };
        if !self.catching_up {
            self.head = head;
            self.last = self.known.kept.clone();
        }
        Ok(())
    }

    /// Compares with the kept checkpoint once the last record that it covers has come; the hash of
    /// that one speaks for all before it.
    fn catch_up(&mut self) -> Result<(), Finding> {
        let Some(kept) = &self.known.kept else { return Ok(()) };
        let statement = kept.statement;
        if self.head.number < statement.head.number {
            return Ok(());
        }
        if self.head != statement.head {
            let (first, last) = (self.first, self.head.number);
            return Err(Finding::NotAsSigned { first, last, checkpoint: statement.number });
        }
        self.last = Some(kept.clone());
        self.catching_up = false;
        Ok(())
    }

    /// Looks at the checkpoint that is held, if the last record that it covers has come.
    fn settle_due(&mut self) -> Result<(), Finding> {
        let due = |held: &mut Result<Checkpoint, Malformed>| {
            held.as_ref().is_ok_and(|held| held.statement.head.number <= self.head.number)
        };
        let Some(Ok(checkpoint)) = self.pending.take_if(due) else {
            return Ok(());
        };
        if self.is_before_the_kept(&checkpoint) || self.absent.is_some() {
            return self.turned_up(&checkpoint);
        }
        self.in_place(&checkpoint)?;
        if self.absent.is_some() {
            return Ok(());
        }
        let statement = checkpoint.statement;
        let follows = statement.first == self.signed_up_to() + 1;
        if !follows || statement.head != self.head || statement.root != self.span.root() {
            let (first, last) = (statement.first, statement.head.number);
            return Err(Finding::NotAsSigned { first, last, checkpoint: statement.number });
        }
        if let Some(kept) = self.known.kept.as_ref().map(|kept| (kept.statement, kept.hash()))
            && kept.0.number == statement.number
            && kept.1 != checkpoint.hash()
        {
            let (number, last) = (statement.number, kept.0.head.number);
            return Err(Finding::KeptMissing { number, last });
        }
        self.span = Span::default();
        self.checkpoints += 1;
        self.last = Some(checkpoint);
        Ok(())
    }

    /// Whether a checkpoint is signed, and the one that should be here; one that should be further
    /// down is noted as [`Verifier::absent`], and those before it are looked for.
    fn in_place(&mut self, checkpoint: &Checkpoint) -> Result<(), Finding> {
        let number = checkpoint.statement.number;
        signed(&self.keys, checkpoint)?;
        let expected = self.next_checkpoint();
        if number < expected {
            return Err(Finding::Replayed { number, expected });
        }
        if number > expected {
            self.absent = Some(Finding::CheckpointMissing { first: expected, found: number });
            return Ok(());
        }
        if checkpoint.statement.previous != self.last.as_ref().map_or(Hash::ZERO, Checkpoint::hash)
        {
            return Err(Finding::CheckpointReplaced { number });
        }
        Ok(())
    }

    /// A checkpoint came while others are looked for.
    fn turned_up(&mut self, checkpoint: &Checkpoint) -> Result<(), Finding> {
        let number = checkpoint.statement.number;
        match &mut self.absent {
            Some(Finding::CheckpointMissing { first, found }) if *first == number => {
                Err(Finding::CheckpointMoved { number, after: *found })
            }
            _ => Ok(()),
        }
    }

    /// Whether it covers records that were moved away, of which the kept checkpoint speaks for all.
    fn is_before_the_kept(&self, checkpoint: &Checkpoint) -> bool {
        let kept = self.known.kept.as_ref().map_or(0, |kept| kept.statement.number);
        self.first > 1 && checkpoint.statement.number <= kept
    }

    fn cut_off_before(&self, checkpoint: &Checkpoint) -> Finding {
        Finding::Truncated {
            ended: self.head.number,
            signed: checkpoint.statement.head.number,
            checkpoint: checkpoint.statement.number,
        }
    }

    fn next_checkpoint(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.statement.number) + 1
    }

    fn signed_up_to(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.statement.head.number)
    }
}

fn signed(keys: &Keys, checkpoint: &Checkpoint) -> Result<(), Finding> {
    let number = checkpoint.statement.number;
    match keys.verify(checkpoint) {
        Signature::Good => Ok(()),
        Signature::UnknownKey => {
            Err(Finding::UnknownKey { number, kid: checkpoint.kid.to_string() })
        }
        Signature::Bad => Err(Finding::BadSignature { number }),
    }
}
