//! `signkeep audit …` as its reader meets it.

use super::book::{Book, Signer};
use super::stored::{Stored, audit};
use crate::harness::tools::{repository, run_command};
use serde_json::Value;
use signkeep::store::Store;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

#[tokio::test]
async fn what_is_exported_verifies_in_as_many_files_as_it_is_cut_into() {
    let (stored, _store) = Stored::sample().await;
    let whole = stored.audit(&["export", "--store", &stored.url()]).await;
    assert!(whole.success, "{whole:?}");
    let lines: Vec<&str> = whole.stdout.lines().collect();
    assert_eq!(lines.len(), 38);
    assert!(lines[10].starts_with("{\"checkpoint\":"), "after its last record: {}", lines[10]);
    for (name, part) in
        [("1.jsonl", &lines[..5]), ("2.jsonl", &lines[5..20]), ("3.jsonl", &lines[20..])]
    {
        stored.write(name, &format!("{}\n", part.join("\n")));
    }
    let files = ["--file", "1.jsonl", "2.jsonl", "3.jsonl"];
    let sound = stored.audit(&[&["verify", "--keys", "keys.json"], &files[..]].concat()).await;
    assert!(sound.success, "{sound:?}");
    let said: Vec<&str> = sound.stdout.lines().collect();
    assert_eq!(said[0], "Records 1 to 35: whole, in order, unchanged.");
    assert!(said[1].starts_with("Checkpoint 3, the last, signs up to record 30: by key "));
    assert_eq!(said[2], "Chained, not yet signed: 5.");
    assert!(said.contains(
        &"Records that tell of a gap; `signkeep audit list --action gap` shows them: 2."
    ));
    // What it says to keep is what --after takes, and what it takes has to be there.
    stored.write("kept.txt", said.last().unwrap());
    let verify = ["verify", "--keys", "keys.json", "--after", "kept.txt", "--at-least", "35"];
    assert!(stored.audit(&[&verify[..], &files].concat()).await.success);
    let cut = stored.audit(&[&verify[..], &files[..3]].concat()).await;
    assert!(!cut.success);
    assert!(cut.stderr.contains("checkpoint 3, which you kept"), "{cut:?}");
    let short = ["verify", "--keys", "keys.json", "--at-least", "36"];
    let short = stored.audit(&[&short[..], &files].concat()).await;
    assert!(short.stderr.contains("ends with number 35, but it had at least 36"), "{short:?}");

    // The files in another order are another record.
    let turned = ["verify", "--keys", "keys.json", "--file", "2.jsonl", "1.jsonl"];
    let turned = stored.audit(&turned).await;
    assert!(turned.stderr.contains("the record begins with number 6"), "{turned:?}");

    // From where the last export ended.
    stored.write("kept.txt", lines[10]);
    let rest = stored.audit(&["export", "--store", &stored.url(), "--since", "11"]).await;
    stored.write("rest.jsonl", &rest.stdout);
    assert_eq!(rest.stdout.lines().count(), 27);
    let verify = ["verify", "--keys", "keys.json", "--after", "kept.txt", "--file", "rest.jsonl"];
    let unsaid = stored.audit(&verify).await;
    assert!(unsaid.stderr.contains("say so with --partial"), "{unsaid:?}");
    let verdict = stored.audit(&[&verify[..], &["--partial"]].concat()).await;
    assert!(verdict.stdout.starts_with("Records 11 to 35: whole"), "{verdict:?}");
}

#[tokio::test]
async fn a_damaged_file_is_named_with_its_line_and_a_torn_end_is_left_out_with_a_note() {
    let (stored, _store) = Stored::sample().await;
    let whole = stored.audit(&["export", "--store", &stored.url()]).await.stdout;
    let verify = ["verify", "--keys", "keys.json", "--output", "json", "--file"];
    stored.write("a.jsonl", &whole.replacen("\"number\":14,", "\"number\":14 ,", 1));
    let said = stored.audit(&[&verify[..], &["a.jsonl"]].concat()).await;
    let finding: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&finding["finding"], &finding["record"]), (&"unreadable".into(), &14.into()));
    let words = "a.jsonl, line 15: is not in canonical form";
    assert!(finding["what"].as_str().unwrap().contains(words), "{finding}");
    assert!(said.stderr.contains("error: record 14 cannot be read"), "{said:?}");

    let torn = &whole[..whole.len() - 1];
    for end in [1, 40, 400] {
        stored.write("a.jsonl", &torn[..torn.len() - end]);
        let said = stored.audit(&[&verify[..], &["a.jsonl"]].concat()).await;
        let verdict: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(verdict["head"]["number"], 34, "{verdict}");
        assert!(said.stderr.starts_with("note: the last line of "), "{said:?}");
    }
    // An end that is missing in the middle is no end that is being written.
    stored.write("b.jsonl", &whole);
    let said = stored.audit(&[&verify[..], &["a.jsonl", "b.jsonl"]].concat()).await;
    assert!(said.stdout.contains("the line has no end"), "{said:?}");
    for empty in ["\n", &format!("{whole}\n"), &format!("{}\n", "x".repeat(1 << 21))] {
        stored.write("a.jsonl", empty);
        let said = stored.audit(&[&verify[..], &["a.jsonl"]].concat()).await;
        assert!(said.stdout.contains("\"unreadable\""), "{said:?}");
    }
}

#[tokio::test]
async fn keys_from_before_and_after_a_rotation_are_given_together() {
    let mut book = Book::sample();
    let older = Arc::clone(&book.signer);
    book.signer = Signer::new();
    book.checkpoint();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.jsonl", &format!("{}\n", book.lines.join("\n")));
    write("older.json", &older.jwks());
    write("newer.json", &book.signer.jwks());
    let verify = async |keys: &[&str]| {
        let args = [&["verify", "--file", "a.jsonl", "--keys"], keys].concat();
        audit(folder.path(), &args).await
    };
    assert!(verify(&["older.json", "newer.json"]).await.success);
    let said = verify(&["older.json"]).await;
    let words = format!("checkpoint 4 is signed by the key {}", book.signer.kid);
    assert!(said.stderr.contains(&words), "{said:?}");
    let said = verify(&["newer.json"]).await;
    assert!(said.stderr.contains("checkpoint 1 is signed by the key "), "{said:?}");
}

#[tokio::test]
async fn the_commands_of_the_documentation_work_as_pasted() {
    let (stored, store) = Stored::sample().await;
    let folder = stored.path("");
    std::fs::create_dir(folder.join(".signkeep")).unwrap();
    let export = stored.audit(&["export", "--store", &stored.url()]).await.stdout;
    let (first, second) = export.split_at(export.match_indices('\n').nth(12).unwrap().0 + 1);
    stored.write("audit-1.jsonl", first);
    stored.write("audit-2.jsonl", second);
    store.close().await;
    std::fs::copy(folder.join("keys.db"), folder.join(".signkeep/signkeep.db")).unwrap();
    let page = std::fs::read_to_string(repository("docs/audit.md")).unwrap();
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3, "{blocks:?}");
    let program = Path::new(env!("CARGO_BIN_EXE_signkeep"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    let script = format!("set -eu; cd '{}'; {}", folder.display(), blocks.join("\n"));
    shell.args(["-c", &script]).env("PATH", path);
    let said = run_command(shell).await;
    assert!(said.success, "{said:?}");
    assert_eq!(said.stdout.matches("Records 1 to 35: whole, in order, unchanged.").count(), 2);
}

#[tokio::test]
async fn the_keys_are_those_of_the_audit_key_set_without_revoked_ones() {
    let (stored, _store) = Stored::sample().await;
    let said = stored.audit(&["keys", "--store", &stored.url()]).await;
    let printed: Value = serde_json::from_str(&said.stdout).unwrap();
    let expected: Value = serde_json::from_str(&stored.signer.jwks()).unwrap();
    assert_eq!(printed, expected);
    stored
        .tamper(&["UPDATE keys SET state = 'revoked', token_ttl_us = NULL, \
                   current_until_us = publish_us, tokens_until_us = publish_us, \
                   revoke_us = publish_us, revoke_reason = 'stolen', destroy_due_us = publish_us"])
        .await;
    let said = stored.audit(&["keys", "--store", &stored.url()]).await;
    assert!(!said.success && said.stdout.is_empty(), "{said:?}");
    for words in [&format!("note: {} was revoked", stored.signer.kid), "no audit key"] {
        assert!(said.stderr.contains(words), "{said:?}");
    }
}

#[tokio::test]
async fn a_list_shows_what_it_is_asked_for_and_the_latest_of_it() {
    let (stored, _store) = Stored::sample().await;
    let url = stored.url();
    let list = async |args: &[&str]| {
        let said = stored.audit(&[&["list", "--store", &url][..], args].concat()).await;
        assert!(said.success, "{said:?}");
        said.stdout
    };
    let numbers = async |args: &[&str]| {
        let text = list(&[args, &["--output", "json"]].concat()).await;
        let listed: Value = serde_json::from_str(&text).unwrap();
        let records = listed["records"].as_array().unwrap().clone();
        records.iter().map(|record| record["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&[]).await, (1..=35).collect::<Vec<u64>>());
    assert_eq!(numbers(&["--limit", "3"]).await, [33, 34, 35]);
    assert_eq!(numbers(&["--action", "revoke"]).await, [6, 24]);
    assert_eq!(numbers(&["--key-set", "signkeep-audit"]).await, [1]);
    assert_eq!(numbers(&["--caller", "spiffe://example/issuer/9"]).await, [9]);
    assert_eq!(numbers(&["--since", "2026-09-21T14:13:54Z"]).await, [34, 35]);
    assert_eq!(numbers(&["--since", "2026-09-22"]).await, [0; 0]);
    let table = list(&["--action", "revoke", "--limit", "1"]).await;
    let row = table.lines().nth(1).unwrap();
    for words in
        ["24", "2026-09-21T14:13:44Z", "revoke", "default", "refused ×72", "line one\\nline two"]
    {
        assert!(row.contains(words), "{words}: {table}");
    }
    assert_eq!(list(&["--caller", "nobody"]).await, "There is no such record.\n");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_by_name() {
    let (stored, _store) = Stored::sample().await;
    stored.write("not.jwks", "{}");
    stored.write("not.db", &"not a database ".repeat(100));
    let (url, not_db) = (stored.url(), format!("sqlite:{}", stored.path("not.db").display()));
    let gone = format!("sqlite:{}", stored.path("gone.db").display());
    for (args, words) in [
        (
            &["verify", "--store", &url, "--keys", "not.jwks"][..],
            "is no JWKS: missing field `keys`",
        ),
        (&["verify", "--store", &url, "--keys", "gone.json"], "gone.json cannot be read"),
        (&["verify", "--store", &not_db, "--keys", "keys.json"], "not an SQLite database"),
        (
            &["verify", "--store", &gone, "--keys", "keys.json"],
            "gone.db: the database file cannot be opened",
        ),
        (&["verify", "--file", "gone.jsonl", "--keys", "keys.json"], "gone.jsonl cannot be read"),
        (
            &["verify", "--store", &url, "--keys", "keys.json", "--after", "keys.json"],
            "is not a checkpoint",
        ),
        (&["verify", "--store", "postgres:x", "--keys", "keys.json"], "must be sqlite:<path>"),
        (&["verify", "--keys", "keys.json"], "required arguments"),
        (&["verify", "--keys", "keys.json", "--store", &url, "--file", "a"], "cannot be used with"),
        (&["list", "--store", &url, "--action", "dance"], "must be one of create update"),
        (&["list", "--store", &url, "--since", "yesterday"], "must be a time or a date"),
    ] {
        let said = stored.audit(args).await;
        assert!(!said.success && said.stdout.is_empty(), "{args:?}: {said:?}");
        assert!(said.stderr.contains(words), "{args:?}: {said:?}");
    }
    assert!(!stored.path("gone.db").exists(), "an auditor makes no database");
}
