//! One suite a port; every adapter passes it.

pub(crate) mod backend;
mod store;
