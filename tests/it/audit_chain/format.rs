//! The format, to the byte: what `docs/audit.md` promises to people who write verifiers.

use super::book::{Signer, judge};
use crate::harness::store::{at, kid};
use crate::harness::tools::repository;
use signkeep::audit::{Action, Checkpoint, Entry, Hash, Head, Keys, Known, Linked, Origin, Record};
use std::fs;

/// The text of the first block of `kind` under the heading `heading` of the documentation.
pub(super) fn example(heading: &str, kind: &str) -> String {
    let page = fs::read_to_string(repository("docs/audit.md")).unwrap();
    let section = page.split_once(&format!("## {heading}\n")).expect("the heading").1;
    let section = section.split("\n## ").next().unwrap();
    let block = section.split_once(&format!("```{kind}\n")).expect("a block").1;
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_example_of_the_documentation_verifies_and_shows_every_member() {
    let text = example("An example", "json");
    let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    let keys = Keys::from_jwks(&example("The keys", "json")).unwrap();
    let verdict = judge(&lines, keys, Known::default()).unwrap();
    assert_eq!((verdict.head.number, verdict.checkpoints, verdict.unsigned), (3, 1, 1));
    for member in [
        "action", "caller", "count", "detail", "digest", "hash", "key_set", "kid", "listener",
        "number", "outcome", "previous", "reason", "request", "time",
    ] {
        assert!(text.contains(&format!("\"{member}\":")), "{member}");
    }
}

#[test]
fn what_is_empty_is_left_out_and_the_rest_is_in_the_order_of_names() {
    let record = Record::new(at(0), &Origin::service(""), Action::Start);
    let linked = { Head::EMPTY }.link(record);
    let zero = "0".repeat(64);
    let hashed = format!(
        "{{\"action\":\"start\",\"caller\":\"signkeep\",\"count\":1,\"number\":1,\
         \"outcome\":\"done\",\"previous\":\"{zero}\",\"time\":\"2026-09-21T14:13:20.123457Z\"}}"
    );
    assert_eq!(linked.hash, Hash::of(hashed.as_bytes()));
    let hash = linked.hash;
    let line = hashed.replacen("\"number\"", &format!("\"hash\":\"{hash}\",\"number\""), 1);
    assert_eq!(linked.to_json(), line);
    assert_eq!(Linked::from_json(&line), Ok(linked));
}

#[test]
fn what_a_reader_could_not_read_back_is_cut_off_before_it_is_hashed() {
    let mut record = Record::new(at(0), &Origin::service(""), Action::Gap);
    record.time = jiff::Timestamp::new(1_790_000_000, 999_999_999).unwrap();
    record.count = u64::MAX;
    let linked = { Head::EMPTY }.link(record);
    assert_eq!(linked.record.time.subsec_nanosecond(), 999_999_000);
    assert_eq!(linked.record.count, (1 << 53) - 1);
    assert_eq!(Linked::from_json(&linked.to_json()), Ok(linked));
}

#[test]
fn a_line_that_is_wrong_says_which_member_and_what_would_be_right() {
    let good = { Head::EMPTY }.link(super::book::record(4)).to_json();
    for (from, to, words) in [
        ("\"number\":1", "\"number\":0", "number: must be 1 to 9007199254740991"),
        ("\"number\":1", "\"number\":9007199254740992", "number: must be 1 to 9007199254740991"),
        ("\"outcome\":\"refused\"", "\"outcome\":\"no\"", "outcome: must be one of done refused"),
        (
            "\"digest\":\"sha256:",
            "\"digest\":\"md5:",
            "digest: must be sha256:, sha384: or sha512:",
        ),
        ("\"key_set\":\"default\"", "\"key_set\":\"-\"", "key_set: must be 1 to 63 characters"),
        ("\"count\":12", "\"count\":-1", "invalid value"),
        ("\"time\":\"2026", "\"time\":\"20z6", "time: "),
        ("{", "{\"Action\":1,", "unknown field `Action`"),
        ("{", "{ ", "is not in canonical form (RFC 8785)"),
    ] {
        let wrong = good.replacen(from, to, 1);
        assert_ne!(wrong, good, "{from}");
        let error = Linked::from_json(&wrong).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_checkpoint_is_a_jws_of_exactly_one_form() {
    let book = super::book::Book::sample();
    let jws = book.checkpoint_at(2).as_jws().to_owned();
    assert_eq!(Checkpoint::parse(&jws).unwrap(), book.checkpoint_at(2));
    let parts: Vec<&str> = jws.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{jws}") };
    let header_of = |text: &str| {
        format!("{}.{payload}.{signature}", signkeep::jose::base64url(text.as_bytes()))
    };
    let kid = book.signer.kid;
    for (wrong, words) in [
        (format!("{header}.{payload}"), "three parts"),
        (format!("{jws}."), "three parts"),
        (format!("{header}.{payload}=.{signature}"), "payload must be base64url"),
        (format!("{header}.{payload}.{}_", &signature[..85]), "signature must be base64url"),
        (
            header_of(&format!(
                r#"{{"alg":"none","kid":"{kid}","typ":"signkeep-checkpoint+jws"}}"#
            )),
            "alg: ",
        ),
        (
            header_of(&format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#)),
            "its header must be",
        ),
        (
            header_of(&format!(
                r#"{{"kid":"{kid}","alg":"ES256","typ":"signkeep-checkpoint+jws"}}"#
            )),
            "its header must be",
        ),
        (
            header_of(&format!(
                r#"{{"alg":"ES256","kid":"{kid}","jwk":{{}},"typ":"signkeep-checkpoint+jws"}}"#
            )),
            "unknown field",
        ),
    ] {
        let error = Checkpoint::parse(&wrong).unwrap_err().to_string();
        assert!(error.contains(words), "{wrong}: {error}");
    }
    let line = Entry::Checkpoint(book.checkpoint_at(2)).to_json();
    assert!(Entry::from_json(&line.replace("\"}", "\" }")).is_err());
}

#[test]
fn a_jwks_of_the_keys_is_read_strictly() {
    let signer = Signer::new();
    let jwks = signer.jwks();
    assert_eq!(Keys::from_jwks(&jwks).unwrap(), signer.keys());
    let own = signer.kid.to_string();
    let other = kid(3).to_string();
    for (from, to, words) in [
        ("\"ES256\"", "\"ES384\"", "keys[0].alg: ES384 does not sign with such a key"),
        ("\"ES256\"", "\"none\"", "keys[0].alg: "),
        ("\"P-256\"", "\"P-255\"", "keys[0].crv: must be"),
        ("\"EC\"", "\"oct\"", "keys[0].kty: must be"),
        ("\"x\":\"", "\"x\":\"+", "keys[0].x: must be base64url"),
        ("\"keys\":[", "\"keys\":[],\"more\":[", "keys: there is none in it"),
        ("{", "[", "is no JWKS"),
        (own.as_str(), other.as_str(), "keys[0].kid: must be the key's RFC 7638"),
    ] {
        let wrong = jwks.replacen(from, to, 1);
        assert_ne!(wrong, jwks, "{from}");
        let error = Keys::from_jwks(&wrong).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
