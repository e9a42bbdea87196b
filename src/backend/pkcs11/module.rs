//! PKCS#11 modules: loaded once, never unloaded, re-initialised behind a gate.
//!
//! What PKCS#11 calls an application is the process: one C_Initialize, one login state, one set of
//! handles for all of it. A registry keyed by path mirrors that, so that two backends on one module
//! share one context and cannot initialise it under each other.
//!
//! Each C_Initialize begins a new *generation*. Handles and session numbers of an earlier one may
//! name other objects and sessions in this one, so both are kept in a [`Seat`] that is emptied
//! before C_Finalize, and both are tagged.

use super::error::{Misconfigured, from_cryptoki};
use super::gate::{Entered, Gate};
use super::seat::Seat;
use crate::backend::{Error, Kind};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a re-initialisation waits for calls that are under way, with everyone else shut out:
/// longer than a module takes to generate an RSA key. A call that takes longer is not waited for
/// again: until it has returned there is no re-initialisation, and the rest goes on.
const PARK_TIMEOUT: Duration = Duration::from_secs(20);

/// The generation of a module that is not initialised.
const NONE: u64 = 0;

static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// One PKCS#11 library in this process.
#[derive(Debug)]
pub(super) struct Module {
    /// Never dropped, since the registry lives as long as the process.
    pkcs11: Pkcs11,
    gate: Gate,
    /// Changes only while the gate is shut.
    generation: AtomicU64,
    turn: Mutex<Turn>,
    seats: Mutex<Vec<Weak<Seat>>>,
}

#[derive(Debug)]
struct Turn {
    generations: u64,
    began: Instant,
}

/// Leave to call the module, in one generation; see [`Module::enter`].
#[derive(Debug)]
pub(super) struct Inside<'a> {
    module: &'a Module,
    generation: u64,
    _entered: Entered<'a>,
}

impl Inside<'_> {
    /// The module itself.
    pub(super) fn pkcs11(&self) -> &Pkcs11 {
        &self.module.pkcs11
    }

    /// The generation, which stays the same while this lives.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Module {
    /// The module at `path`, loaded if it was not, not necessarily initialised.
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, Misconfigured> {
        let real = path.canonicalize().map_err(|error| Misconfigured {
            field: "module",
            message: format!(
                "{}: {error}; it must be the path of a PKCS#11 library, e.g. /usr/lib/softhsm/libsofthsm2.so",
                path.display()
            ),
        })?;
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(&real) {
            return Ok(Arc::clone(module));
        }
        let pkcs11 = Pkcs11::new(&real).map_err(|error| Misconfigured {
            field: "module",
            message: format!("{} is not a PKCS#11 library: {error}", real.display()),
        })?;
        let module = Arc::new(Self {
            pkcs11,
            gate: Gate::default(),
            generation: AtomicU64::new(NONE),
            turn: Mutex::new(Turn { generations: NONE, began: Instant::now() }),
            seats: Mutex::default(),
        });
        modules.insert(real, Arc::clone(&module));
        Ok(module)
    }

    /// Enters the module; an error if it is not initialised, or if it is being re-initialised for
    /// longer than until `deadline`.
    pub(super) fn enter(&self, deadline: Instant) -> Result<Inside<'_>, Error> {
        let Some(entered) = self.gate.enter(deadline) else {
            return Err(Error::new(
                Kind::Late,
                "C_Initialize",
                "the module was being re-initialised until the deadline passed",
            ));
        };
        match self.generation() {
            NONE => Err(Error::new(
                Kind::Unavailable,
                "C_Initialize",
                "the PKCS#11 module is not initialised",
            )),
            generation => Ok(Inside { module: self, generation, _entered: entered }),
        }
    }

    /// The present generation; 0 if the module is not initialised.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How long ago the present generation began.
    pub(super) fn age(&self) -> Duration {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.began.elapsed()
    }

    /// Initialises the module if it is not.
    pub(super) fn ensure_initialised(&self) -> Result<(), Error> {
        match self.generation() {
            NONE => self.reinitialise(NONE).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// C_Finalize and C_Initialize, unless someone else has done so since generation `seen`.
    /// Everyone has left the module, and every session of the old generation is closed, before
    /// C_Finalize. Answers the generation that is then valid.
    pub(super) fn reinitialise(&self, seen: u64) -> Result<u64, Error> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.generation();
        if now != seen {
            return Ok(now);
        }
        let Some(_shut) = self.gate.shut(Instant::now() + PARK_TIMEOUT) else {
            return Err(Error::new(
                Kind::Unavailable,
                "C_Finalize",
                format!(
                    "a call into the PKCS#11 module has not returned for {} s or more; \
                     the module cannot be re-initialised before it does: \
                     look at the HSM and the link to it, or restart the service",
                    PARK_TIMEOUT.as_secs()
                ),
            ));
        };
        self.vacate_seats();
        self.generation.store(NONE, Ordering::Release);
        if seen != NONE
            && let Err(error) = self.pkcs11.clone().finalize()
        {
            tracing::warn!(%error, "the PKCS#11 module did not finalise cleanly");
        }
        turn.began = Instant::now();
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match self.pkcs11.initialize(arguments) {
            Ok(())
            | Err(cryptoki::error::Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => {
                let mut error = from_cryptoki(&error);
                error.message.push_str(
                    "; the module does not reach what is behind it \
                     (SoftHSM: the token directory that SOFTHSM2_CONF's file names)",
                );
                return Err(error);
            }
        }
        turn.generations += 1;
        turn.began = Instant::now();
        self.generation.store(turn.generations, Ordering::Release);
        Ok(turn.generations)
    }

    /// Whether nobody has a session open.
    pub(super) fn is_idle(&self) -> bool {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        !seats.iter().filter_map(Weak::upgrade).any(|seat| seat.is_occupied())
    }

    pub(super) fn register(&self, seat: &Arc<Seat>) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(seat));
    }

    fn vacate_seats(&self) {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        for seat in seats.iter().filter_map(Weak::upgrade) {
            seat.vacate();
        }
    }
}
