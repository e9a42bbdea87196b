//! Opens the store of the configuration by its adapter.

use crate::config::{self, HostName};
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Error, Store};
use std::sync::Arc;

/// Opens it for this process alone.
pub async fn open_store(settings: &config::Store) -> Result<Arc<dyn Store>, Error> {
    Ok(match settings {
        config::Store::Sqlite(path) => Arc::new(SqliteStore::open(path).await?),
        config::Store::Postgres(settings) => {
            Arc::new(PostgresStore::open(postgres_settings(settings)).await?)
        }
    })
}

/// Whether a process serves it; it is left alone. One that cannot be asked is served by nobody.
pub async fn is_served(settings: &config::Store) -> bool {
    match settings {
        config::Store::Sqlite(path) => SqliteStore::is_served(path),
        config::Store::Postgres(settings) => {
            PostgresStore::is_served(postgres_settings(settings)).await.unwrap_or(false)
        }
    }
}

fn postgres_settings(settings: &config::Postgres) -> postgres::Settings {
    postgres::Settings {
        host: match &settings.host {
            config::Host::Tcp(name) => postgres::Host::Tcp(name.clone()),
            config::Host::Socket(directory) => postgres::Host::Socket(directory.clone()),
        },
        port: settings.port,
        user: settings.user.clone(),
        database: settings.database.clone(),
        password_file: settings.password_file.clone(),
        tls: settings.tls.as_ref().map(|tls| postgres::Tls {
            check: match tls.host_name {
                HostName::Checked => postgres::Check::Full,
                HostName::Ignored => postgres::Check::Issuer,
            },
            ca_file: tls.ca_file.clone(),
            client: tls.client.clone(),
        }),
    }
}
