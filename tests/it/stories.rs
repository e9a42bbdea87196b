//! Signkeep as those meet it who run it and those who verify its tokens: the real binary, real
//! tokens, verifiers written by others.

mod algorithms;
mod crashes;
mod lifecycle;
mod public_keys;
mod races;
pub(crate) mod readme;
pub(crate) mod reflection;
mod restarts;
