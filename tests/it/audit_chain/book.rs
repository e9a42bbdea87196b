//! A record made by hand, with checkpoints that a real key has signed, as the lines of a file.

use crate::harness::store::{at, current, key, key_set, kid};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use signkeep::audit::chain::Malformed;
use signkeep::audit::{
    self, Action, Beginning, Checkpoint, Digest, Draft, Entry, Finding, Head, Keys, Known, Linked,
    Origin, Outcome, Record, Span, Verdict, Verifier,
};
use signkeep::jose::{Jwk, thumbprint};
use signkeep::key::{Algorithm, Curve, Key, Kid, PublicKey};
use std::sync::Arc;

/// A key that signs checkpoints.
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    pub(super) public: PublicKey,
    pub(super) kid: Kid,
}

impl Signer {
    pub(super) fn new() -> Arc<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = PublicKey::ec(Curve::P256, pair.public_key().as_ref()).unwrap();
        let kid = thumbprint::kid(&public);
        Arc::new(Self { pair, public, kid })
    }

    /// Signs what follows `before` and covers `span`, as the key `kid`.
    pub(super) fn sign_as(&self, kid: Kid, before: Option<&Checkpoint>, span: &Span) -> Checkpoint {
        let key = (Algorithm::Es256, kid);
        let draft = Draft::new(before, span, at(900), key).unwrap();
        let input = draft.signing_input().as_bytes();
        let signature = self.pair.sign(&SystemRandom::new(), input).unwrap();
        draft.finish(signature.as_ref())
    }

    pub(super) fn keys(&self) -> Keys {
        let mut keys = Keys::default();
        keys.insert(Algorithm::Es256, self.public.clone());
        keys
    }

    /// The same as the JWKS that `signkeep audit keys` prints.
    pub(super) fn jwks(&self) -> String {
        serde_json::json!({ "keys": [Jwk::new(&self.key())] }).to_string()
    }

    /// The same as a key of the internal key set.
    pub(super) fn key(&self) -> Key {
        let set = key_set(audit::KEY_SET, Algorithm::Es256);
        Key { kid: self.kid, public: self.public.clone(), ..key(&set, 9, current()) }
    }
}

/// A record with something in every field, different from one number to the next.
pub(super) fn record(number: u64) -> Record {
    let action = Action::ALL[usize::try_from(number).unwrap() % Action::ALL.len()];
    let origin = Origin {
        caller: format!("spiffe://example/issuer/{number}").into(),
        listener: "0.0.0.0:50051".into(),
        request: format!("r-{number}").into(),
    };
    Record {
        key_set: Some("default".parse().unwrap()),
        kid: Some(kid(7)),
        outcome: Outcome::Refused,
        reason: "because \"so\" \u{1F512}".to_owned(),
        digest: Some(Digest::of(&number.to_be_bytes())),
        count: number * 3,
        detail: "line one\nline two".to_owned(),
        ..Record::new(at(i64::try_from(number).unwrap()), &origin, action)
    }
}

/// A record and its checkpoints, line by line.
#[derive(Clone)]
pub(super) struct Book {
    pub(super) signer: Arc<Signer>,
    pub(super) lines: Vec<String>,
    head: Head,
    span: Span,
    last: Option<Checkpoint>,
}

impl Book {
    pub(super) fn new(signer: &Arc<Signer>) -> Self {
        Self {
            signer: Arc::clone(signer),
            lines: Vec::new(),
            head: Head::EMPTY,
            span: Span::default(),
            last: None,
        }
    }

    /// 35 records: checkpoints over 1 to 10, 11 to 20, 21 to 30. The second was signed while three
    /// more records came.
    pub(super) fn sample() -> Self {
        let mut book = Self::new(&Signer::new());
        book.records(10);
        book.checkpoint();
        book.records(10);
        let second = book.signed();
        book.records(3);
        book.lines.push(Entry::Checkpoint(second).to_json());
        book.records(7);
        book.checkpoint();
        book.records(5);
        book
    }

    pub(super) fn records(&mut self, count: u64) {
        for _ in 0..count {
            self.add(record(self.head.number + 1));
        }
    }

    pub(super) fn add(&mut self, record: Record) {
        let linked = self.head.link(record);
        self.span.push(&linked);
        self.lines.push(linked.to_json());
    }

    /// Signs the records since the last checkpoint.
    pub(super) fn checkpoint(&mut self) {
        let checkpoint = self.signed();
        self.lines.push(Entry::Checkpoint(checkpoint).to_json());
    }

    fn signed(&mut self) -> Checkpoint {
        let span = std::mem::take(&mut self.span);
        let checkpoint = self.signer.sign_as(self.signer.kid, self.last.as_ref(), &span);
        self.last = Some(checkpoint.clone());
        checkpoint
    }

    /// Where record `number` stands.
    pub(super) fn line_of(&self, number: u64) -> usize {
        self.find(|entry| matches!(entry, Entry::Record(linked) if linked.number == number))
    }

    /// Where checkpoint `number` stands.
    pub(super) fn line_of_checkpoint(&self, number: u64) -> usize {
        self.find(|entry| {
            matches!(entry, Entry::Checkpoint(checkpoint) if checkpoint.statement.number == number)
        })
    }

    fn find(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.lines.iter().position(|line| wanted(&Entry::from_json(line).unwrap())).unwrap()
    }

    pub(super) fn linked(&self, number: u64) -> Linked {
        Linked::from_json(&self.lines[self.line_of(number)]).unwrap()
    }

    pub(super) fn checkpoint_at(&self, number: u64) -> Checkpoint {
        match Entry::from_json(&self.lines[self.line_of_checkpoint(number)]).unwrap() {
            Entry::Checkpoint(checkpoint) => checkpoint,
            Entry::Record(_) => unreachable!(),
        }
    }

    /// Changes record `number`, and gives it and those after it up to `to` hashes that fit.
    pub(super) fn forge(&mut self, number: u64, to: u64, change: impl FnOnce(&mut Record)) {
        let forged = self.linked(number);
        let mut head = Head { number: number - 1, hash: forged.previous };
        let mut record = forged.record;
        change(&mut record);
        let line = self.line_of(number);
        self.lines[line] = head.link(record).to_json();
        for next in number + 1..=to {
            let (line, linked) = (self.line_of(next), self.linked(next));
            self.lines[line] = head.link(linked.record).to_json();
        }
    }

    /// The verdict of one who knows nothing but the keys.
    pub(super) fn verdict(&self) -> Result<Verdict, Finding> {
        self.verdict_of(Known::default())
    }

    /// The verdict of one who has kept checkpoint `number` of `genuine`.
    pub(super) fn verdict_after(&self, genuine: &Self, number: u64) -> Result<Verdict, Finding> {
        self.verdict_of(Known { kept: Some(genuine.checkpoint_at(number)), ..Known::default() })
    }

    /// The same, if the beginning was moved away.
    pub(super) fn verdict_of_rest(&self, genuine: &Self, number: u64) -> Result<Verdict, Finding> {
        let kept = Some(genuine.checkpoint_at(number));
        self.verdict_of(Known { kept, beginning: Beginning::Moved, ..Known::default() })
    }

    pub(super) fn verdict_of(&self, known: Known) -> Result<Verdict, Finding> {
        let lines: Vec<&[u8]> = self.lines.iter().map(String::as_bytes).collect();
        judge(&lines, self.signer.keys(), known)
    }
}

/// The verdict on `lines`, which are read as the command reads them.
pub(super) fn judge(lines: &[&[u8]], keys: Keys, known: Known) -> Result<Verdict, Finding> {
    let read = |line: &&[u8]| {
        let text = str::from_utf8(line).map_err(|_| Malformed::new("is no UTF-8"))?;
        Entry::from_json(text)
    };
    let mut verifier = Verifier::new(keys, known)?;
    let mut checkpoints = lines.iter().filter(|line| Entry::is_checkpoint(line)).map(read);
    let mut hand_over = |verifier: &mut Verifier| -> Result<(), Finding> {
        while verifier.wants_checkpoint() {
            match checkpoints.next() {
                Some(Ok(Entry::Checkpoint(checkpoint))) => verifier.checkpoint(Ok(checkpoint))?,
                Some(Ok(Entry::Record(_))) => unreachable!(),
                Some(Err(wrong)) => verifier.checkpoint(Err(wrong))?,
                None => break,
            }
        }
        Ok(())
    };
    for line in lines.iter().filter(|line| !Entry::is_checkpoint(line)) {
        match read(line) {
            Ok(Entry::Record(linked)) => verifier.record(&linked)?,
            Ok(Entry::Checkpoint(_)) => unreachable!(),
            Err(wrong) => return Err(verifier.unreadable(&wrong.to_string())),
        }
        hand_over(&mut verifier)?;
    }
    hand_over(&mut verifier)?;
    verifier.finish()
}

#[test]
fn a_sound_record_is_told_with_its_head_and_its_last_checkpoint() {
    let mut book = Book::sample();
    let verdict = book.verdict().unwrap();
    assert_eq!(verdict.first, 1);
    assert_eq!(verdict.head, book.linked(35).head());
    assert_eq!(verdict.checkpoints, 3);
    assert_eq!(verdict.last, Some(book.checkpoint_at(3)));
    assert_eq!(verdict.unsigned, 5);
    assert_eq!((verdict.gaps, verdict.flaws), (2, 2));
    book.checkpoint();
    assert_eq!(book.verdict().unwrap().unsigned, 0);
    for number in 1..=4 {
        let known =
            Known { kept: Some(book.checkpoint_at(number)), at_least: 35, ..Known::default() };
        assert_eq!(book.verdict_of(known).unwrap().first, 1);
    }
}

#[test]
fn a_record_of_nothing_is_sound_and_one_that_should_hold_something_is_not() {
    let mut book = Book::new(&Signer::new());
    let empty = book.clone();
    let verdict = empty.verdict().unwrap();
    assert_eq!((verdict.head, verdict.last, verdict.unsigned), (Head::EMPTY, None, 0));
    let known = Known { at_least: 1, ..Known::default() };
    assert_eq!(empty.verdict_of(known), Err(Finding::TooShort { ended: 0, at_least: 1 }));
    book.records(3);
    book.checkpoint();
    assert_eq!(empty.verdict_after(&book, 1), Err(Finding::KeptMissing { number: 1, last: 3 }));
    let mut checkpoint_alone = book.clone();
    checkpoint_alone.lines.drain(..3);
    let truncated = Finding::Truncated { ended: 0, signed: 3, checkpoint: 1 };
    assert_eq!(checkpoint_alone.verdict(), Err(truncated));
}

#[test]
fn a_kept_checkpoint_that_the_key_has_not_signed_is_not_believed() {
    let (book, other) = (Book::sample(), Book::sample());
    let kid = other.signer.kid.to_string();
    assert_eq!(book.verdict_after(&other, 3), Err(Finding::UnknownKey { number: 3, kid }));
}
