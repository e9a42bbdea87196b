//! The commands of `docs/aws-kms.md`, run as they would be pasted, but for those that talk to AWS's
//! own IAM or install something.

use crate::harness::kms::environment;
use crate::harness::ministack::{Account, SECRET, installed};
use crate::harness::tools::{Output, repository, run_command};
use crate::stories::readme::{blocks, path, stand_in};
use std::env;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// One chapter, run by a shell in a directory of its own.
struct Chapter {
    dir: TempDir,
    blocks: Vec<String>,
    ports: Vec<(&'static str, u16)>,
}

impl Chapter {
    /// The chapter between these two headings.
    fn between(heading: &str, next: &str) -> Self {
        let text = std::fs::read_to_string(repository("docs/aws-kms.md")).unwrap();
        let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap();
        let (chapter, _) = rest.split_once(&format!("\n{next}\n")).unwrap();
        let free = ["50051", "8080", "9464", "4566"]
            .map(|usual| (usual, TcpListener::bind("127.0.0.1:0").unwrap()));
        let ports = free.iter().map(|(usual, port)| (*usual, port.local_addr().unwrap().port()));
        let dir = tempfile::tempdir().unwrap();
        Self { dir, blocks: blocks(chapter), ports: ports.collect() }
    }

    /// Runs its commands on free ports; `change` is what else differs from the page.
    async fn run(
        &self,
        environment: &[(&'static str, String)],
        change: impl Fn(String) -> String,
    ) -> Output {
        let mut commands = change(self.blocks.join("\n"));
        let listeners = ["grpc", "http", "metrics"].iter().zip(["50051", "8080", "9464"]);
        let listeners = listeners
            .map(|(face, port)| format!("[[listeners.{face}]]\naddress = \"127.0.0.1:{port}\"\n"));
        let listeners = listeners.collect::<String>();
        commands = commands.replace("[backends.kms]", &format!("{listeners}[backends.kms]"));
        for (usual, free) in &self.ports {
            commands = commands.replace(usual, &free.to_string());
        }
        let script = format!(
            "exec 2>&1; set -e; trap 'kill $(jobs -p) && wait' EXIT\n{}\n{commands}\necho nothing is left",
            stand_in()
        );
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).current_dir(self.dir.path()).env("PATH", with_signkeep());
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SIGNKEEP_") || name.starts_with("AWS_") {
                shell.env_remove(name);
            }
        }
        shell.envs(environment.iter().cloned());
        run_command(shell).await
    }
}

fn with_signkeep() -> OsString {
    let own = Path::new(env!("CARGO_BIN_EXE_signkeep")).parent().unwrap().to_owned();
    env::join_paths(std::iter::once(own).chain(env::split_paths(&path()))).unwrap()
}

#[track_caller]
fn shows(output: &Output, expected: &[&str]) {
    let mut rest = output.stdout.as_str();
    for expected in expected {
        let at = rest.find(expected);
        let at = at.unwrap_or_else(|| panic!("no {expected} in order in: {}", output.stdout));
        rest = &rest[at..];
    }
    assert!(output.success, "{output:?}");
}

#[tokio::test]
async fn from_nothing_to_a_signature_works_as_pasted() {
    let chapter =
        Chapter::between("## From nothing to a signature", "## The same without an account");
    assert_eq!(chapter.blocks.len(), 4, "{:?}", chapter.blocks);
    let account = Account::fresh().await;
    let environment = environment(&account.id, SECRET);
    let endpoint = account.proxy.endpoint();
    let output = chapter
        .run(&environment, |commands| {
            let line = "instance = \"prod-1\"";
            assert!(commands.contains(line), "{commands}");
            commands.replace(line, &format!("{line}\nendpoint_url = \"{endpoint}\""))
        })
        .await;
    let seen = ["kms:ListKeys", "\"keys\":[", "\"signature\"", "\"jwt\"", "\"kid\"", "nothing is"];
    shows(&output, &seen);
    let keys = account.keys_of("default").await;
    assert_eq!(keys.len(), 2);
    let (id, _) = keys.first_key_value().unwrap();
    assert_eq!(account.tags(id).await["signkeep:instance"], "prod-1");
}

#[tokio::test]
async fn the_same_without_an_account_works_as_pasted() {
    let chapter = Chapter::between("## The same without an account", "## Credentials");
    assert_eq!(chapter.blocks.len(), 2, "{:?}", chapter.blocks);
    symlink(installed(), chapter.dir.path().join("ministack")).unwrap();
    let output = chapter.run(&[], |commands| commands).await;
    shows(&output, &["kms:ListKeys", "\"keys\":[", "\"jwt\"", "nothing is left"]);
}
