//! The checks, from the ground up: a later one is left out if it could only repeat an earlier one.

use super::finding::{Finding, Findings};
use crate::app::{StorePinMemory, pkcs11_settings};
use crate::backend::pkcs11::{self, Inspection, PinState, Pkcs11Backend, TokenReport};
use crate::backend::{Backend, Kind};
use crate::cli::client::Connection;
use crate::config::{self, Config, Pkcs11, Token};
use crate::key::BackendName;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a refused PIN is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It stays remembered.
    No,
    /// The operator asks for another try.
    ForgetRefused,
}

impl Retry {
    pub(super) const fn from_flag(retry_pin: bool) -> Self {
        if retry_pin { Self::ForgetRefused } else { Self::No }
    }
}

/// How the service that is configured answers, if one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Nothing,
    Serving,
    NotServing,
}

pub(super) async fn run(config: &Config, retry: Retry, findings: &mut Findings) {
    let running = running(config).await;
    match running {
        Running::Nothing => {}
        Running::Serving => findings.add(Finding::ok("service", "one is running and says SERVING")),
        Running::NotServing => findings.add(Finding::wrong(
            "service",
            "one is running and says NOT_SERVING",
            "its log, and http://<http listener>/readyz, say which part is out",
        )),
    }
    let store = store(config, running, findings).await;
    for (name, settings) in &config.backends {
        match settings {
            config::Backend::Pkcs11(token) => {
                let parts = (running, store.as_ref());
                backend(name, token, parts, retry, findings).await;
            }
            #[cfg(feature = "aws-kms")]
            config::Backend::AwsKms(kms) => {
                super::kms::backend(name, kms, (config, store.as_ref()), findings).await;
            }
            // Refused when the configuration was read.
            #[cfg(not(feature = "aws-kms"))]
            config::Backend::AwsKms(_) => {}
        }
    }
    if let Some(store) = store {
        store.close().await;
    }
    ports(config, running, findings);
}

async fn running(config: &Config) -> Running {
    for address in &config.listeners.grpc {
        if address.port() == 0 {
            continue;
        }
        let Ok(channel) = Connection::to(format!("http://{address}")).channel().await else {
            continue;
        };
        let check = HealthCheckRequest { service: String::new() };
        let mut health = HealthClient::new(channel);
        let answer = tokio::time::timeout(Duration::from_secs(5), health.check(check)).await;
        if let Ok(Ok(answer)) = answer {
            return match answer.into_inner().status() {
                ServingStatus::Serving => Running::Serving,
                _ => Running::NotServing,
            };
        }
    }
    Running::Nothing
}

async fn store(
    config: &Config,
    running: Running,
    findings: &mut Findings,
) -> Option<Arc<dyn Store>> {
    let path = config.store.display();
    if running != Running::Nothing {
        let what = format!("{path} is in the hands of the running service; its health covers it");
        findings.add(Finding::ok("store", what));
        return None;
    }
    let store = match SqliteStore::open(&config.store).await {
        Ok(store) => store,
        Err(error) => {
            let mend = "make the file and its directory writable, or correct store.url; if another signkeep serves it, stop that one";
            findings.add(Finding::wrong("store", format!("{path}: {error}"), mend));
            return None;
        }
    };
    match store.probe().await {
        Ok(()) => findings.add(Finding::ok("store", format!("{path} can be read and written"))),
        Err(error) => findings.add(Finding::wrong(
            "store",
            format!("{path}: {error}"),
            "free space on the disk, or make the file writable",
        )),
    }
    Some(Arc::new(store))
}

async fn backend(
    name: &BackendName,
    settings: &Pkcs11,
    (running, store): (Running, Option<&Arc<dyn Store>>),
    retry: Retry,
    findings: &mut Findings,
) {
    let about = |what: &str| format!("backend {name}, {what}");
    if !pin_file(&about("PIN file"), settings, findings) {
        return;
    }
    let module = settings.module.display();
    if !settings.module.is_file() {
        let mend = format!("install the HSM's software, or correct backends.{name}.module");
        findings.add(Finding::wrong(about("module"), format!("{module} is missing"), mend));
        return;
    }
    let seen = match inspect(settings).await {
        Ok(seen) => seen,
        Err(error) => {
            let mend = "check that it is a PKCS#11 module for this machine, and the module's own configuration";
            findings.add(Finding::wrong(about("module"), format!("{module}: {error}"), mend));
            return;
        }
    };
    let what = format!("{module}: {}, version {}", seen.description, seen.version);
    findings.add(Finding::ok(about("module"), what));

    let wanted = |token: &&TokenReport| match &settings.token {
        _ if !token.is_initialized => false,
        Token::Label(label) => token.label == *label,
        Token::Serial(serial) => token.serial == *serial,
    };
    let Some(token) = seen.tokens.iter().find(wanted) else {
        let list: Vec<_> = seen
            .tokens
            .iter()
            .filter(|token| token.is_initialized)
            .map(|token| format!("{:?} (serial {})", token.label, token.serial))
            .collect();
        let there = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let mend =
            format!("initialise the token, or correct backends.{name}; tokens seen: {there}");
        findings.add(Finding::wrong(about("token"), "it is missing", mend));
        return;
    };
    findings
        .add(Finding::ok(about("token"), format!("{:?}, serial {}", token.label, token.serial)));
    mechanisms(name, token, findings);
    match token.pin {
        PinState::Locked => {
            let mend = "have the security officer set a new PIN, and put it into the PIN file";
            findings.add(Finding::wrong(about("PIN"), "it is locked", mend));
            return;
        }
        PinState::NotSet => {
            let mend = "have the security officer set one, and put it into the PIN file";
            findings.add(Finding::wrong(about("PIN"), "the token has none", mend));
            return;
        }
        PinState::FinalTry => {
            let mend = "have the security officer reset it; `signkeep doctor` does not use up the last try";
            findings.add(Finding::wrong(about("PIN"), "another wrong one locks it", mend));
            return;
        }
        PinState::CountLow => {
            let mend = "make sure that the PIN file is right";
            let what = "a wrong one was tried since the last login";
            findings.add(Finding::warning(about("PIN"), what, mend));
        }
        PinState::Good => {}
    }
    let Some(store) = store else {
        findings.add(match running {
            Running::Nothing => Finding::warning(
                about("login"),
                "not tried: whether the PIN was refused before stands in the store",
                "mend the store first",
            ),
            _ => Finding::ok(about("login"), "left to the running service"),
        });
        return;
    };
    if retry == Retry::ForgetRefused {
        match store.set_refused_pin(&token.serial, None).await {
            Ok(()) => findings.add(Finding::ok(about("PIN"), "whatever was refused is forgotten")),
            Err(error) => {
                findings.add(Finding::wrong(about("PIN"), error.to_string(), "mend the store"));
            }
        }
    }
    login(name, settings, store.clone(), findings).await;
}

/// Whether the PIN can be read from its file, and by nobody else.
fn pin_file(about: &str, settings: &Pkcs11, findings: &mut Findings) -> bool {
    let file = settings.pin_file.display();
    match std::fs::metadata(&settings.pin_file) {
        Err(error) => {
            let mend =
                "put the user PIN into it, for its owner alone (chmod 600), or correct pin_file";
            findings.add(Finding::wrong(about, format!("{file}: {error}"), mend));
            false
        }
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            findings.add(Finding::wrong(
                about,
                format!("{file} can be read by others"),
                format!("chmod 600 {file}"),
            ));
            false
        }
        Ok(_) => {
            findings.add(Finding::ok(about, format!("{file} is for its owner alone")));
            true
        }
    }
}

/// One login, if the PIN was not refused before, then what the token can do.
async fn login(
    name: &BackendName,
    settings: &Pkcs11,
    store: Arc<dyn Store>,
    findings: &mut Findings,
) {
    let about = format!("backend {name}, login");
    let memory = Arc::new(StorePinMemory::new(store));
    let opened = Pkcs11Backend::open(pkcs11_settings(name, settings), memory).await;
    let backend = match opened {
        Ok(backend) => backend,
        Err(error) => {
            findings.add(Finding::wrong(
                about,
                error.to_string(),
                "correct the setting that it names",
            ));
            return;
        }
    };
    match tokio::time::timeout(PATIENCE, backend.probe()).await {
        Ok(Ok(())) => {
            findings.add(Finding::ok(about, "the PIN is right"));
        }
        Ok(Err(error)) => {
            let mend = match error.kind {
                Kind::Denied => {
                    "correct the PIN file; if the PIN in it is right after all, `signkeep doctor --retry-pin` has it tried once more"
                }
                _ => "look at the HSM and its software",
            };
            findings.add(Finding::wrong(about, error.to_string(), mend));
        }
        Err(_late) => findings.add(Finding::wrong(
            about,
            "the token does not answer",
            "look at the HSM, its software and the link to it",
        )),
    }
    backend.stop().await;
}

/// The module's own account, or why there is none.
async fn inspect(settings: &Pkcs11) -> Result<Inspection, String> {
    let module = settings.module.clone();
    let work = tokio::task::spawn_blocking(move || pkcs11::inspect(&module));
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(Ok(seen))) => Ok(seen),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_late) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn mechanisms(name: &BackendName, token: &TokenReport, findings: &mut Findings) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (algorithm, lack) in &token.algorithms {
        match lack {
            None => there.push(algorithm.name().to_owned()),
            Some(lack) => missing.push(format!("{} ({lack})", algorithm.name())),
        }
    }
    let about = format!("backend {name}, algorithms");
    if there.is_empty() {
        let mend = "use a token that generates RSA, EC or Ed25519 keys";
        findings.add(Finding::wrong(about, "the token offers none", mend));
    } else if missing.is_empty() {
        findings.add(Finding::ok(about, there.join(", ")));
    } else {
        let what = format!("{}; not {}", there.join(", "), missing.join(", "));
        findings.add(Finding::warning(about, what, "use key sets of the former, or another token"));
    }
}

/// Whether every port can be had; those of the running service are its own.
fn ports(config: &Config, running: Running, findings: &mut Findings) {
    let listeners = &config.listeners;
    for (face, addresses) in
        [("grpc", &listeners.grpc), ("http", &listeners.http), ("metrics", &listeners.metrics)]
    {
        for address in addresses {
            findings.add(port(face, *address, running));
        }
    }
}

fn port(face: &str, address: SocketAddr, running: Running) -> Finding {
    let about = format!("port {address} ({face})");
    match TcpListener::bind(address) {
        Ok(_listener) => Finding::ok(about, "free"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running != Running::Nothing => {
            Finding::ok(about, "in use, while the service runs")
        }
        Err(error) => {
            let mend =
                format!("stop what uses it, or choose another address with listeners.{face}");
            Finding::wrong(about, error.to_string(), mend)
        }
    }
}
