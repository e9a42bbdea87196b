//! One call to KMS as the rest of the backend makes it: at its turn, through the circuit, with a
//! time limit for each attempt and another for all, tried again where that can help.

use super::breaker::Breaker;
use super::client::Client;
use super::error::{Class, Fault};
use super::gate::{Average, Gate};
use super::memory::{Memory, lock};
use super::pace::Pace;
use super::scan::Directory;
use super::settings::Settings;
use super::watch::Watch;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout_at};

/// Attempts at a call that is worth trying again.
const ATTEMPTS_MAX: u32 = 3;
/// The first pause between two attempts; it doubles, and half of it is chance.
const BACKOFF: Duration = Duration::from_millis(50);

/// The least time that is kept for an answer, once a call has had to wait.
const ANSWER_MIN: Duration = Duration::from_millis(100);

/// Of each change (CreateKey, CreateAlias, DisableKey) a second: AWS allows five.
const CHANGES_PER_SECOND: u32 = 4;
/// How much of a rate may be asked for at once after a rest.
const SIGNING_BURST: Duration = Duration::from_millis(100);
const MANAGEMENT_BURST: Duration = Duration::from_secs(1);
/// Questions a second (DescribeKey, GetPublicKey, ListResourceTags): far below what AWS allows.
const QUESTIONS_PER_SECOND: u32 = 200;
/// Questions a second of those who look through the whole account, which is in no hurry.
const SEARCHES_PER_SECOND: u32 = 20;

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) memory: Memory,
    pub(super) directory: Directory,
    pub(super) watch: Watch,
    pub(super) breaker: Breaker,
    pub(super) signing: Lane,
    pub(super) questions: Lane,
    pub(super) searches: Lane,
    pub(super) births: Lane,
    pub(super) names: Lane,
    pub(super) ends: Lane,
    /// In front of the slow operations.
    pub(super) management: Gate,
    /// In front of signatures.
    pub(super) signatures: Gate,
    /// When KMS last did as it was asked, if it has not failed since.
    well: Mutex<Option<Instant>>,
    stopping: AtomicBool,
    itself: Weak<Self>,
}

/// Calls that are counted together by AWS.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) pace: Pace,
    took: Average,
}

/// How often a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tries {
    /// Once: making it twice would do it twice.
    Once,
    /// Again after what is passing: making it twice is as good as once.
    Again,
}

impl Lane {
    fn new(per_second: u32, burst: Duration) -> Self {
        Self { pace: Pace::new(per_second, burst), took: Average::default() }
    }

    /// How much time has to be left at a call's turn for its answer to come before the deadline.
    /// Who has less is not kept waiting for a turn, and not tried again.
    fn needed(&self) -> Duration {
        self.took.nearly_all().max(ANSWER_MIN)
    }
}

impl Shared {
    pub(super) fn new(client: Client, settings: Settings, management_max: usize) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            client,
            memory: Memory::default(),
            directory: Directory::default(),
            watch: Watch::default(),
            breaker: Breaker::default(),
            signing: Lane::new(settings.requests_per_second, SIGNING_BURST),
            questions: Lane::new(QUESTIONS_PER_SECOND, MANAGEMENT_BURST),
            searches: Lane::new(SEARCHES_PER_SECOND, MANAGEMENT_BURST),
            births: Lane::new(CHANGES_PER_SECOND, MANAGEMENT_BURST),
            names: Lane::new(CHANGES_PER_SECOND, MANAGEMENT_BURST),
            ends: Lane::new(CHANGES_PER_SECOND, MANAGEMENT_BURST),
            management: Gate::new(management_max, 64),
            signatures: Gate::new(settings.in_flight_max, settings.queue_max),
            settings,
            well: Mutex::new(None),
            stopping: AtomicBool::new(false),
            itself: itself.clone(),
        })
    }

    /// Makes a call: `attempt`, once or a few times, by `deadline`.
    pub(super) async fn call<T, F>(
        &self,
        op: &'static str,
        lane: &Lane,
        tries: Tries,
        deadline: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        // A change may take as long as a whole operation: giving it up leaves its outcome open.
        let limit = match tries {
            Tries::Once => self.settings.operation_timeout,
            Tries::Again => self.settings.attempt_timeout,
        };
        let mut made = 0;
        loop {
            let fault = match self.attempt(op, lane, deadline, limit, &attempt).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            made += 1;
            let most = if fault.class == Class::Garbage { 2 } else { ATTEMPTS_MAX };
            let pause = jittered(BACKOFF * 2_u32.pow(made.min(8) - 1));
            let worth_it = tries == Tries::Again && fault.is_passing() && made < most;
            if !worth_it || Instant::now() + pause + lane.needed() >= deadline {
                if fault.class == Class::Garbage {
                    tracing::error!(backend = %self.settings.name, op, error = %fault.words, "KMS answers with what cannot be read");
                }
                return Err(fault);
            }
            tracing::debug!(backend = %self.settings.name, op, error = %fault.words, made, "trying again");
            sleep(pause).await;
        }
    }

    async fn attempt<T, F>(
        &self,
        op: &'static str,
        lane: &Lane,
        deadline: Instant,
        limit: Duration,
        attempt: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let now = Instant::now();
        if now >= deadline {
            return Err(Fault::new(Class::Late, op, "the deadline passed before KMS was asked"));
        }
        self.closed_circuit(op)?;
        let spare = deadline.duration_since(now).saturating_sub(lane.needed());
        let latest = now + spare;
        let turn = lane.pace.turn(now, latest).map_err(|wait| {
            let wait = wait.as_millis();
            let words = format!("our rate leaves no room for {wait} ms; the caller cannot wait");
            Fault::new(Class::NoRoom, op, words)
        })?;
        if turn > now {
            sleep_until(turn.into()).await;
        }
        if self.is_stopping() {
            return Err(Fault::new(Class::Open, op, "the backend is being stopped"));
        }
        let began = Instant::now();
        let pass = self.breaker.pass(began).map_err(|out| open(op, out))?;
        let until = (began + limit).min(deadline);
        let result = match timeout_at(until.into(), attempt()).await {
            Ok(result) => result,
            Err(_) if until < deadline => Err(Fault::silent(Class::Passing, op, began.elapsed())),
            Err(_) => Err(Fault::silent(Class::Late, op, began.elapsed())),
        };
        let now = Instant::now();
        // From the turn on, so that a machine too busy to wake us in time counts as slow as well.
        lane.took.add(match &result {
            // It would have taken longer yet.
            Err(fault) if fault.class == Class::Late => 2 * turn.elapsed(),
            _ => turn.elapsed(),
        });
        match &result {
            Ok(_) => {
                lane.pace.went_well(now);
                *lock(&self.well) = Some(now);
                pass.answered();
            }
            Err(fault) if fault.is_answer() => {
                if fault.class == Class::Throttled {
                    lane.pace.throttled(now);
                }
                pass.answered();
            }
            // A caller in a hurry says nothing about KMS, unless it was given a fair time.
            Err(fault) if fault.class == Class::Late && began.elapsed() < limit / 2 => drop(pass),
            Err(_) => {
                *lock(&self.well) = None;
                if let Some(pause) = pass.failed(now) {
                    self.opened(pause);
                }
            }
        }
        result
    }

    /// Refuses while the circuit is open.
    pub(super) fn closed_circuit(&self, op: &'static str) -> Result<(), Fault> {
        match self.breaker.is_open(Instant::now()) {
            Some(out) => Err(open(op, out)),
            None => Ok(()),
        }
    }

    /// Whether KMS could sign now. Asks only if nothing has gone well lately.
    pub(super) async fn probe(&self, fresh: Duration) -> Result<(), Fault> {
        const OP: &str = "ListKeys";
        if self.is_stopping() {
            return Err(Fault::new(Class::Open, OP, "the backend is being stopped"));
        }
        self.closed_circuit(OP)?;
        if lock(&self.well).is_some_and(|well| well.elapsed() < fresh) {
            return Ok(());
        }
        let deadline = Instant::now() + self.settings.attempt_timeout + Duration::from_millis(100);
        let ask = || self.client.is_there();
        match self.call(OP, &self.questions, Tries::Again, deadline, ask).await {
            // That we may not list says that KMS is there and knows us.
            Err(fault) if fault.class == Class::Denied => {
                *lock(&self.well) = Some(Instant::now());
                tracing::warn!(backend = %self.settings.name, error = %fault.words, "kms:ListKeys is missing: a key left behind by a crash would not be found");
                Ok(())
            }
            Err(fault) if matches!(fault.class, Class::Throttled | Class::NoRoom) => Ok(()),
            other => other,
        }
    }

    /// Takes no more work, and waits for what is under way, at most `limit`.
    pub(super) async fn stop(&self, limit: Duration) {
        self.stopping.store(true, Ordering::Release);
        tokio::join!(self.signatures.close(limit), self.management.close(limit));
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The circuit has opened: somebody has to find out when KMS is back.
    fn opened(&self, pause: Duration) {
        tracing::error!(backend = %self.settings.name, "KMS fails; it is left alone and probed");
        let shared = self.itself.clone();
        tokio::spawn(async move {
            let mut pause = pause;
            loop {
                sleep(jittered(pause)).await;
                let Some(shared) = shared.upgrade().filter(|shared| !shared.is_stopping()) else {
                    return;
                };
                let limit = Instant::now() + shared.settings.attempt_timeout;
                let answer = timeout_at(limit.into(), shared.client.is_there()).await;
                let reached = match answer {
                    Ok(Ok(())) => true,
                    Ok(Err(fault)) => fault.is_answer(),
                    Err(_late) => false,
                };
                if reached {
                    shared.breaker.reached();
                    tracing::info!(backend = %shared.settings.name, "KMS answers again");
                    return;
                }
                match shared.breaker.not_reached() {
                    Some(longer) => pause = longer,
                    None => return,
                }
            }
        });
    }
}

fn open(op: &'static str, out: Duration) -> Fault {
    let words = format!("KMS has failed for {} ms; it is probed and not asked", out.as_millis());
    Fault::new(Class::Open, op, words)
}

/// Between half of `pause` and all of it.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut chance = [0; 2];
    // Without chance the pause is merely the same for all.
    let _ = getrandom::fill(&mut chance);
    pause / 2 + pause.mul_f64(f64::from(u16::from_le_bytes(chance)) / f64::from(u16::MAX) / 2.0)
}
