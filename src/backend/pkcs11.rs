//! Keys in a PKCS#11 token.
//!
//! PKCS#11 is synchronous, its sessions belong to threads, and its login state to the process. So a
//! backend is a few threads, each with a session of its own, behind two bounded queues: one for
//! signatures, one for everything that may take seconds. What is inside the module happens in
//! `token`'s care, which finds the token, logs in once for all, and brings it back when it fails.
//!
//! A token that is out, or that refuses the PIN, is no reason not to start: the backend says so in
//! every answer and heals by itself. Only a module that cannot be loaded is an error from
//! [`Pkcs11Backend::open`].

mod error;
mod fate;
mod gate;
mod inspect;
mod manage;
mod mechanism;
mod module;
mod object;
mod pin;
mod provision;
mod queue;
mod seat;
mod token;
mod worker;

pub use error::Misconfigured;
pub use inspect::{InspectError, Inspection, PinState, TokenReport, inspect};
pub use provision::{Provisioned, provision};
pub use token::TokenSelector;

use self::mechanism::Payload;
use self::module::Module;
use self::pin::Desk;
use self::queue::{Queue, Refused};
use self::seat::{Access, Seat};
use self::token::{Token, late};
use self::worker::{Job, Progress, Shared, Task};
use super::{Backend, Error, Input, KeyRef, Kind, Listed, Material, ObjectRef, Order, PinMemory};
use crate::key::{Algorithm, BackendName, KeySpec, MaterialId};
use async_trait::async_trait;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

/// The most signers that a backend has.
const WORKERS_MAX: usize = 256;

/// How many of the slow operations may wait.
const MANAGEMENT_QUEUE_MAX: usize = 64;

/// How long a generation may take: tokens spend up to tens of seconds on RSA 4096.
const GENERATE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long finding, listing and destroying may take, generations ahead of them in the queue
/// included.
const MANAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a probe may take, a re-initialisation included.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long stopping waits for the calls that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The same when a backend is dropped without having been stopped.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Which token, and how to use it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The backend's name.
    pub name: BackendName,
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// The token.
    pub token: TokenSelector,
    /// The file with the user PIN, mode 0600 or stricter.
    pub pin_file: PathBuf,
    /// How many signers, each with a session, 1 to 256; about the number of cores for a software
    /// token.
    pub workers: usize,
    /// How many signatures may wait for a signer, at least 1.
    pub queue_max: usize,
}

/// A token that generates, signs and destroys.
#[derive(Debug)]
pub struct Pkcs11Backend {
    name: BackendName,
    shared: Arc<Shared>,
    seats: Vec<Arc<Seat>>,
    /// Disconnected when the last thread has ended; taken by who waits for that.
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Pkcs11Backend {
    /// Loads the module and starts the threads, then tries once to reach the token. Whether that
    /// worked is told by [`Backend::probe`], not here; an error is a setting that cannot work.
    pub async fn open(
        settings: Settings,
        pin_memory: Arc<dyn PinMemory>,
    ) -> Result<Self, Misconfigured> {
        let backend = Self::open_unlinked(settings, pin_memory).await?;
        if let Err(error) = backend.probe().await {
            tracing::warn!(backend = %backend.name, %error, "the token cannot be used yet");
        }
        Ok(backend)
    }

    /// As [`Pkcs11Backend::open`], but no PIN is tried before something is asked of the backend.
    pub async fn open_unlinked(
        settings: Settings,
        pin_memory: Arc<dyn PinMemory>,
    ) -> Result<Self, Misconfigured> {
        let Settings { name, module, token, pin_file, workers, queue_max } = settings;
        in_range("workers", workers, WORKERS_MAX)?;
        in_range("queue_max", queue_max, usize::MAX)?;
        let module = tokio::task::spawn_blocking(move || Module::load(&module)).await.map_err(
            |error| Misconfigured {
                field: "module",
                message: format!("loading it failed: {error}"),
            },
        )??;
        let shared = Arc::new(Shared {
            token: Token::new(Arc::clone(&module), token, pin_file, Desk::open(pin_memory)),
            fates: fate::Fates::default(),
            signing: Queue::new(queue_max),
            management: Queue::new(MANAGEMENT_QUEUE_MAX),
            progress: Progress::new(Instant::now()),
        });
        let (alive, ended) = mpsc::channel();
        let mut backend = Self { name, shared, seats: Vec::new(), ended: Mutex::new(Some(ended)) };
        for number in 1..=workers {
            let seat = Seat::new(&module, Access::ReadOnly);
            let life = worker::sign_until_closed;
            backend.spawn(format!("pkcs11-sign-{number}"), seat, alive.clone(), life)?;
        }
        let seat = Seat::new(&module, Access::ReadWrite);
        let life = worker::manage_until_closed;
        backend.spawn("pkcs11-manage".to_owned(), seat, alive, life)?;
        Ok(backend)
    }

    /// C_Finalize, C_Initialize and login, at once: for an operator who has mended or exchanged
    /// what is behind the module. Signatures under way are finished first; those that wait go on
    /// afterwards.
    pub async fn reinitialise(&self) -> Result<(), Error> {
        self.manage("C_Initialize", MANAGE_TIMEOUT, |shared, _, _| shared.token.reinitialise())
            .await
    }

    /// Forgets that the token refused the PIN, and tries the one in the file once.
    pub async fn retry_pin(&self) -> Result<(), Error> {
        self.manage("C_Login", MANAGE_TIMEOUT, |shared, _, _| shared.token.retry_pin()).await
    }

    /// How many sessions are open now.
    pub fn sessions_open(&self) -> usize {
        let seats = self.seats.iter().chain([self.shared.token.anchor()]);
        seats.filter(|seat| seat.is_occupied()).count()
    }

    /// How many signers are at work now.
    pub fn workers_busy(&self) -> usize {
        self.shared.progress.busy()
    }

    /// How many signatures wait for a signer now.
    pub fn queue_depth(&self) -> usize {
        self.shared.signing.len()
    }

    /// Takes no more work; answers what is to be waited for, once.
    fn close(&self) -> Option<mpsc::Receiver<()>> {
        self.shared.signing.close();
        self.shared.management.close();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.take()
    }

    fn spawn(
        &mut self,
        name: String,
        seat: Arc<Seat>,
        alive: mpsc::Sender<()>,
        life: fn(&Shared, &Seat),
    ) -> Result<(), Misconfigured> {
        self.seats.push(Arc::clone(&seat));
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                life(&shared, &seat);
                // The last to let go of these closes sessions: not after it was said that this
                // thread makes no more calls.
                drop((shared, seat));
                drop(alive);
            })
            .map(|_| ())
            .map_err(|error| Misconfigured {
                field: "workers",
                message: format!("the system starts no more threads: {error}"),
            })
    }

    /// Has the management thread do `work`, and waits for it at most `timeout`.
    async fn manage<T: Send + 'static>(
        &self,
        op: &'static str,
        timeout: Duration,
        work: impl FnOnce(&Shared, &Seat, Instant) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + timeout;
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |shared: &Shared, seat: &Seat| {
            let result =
                if Instant::now() >= deadline { Err(late()) } else { work(shared, seat, deadline) };
            // Whoever asked may have stopped waiting.
            let _ = answer.send(result);
        });
        let task = Task { deadline, work };
        self.shared.management.push(task).map_err(|refused| refusal(op, refused))?;
        self.answer(answered, deadline).await.map_err(|error| match error.kind {
            Kind::Late => error.outcome_unknown(),
            _ => error,
        })
    }

    async fn answer<T>(
        &self,
        answered: oneshot::Receiver<Result<T, Error>>,
        deadline: Instant,
    ) -> Result<T, Error> {
        match timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) if Instant::now() >= deadline => Err(late()),
            Ok(Err(_)) if self.shared.signing.is_closed() => {
                Err(refusal("PKCS#11", Refused::Closed))
            }
            Ok(Err(_)) => Err(broken()),
            Err(_) => Err(late()),
        }
    }

    /// Has a signer do a job, or says why none will.
    fn signer(
        &self,
        op: &'static str,
        push: impl FnOnce(&Queue<Job>) -> Result<(), Refused>,
    ) -> Result<(), Error> {
        push(&self.shared.signing).map_err(|refused| match refused {
            Refused::Full if self.shared.progress.is_stuck(Instant::now()) => stuck(op),
            refused => refusal(op, refused),
        })
    }
}

#[async_trait]
impl Backend for Pkcs11Backend {
    fn name(&self) -> &BackendName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "pkcs11"
    }

    async fn supports(&self, algorithm: Algorithm, spec: KeySpec) -> Result<(), Error> {
        if self.shared.token.last_link().is_none() {
            self.probe().await?;
        }
        match self.shared.token.last_link() {
            Some(link) => link.offer.supports(algorithm, spec),
            None => Err(refusal("C_GetMechanismList", Refused::Closed)),
        }
    }

    async fn generate(&self, order: &Order) -> Result<Material, Error> {
        let order = order.clone();
        let generate =
            move |shared: &Shared, seat: &Seat, by| manage::generate(shared, seat, &order, by);
        self.manage("C_GenerateKeyPair", GENERATE_TIMEOUT, generate).await
    }

    async fn find(&self, material: MaterialId, spec: KeySpec) -> Result<Option<Material>, Error> {
        let find =
            move |shared: &Shared, seat: &Seat, by| manage::find(shared, seat, material, spec, by);
        self.manage("C_FindObjects", MANAGE_TIMEOUT, find).await
    }

    async fn sign(
        &self,
        key: &Arc<KeyRef>,
        input: Input,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        if Instant::now() >= deadline {
            return Err(late());
        }
        let (answer, answered) = oneshot::channel();
        let job = Job::Sign {
            key: Arc::clone(key),
            payload: Payload::new(key.algorithm, input)?,
            deadline,
            answer,
        };
        self.signer("C_Sign", |queue| queue.push(job))?;
        self.answer(answered, deadline).await
    }

    /// PKCS#11 knows no disabled key: this process signs with it no more, handles that it may have
    /// included; whoever else has the PIN still can, until the key is destroyed.
    async fn disable(&self, key: &KeyRef) -> Result<(), Error> {
        self.shared.fates.is_disabled(key.material);
        Ok(())
    }

    async fn destroy(&self, material: MaterialId, _: Option<&ObjectRef>) -> Result<(), Error> {
        let destroy =
            move |shared: &Shared, seat: &Seat, by| manage::destroy(shared, seat, material, by);
        self.manage("C_DestroyObject", MANAGE_TIMEOUT, destroy).await
    }

    async fn list(&self, _: &HashSet<MaterialId>) -> Result<Vec<Listed>, Error> {
        self.manage("C_FindObjects", MANAGE_TIMEOUT, manage::list).await
    }

    fn deletion_window(&self) -> Duration {
        Duration::ZERO
    }

    async fn probe(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let (answer, answered) = oneshot::channel();
        let job = Job::Probe { deadline, answer };
        self.signer("C_GetSessionInfo", |queue| queue.push_ahead(job))?;
        self.answer(answered, deadline).await
    }

    async fn stop(&self) {
        let Some(ended) = self.close() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let stopping =
            tokio::task::spawn_blocking(move || match ended.recv_timeout(STOP_TIMEOUT) {
                Err(RecvTimeoutError::Disconnected) => shared.token.unlink(),
                _ => tracing::warn!("a call into the PKCS#11 module has not returned"),
            });
        if let Err(error) = stopping.await {
            tracing::warn!(backend = %self.name, %error, "the token was not logged out of");
        }
    }
}

impl Drop for Pkcs11Backend {
    /// Waits for the threads, if [`Backend::stop`] has not: a module that is being called while the
    /// process exits crashes it.
    fn drop(&mut self) {
        if let Some(ended) = self.close() {
            let _ = ended.recv_timeout(DROP_TIMEOUT);
        }
    }
}

fn in_range(field: &'static str, value: usize, max: usize) -> Result<(), Misconfigured> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(Misconfigured {
        field,
        message: match max {
            usize::MAX => "must be at least 1".to_owned(),
            max => format!("must be 1 to {max}, not {value}"),
        },
    })
}

/// The answer for a full queue that does not move: waiting a little and asking again is no help.
fn stuck(op: &'static str) -> Error {
    Error::new(
        Kind::Unavailable,
        op,
        "no call to the token has returned for some seconds, and as many requests wait as may: \
         look at the HSM and the link to it",
    )
}

/// The answer for work that ended in a panic.
fn broken() -> Error {
    Error::new(
        Kind::Unavailable,
        "PKCS#11",
        "a defect of the service ended the call before there was an answer; the log has more",
    )
    .outcome_unknown()
}

fn refusal(op: &'static str, refused: Refused) -> Error {
    match refused {
        Refused::Full => Error::new(
            Kind::Throttled,
            op,
            "as many requests wait for the token as may; try again after a pause",
        ),
        Refused::Closed => Error::new(Kind::Unavailable, op, "the backend is being stopped"),
    }
}
