//! The rules, each from a file to its breaches, and each shown to be able to fail.

use super::source::Source;

/// A sentence that names file, line and rule.
pub(super) type Breach = String;

/// Each room, and the rooms that it may know.
const ARROWS: [(&str, &[&str]); 23] = [
    ("key", &[]),
    ("jose", &["key"]),
    ("x509", &["jose", "key"]),
    ("clock", &["key"]),
    ("audit", &["clock", "jose", "key"]),
    ("backend", &["clock", "jose", "key", "x509"]),
    ("store", &["audit", "backend", "clock", "jose", "key"]),
    ("health", &[]),
    ("shutdown", &[]),
    ("metrics", &["audit", "health", "key"]),
    ("telemetry", &["config"]),
    (
        "keyring",
        &[
            "audit", "backend", "clock", "health", "jose", "key", "metrics", "shutdown", "store",
            "x509",
        ],
    ),
    ("transport", &["clock", "key"]),
    ("access", &["clock", "jose", "key", "transport"]),
    ("grpc", &GRPC),
    ("http", &FACE),
    ("management", &WITH_HTTP),
    ("console", &FACE),
    ("config", &["access", "key", "management", "transport", "x509"]),
    ("app", &ALL_BUT_CLI),
    ("cli", &WITH_APP),
    ("lib", &WITH_APP),
    ("main", &WITH_APP),
];

/// What a face may know: the custodian, what it speaks of, and how the service is.
const FACE: [&str; 12] = [
    "access",
    "audit",
    "backend",
    "clock",
    "health",
    "jose",
    "key",
    "keyring",
    "metrics",
    "shutdown",
    "transport",
    "x509",
];

/// The same, and the documents that the public face renders, for those of another under it.
const WITH_HTTP: [&str; 13] = [
    "access",
    "audit",
    "backend",
    "clock",
    "health",
    "http",
    "jose",
    "key",
    "keyring",
    "metrics",
    "shutdown",
    "transport",
    "x509",
];

/// The same as a face, and the store's errors, which `grpc/status.rs` sorts for the caller.
const GRPC: [&str; 13] = [
    "access",
    "audit",
    "backend",
    "clock",
    "health",
    "jose",
    "key",
    "keyring",
    "metrics",
    "shutdown",
    "store",
    "transport",
    "x509",
];

const ALL_BUT_CLI: [&str; 19] = [
    "access",
    "audit",
    "backend",
    "clock",
    "config",
    "console",
    "grpc",
    "health",
    "http",
    "jose",
    "key",
    "keyring",
    "management",
    "metrics",
    "shutdown",
    "store",
    "telemetry",
    "transport",
    "x509",
];

const WITH_APP: [&str; 21] = [
    "access",
    "app",
    "audit",
    "backend",
    "cli",
    "clock",
    "config",
    "console",
    "grpc",
    "health",
    "http",
    "jose",
    "key",
    "keyring",
    "management",
    "metrics",
    "shutdown",
    "store",
    "telemetry",
    "transport",
    "x509",
];

/// Libraries, by the start of their names, and the only places that may name them.
const LIBRARIES: [(&str, &[&str]); 14] = [
    ("cryptoki", &["src/backend/pkcs11"]),
    ("aws_sdk", &["src/backend/aws_kms"]),
    ("aws_config", &["src/backend/aws_kms"]),
    ("aws_lc_rs", &["src/access/fetch", "src/jose", "src/transport"]),
    ("aws_smithy", &["src/backend/aws_kms"]),
    ("rustls", &["src/transport", "src/access", "src/cli/client", "src/main"]),
    ("tokio_rustls", &["src/transport"]),
    ("argon2", &["src/backend/pkcs11", "src/management"]),
    ("form_urlencoded", &["src/management"]),
    ("sqlx", &["src/store"]),
    ("tonic", &["src/grpc", "src/app", "src/cli"]),
    ("prost", &["src/grpc", "src/app", "src/cli"]),
    ("axum", &["src/http", "src/management", "src/console", "src/app"]),
    ("anyhow", &["src/app", "src/cli", "src/main"]),
];

/// Libraries that start like one of [`LIBRARIES`] and are free to be named elsewhere.
const OTHERS: [&str; 1] = ["prometheus_client"];

/// A file of tests beyond this is two files.
const LINES_MAX: usize = 700;
/// A file under `src/` beyond this, not counting blank lines, comments and unit tests, is two.
const SHIPPED_LINES_MAX: usize = 500;

/// Paths from a room to one that it may not know.
pub(super) fn arrows(source: &Source) -> Vec<Breach> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    let Some((_, may_know)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: the house has no room {room}", source.path)];
    };
    mentioned(source)
        .into_iter()
        .filter(|(_, other)| other != room && ARROWS.iter().any(|(name, _)| name == other))
        .filter(|(_, other)| !may_know.contains(&other.as_str()))
        .map(|(line, other)| format!("{}:{line}: {room} may not know {other}", source.path))
        .collect()
}

/// The rooms that the file names, as `crate::room`, `signkeep::room`, `crate::{room, …}`, or by
/// enough `super`s.
fn mentioned(source: &Source) -> Vec<(usize, String)> {
    let tokens = source.tokens();
    let name = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    // src/store.rs is one step below the crate, src/store/row.rs two.
    let depth = source.path.matches('/').count();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let supers =
            (0..).take_while(|n| name(at + 2 * n) == "super" && name(at + 2 * n + 1) == "::");
        let supers = supers.count();
        let root = if ["crate", "signkeep"].contains(&name(at)) && name(at + 1) == "::" {
            Some(at + 2)
        } else {
            (supers > 0 && supers >= depth).then_some(at + 2 * supers)
        };
        let Some(first) = root else {
            at += 2 * supers + 1;
            continue;
        };
        if name(first) == "{" {
            let mut depth = 1;
            at = first + 1;
            while depth > 0 && at < tokens.len() {
                if depth == 1 && ["{", ","].contains(&name(at - 1)) {
                    found.push((tokens[at].0, name(at).to_owned()));
                }
                match name(at) {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                at += 1;
            }
        } else {
            found.push((tokens.get(first).map_or(0, |(line, _)| *line), name(first).to_owned()));
            at = first + 1;
        }
    }
    found
}

/// Libraries named where they do not belong.
pub(super) fn libraries(source: &Source) -> Vec<Breach> {
    let tokens = source.tokens();
    let mut breaches = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        let follows = |mark: &str| tokens.get(at + 1).is_some_and(|(_, next)| *next == mark);
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].1);
        let path_goes_on = before(2).starts_with(char::is_alphabetic)
            && !["use", "dyn", "as", "impl", "in"].contains(&before(2));
        let within = before(1) == "::" && path_goes_on;
        let used = before(1) == "use";
        if within || !(follows("::") || used) || OTHERS.contains(token) {
            continue;
        }
        for (library, places) in LIBRARIES {
            let named = *token == library || token.starts_with(&format!("{library}_"));
            let belongs = places.iter().any(|place| source.path.starts_with(place));
            if named && !belongs {
                let path = &source.path;
                breaches.push(format!("{path}:{line}: {token} is named only in {places:?}"));
            }
        }
    }
    breaches
}

/// Lints silenced by `allow`, and code left for later.
pub(super) fn leftovers(source: &Source) -> Vec<Breach> {
    let forbidden = ["#[allow(", "#![allow(", "todo!(", "unimplemented!(", "dbg!("];
    let mut breaches = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        for word in forbidden.iter().filter(|word| line.contains(*word)) {
            breaches.push(format!("{}:{}: {word}…) is not for keeps", source.path, number + 1));
        }
    }
    breaches
}

/// Files that are too long, or do not say what they are for.
pub(super) fn shape(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let lines = source.text.lines().count();
    let shipped = source.shipped.lines().filter(|line| !line.trim().is_empty()).count();
    let too_long = if source.path.starts_with("src/") {
        shipped > SHIPPED_LINES_MAX
    } else {
        lines > LINES_MAX
    };
    if too_long {
        breaches.push(format!("{}: {lines} lines are two files", source.path));
    }
    if !source.text.starts_with("//!") && !source.is_tests() {
        breaches.push(format!("{}: does not open with //! and what it is for", source.path));
    }
    breaches
}

/// Paths that exist on one machine only.
pub(super) fn machine_paths(path: &str, text: &str) -> Vec<Breach> {
    let forbidden = ["work", "root", "home"].map(|top| format!("/{top}/"));
    let mut breaches = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for place in forbidden.iter().filter(|place| names_path(line, place)) {
            breaches.push(format!("{path}:{}: names {place}", number + 1));
        }
    }
    breaches
}

/// Whether `place` stands in `line` as the start of an absolute path.
fn names_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "_-.}/".contains(c)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn caught(rule: fn(&Source) -> Vec<Breach>, path: &str, text: &str, expected: &[&str]) {
        let breaches = rule(&Source::new(path, text));
        assert_eq!(breaches.len(), expected.len(), "{breaches:?}");
        for (breach, expected) in breaches.iter().zip(expected) {
            assert!(breach.contains(expected), "{breach:?} is not about {expected}");
        }
    }

    #[test]
    fn an_arrow_that_runs_up_is_caught_however_it_is_written() {
        caught(
            arrows,
            "src/key/id.rs",
            "use crate::store::Store;",
            &["id.rs:1: key may not know store"],
        );
        caught(
            arrows,
            "src/key/id.rs",
            "\nfn f() { crate::jose::g() }",
            &["id.rs:2: key may not know jose"],
        );
        caught(
            arrows,
            "src/store.rs",
            "use crate::{\n key::{Kid, grpc},\n http::{a, b},\n keyring,\n};",
            &["store.rs:3: store may not know http", "store.rs:4: store may not know keyring"],
        );
        caught(arrows, "src/store/row.rs", "use super::super::grpc::x;", &["may not know grpc"]);
        caught(arrows, "src/grpc/keys.rs", "use crate::http::jwks;", &["grpc may not know http"]);
        caught(arrows, "src/keyring.rs", "use super::config;", &["keyring may not know config"]);
        caught(arrows, "src/attic.rs", "", &["the house has no room attic"]);
    }

    #[test]
    fn an_arrow_that_runs_down_is_let_pass() {
        caught(arrows, "src/keyring/rotate.rs", "use crate::store::Store; use super::sign;", &[]);
        caught(
            arrows,
            "src/key/id.rs",
            "// crate::store\n#[cfg(test)]\nmod t { use crate::app; }",
            &[],
        );
        caught(arrows, "src/main.rs", "use signkeep::cli;", &[]);
        caught(arrows, "src/store/row.rs", "use super::grpc_like; use crate::key::store;", &[]);
    }

    #[test]
    fn a_library_out_of_place_is_caught() {
        caught(
            libraries,
            "src/keyring/sign.rs",
            "use cryptoki::context;",
            &["sign.rs:1: cryptoki"],
        );
        caught(libraries, "src/http.rs", "fn f() -> tonic_types::Status {}", &["tonic_types"]);
        caught(libraries, "src/http.rs", "fn f() -> ::sqlx::Error {}", &["sqlx"]);
        caught(libraries, "src/key.rs", "use anyhow;", &["anyhow"]);
        caught(libraries, "src/backend/pkcs11/worker.rs", "use cryptoki::session::Session;", &[]);
        caught(libraries, "src/store/sqlite.rs", "use sqlx::Row; use prometheus_client::x;", &[]);
        caught(libraries, "src/key.rs", "let tonic = 1; // sqlx::Row", &[]);
    }

    #[test]
    fn what_is_left_over_is_caught() {
        caught(leftovers, "src/key.rs", "#[allow(dead_code)]\nfn f() {}", &["key.rs:1"]);
        caught(leftovers, "src/key.rs", "\nfn f() { todo!() }", &["key.rs:2"]);
        caught(leftovers, "src/key.rs", "// todo!()\n#[expect(x, reason = \"allow(\")]", &[]);
    }

    #[test]
    fn a_file_that_is_long_or_silent_is_caught() {
        let long = "//! Long.\n".to_owned() + &"fn f() {}\n".repeat(SHIPPED_LINES_MAX + 1);
        caught(shape, "src/key.rs", &long, &["two files"]);
        caught(shape, "src/key.rs", "use x;", &["does not open"]);
        caught(shape, "src/key.rs", "//! What a key is.", &[]);
    }

    #[test]
    fn a_path_of_one_machine_is_caught() {
        let place = format!("{}home{}someone", '/', '/');
        assert_eq!(machine_paths("README.md", &format!("see {place}/x")).len(), 1);
        assert!(machine_paths("README.md", "https://example.com/home/ and src/work/x").is_empty());
    }
}
