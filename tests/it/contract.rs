//! One suite a port; every adapter passes it.

mod backend;
mod store;
