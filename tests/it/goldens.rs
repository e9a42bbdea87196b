//! What others build on, written down: the JWKS, the reasons of errors, the database's schema, the
//! command line. A golden that no longer fits is either a mistake or a decision; decide, and write
//! it anew with `UPDATE_GOLDENS=1 cargo test --test it goldens`.

use crate::harness::diff::diff;
use crate::harness::service::Service;
use crate::harness::tools::{repository, run_command};
use signkeep::grpc::proto::{ErrorReason, Policy};
use sqlx::Connection;
use std::fmt::Write;
use std::process::Command;
use std::{env, fs};

/// Compares with `tests/it/goldens/NAME.txt`, or writes it if `UPDATE_GOLDENS` is set.
fn golden(name: &str, now: &str) {
    let path = repository("tests/it/goldens").join(format!("{name}.txt"));
    if env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, now).unwrap();
        return;
    }
    let before = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        before == now,
        "{} no longer fits; if that is meant, run with UPDATE_GOLDENS=1:\n{}",
        path.display(),
        diff(&before, now)
    );
}

#[test]
fn the_reasons_of_errors() {
    let mut text = String::new();
    for number in 0..1_000 {
        if let Ok(reason) = ErrorReason::try_from(number) {
            writeln!(text, "{number} {}", reason.as_str_name()).unwrap();
        }
    }
    golden("error-reasons", &text);
}

#[tokio::test]
async fn the_jwks_of_each_key_type() {
    let mut service = Service::dev().await;
    let mut text = String::new();
    for (algorithm, rsa_bits) in
        [("RS256", 2048), ("PS512", 2048), ("ES256", 0), ("ES384", 0), ("ES512", 0), ("EdDSA", 0)]
    {
        let key_set = service.key_set(&format!("golden-{}", algorithm.to_lowercase()));
        let policy = Policy { rsa_bits, ..Policy::default() };
        key_set.create(algorithm, policy).await;
        let path = format!("/{}/.well-known/jwks.json", key_set.id());
        let response = service.http(&path).await;
        assert_eq!(response.status, 200);
        writeln!(text, "{algorithm}\n{}\n", masked(response.text())).unwrap();
    }
    golden("jwks", &text);
    service.is_unharmed();
}

#[tokio::test]
async fn the_schema_of_the_database() {
    let mut service = Service::serve().await.started().await;
    service.stop().await;
    let url = format!("sqlite:{}", service.database().display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
         ORDER BY type DESC, name",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    database.close().await.unwrap();
    assert!(rows.len() > 3, "{rows:?}");
    let statements = rows.into_iter().map(|(sql,)| format!("{sql};\n"));
    golden("schema", &statements.collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn the_help_of_every_command() {
    let mut text = String::new();
    let mut commands = vec![Vec::<String>::new()];
    while let Some(command) = commands.pop() {
        let long = help(&command, "--help").await;
        writeln!(text, "$ signkeep {} --help\n{long}", command.join(" ")).unwrap();
        for name in subcommands(&help(&command, "-h").await).into_iter().rev() {
            commands.push([command.clone(), vec![name]].concat());
        }
    }
    assert!(text.contains("$ signkeep dev --help"), "{text}");
    golden("help", &text.replace("signkeep  --help", "signkeep --help"));
}

async fn help(command: &[String], flag: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    program.args(command).arg(flag).env("COLUMNS", "100").env("NO_COLOR", "1");
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("SIGNKEEP_") {
            program.env_remove(name);
        }
    }
    let output = run_command(program).await;
    assert!(output.success, "{output:?}");
    output.stdout
}

/// The names under "Commands:", but for `help` itself.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The JSON text, in its own order, with every value that differs from key to key replaced by its
/// length; a certificate's, whose length differs too, by its name alone.
fn masked(json: &str) -> String {
    let mut text = String::new();
    let mut member = String::new();
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        let (before, quoted) = rest.split_at(start);
        text.push_str(before);
        let end = quoted[1..].find('"').expect("a string that ends") + 1;
        let value = &quoted[1..end];
        rest = &quoted[end + 1..];
        if rest.trim_start().starts_with(':') {
            member = value.to_owned();
            write!(text, "\n  \"{value}\"").unwrap();
        } else if ["alg", "kty", "use", "crv", "e"].contains(&member.as_str()) {
            write!(text, "\"{value}\"").unwrap();
        } else if member == "x5c" {
            text.push_str("\"<certificate>\"");
        } else {
            write!(text, "\"<{} characters>\"", value.len()).unwrap();
        }
    }
    text.push_str(rest);
    text
}

#[test]
fn a_mask_keeps_names_order_and_lengths() {
    let json = r#"{"keys":[{"kty":"EC","x":"AAAA","x5c":["BBB"],"n":"CC"}]}"#;
    assert_eq!(
        masked(json),
        "{\n  \"keys\":[{\n  \"kty\":\"EC\",\n  \"x\":\"<4 characters>\",\
         \n  \"x5c\":[\"<certificate>\"],\n  \"n\":\"<2 characters>\"}]}"
    );
}

#[test]
fn subcommands_are_read_from_help() {
    let help = "About\n\nCommands:\n  dev   Runs\n        and more\n  keys  Keys\n  help  Print\n\nOptions:\n  -h";
    assert_eq!(subcommands(help), ["dev", "keys"]);
}
