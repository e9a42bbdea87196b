//! Auth0's Management API: call by call on a keyring in memory, and with Auth0's own clients over
//! TLS against the real binary.

mod clients;
mod command;
mod domains;
mod keys;
mod proxy;
mod rig;
mod tenant;
mod tokens;
mod verifiers;
