//! The KMS backend as the tests use it: in an account of its own, through that account's proxy.

use super::ministack::{Account, REGION, SECRET};
use super::service::Service;
use signkeep::backend::aws_kms::{AwsKmsBackend, Settings, StaticCredentials};

/// The instance whose keys the tests make.
pub(crate) const INSTANCE: &str = "it";

/// Settings for `account`, as its root.
pub(crate) fn settings(account: &Account) -> Settings {
    Settings {
        region: Some(REGION.to_owned()),
        endpoint_url: Some(account.proxy.endpoint()),
        credentials: Some(StaticCredentials {
            access_key_id: account.id.clone(),
            secret_access_key: SECRET.to_owned(),
        }),
        ..Settings::new("kms".parse().unwrap(), INSTANCE)
    }
}

/// A backend with those settings.
pub(crate) async fn open(settings: Settings) -> AwsKmsBackend {
    AwsKmsBackend::open(settings).await.unwrap()
}

/// `[backends.kms]` for `account`, and what else that section is to say.
pub(crate) fn section(account: &Account, more: &str) -> String {
    format!(
        "\n[backends.kms]\nkind = \"aws-kms\"\nregion = \"{REGION}\"\nendpoint_url = \"{}\"\n\
         instance = \"{INSTANCE}\"\n{more}\n",
        account.proxy.endpoint()
    )
}

/// `signkeep serve` with KMS alone, and what else its configuration is to say; not started.
pub(crate) fn on_kms(account: &Account, more: &str) -> Service {
    beside(Service::configured(&(section(account, "") + more)), account)
}

/// A service with the credentials of the account's root in its environment, and no others.
pub(crate) fn beside(service: Service, account: &Account) -> Service {
    with_user(service, &account.id, SECRET)
}

/// A service with these credentials in its environment, and no others.
fn with_user(service: Service, access_key_id: &str, secret: &str) -> Service {
    let environment = environment(access_key_id, secret);
    environment.iter().fold(service, |service, (name, value)| service.with_env(name, value))
}

/// The environment in which the SDK finds these credentials, and nothing else.
pub(crate) fn environment(access_key_id: &str, secret: &str) -> [(&'static str, String); 5] {
    [
        ("AWS_ACCESS_KEY_ID", access_key_id.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
    ]
}
