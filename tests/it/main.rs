//! Signkeep's tests, one binary.

#![cfg(test)]

mod access;
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
mod management;
mod postgres;
mod properties;
mod recorder;
mod stories;
mod tidy;
mod transport;
mod vectors;
