//! A SoftHSM of a test's own.
//!
//! SoftHSM finds its tokens through an environment variable, PKCS#11 state belongs to the process,
//! and one test re-initialises the module under everyone's feet. So each such test runs in a process
//! of its own: [`isolated`] starts this test binary again, for that one test, with a fresh token
//! directory.

pub(crate) use super::service::softhsm_module as module;
use async_trait::async_trait;
use secrecy::SecretString;
use signkeep::backend::PinMemory;
use signkeep::backend::pkcs11::{Pkcs11Backend, Settings, TokenSelector, provision};
use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The user PIN of a provisioned token.
pub(crate) const PIN: &str = "4711-user";
/// Its security officer's PIN.
pub(crate) const SO_PIN: &str = "0815-officer";
/// Its label.
pub(crate) const LABEL: &str = "signkeep test";

const MARK: &str = "SIGNKEEP_TEST_TOKEN_ROOT";
const ROLE: &str = "SIGNKEEP_TEST_ROLE";
const TIMEOUT: Duration = Duration::from_secs(180);

/// A directory with SoftHSM's configuration, its tokens and a PIN file.
pub(crate) struct Softhsm {
    root: PathBuf,
}

impl Softhsm {
    /// Makes the directory's content.
    fn lay(root: &Path) {
        std::fs::create_dir(root.join("tokens")).unwrap();
        std::fs::write(
            root.join("softhsm2.conf"),
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                root.join("tokens").display()
            ),
        )
        .unwrap();
    }

    /// The token directory.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.root.join("tokens")
    }

    /// The PIN file.
    pub(crate) fn pin_file(&self) -> PathBuf {
        self.root.join("pin")
    }

    /// Writes the PIN file, mode 0600.
    pub(crate) fn write_pin(&self, pin: &str) {
        std::fs::write(self.pin_file(), pin).unwrap();
        std::fs::set_permissions(self.pin_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Makes the token [`LABEL`] and the PIN file for it.
    pub(crate) fn provision(&self) {
        let (so_pin, pin) = (SecretString::from(SO_PIN), SecretString::from(PIN));
        provision(&module(), LABEL, &so_pin, &pin).unwrap();
        self.write_pin(PIN);
    }

    /// Settings for the token [`LABEL`], two signers and room for 64.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            name: "token".parse().unwrap(),
            module: module(),
            token: TokenSelector::Label(LABEL.to_owned()),
            pin_file: self.pin_file(),
            workers: 2,
            queue_max: 64,
        }
    }

    /// Opens a backend with those settings.
    pub(crate) async fn open(&self, memory: &Arc<Memory>) -> Pkcs11Backend {
        Pkcs11Backend::open(self.settings(), memory.clone()).await.unwrap()
    }

    /// Runs the test `name` once more, in another process on the same token directory, where
    /// [`Softhsm::role`] is `role`; panics unless it passes there.
    pub(crate) fn elsewhere(&self, name: &str, role: &str) {
        again(name, &self.root, role);
    }

    /// The part that this process plays; empty for the test itself.
    pub(crate) fn role(&self) -> String {
        std::env::var(ROLE).unwrap_or_default()
    }
}

/// Runs `test` in a process of its own with a fresh token directory; `name` is the test's full
/// name, e.g. `hazards::a_stale_handle`.
pub(crate) fn isolated(name: &str, test: impl FnOnce(&Softhsm)) {
    if let Some(root) = std::env::var_os(MARK) {
        test(&Softhsm { root: root.into() });
        return;
    }
    let dir = temp_dir();
    Softhsm::lay(dir.path());
    again(name, dir.path(), "");
}

/// Starts this binary again for the test `name` alone, on the token directory at `root`; panics
/// unless exactly that test ran and passed.
fn again(name: &str, root: &Path, role: &str) {
    let log = root.join(format!("log-{role}"));
    let out = std::fs::File::create(&log).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("SOFTHSM2_CONF", root.join("softhsm2.conf"))
        .env(MARK, root)
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    let mut text = String::new();
    std::fs::File::open(&log).unwrap().read_to_string(&mut text).unwrap();
    let Some(status) = status else {
        panic!("{name} was not done after {TIMEOUT:?}:\n{text}");
    };
    assert!(status.success(), "{name} in its own process: {status}\n{text}");
    assert!(text.contains("1 passed"), "{name} is not the name of one test:\n{text}");
}

fn wait(child: &mut std::process::Child) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// On a memory file system if there is one: SoftHSM syncs every object to disk.
fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// A runtime for the test's own process.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Asks `condition` until it holds; panics if it does not within 20 s.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A [`PinMemory`] that counts, and that can be made to fail.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    hashes: HashMap<String, String>,
    refusals: usize,
    outage: Outage,
}

/// What a [`Memory`] does not do; it answers that the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outage {
    /// It does everything.
    #[default]
    None,
    /// Nothing.
    All,
    /// Writing.
    Writing,
    /// Writing that a PIN was refused.
    Refusals,
    /// Forgetting.
    Forgetting,
}

impl Memory {
    /// How often a refused PIN was remembered.
    pub(crate) fn refusals(&self) -> usize {
        self.0.lock().unwrap().refusals
    }

    /// What is remembered of any token.
    pub(crate) fn hashes(&self) -> Vec<String> {
        self.0.lock().unwrap().hashes.values().cloned().collect()
    }

    /// Makes calls fail, or all work again.
    pub(crate) fn fail(&self, outage: Outage) {
        self.0.lock().unwrap().outage = outage;
    }

    fn ask<T>(
        &self,
        fails: &[Outage],
        ask: impl FnOnce(&mut Remembered) -> T,
    ) -> Result<T, String> {
        let mut remembered = self.0.lock().unwrap();
        match remembered.outage == Outage::All || fails.contains(&remembered.outage) {
            true => Err("the disk is full".to_owned()),
            false => Ok(ask(&mut remembered)),
        }
    }
}

#[async_trait]
impl PinMemory for Memory {
    async fn refused(&self, token: &str) -> Result<Option<String>, String> {
        self.ask(&[], |memory| memory.hashes.get(token).cloned())
    }

    async fn remember(&self, token: &str, hash: &str) -> Result<(), String> {
        // While a PIN is being tried, its hash has a mark before it.
        let is_refusal = hash.starts_with('$');
        let fails: &[Outage] = match is_refusal {
            true => &[Outage::Writing, Outage::Refusals],
            false => &[Outage::Writing],
        };
        self.ask(fails, |memory| {
            memory.refusals += usize::from(is_refusal);
            memory.hashes.insert(token.to_owned(), hash.to_owned());
        })
    }

    async fn forget(&self, token: &str) -> Result<(), String> {
        self.ask(&[Outage::Forgetting], |memory| {
            memory.hashes.remove(token);
        })
    }
}
