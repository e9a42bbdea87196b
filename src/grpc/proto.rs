//! What is generated from `proto/`.

#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::allow_attributes,
    reason = "generated code"
)]

tonic::include_proto!("signkeep.v1");

/// The file descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("signkeep");
