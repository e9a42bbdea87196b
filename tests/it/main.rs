//! Signkeep's tests, one binary.

#![cfg(test)]

mod audit_chain;
mod bad_input;
mod command;
mod contract;
mod crash;
mod custody;
mod doctor;
mod goldens;
mod grpc;
mod harness;
mod hazards;
mod keyring;
#[cfg(feature = "aws-kms")]
mod kms;
mod postgres;
mod properties;
mod stories;
mod tidy;
mod vectors;
