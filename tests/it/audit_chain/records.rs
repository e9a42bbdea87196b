//! Records changed, dropped, put in, moved and cut off.

use super::book::{Book, judge};
use signkeep::audit::{Finding, Hash, Head, Known};

#[test]
fn a_flipped_bit_anywhere_in_a_record_names_it() {
    let book = Book::sample();
    for number in [1, 14, 30, 35] {
        let at = book.line_of(number);
        for byte in 0..book.lines[at].len() {
            let mut line = book.lines[at].clone().into_bytes();
            line[byte] ^= 1 << (byte % 8);
            let mut lines: Vec<&[u8]> = book.lines.iter().map(String::as_bytes).collect();
            lines[at] = &line;
            let finding = judge(&lines, book.signer.keys(), Known::default()).unwrap_err();
            assert_eq!(finding.record(), Some(number), "byte {byte}: {finding}");
            let changed = matches!(finding, Finding::Changed { .. } | Finding::Unreadable { .. });
            assert!(changed, "byte {byte}: {finding}");
        }
    }
}

#[test]
fn a_member_that_is_left_out_added_or_written_otherwise_names_the_record() {
    let genuine = Book::sample();
    let line = genuine.lines[genuine.line_of(14)].clone();
    let members = line.trim_matches(['{', '}']).split(",\"").count();
    assert_eq!(members, 15, "every member is there: {line}");
    for (from, to) in [
        ("\"count\":42", "\"count\":42.0"),
        ("\"count\":42", "\"count\":4.2e1"),
        ("\"count\":42,", ""),
        ("\"detail\"", " \"detail\""),
        ("\"detail\":\"line", "\"detail\":\"\\u006cine"),
        ("\"detail\":\"line one\\nline two\",", ""),
        ("{\"action\"", "{\"a\":1,\"action\""),
        ("\"key_set\":\"default\"", "\"key_set\":\"default\",\"key_set\":\"default\""),
        ("\"key_set\":\"default\"", "\"key_set\":null"),
        ("\"key_set\":\"default\",", ""),
        ("Z\"}", "+00:00\"}"),
        ("Z\"}", "Z\"}\u{a0}"),
        ("Z\"}", "Z\"}{}"),
    ] {
        let mut book = Book::sample();
        let changed = line.replacen(from, to, 1);
        assert_ne!(changed, line, "{from}");
        book.lines[genuine.line_of(14)] = changed;
        let finding = book.verdict().unwrap_err();
        assert_eq!(finding.record(), Some(14), "{from} as {to}: {finding}");
    }
}

#[test]
fn a_dropped_record_is_named() {
    for number in 2..35 {
        let mut book = Book::sample();
        book.lines.remove(book.line_of(number));
        let finding = book.verdict().unwrap_err();
        let expected = Finding::Missing { first: number, last: number, found: number + 1 };
        assert_eq!(finding, expected);
    }
    let mut book = Book::sample();
    book.lines.remove(0);
    assert_eq!(book.verdict(), Err(Finding::Beheaded { number: 2 }));
    let mut book = Book::sample();
    let (from, to) = (book.line_of(12), book.line_of(17));
    book.lines.drain(from..to);
    assert_eq!(book.verdict(), Err(Finding::Missing { first: 12, last: 16, found: 17 }));
}

#[test]
fn records_that_changed_places_are_named_by_the_first() {
    for number in 2..35 {
        let mut book = Book::sample();
        let (one, other) = (book.line_of(number), book.line_of(number + 1));
        book.lines.swap(one, other);
        assert_eq!(book.verdict(), Err(Finding::Moved { number, after: number + 1 }));
    }
    let mut book = Book::sample();
    book.lines.swap(0, 1);
    assert_eq!(book.verdict().unwrap_err().record(), Some(1));
    let mut book = Book::sample();
    let moved = book.lines.remove(book.line_of(5));
    let to = book.line_of(26);
    book.lines.insert(to, moved);
    assert_eq!(book.verdict(), Err(Finding::Moved { number: 5, after: 25 }));
}

#[test]
fn a_record_that_was_put_in_is_named() {
    let mut book = Book::sample();
    let copy = book.lines[book.line_of(5)].clone();
    let to = book.line_of(10);
    book.lines.insert(to, copy);
    assert_eq!(book.verdict(), Err(Finding::Inserted { number: 5, after: 9 }));

    // One that fits what stands before it.
    let mut book = Book::sample();
    let mut head = book.linked(14).head();
    let to = book.line_of(15);
    book.lines.insert(to, head.link(super::book::record(99)).to_json());
    assert_eq!(book.verdict(), Err(Finding::Inserted { number: 15, after: 15 }));
}

#[test]
fn a_record_that_was_changed_and_hashed_anew_is_named_by_what_comes_after_it() {
    for number in (1..35).filter(|number| number % 10 != 0) {
        let mut book = Book::sample();
        book.forge(number, number, |record| record.caller = "somebody else".into());
        assert_eq!(book.verdict(), Err(Finding::Rehashed { number }));
    }
    // The last that a checkpoint covers: the checkpoint says so first.
    let mut book = Book::sample();
    book.forge(20, 20, |record| record.count += 1);
    let signed = Finding::NotAsSigned { first: 11, last: 20, checkpoint: 2 };
    assert_eq!(book.verdict(), Err(signed));
}

#[test]
fn a_record_put_in_the_place_of_one_after_a_checkpoint_is_named() {
    for number in [1, 11, 21, 31] {
        let mut book = Book::sample();
        let mut head = Head { number: number - 1, hash: Hash::of(b"another record") };
        let line = book.line_of(number);
        book.lines[line] = head.link(super::book::record(99)).to_json();
        assert_eq!(book.verdict(), Err(Finding::Replaced { number }));
    }
}

#[test]
fn what_was_hashed_anew_to_the_end_is_found_by_the_checkpoint_that_signed_it() {
    for (number, (first, last, checkpoint)) in
        [(1, (1, 10, 1)), (10, (1, 10, 1)), (14, (11, 20, 2)), (30, (21, 30, 3))]
    {
        let mut book = Book::sample();
        book.forge(number, 35, |record| record.detail.clear());
        assert_eq!(book.verdict(), Err(Finding::NotAsSigned { first, last, checkpoint }));
    }
    // Nothing has signed what comes after the last checkpoint.
    let mut book = Book::sample();
    book.forge(31, 35, |record| record.detail.clear());
    assert_eq!(book.verdict().unwrap().unsigned, 5);
}

#[test]
fn an_end_that_was_cut_off_is_found_by_what_signed_it_or_by_what_was_kept() {
    let genuine = Book::sample();
    // After the last checkpoint: only who knows how many there were can tell.
    let mut book = Book::sample();
    book.lines.truncate(book.line_of(33));
    assert_eq!(book.verdict().unwrap().head.number, 32);
    let known = Known { at_least: 35, ..Known::default() };
    assert_eq!(book.verdict_of(known), Err(Finding::TooShort { ended: 32, at_least: 35 }));

    // Records and not the checkpoint.
    let mut book = Book::sample();
    book.lines.drain(book.line_of(26)..book.line_of_checkpoint(3));
    let cut = book.line_of(31);
    book.lines.truncate(cut);
    assert_eq!(book.verdict(), Err(Finding::Truncated { ended: 25, signed: 30, checkpoint: 3 }));

    // Records and the checkpoint.
    let mut book = genuine.clone();
    book.lines.truncate(book.line_of(26));
    assert_eq!(book.verdict().unwrap().head.number, 25);
    assert_eq!(book.verdict_after(&genuine, 2).unwrap().head.number, 25);
    let missing = Finding::KeptMissing { number: 3, last: 30 };
    assert_eq!(book.verdict_after(&genuine, 3), Err(missing));
}

/// The book without the lines before record `number`.
fn from(mut book: Book, number: u64) -> Book {
    book.lines.drain(..book.line_of(number));
    book
}

#[test]
fn a_record_whose_beginning_was_moved_away_goes_on_from_a_kept_checkpoint() {
    let genuine = Book::sample();
    // Just after it, and in the middle of what it covers.
    for (number, kept) in [(21, 2), (15, 2), (11, 1), (31, 3), (2, 1), (2, 3)] {
        let verdict = from(genuine.clone(), number).verdict_of_rest(&genuine, kept).unwrap();
        assert_eq!((verdict.first, verdict.head.number), (number, 35));
        assert_eq!(verdict.last, Some(genuine.checkpoint_at(3)));
        assert_eq!(verdict.unsigned, 5);
    }
    let rest = from(genuine.clone(), 15);
    assert_eq!(rest.verdict(), Err(Finding::Beheaded { number: 15 }));
    // It has to be said that it was moved away: otherwise it was cut off.
    assert_eq!(rest.verdict_after(&genuine, 2), Err(Finding::Beheaded { number: 15 }));
    let missing = Finding::Missing { first: 11, last: 14, found: 15 };
    assert_eq!(rest.verdict_of_rest(&genuine, 1), Err(missing));
    // What is left ends before the kept checkpoint does.
    let mut cut = from(genuine.clone(), 15);
    cut.lines.truncate(cut.line_of(18));
    let truncated = Finding::Truncated { ended: 17, signed: 20, checkpoint: 2 };
    assert_eq!(cut.verdict_of_rest(&genuine, 2), Err(truncated));
}

#[test]
fn a_change_before_the_kept_checkpoint_is_found_though_the_beginning_was_moved_away() {
    let genuine = Book::sample();
    let mut book = from(genuine.clone(), 15);
    book.forge(17, 17, |record| record.reason.clear());
    assert_eq!(book.verdict_of_rest(&genuine, 2), Err(Finding::Rehashed { number: 17 }));
    book.forge(17, 35, |record| record.reason.clear());
    let not_as_signed = Finding::NotAsSigned { first: 15, last: 20, checkpoint: 2 };
    assert_eq!(book.verdict_of_rest(&genuine, 2), Err(not_as_signed));
    let mut book = from(genuine.clone(), 21);
    book.forge(21, 35, |record| record.reason.clear());
    let not_as_signed = Finding::NotAsSigned { first: 21, last: 30, checkpoint: 3 };
    assert_eq!(book.verdict_of_rest(&genuine, 2), Err(not_as_signed));
}
