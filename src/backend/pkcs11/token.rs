//! One token: how it is found, logged in to, and brought back when it fails.
//!
//! Login state belongs to the process, so there is one login for all sessions, made through an
//! *anchor* session that stays open for as long as the token is linked: were the last session
//! closed, everyone would be logged out and every private handle invalid.
//!
//! All work in the module goes through [`Token::run`], which applies the cure for what went wrong:
//! first a gentle one (another session, another login), then one re-initialisation, then it gives
//! up. Both happen at most once for a piece of work, and a re-initialisation at most once a
//! [`REST`], so that a token which fails every call is not made to fail faster. A key that fails
//! with the same code after a re-initialisation as before has shown that the token is not what is
//! wrong: it is left alone for a while (see `fate`), and the others sign on undisturbed.

mod login;

pub(super) use login::is_user;

use super::error::{Cure, Fault, from_cryptoki};
use super::mechanism::Offer;
use super::module::Module;
use super::pin::Desk;
use super::seat::{Access, Occupant, Seat};
use crate::backend::{Error, Kind};
use arc_swap::ArcSwapOption;
use cryptoki::error::{Error as Answer, RvError};
use cryptoki::slot::{Slot, TokenInfo};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two re-initialisations that nobody asked for.
pub(super) const REST: Duration = Duration::from_secs(1);

/// The same when sessions of others on this module would be closed for a token that is not there.
const REST_OF_OTHERS: Duration = Duration::from_secs(60);

/// How long connecting waits for a re-initialisation by another backend.
const ENTER_TIMEOUT: Duration = Duration::from_secs(30);

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The same once C_Login has failed: each further one may be a try that the token counts.
const LOGIN_BACKOFF_MIN: Duration = Duration::from_secs(1);
const LOGIN_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Names a token; never by slot number, which changes from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSelector {
    /// By CKA label, which must be that of one token only.
    Label(String),
    /// By serial number.
    Serial(String),
}

impl TokenSelector {
    /// Whether `token` is the one that is named.
    pub(super) fn matches(&self, token: &TokenInfo) -> bool {
        match self {
            Self::Label(label) => token.token_initialized() && token.label() == label,
            Self::Serial(serial) => token.token_initialized() && token.serial_number() == serial,
        }
    }
}

impl fmt::Display for TokenSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "with the label {label:?}"),
            Self::Serial(serial) => write!(f, "with the serial number {serial:?}"),
        }
    }
}

/// Whether to try at once or to keep to the pause that follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Answer with the last failure until its pause is over.
    KeepPause,
    /// Try now, unless C_Login has failed.
    TryNow,
}

/// Whether a PIN may be tried that the token has refused before, or that may be its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caution {
    Careful,
    /// An operator has asked for it.
    Asked,
}

/// Why a piece of work failed for good.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error for the caller.
    pub(super) error: Error,
    /// The token's answer, if a re-initialisation is known not to change it.
    pub(super) incurable: Option<RvError>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, incurable: None }
    }
}

/// A token that is present and logged in to, in one generation of its module.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) slot: Slot,
    pub(super) generation: u64,
    pub(super) offer: Offer,
}

#[derive(Debug)]
pub(super) struct Token {
    module: Arc<Module>,
    selector: TokenSelector,
    pin_file: PathBuf,
    memory: Desk,
    anchor: Arc<Seat>,
    link: ArcSwapOption<Link>,
    attempts: Mutex<Attempts>,
}

/// What became of the attempts to link the token. Its lock is held while one is under way, so that
/// there is one at a time; never taken by someone who is inside the module.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    failed: Option<(Kind, &'static str, String)>,
    not_before: Option<Instant>,
    /// The hash of a PIN that was refused, in case the memory loses it.
    refused: Option<String>,
    /// What this process has written to the memory for the time of a try, until it is put back.
    mark: Option<Mark>,
    /// C_Login was called since the token was last linked, and said that it did not reach the
    /// token. Whether that is so is not known, so from then on nobody skips the pause.
    login_failed: bool,
}

/// A note that a PIN is being tried.
#[derive(Debug)]
struct Mark {
    text: String,
    /// What was remembered before.
    before: Option<String>,
}

impl Attempts {
    /// What was remembered before this process began to try, given what is remembered now: its own
    /// mark is not that of a process that crashed.
    fn before_us(&self, remembered: Option<String>) -> Option<String> {
        match &self.mark {
            Some(mark) if remembered.as_ref() == Some(&mark.text) => mark.before.clone(),
            _ => remembered,
        }
    }

    /// The last failure, while its pause is to be kept.
    fn pause(&self, patience: Patience, now: Instant) -> Option<Error> {
        let (kind, op, message) = self.failed.as_ref()?;
        let waits = patience == Patience::KeepPause || self.login_failed;
        (waits && self.not_before.is_some_and(|not_before| now < not_before))
            .then(|| Error::new(*kind, op, message.clone()))
    }

    /// Keeps a failure, and how long to pause after it.
    fn failed(&mut self, error: &Error, now: Instant) {
        let (least, most) = match self.login_failed {
            true => (LOGIN_BACKOFF_MIN, LOGIN_BACKOFF_MAX),
            false => (BACKOFF_MIN, BACKOFF_MAX),
        };
        let pause = least.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause);
        self.failed = Some((error.kind, error.op, error.message.clone()));
    }

    /// The token is linked.
    fn succeeded(&mut self) {
        self.failures = 0;
        self.failed = None;
        self.not_before = None;
        self.login_failed = false;
    }
}

impl Token {
    pub(super) fn new(
        module: Arc<Module>,
        selector: TokenSelector,
        pin_file: PathBuf,
        memory: Desk,
    ) -> Self {
        Self {
            anchor: Seat::new(&module, Access::ReadOnly),
            module,
            selector,
            pin_file,
            memory,
            link: ArcSwapOption::empty(),
            attempts: Mutex::default(),
        }
    }

    /// What the token offered when it was last linked, in whatever generation.
    pub(super) fn last_link(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// The anchor session's seat.
    pub(super) fn anchor(&self) -> &Arc<Seat> {
        &self.anchor
    }

    /// Does `work` in a session of `seat`, and does it again after curing what can be cured.
    pub(super) fn run<T>(
        &self,
        seat: &Seat,
        deadline: Instant,
        patience: Patience,
        work: impl FnMut(&mut Occupant, &Link) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.run_for_key(seat, deadline, patience, None, work).map_err(|failure| failure.error)
    }

    /// The same for work with one key, for which the module is not re-initialised because of
    /// `incurable`.
    pub(super) fn run_for_key<T>(
        &self,
        seat: &Seat,
        deadline: Instant,
        patience: Patience,
        incurable: Option<RvError>,
        mut work: impl FnMut(&mut Occupant, &Link) -> Result<T, Fault>,
    ) -> Result<T, Failure> {
        // What the module was re-initialised for.
        let mut healed = None;
        let (mut soft, mut hard) = (false, false);
        loop {
            if Instant::now() >= deadline {
                return Err(late().into());
            }
            let link = self.connected(patience)?;
            let fault = match self.attempt(&link, seat, deadline, |occupant| work(occupant, &link))
            {
                Ok(done) => return Ok(done),
                // Re-initialised by someone else between connecting and entering.
                Err(_) if self.module.generation() != link.generation => continue,
                Err(fault) => fault,
            };
            let cure = fault.cure();
            if cure != Cure::None {
                tracing::debug!(?cure, ?fault, "a call into the PKCS#11 module failed");
            }
            match cure {
                Cure::None => return Err(fault.into_error().into()),
                // The seat was emptied when the call failed.
                Cure::NewSession | Cure::OnceMore if !soft => soft = true,
                Cure::Login if !soft => {
                    soft = true;
                    self.log_in_again(link.generation, patience)?;
                }
                _ if hard || (incurable.is_some() && fault.code() == incurable) => {
                    let code = fault.code();
                    let incurable = code.filter(|_| code == healed || code == incurable);
                    return Err(Failure { error: fault.into_error(), incurable });
                }
                _ => {
                    hard = true;
                    healed = fault.code();
                    self.heal(link.generation, &fault)?;
                }
            }
        }
    }

    /// Does `work` in a session of `seat` once, whatever comes of it.
    pub(super) fn attempt<T>(
        &self,
        link: &Link,
        seat: &Seat,
        deadline: Instant,
        work: impl FnOnce(&mut Occupant) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let inside = self.module.enter(deadline)?;
        if inside.generation() != link.generation {
            return Err(out("C_Initialize", "the module was re-initialised meanwhile").into());
        }
        seat.with(&inside, link.slot, work)
    }

    /// The link, made if there is none.
    pub(super) fn connected(&self, patience: Patience) -> Result<Arc<Link>, Error> {
        if let Some(link) = self.link_now() {
            return Ok(link);
        }
        let mut attempts = self.lock();
        self.connect(&mut attempts, patience)
    }

    /// C_Finalize, C_Initialize and login, if the module is still in generation `seen`; refused if
    /// that was done less than a [`REST`] ago.
    pub(super) fn heal(&self, seen: u64, fault: &Fault) -> Result<(), Error> {
        let mut attempts = self.lock();
        if self.module.generation() == seen {
            if self.module.age() < REST {
                return Err(out(
                    "C_Initialize",
                    "the token fails although it was just re-initialised",
                ));
            }
            tracing::warn!(cause = ?fault, "re-initialising the PKCS#11 module");
        }
        self.renew(&mut attempts, seen)
    }

    /// C_Finalize, C_Initialize and login, at once.
    pub(super) fn reinitialise(&self) -> Result<(), Error> {
        let mut attempts = self.lock();
        attempts.login_failed = false;
        self.renew(&mut attempts, self.module.generation())
    }

    /// Forgets that the PIN was refused, and tries it once.
    pub(super) fn retry_pin(&self) -> Result<(), Error> {
        let mut attempts = self.lock();
        let result = self.link(&mut attempts, Caution::Asked);
        self.note(&mut attempts, result).map(|_| ())
    }

    /// Ends the link: the anchor session is closed, and with the last session the login ends.
    pub(super) fn unlink(&self) {
        let _attempts = self.lock();
        self.link.store(None);
        if let Err(error) = self.anchor.leave() {
            tracing::warn!(%error, "the anchor session could not be closed");
        }
    }

    fn link_now(&self) -> Option<Arc<Link>> {
        self.link.load_full().filter(|link| link.generation == self.module.generation())
    }

    fn renew(&self, attempts: &mut Attempts, seen: u64) -> Result<(), Error> {
        match self.module.reinitialise(seen) {
            Ok(_) => self.connect(attempts, Patience::TryNow).map(|_| ()),
            Err(error) => self.note(attempts, Err(error)).map(|_| ()),
        }
    }

    fn connect(&self, attempts: &mut Attempts, patience: Patience) -> Result<Arc<Link>, Error> {
        if let Some(link) = self.link_now() {
            return Ok(link);
        }
        if let Some(error) = attempts.pause(patience, Instant::now()) {
            return Err(error);
        }
        let result = self.link(attempts, Caution::Careful);
        self.note(attempts, result)
    }

    fn log_in_again(&self, seen: u64, patience: Patience) -> Result<(), Error> {
        let mut attempts = self.lock();
        if self.module.generation() != seen {
            return Ok(());
        }
        if let Some(error) = attempts.pause(patience, Instant::now()) {
            return Err(error);
        }
        let result = self.link(&mut attempts, Caution::Careful);
        self.note(&mut attempts, result).map(|_| ())
    }

    /// Keeps what came of an attempt, and says it once.
    fn note(
        &self,
        attempts: &mut Attempts,
        result: Result<Link, Error>,
    ) -> Result<Arc<Link>, Error> {
        match result {
            Ok(link) => {
                if attempts.failures > 0 {
                    tracing::info!(token = %self.selector, "the token is back");
                }
                attempts.succeeded();
                let link = Arc::new(link);
                self.link.store(Some(Arc::clone(&link)));
                Ok(link)
            }
            Err(error) => {
                if attempts.failures == 0 {
                    tracing::error!(token = %self.selector, %error, "the token is out");
                }
                // Late for us is not late for every caller who is told of it.
                let kind = match error.kind {
                    Kind::Late => Kind::Unavailable,
                    kind => kind,
                };
                let error = Error { kind, ..error };
                attempts.failed(&error, Instant::now());
                Err(error)
            }
        }
    }

    /// Finds the token and logs in.
    fn link(&self, attempts: &mut Attempts, caution: Caution) -> Result<Link, Error> {
        self.module.ensure_initialised()?;
        let found = match self.select()? {
            Some(found) => found,
            None => {
                // A module may look for tokens only when it is initialised.
                let rest = match self.module.is_idle() {
                    true => REST,
                    false => REST_OF_OTHERS,
                };
                if self.module.age() >= rest {
                    self.module.reinitialise(self.module.generation())?;
                }
                self.select()?.ok_or_else(|| {
                    out(
                        "C_GetSlotList",
                        format!("there is no token {} in the module's slots", self.selector),
                    )
                })?
            }
        };
        self.log_in(attempts, &found, caution)?;
        Ok(found.link)
    }

    fn select(&self) -> Result<Option<Found>, Error> {
        let inside = self.module.enter(Instant::now() + ENTER_TIMEOUT)?;
        let pkcs11 = inside.pkcs11();
        let fail = |error: Answer| from_cryptoki(&error);
        let mut found = None;
        for slot in pkcs11.get_slots_with_token().map_err(fail)? {
            let info = match pkcs11.get_token_info(slot) {
                Ok(info) if self.selector.matches(&info) => info,
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(slot = slot.id(), %error, "a slot does not describe its token");
                    continue;
                }
            };
            if found.is_some() {
                return Err(Error::new(
                    Kind::Inconsistent,
                    "C_GetTokenInfo",
                    format!(
                        "two tokens are there {}; name the one that is meant by its serial number",
                        self.selector
                    ),
                ));
            }
            found = Some(Found {
                link: Link {
                    slot,
                    generation: inside.generation(),
                    offer: Offer::of(pkcs11, slot).map_err(fail)?,
                },
                info,
            });
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Found {
    link: Link,
    info: TokenInfo,
}

/// The answer when a deadline has passed.
pub(super) fn late() -> Error {
    Error::new(Kind::Late, "PKCS#11", "the deadline passed before the token was done")
}

fn out(op: &'static str, message: impl Into<String>) -> Error {
    Error::new(Kind::Unavailable, op, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_login_has_failed_nobody_skips_the_pause() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        attempts.failed(&out("C_GetSlotList", "no token"), now);
        assert!(attempts.pause(Patience::KeepPause, now).is_some());
        assert!(attempts.pause(Patience::TryNow, now).is_none());

        attempts.login_failed = true;
        attempts.failed(&out("C_Login", "CKR_DEVICE_ERROR"), now);
        let soon = now + LOGIN_BACKOFF_MIN;
        for patience in [Patience::KeepPause, Patience::TryNow] {
            assert!(attempts.pause(patience, soon).is_some());
        }
        // Whoever probes once a second does not log in once a second.
        let mut tries = 0;
        for second in 0..60 {
            let now = now + Duration::from_secs(second);
            if attempts.pause(Patience::TryNow, now).is_none() {
                attempts.failed(&out("C_Login", "CKR_DEVICE_ERROR"), now);
                tries += 1;
            }
        }
        assert!(tries <= 4, "{tries}");

        attempts.succeeded();
        assert!(attempts.pause(Patience::KeepPause, now).is_none());
    }

    #[test]
    fn a_mark_of_this_process_is_not_taken_for_that_of_a_crash() {
        let mut attempts = Attempts::default();
        let text = || Some("trying:1".to_owned());
        assert_eq!(attempts.before_us(text()), text());
        attempts.mark = Some(Mark { text: "trying:1".to_owned(), before: None });
        assert_eq!(attempts.before_us(text()), None);
        assert_eq!(attempts.before_us(Some("other".to_owned())), Some("other".to_owned()));
    }
}
