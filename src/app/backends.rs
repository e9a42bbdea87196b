//! Opens the backends of the configuration, each kind by its adapter, all of them side by side.

use super::StorePinMemory;
use crate::backend::Backend;
#[cfg(feature = "aws-kms")]
use crate::backend::aws_kms::{self, AwsKmsBackend};
use crate::backend::pkcs11::{self, Pkcs11Backend};
use crate::config::{self, Pkcs11, Token};
use crate::key::BackendName;
#[cfg(feature = "aws-kms")]
use crate::metrics::Circuit;
use crate::metrics::{Flow, Load};
use crate::store::Store;
#[cfg(feature = "aws-kms")]
use anyhow::Context;
use anyhow::Result;
use std::sync::Arc;

/// A backend that is open, by its kind.
#[derive(Clone)]
pub(super) enum Opened {
    /// A PKCS#11 token.
    Token(Arc<Pkcs11Backend>),
    /// A region of AWS KMS.
    #[cfg(feature = "aws-kms")]
    Kms(Arc<AwsKmsBackend>),
}

impl Opened {
    /// Opens it; whether it works is another matter.
    pub(super) async fn open(
        name: &BackendName,
        settings: &config::Backend,
        store: &Arc<dyn Store>,
    ) -> Result<Self> {
        match settings {
            config::Backend::Pkcs11(token) => {
                let memory = Arc::new(StorePinMemory::new(store.clone()));
                let opened = Pkcs11Backend::open(pkcs11_settings(name, token), memory).await?;
                Ok(Self::Token(Arc::new(opened)))
            }
            #[cfg(feature = "aws-kms")]
            config::Backend::AwsKms(kms) => {
                let opened = AwsKmsBackend::open(aws_kms_settings(name, kms)?).await?;
                Ok(Self::Kms(Arc::new(opened)))
            }
            #[cfg(not(feature = "aws-kms"))]
            config::Backend::AwsKms(_) => {
                Err(anyhow::anyhow!("this signkeep was built without AWS KMS"))
            }
        }
    }

    /// The port.
    pub(super) fn port(&self) -> Arc<dyn Backend> {
        match self {
            Self::Token(token) => token.clone(),
            #[cfg(feature = "aws-kms")]
            Self::Kms(kms) => kms.clone(),
        }
    }

    /// How busy it is.
    pub(super) fn load(&self) -> Load {
        match self {
            Self::Token(token) => Load {
                queue_depth: token.queue_depth(),
                workers_busy: token.workers_busy(),
                sessions_open: token.sessions_open(),
            },
            #[cfg(feature = "aws-kms")]
            Self::Kms(kms) => Load {
                queue_depth: kms.queue_depth(),
                workers_busy: kms.workers_busy(),
                sessions_open: 0,
            },
        }
    }

    /// How it is asked; none for what is not behind a network of ours.
    pub(super) fn flow(&self) -> Option<Flow> {
        match self {
            Self::Token(_) => None,
            #[cfg(feature = "aws-kms")]
            Self::Kms(kms) => {
                let circuit = if kms.is_circuit_open() { Circuit::Open } else { Circuit::Closed };
                Some(Flow { circuit, requests_per_second: kms.requests_per_second() })
            }
        }
    }
}

/// A token's settings as its adapter takes them.
pub fn pkcs11_settings(name: &BackendName, settings: &Pkcs11) -> pkcs11::Settings {
    pkcs11::Settings {
        name: name.clone(),
        module: settings.module.clone(),
        token: match &settings.token {
            Token::Label(label) => pkcs11::TokenSelector::Label(label.clone()),
            Token::Serial(serial) => pkcs11::TokenSelector::Serial(serial.clone()),
        },
        pin_file: settings.pin_file.clone(),
        workers: settings.workers,
        queue_max: settings.queue,
    }
}

/// KMS's settings as its adapter takes them; reads the key policy.
#[cfg(feature = "aws-kms")]
pub fn aws_kms_settings(
    name: &BackendName,
    settings: &config::AwsKms,
) -> Result<aws_kms::Settings> {
    let key_policy = match &settings.key_policy_file {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("the key policy {}", file.display()))?,
        ),
        None => None,
    };
    Ok(aws_kms::Settings {
        region: settings.region.clone(),
        endpoint_url: settings.endpoint_url.clone(),
        profile: settings.profile.clone(),
        key_policy,
        multi_region: settings.multi_region,
        tags: settings.tags.clone(),
        description: settings.description.clone(),
        requests_per_second: settings.requests_per_second,
        in_flight_max: settings.in_flight,
        queue_max: settings.queue,
        connect_timeout: settings.connect_timeout,
        attempt_timeout: settings.attempt_timeout,
        operation_timeout: settings.operation_timeout,
        ..aws_kms::Settings::new(name.clone(), settings.instance.clone())
    })
}
