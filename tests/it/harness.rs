//! What the tests share.

pub mod softhsm;
