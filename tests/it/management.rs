//! Auth0's Management API: call by call on a keyring in memory, and with Auth0's own clients over
//! TLS against the real binary.

mod domains;
mod keys;
mod rig;
mod tokens;
