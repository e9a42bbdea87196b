//! What `signkeep doctor` asks of a module: what it is, which tokens it has, what they can do. It
//! logs in to nothing.

use super::error::{Misconfigured, from_cryptoki};
use super::mechanism::Offer;
use super::module::Module;
use crate::backend::Error;
use crate::key::{Algorithm, RsaBits};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for a module that is being re-initialised.
const ENTER_TIMEOUT: Duration = Duration::from_secs(5);

/// A module that loads.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Who made it.
    pub manufacturer: String,
    /// What it says it is.
    pub description: String,
    /// Its own version.
    pub version: String,
    /// The version of PKCS#11 that it speaks.
    pub cryptoki_version: String,
    /// The tokens in its slots, those that are not initialised included.
    pub tokens: Vec<TokenReport>,
}

/// A token as it describes itself.
#[derive(Clone, Debug)]
pub struct TokenReport {
    /// Its label; empty if it is not initialised.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Whether it has been initialised (C_InitToken).
    pub is_initialised: bool,
    /// How its user PIN is.
    pub pin: PinState,
    /// For each algorithm what is missing for it; none: it can generate (RSA: 2048 bits) and sign.
    pub algorithms: Vec<(Algorithm, Option<String>)>,
}

/// What a token says of its user PIN (CKF_USER_PIN_*), the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// No login is possible before the security officer sets the PIN again.
    Locked,
    /// Another wrong PIN locks it.
    FinalTry,
    /// A wrong PIN was entered since the last login.
    CountLow,
    /// None was ever set.
    NotSet,
    /// Nothing is known against it.
    Good,
}

/// Why a module could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is missing or not a PKCS#11 library.
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    /// It loads, and does not work.
    #[error(transparent)]
    Module(#[from] Error),
}

/// Looks at the module at `path`; initialises it if it is not. Blocks for as long as the module
/// takes.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let module = Module::load(path)?;
    module.ensure_initialised()?;
    let inside = module.enter(Instant::now() + ENTER_TIMEOUT)?;
    let pkcs11 = inside.pkcs11();
    let fail = |error: cryptoki::error::Error| from_cryptoki(&error);
    let info = pkcs11.get_library_info().map_err(fail)?;
    let mut tokens = Vec::new();
    for slot in pkcs11.get_slots_with_token().map_err(fail)? {
        let token = pkcs11.get_token_info(slot).map_err(fail)?;
        let offer = Offer::of(pkcs11, slot).map_err(fail)?;
        tokens.push(TokenReport {
            label: token.label().to_owned(),
            serial: token.serial_number().to_owned(),
            is_initialised: token.token_initialized(),
            pin: if token.user_pin_locked() {
                PinState::Locked
            } else if token.user_pin_final_try() {
                PinState::FinalTry
            } else if token.user_pin_count_low() {
                PinState::CountLow
            } else if !token.user_pin_initialized() {
                PinState::NotSet
            } else {
                PinState::Good
            },
            algorithms: Algorithm::ALL
                .into_iter()
                .map(|algorithm| {
                    let spec = algorithm.key_spec(RsaBits::B2048);
                    let missing = offer.supports(algorithm, spec).err();
                    (algorithm, missing.map(|error| error.message))
                })
                .collect(),
        });
    }
    Ok(Inspection {
        manufacturer: info.manufacturer_id().to_owned(),
        description: info.library_description().to_owned(),
        version: info.library_version().to_string(),
        cryptoki_version: info.cryptoki_version().to_string(),
        tokens,
    })
}
