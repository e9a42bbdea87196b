//! What tests share.

pub(crate) mod fuse;
pub(crate) mod memory;
pub(crate) mod ring;
pub mod store;
