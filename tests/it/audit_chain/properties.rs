//! Whatever is in a record comes back; whatever is done to a signed one is found.

use super::book::{Book, judge};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use signkeep::audit::{Action, Digest, Entry, Head, Known, Linked, Origin, Outcome, Record};
use signkeep::key::{self, Kid};
use std::sync::LazyLock;

prop_compose! {
    fn any_record()(
        time in (-62_135_596_800_000_000_i64..253_402_207_200_000_000)
            .prop_map(|us| Timestamp::from_microsecond(us).unwrap()),
        (caller, listener, request) in any::<(String, String, String)>(),
        action in prop::sample::select(Action::ALL.to_vec()),
        outcome in prop::sample::select(Outcome::ALL.to_vec()),
        key_set in prop::option::of("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"),
        kid in prop::option::of(any::<[u8; 32]>()),
        (reason, detail) in any::<(String, String)>(),
        digest in prop::option::of((0..3_usize, any::<Vec<u8>>())),
        count in 0..(1_u64 << 53),
    ) -> Record {
        let origin = Origin { caller: caller.into(), listener: listener.into(), request: request.into() };
        let hashes = [key::Digest::Sha256, key::Digest::Sha384, key::Digest::Sha512];
        Record {
            key_set: key_set.map(|id| id.parse().unwrap()),
            kid: kid.map(Kid::from_thumbprint),
            digest: digest.and_then(|(hash, message)| {
                Digest::made(hashes[hash], &hashes[hash].of(&message))
            }),
            outcome,
            reason,
            detail,
            count,
            ..Record::new(time, &origin, action)
        }
    }
}

/// What somebody does to the lines of a file.
#[derive(Clone, Debug)]
enum Act {
    Flip { line: usize, byte: usize, bit: u8 },
    Drop { line: usize },
    Swap { one: usize, other: usize },
    Copy { from: usize, to: usize },
    Cut { to: usize },
}

fn any_act() -> impl Strategy<Value = Act> {
    let line = || 0..40_usize;
    prop_oneof![
        (line(), any::<usize>(), 0..8_u8).prop_map(|(line, byte, bit)| Act::Flip {
            line,
            byte,
            bit
        }),
        line().prop_map(|line| Act::Drop { line }),
        (line(), line()).prop_map(|(one, other)| Act::Swap { one, other }),
        (line(), line()).prop_map(|(from, to)| Act::Copy { from, to }),
        line().prop_map(|to| Act::Cut { to }),
    ]
}

impl Act {
    fn on(&self, lines: &mut Vec<Vec<u8>>) {
        let len = lines.len().max(1);
        if lines.is_empty() {
            return;
        }
        match *self {
            Self::Flip { line, byte, bit } => {
                let line = &mut lines[line % len];
                if let Some(at) = byte.checked_rem(line.len()) {
                    line[at] ^= 1 << bit;
                }
            }
            Self::Drop { line } => drop(lines.remove(line % len)),
            Self::Swap { one, other } => lines.swap(one % len, other % len),
            Self::Copy { from, to } => {
                let copy = lines[from % len].clone();
                lines.insert(to % len, copy);
            }
            Self::Cut { to } => lines.truncate(to % len),
        }
    }
}

static SIGNED: LazyLock<Book> = LazyLock::new(|| {
    let mut book = Book::sample();
    book.checkpoint();
    book
});

/// Its records alone, and its checkpoints alone, each in its order: what there is to falsify.
fn essence(lines: &[Vec<u8>]) -> (Vec<&Vec<u8>>, Vec<&Vec<u8>>) {
    lines.iter().partition(|line| !Entry::is_checkpoint(line))
}

proptest! {
    #[test]
    fn whatever_a_record_holds_its_line_reads_back_and_hashes_alike(record in any_record()) {
        let linked = { Head::EMPTY }.link(record.clone());
        prop_assert_eq!(&linked.record, &record);
        let line = linked.to_json();
        let read = Linked::from_json(&line).unwrap();
        prop_assert_eq!(read.content_hash(), linked.hash);
        prop_assert_eq!(read, linked);
        prop_assert!(!line.contains('\n'));
    }

    #[test]
    fn another_record_has_another_hash(one in any_record(), other in any_record()) {
        prop_assume!(one != other);
        prop_assert_ne!({ Head::EMPTY }.link(one).hash, { Head::EMPTY }.link(other).hash);
    }

    #[test]
    fn whatever_is_done_to_a_record_that_is_signed_to_its_end_is_found(acts in vec(any_act(), 1..4)) {
        let genuine: Vec<Vec<u8>> = SIGNED.lines.iter().map(|line| line.clone().into_bytes()).collect();
        let mut lines = genuine.clone();
        acts.iter().for_each(|act| act.on(&mut lines));
        let known = Known { kept: Some(SIGNED.checkpoint_at(4)), ..Known::default() };
        let slices: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let verdict = judge(&slices, SIGNED.signer.keys(), known);
        // Where a checkpoint stands between records is not part of what it says.
        prop_assert_eq!(verdict.is_ok(), essence(&lines) == essence(&genuine), "{:?}", verdict);
    }

    #[test]
    fn nothing_that_is_read_brings_a_verifier_down(
        lines in vec(prop_oneof![any::<Vec<u8>>(), "\\{\"checkpoint\":\"[A-Za-z0-9._-]{0,80}\"\\}".prop_map(String::into_bytes)], 0..6)
    ) {
        let slices: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let verdict = judge(&slices, SIGNED.signer.keys(), Known::default());
        prop_assert_eq!(verdict.is_ok(), lines.is_empty());
    }
}
