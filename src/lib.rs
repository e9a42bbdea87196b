//! Signkeep: a signing-key service with its private keys in an HSM.

pub mod access;
pub mod app;
pub mod audit;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod grpc;
pub mod health;
pub mod http;
pub mod jose;
pub mod key;
pub mod keyring;
pub mod management;
pub mod metrics;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod x509;
