//! A place for one session and for the handles that were found through it.
//!
//! A session that outlives its generation is dangerous: closed late, it closes whichever new
//! session was given its number, and its handles may name other keys. A seat is where both can be
//! reached from outside their thread, so that a re-initialisation empties every seat first.

use super::error::Fault;
use super::module::{Inside, Module};
use super::token::is_user;
use crate::backend::Error;
use crate::key::{MaterialId, PublicKey};
use cryptoki::context::{Function, Pkcs11};
use cryptoki::error::{Error as Answer, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki::slot::Slot;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many handles a session remembers before it starts afresh.
const HANDLES_MAX: usize = 10_000;

/// How long a seat that is given up waits for a module that is being re-initialised.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a session may change the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It signs and searches.
    ReadOnly,
    /// It generates and destroys too.
    ReadWrite,
}

#[derive(Debug)]
pub(super) struct Seat {
    module: Arc<Module>,
    access: Access,
    occupant: Mutex<Option<Occupant>>,
    /// Told apart from `occupant` so that metrics do not wait for a signature.
    occupied: AtomicBool,
}

/// An open session, of one generation.
#[derive(Debug)]
pub(super) struct Occupant {
    pub(super) session: Session,
    pkcs11: Pkcs11,
    slot: Slot,
    generation: u64,
    handles: HashMap<MaterialId, Handle>,
}

/// A private key's handle, and the public key that was compared when it was found.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) object: ObjectHandle,
    pub(super) public: PublicKey,
}

impl Seat {
    /// An empty seat.
    pub(super) fn new(module: &Arc<Module>, access: Access) -> Arc<Self> {
        let seat = Arc::new(Self {
            module: Arc::clone(module),
            access,
            occupant: Mutex::new(None),
            occupied: AtomicBool::new(false),
        });
        module.register(&seat);
        seat
    }

    /// Does `work` in this seat's session, opened on `slot` if there is none. After a fault of the
    /// token the session is closed: a failed C_Sign may have left an operation active in it.
    pub(super) fn with<T>(
        &self,
        inside: &Inside<'_>,
        slot: Slot,
        work: impl FnOnce(&mut Occupant) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut place = self.lock();
        // Cannot be, since a re-initialisation empties the seats; and must not be.
        if place.as_ref().is_some_and(|occupant| occupant.generation != inside.generation()) {
            abandon(place.take());
        }
        let occupant = match place.as_mut() {
            Some(occupant) => occupant,
            None => place.insert(Occupant {
                session: match self.access {
                    Access::ReadOnly => inside.pkcs11().open_ro_session(slot)?,
                    Access::ReadWrite => inside.pkcs11().open_rw_session(slot)?,
                },
                pkcs11: inside.pkcs11().clone(),
                slot,
                generation: inside.generation(),
                handles: HashMap::new(),
            }),
        };
        self.occupied.store(true, Ordering::Relaxed);
        let result = work(occupant);
        if matches!(result, Err(Fault::Token(_))) {
            *place = None;
            self.occupied.store(false, Ordering::Relaxed);
        }
        result
    }

    /// Whether a session is open in it.
    pub(super) fn is_occupied(&self) -> bool {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Closes the session, if the module can be entered.
    pub(super) fn leave(&self) -> Result<(), Error> {
        let _inside = self.module.enter(Instant::now() + LEAVE_TIMEOUT)?;
        self.vacate();
        Ok(())
    }

    /// Closes the session. Only for those who are inside the module or have shut its gate.
    pub(super) fn vacate(&self) {
        *self.lock() = None;
        self.occupied.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Occupant>> {
        self.occupant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(occupant) = self.lock().take() else {
            return;
        };
        match self.module.enter(Instant::now() + LEAVE_TIMEOUT) {
            Ok(inside) if inside.generation() == occupant.generation => drop(occupant),
            _ => abandon(Some(occupant)),
        }
    }
}

impl Occupant {
    /// The handle found earlier for that key.
    pub(super) fn handle(&self, material: MaterialId) -> Option<&Handle> {
        self.handles.get(&material)
    }

    /// Makes sure that this session is the user's still: another part of the process, or the token
    /// by itself, may have logged all sessions out, and a search then sees no private key.
    pub(super) fn ask_login(&self) -> Result<(), Fault> {
        match is_user(self.session.get_session_info()?.session_state()) {
            true => Ok(()),
            false => Err(Answer::Pkcs11(RvError::UserNotLoggedIn, Function::GetSessionInfo).into()),
        }
    }

    /// Makes sure of the login, and of the token itself (C_GetTokenInfo). A session can look well,
    /// and a search come out empty, when either is gone; this cannot.
    pub(super) fn ask_token(&self) -> Result<(), Fault> {
        self.ask_login()?;
        self.pkcs11.get_token_info(self.slot)?;
        Ok(())
    }

    /// Remembers a handle.
    pub(super) fn keep(&mut self, material: MaterialId, handle: Handle) {
        if self.handles.len() >= HANDLES_MAX {
            self.handles.clear();
        }
        self.handles.insert(material, handle);
    }
}

/// Lets go of a session of another generation without closing it: its number may be taken.
fn abandon(occupant: Option<Occupant>) {
    if let Some(occupant) = occupant {
        std::mem::forget(occupant.session);
    }
}
