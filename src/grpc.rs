//! The gRPC face.

pub mod proto;
