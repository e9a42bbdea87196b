//! What the stories stand on: the real binary as a process, clients that speak to it, verifiers
//! that were written by others, and the clock-free waiting that keeps tests from guessing.

pub(crate) mod access;
pub(crate) mod authority;
pub(crate) mod diff;
#[cfg(feature = "aws-kms")]
pub(crate) mod fault_proxy;
pub(crate) mod fuse;
pub(crate) mod http;
pub(crate) mod key_set;
#[cfg(feature = "aws-kms")]
pub(crate) mod kms;
pub(crate) mod memory;
#[cfg(feature = "aws-kms")]
pub(crate) mod ministack;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod service;
pub(crate) mod softhsm;
pub(crate) mod store;
pub(crate) mod tokens;
pub(crate) mod tools;
pub(crate) mod verifiers;

use std::time::{Duration, Instant};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Asks `look` until it answers with something; panics with `what` after `limit`.
pub(crate) async fn eventually<T, F>(what: &str, limit: Duration, mut look: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The code and the `ErrorReason` of a refusal. Panics unless there is exactly one ErrorInfo, of
/// the domain `signkeep`.
pub(crate) fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "signkeep", "{status:?}");
    (status.code(), info.reason.clone())
}

/// The names of the fields that a BadRequest complains of.
pub(crate) fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect())
        .unwrap_or_default()
}

/// Numbers that look random and are the same in every run (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that start from `seed`, which is not zero.
    pub(crate) fn seeded(seed: u64) -> Self {
        assert_ne!(seed, 0, "xorshift stays at zero");
        Self(seed)
    }

    /// A number from 0 to `sides` − 1.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}
