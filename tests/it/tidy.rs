//! Holds the house in order: who may know whom, which library is named where, and a few things that
//! no lint sees. Rooms and arrows are those of the picture below; a new arrow is a decision, and is
//! drawn here first.
//!
//! ```text
//!              main ── cli
//!                │
//!               app ──── config  telemetry  metrics  shutdown  health
//!     ┌──────┬───┴───┬─────────┐
//!   grpc   http  management  console      faces: translate, decide nothing
//!     └──────┴───┬───┴─────────┘
//!                │      access
//!             keyring                     custodian
//!       ┌────────┼────────┬──────┐
//!    backend   store    audit   clock     ports, adapters beneath them
//!       └────┬───┘
//!       x509 │ jose                       pure
//!            └─── key                     ground floor
//! ```

mod rules;
mod source;

use crate::harness::tools::repository;
use rules::Breach;
use source::Source;
use std::fs;
use std::path::Path;

/// What may stand at the top of the repository, beside dotfiles.
const TOP_LEVEL: [&str; 15] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "build.rs",
    "deploy",
    "docs",
    "fuzz",
    "proto",
    "softhsm",
    "src",
    "target",
    "tests",
    "clippy.toml",
];

/// Every text file of the repository that people wrote, by its path from the top.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&repository(""), "", &mut found);
    assert!(found.len() > 40, "only {} files were found", found.len());
    found
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let foreign = ["target", ".git", ".signkeep", "node_modules", "__pycache__", "Cargo.lock"];
        if foreign.contains(&name.as_str()) || name == "LICENSE" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), found);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push((path, text));
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let sources: Vec<Source> = texts()
        .into_iter()
        .filter(|(path, _)| path.starts_with(folder) && path.ends_with(".rs"))
        .map(|(path, text)| Source::new(&path, &text))
        .collect();
    assert!(!sources.is_empty(), "no Rust in {folder}");
    sources
}

#[track_caller]
fn none(breaches: Vec<Breach>) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn imports_run_the_way_that_the_house_is_drawn() {
    none(sources("src/").iter().flat_map(rules::arrows).collect());
}

#[test]
fn each_library_is_named_only_where_it_belongs() {
    none(sources("src/").iter().flat_map(rules::libraries).collect());
}

#[test]
fn no_lint_is_silenced_for_good_and_nothing_is_left_to_do() {
    let mut all = sources("src/");
    all.extend(sources("tests/"));
    none(all.iter().flat_map(rules::leftovers).collect());
}

#[test]
fn files_are_short_and_open_with_what_they_are_for() {
    let mut all = sources("src/");
    all.extend(sources("tests/"));
    none(all.iter().flat_map(rules::shape).collect());
}

#[test]
fn nothing_names_the_machine_that_it_was_written_on() {
    let texts = texts();
    none(texts.iter().flat_map(|(path, text)| rules::machine_paths(path, text)).collect());
}

#[test]
fn the_top_level_holds_what_it_should() {
    for entry in fs::read_dir(repository("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name.starts_with('.') || TOP_LEVEL.contains(&name.as_str());
        assert!(known, "{name} has no place at the top of the repository");
    }
}
