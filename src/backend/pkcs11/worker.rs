//! What the threads do: sign, and say how the token is.
//!
//! A thread owns a session for as long as it lives, and takes jobs from the queue that all signers
//! share. A job whose deadline has passed while it waited is dropped; C_Sign itself cannot be
//! cancelled, so a caller may also stop waiting while the token still works for it.

use super::error::{Fault, name};
use super::fate::{Fate, Fates};
use super::mechanism::Payload;
use super::object;
use super::queue::{Queue, Waiting};
use super::seat::{Handle, Occupant, Seat};
use super::token::{Failure, Link, Patience, Token, late};
use crate::backend::{Error, KeyRef, Kind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// After how long without a job begun or ended the signers count as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What all threads of a backend share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) token: Token,
    pub(super) fates: Fates,
    pub(super) signing: Queue<Job>,
    pub(super) management: Queue<Task>,
    pub(super) progress: Progress,
}

/// Whether the signers come on.
#[derive(Debug)]
pub(super) struct Progress {
    busy: AtomicUsize,
    began: Instant,
    /// When a signer last began or ended a job, in milliseconds since `began`.
    last: AtomicU64,
}

/// A signer at work; ends when dropped.
struct AtWork<'a>(&'a Progress);

impl Progress {
    /// Nobody is at work.
    pub(super) fn new(now: Instant) -> Self {
        Self { busy: AtomicUsize::new(0), began: now, last: AtomicU64::new(0) }
    }

    /// How many signers are at work.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Whether signers are at work and none has begun or ended a job for [`STUCK_AFTER`].
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let last = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.busy() > 0 && now.saturating_duration_since(last) >= STUCK_AFTER
    }

    fn begin(&self, now: Instant) -> AtWork<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.note(now);
        AtWork(self)
    }

    fn note(&self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_millis();
        self.last.fetch_max(passed.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.note(Instant::now());
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Work for a signer.
#[derive(Debug)]
pub(super) enum Job {
    /// A signature.
    Sign {
        key: Arc<KeyRef>,
        payload: Payload,
        deadline: Instant,
        answer: oneshot::Sender<Result<Vec<u8>, Error>>,
    },
    /// Whether it could sign.
    Probe { deadline: Instant, answer: oneshot::Sender<Result<(), Error>> },
}

impl Waiting for Job {
    fn is_stale(&self, now: Instant) -> bool {
        match self {
            Self::Sign { deadline, answer, .. } => now >= *deadline || answer.is_closed(),
            Self::Probe { deadline, answer } => now >= *deadline || answer.is_closed(),
        }
    }
}

/// Work for the management thread, which may take seconds.
pub(super) struct Task {
    pub(super) deadline: Instant,
    pub(super) work: Box<Work>,
}

impl Waiting for Task {
    /// Only by its deadline: what was asked for may be wanted although whoever asked has gone.
    fn is_stale(&self, now: Instant) -> bool {
        now >= self.deadline
    }
}

type Work = dyn FnOnce(&Shared, &Seat) + Send;

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// A signer's life.
pub(super) fn sign_until_closed(shared: &Shared, seat: &Seat) {
    // A signer is free again before its caller knows the answer, and whoever asked may have stopped
    // waiting for it.
    let work = |job| match job {
        Job::Sign { key, payload, deadline, answer } => {
            if !answer.is_closed() {
                let at_work = shared.progress.begin(Instant::now());
                let result = sign(shared, seat, &key, &payload, deadline);
                drop(at_work);
                let _ = answer.send(result);
            }
        }
        Job::Probe { deadline, answer } => {
            let at_work = shared.progress.begin(Instant::now());
            let result = probe(shared, seat, deadline);
            drop(at_work);
            let _ = answer.send(result);
        }
    };
    serve(&shared.signing, work, || leave(seat));
}

/// The management thread's life.
pub(super) fn manage_until_closed(shared: &Shared, seat: &Seat) {
    let work = |task: Task| (task.work)(shared, seat);
    serve(&shared.management, work, || leave(seat));
}

/// Works off a queue until it is closed, then leaves. A panic costs the job that it happened in,
/// whose caller is told by the loss of its sender, and the session, about which nothing is known
/// then; the thread lives on.
fn serve<T: Waiting>(queue: &Queue<T>, mut work: impl FnMut(T), mut leave: impl FnMut()) {
    while let Some(job) = queue.pop() {
        // What the job shares with others is behind locks that make nothing of being poisoned, and
        // is changed in one step under each.
        if catch_unwind(AssertUnwindSafe(|| work(job))).is_err() {
            tracing::error!("a defect ended a call to the token; its session is given up");
            leave();
        }
    }
    leave();
}

fn leave(seat: &Seat) {
    if let Err(error) = seat.leave() {
        tracing::debug!(%error, "a session was not closed");
    }
}

fn sign(
    shared: &Shared,
    seat: &Seat,
    key: &KeyRef,
    payload: &Payload,
    deadline: Instant,
) -> Result<Vec<u8>, Error> {
    if Instant::now() >= deadline {
        return Err(late());
    }
    let fate = shared.fates.of(key.material);
    match fate {
        Some(Fate::Disabled) => {
            return Err(Error::new(Kind::Denied, "C_Sign", "the key is disabled"));
        }
        Some(Fate::Destroyed) => {
            return Err(Error::new(Kind::NotFound, "C_Sign", "the key is destroyed"));
        }
        Some(Fate::Ailing(ailment)) if Instant::now() < ailment.until => {
            return Err(Error::new(
                Kind::Unavailable,
                "C_Sign",
                format!(
                    "the token fails this key with {}, even after it was re-initialised; \
                     tried again after a pause",
                    name(ailment.code)
                ),
            ));
        }
        Some(Fate::Lost | Fate::Ailing(_)) | None => {}
    }
    let incurable = match fate {
        Some(Fate::Ailing(ailment)) => Some(ailment.code),
        _ => None,
    };
    let work = |occupant: &mut Occupant, link: &Link| {
        let (mechanism, octets) = payload.call(&link.offer)?;
        let private = match find(occupant, key) {
            // It was made sure of already that the key is not there.
            Err(Fault::Absent) if fate == Some(Fate::Lost) => {
                return Err(Fault::Ours(Fault::Absent.into_error()));
            }
            found => found?,
        };
        Ok(occupant.session.sign(&mechanism, private, &octets)?)
    };
    let result = shared.token.run_for_key(seat, deadline, Patience::KeepPause, incurable, work);
    match &result {
        Ok(signature) if signature.len() != key.public.signature_len() => {
            return Err(Error::new(
                Kind::Inconsistent,
                "C_Sign",
                format!(
                    "the token made a signature of {} bytes; one by {} has {}",
                    signature.len(),
                    key.algorithm,
                    key.public.signature_len()
                ),
            ));
        }
        Ok(_) if fate.is_some() => shared.fates.is_well(key.material),
        Ok(_) => {}
        Err(Failure { error, .. }) if error.kind == Kind::NotFound => {
            shared.fates.is_lost(key.material);
        }
        Err(Failure { incurable: Some(code), error }) => {
            tracing::error!(material = %key.material, %error,
                "a key fails although the token was re-initialised for it");
            shared.fates.is_ailing(key.material, *code, Instant::now());
        }
        Err(_) => {}
    }
    result.map_err(|failure| failure.error)
}

/// The handle of the key that is meant: remembered, or found and compared.
fn find(occupant: &mut Occupant, key: &KeyRef) -> Result<cryptoki::object::ObjectHandle, Fault> {
    if let Some(handle) = occupant.handle(key.material) {
        return match handle.public == key.public {
            true => Ok(handle.object),
            false => Err(other_key(key)),
        };
    }
    let spec = key.public.spec().filter(|_| key.public.fits(key.algorithm));
    let Some(spec) = spec else {
        return Err(Error::new(
            Kind::Inconsistent,
            "C_FindObjects",
            format!("{} does not sign with such a key", key.algorithm),
        )
        .into());
    };
    let Some((object, public)) = object::read(&occupant.session, key.material, spec)? else {
        occupant.ask_token()?;
        return Err(Fault::Absent);
    };
    if public != key.public {
        return Err(other_key(key));
    }
    occupant.keep(key.material, Handle { object, public });
    Ok(object)
}

fn other_key(key: &KeyRef) -> Fault {
    Error::new(
        Kind::Inconsistent,
        "C_GetAttributeValue",
        format!(
            "the key with CKA_ID {} is not the one in the store: its public key is another",
            key.material
        ),
    )
    .into()
}

fn probe(shared: &Shared, seat: &Seat, deadline: Instant) -> Result<(), Error> {
    shared.token.run(seat, deadline, Patience::TryNow, |occupant, _| occupant.ask_token())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    impl Waiting for &str {
        fn is_stale(&self, _: Instant) -> bool {
            false
        }
    }

    #[test]
    fn a_panic_costs_one_job_and_no_thread() {
        let (queue, progress) = (Queue::new(3), Progress::new(Instant::now()));
        for job in ["panic", "work", "close"] {
            queue.push(job).unwrap();
        }
        let (done, left) = (Cell::new(0), Cell::new(0));
        let work = |job| {
            let _at_work = progress.begin(Instant::now());
            match job {
                "panic" => panic!("a defect"),
                "close" => queue.close(),
                _ => done.set(done.get() + 1),
            }
        };
        serve(&queue, work, || left.set(left.get() + 1));
        assert_eq!(done.get(), 1, "it went on");
        assert_eq!(left.get(), 2, "the session was given up, and at the end once more");
        assert_eq!(progress.busy(), 0);
    }

    #[test]
    fn signers_are_stuck_when_they_are_busy_and_nothing_moves() {
        let start = Instant::now();
        let progress = Progress::new(start);
        let later = start + STUCK_AFTER * 3;
        assert!(!progress.is_stuck(later), "idle is not stuck");
        let one = progress.begin(later);
        assert!(!progress.is_stuck(later + STUCK_AFTER / 2));
        assert!(progress.is_stuck(later + STUCK_AFTER));
        let other = progress.begin(later + STUCK_AFTER);
        assert!(!progress.is_stuck(later + STUCK_AFTER), "one of them moves");
        drop((one, other));
        assert!(!progress.is_stuck(later + STUCK_AFTER * 4));
    }
}
