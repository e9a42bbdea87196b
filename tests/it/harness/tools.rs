//! Programs that the tests call. `tests/run` puts them under `target/test-tools`; what is missing
//! is a failure that says so, never a skip.

use super::process::Process;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// No tool takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What a tool said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A path inside this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python that has the packages of `tests/clients/python/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    let python = test_tools().join("python/bin/python3");
    assert!(python.exists(), "{} is missing; ./tests/run makes it", python.display());
    python
}

/// A program that `tests/run` has made, or that is on the PATH; none: neither.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = test_tools().join("bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path).map(|folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
}

/// As [`find`]; panics if there is no such program.
pub(crate) fn tool(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is missing; ./tests/run installs it"))
}

/// Runs a program to its end.
pub(crate) async fn run<I, S>(program: impl AsRef<OsStr>, args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args);
    run_command(command).await
}

/// Runs a command to its end.
pub(crate) async fn run_command(command: Command) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(command, dir.path(), "tool");
    let success = process.wait(LIMIT).await.success();
    Output { success, stdout: process.stdout(), stderr: process.stderr() }
}

/// Where `tests/run` puts what it installs.
pub(super) fn test_tools() -> PathBuf {
    match std::env::var_os("TEST_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => repository("target/test-tools"),
    }
}
