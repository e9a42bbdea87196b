//! Who gets in, who does not, and what they are told.

use crate::harness::postgres::Database;
use signkeep::store::postgres::PostgresStore;
use signkeep::store::{Kind, Store};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opening_is_refused_until_the_first_is_closed() {
    let database = Database::fresh().await;
    let first = PostgresStore::open(database.settings()).await.unwrap();
    let error = PostgresStore::open(database.settings()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    let holder = format!("signkeep {}", std::process::id());
    for words in ["another signkeep", "gRPC", &holder, "the server's own machine"] {
        assert!(error.message.contains(words), "{words:?} is not in {error}");
    }
    first.probe().await.unwrap();
    first.close().await;
    PostgresStore::open(database.settings()).await.unwrap().close().await;
}
