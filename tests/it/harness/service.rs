//! The real binary, started as a process in a directory of its own, with SoftHSM beneath it.

use super::eventually;
use super::http::{self, Response};
use super::key_set::KeySet;
use super::process::Process;
use super::tools::{Output as Ran, run_command, tool};
use serde_json::Value;
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Long enough for a debug build to generate RSA keys on a busy machine.
const READY: Duration = Duration::from_secs(120);

/// The PIN of the tokens that [`Service::serve`] makes.
pub(crate) const PIN: &str = "314159";

/// The user and group of nobody, on every system.
const NOBODY: u32 = 65534;

/// A service. Its process ends, and its directory goes, when it is dropped; a test that fails
/// shows what it wrote to standard error.
pub(crate) struct Service {
    home: TempDir,
    launch: Launch,
    process: Option<Process>,
    addresses: Addresses,
    /// A copy of the binary, to be run by [`NOBODY`]; none: ourselves run the binary itself.
    unprivileged: Option<TempDir>,
}

/// How the process is started.
enum Launch {
    /// `signkeep dev`.
    Dev,
    /// `signkeep serve`, with more of the environment.
    Serve(Vec<(String, String)>),
}

/// What may be done to a token directory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tokens {
    ReadOnly,
    Writable,
}

#[derive(Clone, Default)]
struct Addresses {
    grpc: String,
    http: String,
    management: Option<String>,
}

impl Service {
    /// `signkeep dev` in a fresh directory, ready.
    pub(crate) async fn dev() -> Self {
        Self::new(Launch::Dev).started().await
    }

    /// A fresh token and configuration for `signkeep serve`, with one key set `default` (ES256);
    /// not started.
    pub(crate) async fn serve() -> Self {
        let service = Self::new(Launch::Serve(Vec::new()));
        service.write_softhsm_config();
        fs::create_dir(service.tokens()).unwrap();
        service.write_pin(PIN);
        service.write_config(&softhsm_module());
        let mut init = Command::new(tool("softhsm2-util"));
        init.env("SOFTHSM2_CONF", service.path("softhsm2.conf"))
            .args(["--init-token", "--free", "--label", "signkeep"])
            .args(["--pin", PIN, "--so-pin", PIN]);
        let output = run_command(init).await;
        assert!(output.success, "{output:?}");
        service
    }

    /// A configuration for `signkeep serve` that says `rest` beside store and listeners; no token,
    /// and not started.
    #[cfg(feature = "aws-kms")]
    pub(crate) fn configured(rest: &str) -> Self {
        let service = Self::new(Launch::Serve(Vec::new()));
        fs::write(service.path("signkeep.toml"), service.frame() + rest).unwrap();
        service
    }

    /// Has the configuration say `more`.
    pub(crate) fn with_more(self, more: &str) -> Self {
        let file = self.path("signkeep.toml");
        let said = fs::read_to_string(&file).unwrap();
        fs::write(file, said + more).unwrap();
        self
    }

    /// Adds to the environment of `signkeep serve`.
    pub(crate) fn with_env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let Launch::Serve(environment) = &mut self.launch else {
            panic!("dev takes no environment");
        };
        let value = value.as_ref().to_str().unwrap().to_owned();
        environment.push((name.to_owned(), value));
        self
    }

    /// Makes the configuration name another PKCS#11 module.
    pub(crate) fn with_module(self, module: &Path) -> Self {
        self.write_config(module);
        self
    }

    /// Makes file permissions bind the process: root, whom they do not, runs it as another user.
    pub(crate) fn unprivileged(mut self) -> Self {
        if rustix::process::geteuid().is_root() {
            // On disk: the binary may be larger than a container's /dev/shm.
            let dir = tempfile::tempdir().unwrap();
            fs::copy(env!("CARGO_BIN_EXE_signkeep"), dir.path().join("signkeep")).unwrap();
            let copy = tree(dir.path());
            self.unprivileged = Some(dir);
            for path in copy.into_iter().chain(tree(self.home.path())) {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        self
    }

    /// Takes the right to write to the token directory, or gives it back.
    pub(crate) fn permit(&self, tokens: Tokens) {
        let (folder, file) = match tokens {
            Tokens::ReadOnly => (0o555, 0o444),
            Tokens::Writable => (0o755, 0o644),
        };
        for path in tree(&self.tokens()) {
            let mode = if path.is_dir() { folder } else { file };
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Starts the process and waits until it is ready.
    pub(crate) async fn started(mut self) -> Self {
        self.start().await;
        self
    }

    /// Starts the process again on the same directory and waits until it is ready.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        self.listening().await;
        let http = self.addresses.http.clone();
        eventually("the service is ready", READY, async || {
            self.still_running();
            let ready = http::get(&http, "/readyz").await.ok()?;
            (ready.status == 200).then_some(())
        })
        .await;
    }

    /// Starts the process and waits until it listens, ready or not.
    pub(crate) async fn start_unready(&mut self) {
        self.spawn();
        self.listening().await;
    }

    /// Starts the process, which must end by itself with a failure; returns what it wrote to
    /// standard error this time.
    pub(crate) async fn fails_to_start(&mut self) -> String {
        let before = fs::read_to_string(self.path("service.err")).unwrap_or_default().len();
        self.spawn();
        let status = self.ended(READY).await;
        assert!(!status.success(), "it started: {}", self.log());
        self.log().split_off(before)
    }

    /// SIGKILL.
    pub(crate) fn kill_9(&mut self) {
        self.running().kill();
        self.process = None;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.process.as_ref().expect("the service was not started").signal(signal);
    }

    /// SIGTERM; see [`Service::ended`].
    pub(crate) fn terminate(&mut self) {
        self.running().terminate();
    }

    /// Waits for the process to end.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let status = self.running().wait(limit).await;
        self.process = None;
        status
    }

    /// SIGTERM, and an orderly end.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        let status = self.ended(Duration::from_secs(60)).await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// The key set `id`, through every face.
    pub(crate) fn key_set(&self, id: &str) -> KeySet {
        KeySet::new(self.keys(), self.signing(), self.http_address(), id)
    }

    /// A KeyService client.
    pub(crate) fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel()).max_decoding_message_size(16 << 20)
    }

    /// A SigningService client.
    pub(crate) fn signing(&self) -> SigningServiceClient<Channel> {
        SigningServiceClient::new(self.channel())
    }

    /// Where gRPC listens: `127.0.0.1:port`.
    pub(crate) fn grpc_address(&self) -> &str {
        &self.addresses.grpc
    }

    /// Where the public HTTP face listens: `127.0.0.1:port`.
    pub(crate) fn http_address(&self) -> &str {
        &self.addresses.http
    }

    /// Where Auth0's Management API listens: `127.0.0.1:port`.
    pub(crate) fn management_address(&self) -> &str {
        self.addresses.management.as_deref().expect("no listener for it is configured")
    }

    /// GETs a path of the public HTTP face.
    pub(crate) async fn http(&self, path: &str) -> Response {
        http::get(&self.addresses.http, path).await.unwrap()
    }

    /// All that its processes have written to standard error.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.path("service.err")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Panics if the service ever panicked, or does not run.
    pub(crate) fn is_unharmed(&mut self) {
        self.still_running();
        let log = self.log();
        assert!(!log.contains("panicked"), "the service panicked: {log}");
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The token directory of [`Service::serve`].
    pub(crate) fn tokens(&self) -> PathBuf {
        self.path("tokens")
    }

    /// Writes the PIN file of [`Service::serve`], for its owner's eyes only.
    pub(crate) fn write_pin(&self, pin: &str) {
        let file = self.path("pin");
        fs::write(&file, pin).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }

    /// The database of [`Service::serve`].
    pub(crate) fn database(&self) -> PathBuf {
        self.path("signkeep.db")
    }

    /// The command that starts it, for a second process on the same directory; it writes its
    /// addresses to `addresses`.
    pub(crate) fn command(&self, addresses: &Path) -> Command {
        let mut command = self.program();
        match &self.launch {
            Launch::Dev => {
                command.arg("dev").arg("--dir").arg(self.path("state"));
                for listener in ["--grpc", "--http", "--metrics"] {
                    command.args([listener, "127.0.0.1:0"]);
                }
            }
            Launch::Serve(_) => {
                command.arg("serve").arg("--config").arg(self.path("signkeep.toml"));
            }
        }
        command.arg("--addresses-file").arg(addresses);
        command
    }

    /// Runs another command of the binary to its end, in the same directory and environment.
    pub(crate) async fn signkeep(&self, args: &[&str]) -> Ran {
        let mut command = self.program();
        command.args(args);
        run_command(command).await
    }

    /// The binary in this directory and its environment.
    fn program(&self) -> Command {
        let mut command = match &self.unprivileged {
            Some(dir) => Command::new(dir.path().join("signkeep")),
            None => Command::new(env!("CARGO_BIN_EXE_signkeep")),
        };
        if self.unprivileged.is_some() {
            command.uid(NOBODY).gid(NOBODY);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SIGNKEEP_") {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").env_remove("SOFTHSM2_CONF").current_dir(self.home.path());
        match &self.launch {
            Launch::Dev => {
                command.env("SIGNKEEP_SOFTHSM_MODULE", softhsm_module());
            }
            Launch::Serve(environment) => {
                command.env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
                command.envs(environment.iter().cloned());
            }
        }
        command
    }

    fn new(launch: Launch) -> Self {
        Self {
            home: memory_dir(),
            launch,
            process: None,
            addresses: Addresses::default(),
            unprivileged: None,
        }
    }

    fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let addresses = self.path("addresses.json");
        fs::remove_file(&addresses).ok();
        let command = self.command(&addresses);
        self.process = Some(Process::start(command, self.home.path(), "service"));
    }

    async fn listening(&mut self) {
        let file = self.path("addresses.json");
        self.addresses = eventually("the service listens", READY, async || {
            self.still_running();
            addresses(&fs::read_to_string(&file).ok()?)
        })
        .await;
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the service was not started")
    }

    fn still_running(&mut self) {
        if let Some(status) = self.running().ended() {
            panic!("the service ended, {status}");
        }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addresses.grpc))
            .unwrap()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(60))
            .connect_lazy()
    }

    fn write_softhsm_config(&self) {
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            self.tokens().display()
        );
        fs::write(self.path("softhsm2.conf"), text).unwrap();
    }

    fn write_config(&self, module: &Path) {
        let text = format!(
            r#"
[backends.token]
kind = "pkcs11"
module = "{module}"
token_label = "signkeep"
pin_file = "{pin}"
workers = 2

[key_sets.default]
algorithm = "ES256"
backend = "token"
issuer = "https://issuer.example/"
"#,
            module = module.display(),
            pin = self.path("pin").display(),
        );
        fs::write(self.path("signkeep.toml"), self.frame() + &text).unwrap();
    }

    /// What every configuration says: where the store is, and that ports are free ones.
    fn frame(&self) -> String {
        format!(
            r#"
[store]
url = "sqlite:{database}"

[[listeners.grpc]]
address = "127.0.0.1:0"

[[listeners.http]]
address = "127.0.0.1:0"

[[listeners.metrics]]
address = "127.0.0.1:0"

[[policy]]
callers = ["**"]
key_sets = ["*"]
roles = ["signer", "admin"]
"#,
            database = self.database().display(),
        )
    }
}

impl Drop for Service {
    #[expect(clippy::print_stderr, reason = "libtest shows it with the test that failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(8_000).map_or(0, |(at, _)| at);
            eprintln!("--- what the service wrote ---\n{}", &log[from..]);
        }
    }
}

/// SoftHSM's library: the one that SIGNKEEP_SOFTHSM_MODULE names, else where distributions put it.
pub(crate) fn softhsm_module() -> PathBuf {
    signkeep::cli::softhsm_module().unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// The module of OpenSC that passes every call on and writes it down.
pub(crate) fn spy_module() -> PathBuf {
    library(&[
        "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so",
        "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so",
        "/usr/lib64/pkcs11-spy.so",
        "/usr/lib64/pkcs11/pkcs11-spy.so",
        "/opt/homebrew/lib/pkcs11-spy.so",
        "/usr/local/lib/pkcs11-spy.so",
    ])
}

fn library(places: &[&str]) -> PathBuf {
    places
        .iter()
        .map(PathBuf::from)
        .find(|place| place.exists())
        .unwrap_or_else(|| panic!("none of {places:?} is there; ./tests/run installs it"))
}

/// A folder and all that is in it, from the outside in.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// A fresh directory, in memory where that can be had: SoftHSM syncs every key to disk.
fn memory_dir() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("signkeep-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

fn addresses(file: &str) -> Option<Addresses> {
    let parsed: Value = serde_json::from_str(file).unwrap();
    let first = |listener: &str| Some(parsed[listener][0].as_str()?.to_owned());
    let management = first("management");
    Some(Addresses { grpc: first("grpc")?, http: first("http")?, management })
}
