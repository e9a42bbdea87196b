//! Signkeep's tests, one binary.

#![cfg(test)]

mod bad_input;
mod command;
mod contract;
mod crash;
mod goldens;
mod harness;
mod hazards;
mod keyring;
#[cfg(feature = "aws-kms")]
mod kms;
mod properties;
mod service;
mod stories;
mod tidy;
mod vectors;
