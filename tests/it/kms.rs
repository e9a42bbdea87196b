//! AWS KMS as a backend, against an emulator that keeps its accounts apart and a proxy that fails
//! as KMS does.

mod crashes;
mod docs;
mod endings;
mod generation;
mod outage;
mod permissions;
mod proxy;
mod search;
mod service;
mod settings;
mod signing;
mod storm;

use crate::contract::backend::{key_ref, order};
use signkeep::backend::{Backend, KeyRef};
use signkeep::key::{Algorithm, Curve, KeySpec};
use std::sync::Arc;

/// What most tests make: keys come fast.
const EC: KeySpec = KeySpec::Ec(Curve::P256);

/// An ES256 key.
async fn made(backend: &dyn Backend, number: u8) -> Arc<KeyRef> {
    let made = backend.generate(&order(number, EC)).await.unwrap();
    key_ref(number, Algorithm::Es256, &made)
}
