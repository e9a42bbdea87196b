//! A verifier that was written from `docs/audit.md` alone, in another language, comes to the same
//! verdict.

use super::book::Book;
use crate::harness::tools::{python, repository, run};
use serde_json::Value;
use std::fs;

async fn verdict(book: &Book) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (keys, first, second) =
        (folder.path().join("keys.json"), folder.path().join("1"), folder.path().join("2"));
    fs::write(&keys, book.signer.jwks()).unwrap();
    let middle = book.lines.len() / 2;
    for (file, lines) in [(&first, &book.lines[..middle]), (&second, &book.lines[middle..])] {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(file, text).unwrap();
    }
    let script = repository("tests/clients/python/audit_verify.py");
    let said = run(python(), [script, keys, first, second]).await;
    assert!(said.success, "{said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

async fn agrees(what: &str, change: impl FnOnce(&mut Book)) {
    let mut book = Book::sample();
    change(&mut book);
    let (ours, theirs) = (book.verdict(), verdict(&book).await);
    assert_eq!(theirs["sound"], ours.is_ok(), "{what}: {theirs}, {ours:?}");
    match ours {
        Ok(ours) => {
            assert_eq!(theirs["head"], ours.head.hash.to_string(), "{what}");
            assert_eq!(theirs["records"], ours.head.number, "{what}");
            assert_eq!(theirs["checkpoints"], ours.checkpoints, "{what}");
            assert_eq!(theirs["unsigned"], ours.unsigned, "{what}");
        }
        // It does not look around for what is missing, so it names no more than the place.
        Err(finding) if theirs["record"].is_u64() => {
            assert_eq!(theirs["record"].as_u64(), finding.record(), "{what}: {theirs}, {finding}");
        }
        Err(finding) => assert!(finding.checkpoint().is_some(), "{what}: {theirs}, {finding}"),
    }
}

#[tokio::test]
async fn a_verifier_written_from_the_documentation_agrees() {
    agrees("as it is", |_| {}).await;
    agrees("signed to the end", Book::checkpoint).await;
    for (name, from, to) in [
        ("number", "\"number\":14", "\"number\":13"),
        ("caller", "issuer/14", "issuer/41"),
        ("white space", "{\"action\"", "{ \"action\""),
        ("an escape", "\\n", "\\u000a"),
        ("a member more", "{\"action\"", "{\"a\":\"\",\"action\""),
        ("a number as text", "\"count\":42", "\"count\":\"42\""),
        ("no JSON", "}", ""),
    ] {
        agrees(name, |book| {
            let line = book.line_of(14);
            assert!(book.lines[line].contains(from), "{from}");
            book.lines[line] = book.lines[line].replacen(from, to, 1);
        })
        .await;
    }
    agrees("dropped", |book| drop(book.lines.remove(book.line_of(14)))).await;
    agrees("swapped", |book| {
        let (one, other) = (book.line_of(14), book.line_of(15));
        book.lines.swap(one, other);
    })
    .await;
    agrees("hashed anew to the end", |book| book.forge(14, 35, |record| record.count = 1)).await;
    agrees("cut off", |book| book.lines.truncate(book.line_of(33))).await;
    agrees("records cut off", |book| {
        let from = book.line_of(26);
        let checkpoint = book.lines[book.line_of_checkpoint(3)].clone();
        book.lines.truncate(from);
        book.lines.push(checkpoint);
    })
    .await;
    agrees("a checkpoint dropped", |book| drop(book.lines.remove(book.line_of_checkpoint(2))))
        .await;
    agrees("checkpoints swapped", |book| {
        let (one, other) = (book.line_of_checkpoint(1), book.line_of_checkpoint(2));
        book.lines.swap(one, other);
    })
    .await;
    agrees("an old checkpoint once more", |book| {
        let copy = book.lines[book.line_of_checkpoint(1)].clone();
        book.lines.push(copy);
    })
    .await;
    agrees("a signature changed", |book| {
        let line = book.line_of_checkpoint(2);
        let at = book.lines[line].len() - 40;
        let other = if book.lines[line].as_bytes()[at] == b'A' { "B" } else { "A" };
        book.lines[line].replace_range(at..=at, other);
    })
    .await;
    agrees("another's signature", |book| {
        let other = Book::sample();
        let (line, theirs) = (book.line_of_checkpoint(1), other.line_of_checkpoint(1));
        book.lines[line].clone_from(&other.lines[theirs]);
    })
    .await;
}
