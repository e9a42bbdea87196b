//! What every store owes its callers. An engine gives a [`Bed`] and runs [`every_case`] on it.

mod books;
mod changes;
mod record;
mod sqlite;

use signkeep::store::Store;
use std::future::Future;
use std::sync::Arc;

/// Where a store is tested.
pub(crate) trait Bed {
    /// Opens the store: the same one each time, once the one before is closed.
    fn open(&self) -> impl Future<Output = Arc<dyn Store>>;

    /// Runs a statement behind the store's back; says what the database said if it refused.
    fn raw(&self, sql: &str) -> impl Future<Output = Result<u64, String>>;
}

/// A test for every case, each on a fresh `$bed::new()`.
macro_rules! every_case {
    ($bed:ident: $($room:ident { $($case:ident)* })*) => {$(
        mod $room {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let bed = super::$bed::new();
                    crate::contract::store::$room::$case(&bed).await;
                }
            )*
        }
    )*};
}
use every_case;
