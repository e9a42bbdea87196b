//! Makes a token on a software module: C_InitToken, then C_InitPIN.
//!
//! For `signkeep dev` and for tests. A token that has the label already is left as it is, except
//! that a user PIN which an interrupted provisioning did not come to set is set.

use super::error::from_cryptoki;
use super::inspect::InspectError;
use super::module::{Inside, Module};
use crate::backend::{Error, Kind};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use secrecy::SecretString;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a module that is being re-initialised.
const ENTER_TIMEOUT: Duration = Duration::from_secs(5);

/// C_InitToken pads a label to this many bytes and takes no longer one.
const LABEL_MAX: usize = 32;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioned {
    /// A new token was initialised and its PIN set.
    Made,
    /// There was one of that label; it was not touched.
    Existed,
    /// There was one of that label without a user PIN; it was set.
    Completed,
}

/// Sees to it that the module at `module` has a token labelled `label` with a user PIN. Takes a
/// slot whose token is not initialised. Blocks for as long as the module takes.
pub fn provision(
    module: &Path,
    label: &str,
    so_pin: &SecretString,
    pin: &SecretString,
) -> Result<Provisioned, InspectError> {
    if label.is_empty() || label.len() > LABEL_MAX {
        return Err(Error::new(
            Kind::Unsupported,
            "C_InitToken",
            format!("a token label must have 1 to {LABEL_MAX} bytes, not {}", label.len()),
        )
        .into());
    }
    let module = Module::load(module)?;
    module.ensure_initialised()?;
    let inside = module.enter(Instant::now() + ENTER_TIMEOUT)?;
    let done = match labelled(&inside, label)? {
        Some((_, true)) => Provisioned::Existed,
        Some((slot, false)) => {
            set_pin(&inside, slot, so_pin, pin)?;
            Provisioned::Completed
        }
        None => {
            init_token(&inside, label, so_pin)?;
            // The slot may have another number now.
            let Some((slot, _)) = labelled(&inside, label)? else {
                return Err(Error::new(
                    Kind::Inconsistent,
                    "C_InitToken",
                    "the module said that the token was initialised and does not list it",
                )
                .outcome_unknown()
                .into());
            };
            set_pin(&inside, slot, so_pin, pin)?;
            Provisioned::Made
        }
    };
    Ok(done)
}

/// The slot of the token with that label, and whether its user PIN is set.
fn labelled(inside: &Inside<'_>, label: &str) -> Result<Option<(Slot, bool)>, Error> {
    let pkcs11 = inside.pkcs11();
    let slots = pkcs11.get_slots_with_token().map_err(|error| from_cryptoki(&error))?;
    Ok(slots.into_iter().find_map(|slot| {
        let token = pkcs11.get_token_info(slot).ok()?;
        (token.token_initialized() && token.label() == label)
            .then(|| (slot, token.user_pin_initialized()))
    }))
}

fn init_token(inside: &Inside<'_>, label: &str, so_pin: &SecretString) -> Result<(), Error> {
    let pkcs11 = inside.pkcs11();
    let fail = |error: cryptoki::error::Error| from_cryptoki(&error);
    let slots = pkcs11.get_slots_with_token().map_err(fail)?;
    let free = slots
        .into_iter()
        .find(|slot| pkcs11.get_token_info(*slot).is_ok_and(|token| !token.token_initialized()));
    let Some(slot) = free else {
        return Err(Error::new(
            Kind::Unsupported,
            "C_GetSlotList",
            "the module has no slot with a token that is not initialised",
        ));
    };
    pkcs11.init_token(slot, so_pin, label).map_err(fail)
}

/// Sets the user PIN as security officer.
fn set_pin(
    inside: &Inside<'_>,
    slot: Slot,
    so_pin: &SecretString,
    pin: &SecretString,
) -> Result<(), Error> {
    let fail = |error: cryptoki::error::Error| from_cryptoki(&error);
    let session = inside.pkcs11().open_rw_session(slot).map_err(fail)?;
    session.login(UserType::So, Some(so_pin)).map_err(fail)?;
    session.init_pin(pin).map_err(fail)?;
    session.logout().map_err(fail)
}
