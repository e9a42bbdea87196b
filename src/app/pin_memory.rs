//! The memory of refused PINs, kept in the store so that a restart does not forget.

use crate::backend::PinMemory;
use crate::store::Store;
use async_trait::async_trait;
use std::sync::Arc;

/// A [`PinMemory`] over a store.
#[derive(Clone)]
pub struct StorePinMemory(Arc<dyn Store>);

impl StorePinMemory {
    /// The memory that `store` keeps.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }
}

#[async_trait]
impl PinMemory for StorePinMemory {
    async fn refused(&self, token: &str) -> Result<Option<String>, String> {
        self.0.refused_pin(token).await.map_err(|error| error.to_string())
    }

    async fn remember(&self, token: &str, hash: &str) -> Result<(), String> {
        let set = self.0.set_refused_pin(token, Some(hash));
        set.await.map_err(|error| error.to_string())
    }

    async fn forget(&self, token: &str) -> Result<(), String> {
        let set = self.0.set_refused_pin(token, None);
        set.await.map_err(|error| error.to_string())
    }
}
