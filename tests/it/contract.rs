//! One suite a port; every adapter passes it.

pub mod backend;
mod store;
