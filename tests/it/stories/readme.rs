//! The README's commands, run as they would be pasted.

use crate::harness::service::Service;
use crate::harness::tools::{find, python, repository, run_command};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the commands must bring to the screen, in this order.
const SEEN: [&str; 9] = [
    "KEY_STATE_NEXT",
    "KEY_STATE_CURRENT",
    "\"signature\"",
    "failedprecondition",
    "\"previous\"",
    "KEY_STATE_REVOKED",
    "\"keys\":[",
    "'sub': 'alice'",
    "nothing is left",
];

#[tokio::test]
async fn the_commands_of_the_readme_work_as_pasted() {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let blocks = blocks(&readme);
    assert!(blocks.len() >= 5, "{blocks:?}");
    let mut service = Service::dev().await;
    let commands = format!("{}\n{}\necho nothing is left\n", stand_in(), blocks.join("\n"))
        .replace("127.0.0.1:50051", service.grpc_address())
        .replace("127.0.0.1:8080", service.http_address());
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec 2>&1; {commands}")]).env("PATH", path());
    let output = run_command(shell).await;
    assert!(output.success, "{output:?}");
    let mut rest = output.stdout.replace("FAILED_PRECONDITION", "FailedPrecondition");
    rest = rest.replace("FailedPrecondition", "failedprecondition");
    for expected in SEEN {
        let at = rest.find(expected);
        let at = at.unwrap_or_else(|| panic!("no {expected} in order in: {}", output.stdout));
        rest = rest.split_off(at);
    }
    service.is_unharmed();
}

/// The insides of the blocks that are marked `sh`, as deep as they stand in a list. Those that
/// install something, or work in one place alone, are marked `shell`.
pub(crate) fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(indent) = line.strip_suffix("```sh").filter(|indent| indent.trim().is_empty()) {
            let block = lines.by_ref().map(|line| line.strip_prefix(indent).unwrap_or(line));
            let block: Vec<&str> = block.take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// Where there is no grpcurl, the Python reflection client under its name.
pub(crate) fn stand_in() -> String {
    if find("grpcurl").is_some() {
        return String::new();
    }
    let script = repository("tests/clients/python/call.py");
    format!("grpcurl() {{ python3 '{}' \"$4\" \"$5\" \"$3\"; }}", script.display())
}

/// The PATH with the tools of `tests/run` before everything else.
pub(crate) fn path() -> OsString {
    let tools = [python(), find("grpcurl").unwrap_or_default()];
    let tools = tools.iter().filter_map(|tool| tool.parent()).map(Path::to_owned);
    let before = env::var_os("PATH").unwrap_or_default();
    env::join_paths(tools.chain(env::split_paths(&before))).unwrap()
}

#[test]
fn only_blocks_marked_sh_are_run() {
    let markdown = "```shell\nno\n```\n\n```sh\nyes\nand this\n```\n```\nno\n```\n";
    assert_eq!(blocks(markdown), ["yes\nand this"]);
    let in_a_list = "1. One:\n\n   ```sh\n   yes\n     deeper\n\n   ```\n";
    assert_eq!(blocks(in_a_list), ["yes\n  deeper\n"]);
}
