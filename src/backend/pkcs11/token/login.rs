//! Logging in: once for all sessions, and never with a PIN that the token has refused.

use super::super::error::{Cure, Fault, name, refuses_pin};
use super::super::pin;
use super::{Attempts, Caution, ENTER_TIMEOUT, Found, Link, Token};
use crate::backend::{Error, Kind};
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
        }
        let remembered = self.memory.refused(serial)?;
        let is_refused =
            |hash: &Option<String>| hash.as_ref().is_some_and(|hash| pin::is_hash_of(hash, &pin));
        if is_refused(&remembered) || is_refused(&attempts.refused) {
            return Err(denied(format!(
                "the token has refused the PIN in {file} before, so it is not tried again: \
                 put the right one there; if it is right after all, stop the service, then run \
                 `signkeep doctor --retry-pin`"
            )));
        }
        let login =
            self.attempt(&found.link, &self.anchor, Instant::now() + ENTER_TIMEOUT, |anchor| {
                match anchor.session.login(UserType::User, Some(&pin)) {
                    // Says nothing about this PIN: a wrong one gets the same answer.
                    Err(Answer::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(Proof::None),
                    answer => Ok(answer.map(|()| Proof::Accepted)?),
                }
            });
        match login {
            Ok(Proof::None) => Ok(()),
            Ok(Proof::Accepted) => {
                attempts.refused = None;
                if remembered.is_some()
                    && let Err(error) = self.memory.forget(serial)
                {
                    tracing::warn!(%error, "a PIN that is out of date stays remembered as refused");
                }
                Ok(())
            }
            Err(Fault::Token(Answer::Pkcs11(code, _))) if refuses_pin(code) => {
                let hash = pin::hash(&pin)?;
                attempts.refused = Some(hash.clone());
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
            Err(fault) => Err(fault.into_error()),
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
