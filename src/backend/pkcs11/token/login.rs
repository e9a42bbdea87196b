//! Logging in: once for all sessions, and never with a PIN that the token has refused.

use super::super::error::{Cure, Fault, name, refuses_login};
use super::super::pin::{self, Standing};
use super::{Attempts, Caution, ENTER_TIMEOUT, Found, Link, Mark, Token};
use crate::backend::{Error, Kind};
use cryptoki::context::Function;
use cryptoki::error::{Error as Answer, RvError};
use cryptoki::session::{SessionState, UserType};
use std::time::Instant;

/// What a login has shown of the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Accepted,
    None,
}

impl Token {
    /// Logs in through the anchor, unless that is done. A PIN that was refused is not tried again.
    pub(super) fn log_in(
        &self,
        attempts: &mut Attempts,
        found: &Found,
        caution: Caution,
    ) -> Result<(), Error> {
        let serial = found.info.serial_number();
        if self.is_logged_in(&found.link)? {
            return Ok(());
        }
        let denied = |message: String| Error::new(Kind::Denied, "C_Login", message);
        let file = self.pin_file.display();
        if found.info.user_pin_locked() {
            return Err(denied(
                "the token has locked its user PIN; its security officer must set it again".into(),
            ));
        }
        if found.info.user_pin_final_try() && caution == Caution::Careful {
            return Err(denied(format!(
                "another wrong PIN would lock the token: make sure that {file} is right, \
                 stop the service, then run `signkeep doctor --retry-pin`"
            )));
        }
        let pin = pin::read(&self.pin_file)?;
        if caution == Caution::Asked {
            attempts.refused = None;
            self.memory.forget(serial)?;
            attempts.mark = None;
        }
        let before = attempts.before_us(self.memory.remembered(serial)?);
        let standing = pin::standing(before.as_deref(), &pin);
        let refused_here = attempts.refused.as_ref().filter(|hash| pin::is_hash_of(hash, &pin));
        if let (Some(hash), Standing::Untried | Standing::Interrupted) = (refused_here, standing)
            && let Err(error) = self.memory.remember(serial, hash.clone())
        {
            tracing::error!(%error, "a refused PIN is still not remembered across restarts");
        }
        if standing == Standing::Refused || refused_here.is_some() {
            return Err(denied(format!(
                "the token has refused the PIN in {file} before, so it is not tried again: \
                 put the right one there; if it is right after all, stop the service, then run \
                 `signkeep doctor --retry-pin`"
            )));
        }
        // Before the try: a process that is killed in the middle of it has this on record.
        let hash = pin::hash(&pin)?;
        let mark = Mark { text: pin::mark(&hash, standing), before };
        self.memory.remember(serial, attempts.mark.insert(mark).text.clone())?;
        let login =
            self.attempt(&found.link, &self.anchor, Instant::now() + ENTER_TIMEOUT, |anchor| {
                match anchor.session.login(UserType::User, Some(&pin)) {
                    // Says nothing about this PIN: a wrong one gets the same answer.
                    Err(Answer::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(Proof::None),
                    answer => Ok(answer.map(|()| Proof::Accepted)?),
                }
            });
        match login {
            Ok(Proof::None) => {
                self.unmark(attempts, serial);
                Ok(())
            }
            Ok(Proof::Accepted) => {
                attempts.refused = None;
                if let Some(mark) = &mut attempts.mark {
                    mark.before = None;
                }
                self.unmark(attempts, serial);
                Ok(())
            }
            Err(Fault::Token(Answer::Pkcs11(code, Function::Login))) if refuses_login(code) => {
                attempts.refused = Some(hash.clone());
                attempts.mark = None;
                attempts.login_failed = false;
                if let Err(error) = self.memory.remember(serial, hash) {
                    tracing::error!(%error, "a refused PIN could not be remembered across restarts");
                }
                Err(denied(format!(
                    "the PIN in {file} was tried just now, and the token refused it ({}); it is not \
                     tried again: put the right one there; if it is right after all, stop the \
                     service, then run `signkeep doctor --retry-pin`",
                    name(code)
                )))
            }
            Err(fault) => {
                attempts.login_failed |=
                    matches!(fault, Fault::Token(Answer::Pkcs11(_, Function::Login)));
                self.unmark(attempts, serial);
                Err(fault.into_error())
            }
        }
    }

    /// Puts back what was remembered before a try that showed nothing against the PIN. If the store
    /// is out, this process still knows its own mark for what it is.
    fn unmark(&self, attempts: &mut Attempts, serial: &str) {
        let Some(mark) = &attempts.mark else {
            return;
        };
        let done = match &mark.before {
            Some(text) => self.memory.remember(serial, text.clone()),
            None => self.memory.forget(serial),
        };
        match done {
            Ok(()) => attempts.mark = None,
            Err(error) => tracing::warn!(%error, "the PIN stays noted as one that is being tried"),
        }
    }

    /// Whether the process is logged in to the token as its user.
    fn is_logged_in(&self, link: &Link) -> Result<bool, Error> {
        let ask = || {
            self.attempt(link, &self.anchor, Instant::now() + ENTER_TIMEOUT, |anchor| {
                Ok(is_user(anchor.session.get_session_info()?.session_state()))
            })
        };
        match ask() {
            // The anchor itself was gone; the second time it is a new one.
            Err(fault) if fault.cure() == Cure::NewSession => ask(),
            answer => answer,
        }
        .map_err(Fault::into_error)
    }
}

/// Whether a session in that state can use private keys.
pub(in super::super) const fn is_user(state: SessionState) -> bool {
    matches!(state, SessionState::RoUser | SessionState::RwUser)
}
