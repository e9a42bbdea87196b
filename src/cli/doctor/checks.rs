//! The checks, from the ground up: a later one is left out if it could only repeat an earlier one.

use super::finding::{Finding, Findings};
use super::listeners;
use crate::app::{StorePinMemory, is_served, open_store, pkcs11_settings};
use crate::backend::pkcs11::{self, Inspection, PinState, Pkcs11Backend, TokenReport};
use crate::backend::{Backend, Kind};
use crate::cli::client::Connection;
use crate::config::{self, Config, Pkcs11, Token};
use crate::key::BackendName;
use crate::store::Store;
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

/// How the service that is configured answers, if it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Nothing,
    Serving,
    NotServing,
    /// It has our database, and no listener without TLS to ask it on.
    Unasked,
}

pub(super) async fn run(config: &Config, retry: Retry, findings: &mut Findings) {
    let running = match running(config).await {
        // Whoever answers on our ports is another unless it has our database.
        Running::Nothing if is_closed(config) && is_served(&config.store).await => Running::Unasked,
        running if is_served(&config.store).await => running,
        Running::Nothing => Running::Nothing,
        _ => {
            findings.add(Finding::wrong(
                "service",
                "another program answers on the ports: it has not this configuration's database",
                "stop that one, or choose other addresses under listeners",
            ));
            Running::Nothing
        }
    };
    match running {
        Running::Nothing => {}
        Running::Serving => findings.add(Finding::ok("service", "one is running and says SERVING")),
        Running::Unasked => {
            let what =
                "one is running; it takes no calls without TLS, so it was not asked how it is";
            findings.add(Finding::ok("service", what));
        }
        Running::NotServing => {
            let what = "one is running and says NOT_SERVING";
            findings.add(Finding::wrong("service", what, where_to_look(config)));
        }
    }
    public_url(config, findings);
    super::management::run(config, findings);
    let store = store(config, running, findings).await;
    for (name, settings) in &config.backends {
        match settings {
            config::Backend::Pkcs11(settings) => {
                let checkup = Checkup { name, settings, findings };
                checkup.run(running, store.as_ref(), retry).await;
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
    listeners::run(config, running != Running::Nothing, findings);
    super::audit::run(config, findings).await;
}

/// An issuer with https is reached from outside, and so not at the listener's own address.
fn public_url(config: &Config, findings: &mut Findings) {
    let is_outside =
        config.key_sets.values().any(|seed| seed.issuer.as_str().starts_with("https:"));
    if is_outside && config.jwks.public_url.is_none() {
        findings.add(Finding::warning(
            "jwks.public_url",
            "it is not set, so discovery gives verifiers the listener's own address",
            "set it to what verifiers reach the HTTP listener by",
        ));
    }
}

fn where_to_look(config: &Config) -> String {
    let ports = config.listeners.http.iter().filter(|listener| listener.tls.is_none());
    match ports.filter_map(|listener| listener.address.tcp()).find(|address| address.port() != 0) {
        Some(http) => format!("its log, and http://{http}/readyz, say which part is out"),
        None => "its log, and /readyz of its HTTP listener, say which part is out".to_owned(),
    }
}

/// Whether no gRPC listener can be called without TLS.
fn is_closed(config: &Config) -> bool {
    config.listeners.grpc.iter().all(|it| it.tls.is_some() || it.address.tcp().is_none())
}

async fn running(config: &Config) -> Running {
    for listener in config.listeners.grpc.iter().filter(|listener| listener.tls.is_none()) {
        let Some(address) = listener.address.tcp().filter(|address| address.port() != 0) else {
            continue;
        };
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
    let place = &config.store;
    if running != Running::Nothing {
        let what = format!("{place} is in the hands of the running service; its health covers it");
        findings.add(Finding::ok("store", what));
        return None;
    }
    let store = match open_store(&config.store).await {
        Ok(store) => store,
        Err(error) => {
            let mend = match &config.store {
                config::Store::Sqlite(_) => {
                    "make the file and its directory writable, or correct store.url; if another signkeep serves it, stop that one"
                }
                config::Store::Postgres(_) => {
                    "correct store.url, the files beside it, or what the server complains of; if another signkeep serves it, stop that one"
                }
            };
            findings.add(Finding::wrong("store", format!("{place}: {error}"), mend));
            return None;
        }
    };
    match store.probe().await {
        Ok(()) => findings.add(Finding::ok("store", format!("{place} can be read and written"))),
        Err(error) => findings.add(Finding::wrong(
            "store",
            format!("{place}: {error}"),
            match &config.store {
                config::Store::Sqlite(_) => "free space on the disk, or make the file writable",
                config::Store::Postgres(_) => {
                    "mend what the server complains of; its log says more"
                }
            },
        )),
    }
    Some(store)
}

/// What a backend's checks have in common.
struct Checkup<'a> {
    name: &'a BackendName,
    settings: &'a Pkcs11,
    findings: &'a mut Findings,
}

impl Checkup<'_> {
    fn about(&self, what: &str) -> String {
        format!("backend {}, {what}", self.name)
    }

    fn ok(&mut self, about: &str, what: impl Into<String>) {
        self.findings.add(Finding::ok(self.about(about), what));
    }

    fn warning(&mut self, about: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.findings.add(Finding::warning(self.about(about), what, mend));
    }

    fn wrong(&mut self, about: &str, what: impl Into<String>, mend: impl Into<String>) {
        self.findings.add(Finding::wrong(self.about(about), what, mend));
    }

    async fn run(mut self, running: Running, store: Option<&Arc<dyn Store>>, retry: Retry) {
        if !self.pin_file() {
            return;
        }
        let Some(seen) = self.module().await else {
            return;
        };
        let Some(token) = self.token(seen) else {
            return;
        };
        self.mechanisms(&token);
        if !self.pin(token.pin, retry) {
            return;
        }
        match (store, running, retry) {
            (Some(store), _, _) => self.login(store.clone(), retry).await,
            (None, Running::Nothing, _) => self.warning(
                "login",
                "not tried: whether the PIN was refused before stands in the store",
                "mend the store first",
            ),
            (None, _, Retry::No) => self.ok("login", "left to the running service"),
            (None, _, Retry::ForgetRefused) => self.wrong(
                "login",
                "--retry-pin not done: the running service holds the memory of refused PINs",
                "stop it, run this again, start it",
            ),
        }
    }

    /// Whether the PIN can be read from its file, and by nobody else.
    fn pin_file(&mut self) -> bool {
        let file = self.settings.pin_file.display();
        match std::fs::metadata(&self.settings.pin_file) {
            Err(error) => {
                let mend = "put the user PIN into it, for its owner alone (chmod 600), or correct pin_file";
                self.wrong("PIN file", format!("{file}: {error}"), mend);
                false
            }
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                let what = format!("{file} can be read by others");
                self.wrong("PIN file", what, format!("chmod 600 {file}"));
                false
            }
            Ok(_) => {
                self.ok("PIN file", format!("{file} is for its owner alone"));
                true
            }
        }
    }

    /// The module's own account.
    async fn module(&mut self) -> Option<Inspection> {
        let module = self.settings.module.display();
        if !self.settings.module.is_file() {
            let mend =
                format!("install the HSM's software, or correct backends.{}.module", self.name);
            self.wrong("module", format!("{module} is missing"), mend);
            return None;
        }
        match inspect(self.settings).await {
            Ok(seen) => {
                let what = format!("{module}: {}, version {}", seen.description, seen.version);
                self.ok("module", what);
                Some(seen)
            }
            Err(error) => {
                let mend = "check that it is a PKCS#11 module for this machine, and the module's own configuration";
                self.wrong("module", format!("{module}: {error}"), mend);
                None
            }
        }
    }

    /// The token that is configured.
    fn token(&mut self, seen: Inspection) -> Option<TokenReport> {
        let is_wanted = |token: &TokenReport| match &self.settings.token {
            Token::Label(label) => token.label == *label,
            Token::Serial(serial) => token.serial == *serial,
        };
        let mut others = Vec::new();
        for token in seen.tokens.into_iter().filter(|token| token.is_initialised) {
            if is_wanted(&token) {
                self.ok("token", format!("{:?}, serial {}", token.label, token.serial));
                return Some(token);
            }
            others.push(format!("{:?} (serial {})", token.label, token.serial));
        }
        let there = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        let mend = format!(
            "initialise the token, or correct backends.{}; tokens seen: {there}",
            self.name
        );
        self.wrong("token", "it is missing", mend);
        None
    }

    fn mechanisms(&mut self, token: &TokenReport) {
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for (algorithm, lack) in &token.algorithms {
            match lack {
                None => there.push(algorithm.name().to_owned()),
                Some(lack) => missing.push(format!("{} ({lack})", algorithm.name())),
            }
        }
        if there.is_empty() {
            let mend = "use a token that generates RSA, EC or Ed25519 keys";
            self.wrong("algorithms", "the token offers none", mend);
        } else if missing.is_empty() {
            self.ok("algorithms", there.join(", "));
        } else {
            let what = format!("{}; not {}", there.join(", "), missing.join(", "));
            self.warning("algorithms", what, "use key sets of the former, or another token");
        }
    }

    /// What the token says of its user PIN; whether one may be tried.
    fn pin(&mut self, state: PinState, retry: Retry) -> bool {
        match state {
            PinState::Good => true,
            PinState::CountLow => {
                let what = "a wrong one was tried since the last login";
                self.warning("PIN", what, "make sure that the PIN file is right");
                true
            }
            PinState::FinalTry if retry == Retry::ForgetRefused => {
                let what = "another wrong one locks it; tried all the same, as --retry-pin asks";
                self.warning(
                    "PIN",
                    what,
                    "if it is locked now, have the security officer reset it",
                );
                true
            }
            PinState::FinalTry => {
                let mend = "have the security officer reset it; or make sure that the PIN file is right, stop the service, then run `signkeep doctor --retry-pin`, which uses up the last try";
                self.wrong("PIN", "another wrong one locks it, so it is not tried", mend);
                false
            }
            PinState::NotSet => {
                let mend = "have the security officer set one, and put it into the PIN file";
                self.wrong("PIN", "the token has none", mend);
                false
            }
            PinState::Locked => {
                let mend = "have the security officer set a new PIN, and put it into the PIN file";
                self.wrong("PIN", "it is locked", mend);
                false
            }
        }
    }

    /// One login: with a PIN that was refused before only if a retry is asked for.
    async fn login(&mut self, store: Arc<dyn Store>, retry: Retry) {
        let memory = Arc::new(StorePinMemory::new(store));
        let settings = pkcs11_settings(self.name, self.settings);
        let backend = match Pkcs11Backend::open_unlinked(settings, memory).await {
            Ok(backend) => backend,
            Err(error) => {
                self.wrong("login", error.to_string(), "correct the setting that it names");
                return;
            }
        };
        let login = async {
            match retry {
                Retry::No => backend.probe().await,
                Retry::ForgetRefused => backend.retry_pin().await,
            }
        };
        match tokio::time::timeout(PATIENCE, login).await {
            Ok(Ok(())) => self.ok("login", "the PIN is right"),
            Ok(Err(error)) => {
                let mend = match error.kind {
                    Kind::Denied => "correct the PIN file",
                    _ => "look at the HSM and its software",
                };
                self.wrong("login", error.to_string(), mend);
            }
            Err(_late) => self.wrong(
                "login",
                "the token does not answer",
                "look at the HSM, its software and the link to it",
            ),
        }
        backend.stop().await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn last_try(retry: Retry) -> (bool, usize) {
        let settings = Pkcs11 {
            module: "/nonexistent/hsm.so".into(),
            token: Token::Label("token".to_owned()),
            pin_file: "/nonexistent/pin".into(),
            workers: 1,
            queue: 1,
        };
        let mut findings = Findings::default();
        let name = "token".parse().unwrap();
        let mut checkup = Checkup { name: &name, settings: &settings, findings: &mut findings };
        let may_be_tried = checkup.pin(PinState::FinalTry, retry);
        (may_be_tried, findings.wrong())
    }

    #[test]
    fn the_last_try_is_used_up_only_if_a_retry_is_asked_for() {
        assert_eq!(last_try(Retry::No), (false, 1));
        assert_eq!(last_try(Retry::ForgetRefused), (true, 0));
    }
}
