//! The contract, kept by AWS KMS. What differs: EdDSA signs at most 4,096 bytes, since KMS hashes
//! the message itself there, and a key that is not found may be one that KMS does not show yet.

use super::Subject;
use crate::harness::kms::{open, settings};
use crate::harness::ministack::Account;
use signkeep::backend::aws_kms::Settings;
use std::sync::Arc;
use std::time::Duration;

/// As in production, but for the minutes.
const ABSENCE: Duration = Duration::from_millis(300);

async fn subject(account: &Account) -> Subject {
    let settings = Settings { absence: ABSENCE, ..settings(account) };
    Subject {
        backend: Arc::new(open(settings).await),
        lacks: &[],
        eddsa_message_max: Some(4096),
        absence: ABSENCE,
    }
}

macro_rules! on_kms {
    ($($clause:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $clause() {
            super::$clause(&subject(&Account::fresh().await).await).await;
        }
    )*};
}

every_clause!(on_kms);
