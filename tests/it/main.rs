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
mod kms;
mod properties;
mod service;
mod stories;
mod tidy;
mod vectors;
