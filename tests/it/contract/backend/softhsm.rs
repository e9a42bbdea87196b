//! The contract, kept by a PKCS#11 token.

use super::Subject;
use crate::harness::softhsm::{Memory, Softhsm, block_on, isolated};
use signkeep::backend::Backend;
use std::sync::Arc;
use std::time::Duration;

async fn subject(token: &Softhsm) -> Subject {
    token.provision();
    let backend = token.open(&Arc::new(Memory::default())).await;
    backend.probe().await.unwrap();
    Subject {
        backend: Arc::new(backend),
        lacks: &[],
        eddsa_message_max: None,
        absence: Duration::ZERO,
    }
}

macro_rules! on_softhsm {
    ($($clause:ident),* $(,)?) => {$(
        #[test]
        fn $clause() {
            isolated(concat!("contract::backend::softhsm::", stringify!($clause)), |token| {
                block_on(async { super::$clause(&subject(token).await).await });
            });
        }
    )*};
}

every_clause!(on_softhsm);
