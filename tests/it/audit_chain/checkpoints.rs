//! Checkpoints changed, dropped, swapped, replayed and forged.

use super::book::{Book, Signer, judge};
use signkeep::audit::{Entry, Finding, Known, Span};

fn span(book: &Book, numbers: std::ops::RangeInclusive<u64>) -> Span {
    let mut span = Span::default();
    numbers.for_each(|number| span.push(&book.linked(number)));
    span
}

#[test]
fn a_flipped_bit_anywhere_in_a_checkpoint_is_found_and_names_it() {
    let book = Book::sample();
    let at = book.line_of_checkpoint(2);
    let start = "{\"checkpoint\":\"".len();
    for byte in 0..book.lines[at].len() {
        let mut line = book.lines[at].clone().into_bytes();
        line[byte] ^= 1 << (byte % 8);
        let mut lines: Vec<&[u8]> = book.lines.iter().map(String::as_bytes).collect();
        lines[at] = &line;
        let finding = judge(&lines, book.signer.keys(), Known::default()).unwrap_err();
        if byte < start {
            // It no longer passes for a checkpoint.
            assert_eq!(finding.record(), Some(24), "byte {byte}: {finding}");
        } else {
            assert_eq!(finding.checkpoint(), Some(2), "byte {byte}: {finding}");
        }
    }
}

#[test]
fn a_dropped_checkpoint_is_named() {
    let mut book = Book::sample();
    book.lines.remove(book.line_of_checkpoint(2));
    assert_eq!(book.verdict(), Err(Finding::CheckpointMissing { first: 2, found: 3 }));
    let mut book = Book::sample();
    book.lines.remove(book.line_of_checkpoint(1));
    assert_eq!(book.verdict(), Err(Finding::CheckpointMissing { first: 1, found: 2 }));
}

#[test]
fn checkpoints_that_changed_places_are_named_by_the_first() {
    for (one, other) in [(1, 2), (2, 3)] {
        let mut book = Book::sample();
        let (first, second) = (book.line_of_checkpoint(one), book.line_of_checkpoint(other));
        book.lines.swap(first, second);
        let moved = Finding::CheckpointMoved { number: one, after: other };
        assert_eq!(book.verdict(), Err(moved));
    }
}

#[test]
fn an_old_checkpoint_in_a_later_place_is_a_replay() {
    let genuine = Book::sample();
    let first = genuine.lines[genuine.line_of_checkpoint(1)].clone();
    for number in [2, 3] {
        let mut book = genuine.clone();
        book.lines[genuine.line_of_checkpoint(number)].clone_from(&first);
        assert_eq!(book.verdict(), Err(Finding::Replayed { number: 1, expected: number }));
    }
    let mut book = genuine;
    book.lines.push(first);
    assert_eq!(book.verdict(), Err(Finding::Replayed { number: 1, expected: 4 }));
}

#[test]
fn a_checkpoint_by_another_key_is_named_with_that_key() {
    let mut book = Book::sample();
    let other = Signer::new();
    let forged = other.sign_as(other.kid, Some(&book.checkpoint_at(1)), &span(&book, 11..=20));
    let at = book.line_of_checkpoint(2);
    book.lines[at] = Entry::Checkpoint(forged).to_json();
    let unknown = Finding::UnknownKey { number: 2, kid: other.kid.to_string() };
    assert_eq!(book.verdict(), Err(unknown));

    // The same, passing itself off as the audit key.
    let kid = book.signer.kid;
    let forged = other.sign_as(kid, Some(&book.checkpoint_at(1)), &span(&book, 11..=20));
    book.lines[at] = Entry::Checkpoint(forged).to_json();
    assert_eq!(book.verdict(), Err(Finding::BadSignature { number: 2 }));
}

#[test]
fn a_genuine_checkpoint_of_another_record_is_not_taken_for_this_ones() {
    let genuine = Book::sample();
    let mut other = Book::new(&genuine.signer);
    other.records(3);
    other.checkpoint();
    other.records(17);
    other.checkpoint();
    let theirs = |number| Entry::Checkpoint(other.checkpoint_at(number)).to_json();
    let mut book = genuine.clone();
    book.lines[genuine.line_of_checkpoint(1)] = theirs(1);
    let not_as_signed = Finding::NotAsSigned { first: 1, last: 3, checkpoint: 1 };
    // The first three records are the same in both: it is what follows that gives it away.
    assert_eq!(book.verdict(), Err(Finding::CheckpointReplaced { number: 2 }));
    book.forge(2, 35, |record| record.count = 0);
    assert_eq!(book.verdict(), Err(not_as_signed));
    let mut book = genuine.clone();
    book.lines[genuine.line_of_checkpoint(2)] = theirs(2);
    assert_eq!(book.verdict(), Err(Finding::CheckpointReplaced { number: 2 }));
}
