//! Signkeep's tests, one binary.

#![cfg(test)]

mod bad_input;
mod command;
mod contract;
mod crash;
mod custody;
mod goldens;
mod harness;
mod hazards;
mod keyring;
mod properties;
mod service;
mod stories;
mod tidy;
mod vectors;
