//! `[backends.<name>]`: where private keys live.

mod aws_kms;
mod pkcs11;

pub use aws_kms::AwsKms;
pub use pkcs11::{Pkcs11, Token};

use super::document::{Document, Error};
use super::span::Span;
use crate::key::BackendName;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const QUEUE_MAX: usize = 1 << 20;
const QUEUE: usize = 1024;

/// A backend, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A PKCS#11 token.
    Pkcs11(Pkcs11),
    /// A region of AWS KMS.
    AwsKms(AwsKms),
}

/// The section as it is written, with the settings of every kind: which belong to which is looked
/// after when it is built, so that one that does not is named with its line.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    kind: Kind,
    queue: Option<usize>,

    module: Option<PathBuf>,
    token_label: Option<String>,
    token_serial: Option<String>,
    pin_file: Option<PathBuf>,
    workers: Option<usize>,

    region: Option<String>,
    endpoint_url: Option<String>,
    profile: Option<String>,
    instance: Option<String>,
    key_policy_file: Option<PathBuf>,
    multi_region: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
    description: Option<String>,
    requests_per_second: Option<u32>,
    in_flight: Option<usize>,
    connect_timeout: Option<Span>,
    attempt_timeout: Option<Span>,
    operation_timeout: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Kind {
    #[serde(rename = "pkcs11")]
    Pkcs11,
    #[serde(rename = "aws-kms")]
    AwsKms,
}

impl Section {
    pub(super) fn build(
        self,
        document: &Document<'_>,
        name: &BackendName,
        directory: &Path,
    ) -> Result<Backend, Error> {
        let at = At { document, name, directory };
        if let Some(field) = self.of_another_kind() {
            let kind = match self.kind {
                Kind::Pkcs11 => "pkcs11",
                Kind::AwsKms => "aws-kms",
            };
            return Err(at.wrong(field, &format!("is no setting of kind {kind}")));
        }
        let queue = self.queue.unwrap_or(QUEUE);
        if !(1..=QUEUE_MAX).contains(&queue) {
            return Err(at.wrong("queue", "must be between 1 and 1048576"));
        }
        match self.kind {
            Kind::Pkcs11 => pkcs11::build(self, queue, &at).map(Backend::Pkcs11),
            Kind::AwsKms => aws_kms::build(self, queue, &at).map(Backend::AwsKms),
        }
    }

    /// A setting that is made and that backends of this kind do not have.
    fn of_another_kind(&self) -> Option<&'static str> {
        let pkcs11 = [
            ("module", self.module.is_some()),
            ("token_label", self.token_label.is_some()),
            ("token_serial", self.token_serial.is_some()),
            ("pin_file", self.pin_file.is_some()),
            ("workers", self.workers.is_some()),
        ];
        let aws_kms = [
            ("region", self.region.is_some()),
            ("endpoint_url", self.endpoint_url.is_some()),
            ("profile", self.profile.is_some()),
            ("instance", self.instance.is_some()),
            ("key_policy_file", self.key_policy_file.is_some()),
            ("multi_region", self.multi_region.is_some()),
            ("tags", self.tags.is_some()),
            ("description", self.description.is_some()),
            ("requests_per_second", self.requests_per_second.is_some()),
            ("in_flight", self.in_flight.is_some()),
            ("connect_timeout", self.connect_timeout.is_some()),
            ("attempt_timeout", self.attempt_timeout.is_some()),
            ("operation_timeout", self.operation_timeout.is_some()),
        ];
        let others: &[_] = match self.kind {
            Kind::Pkcs11 => &aws_kms,
            Kind::AwsKms => &pkcs11,
        };
        others.iter().find_map(|(field, made)| made.then_some(*field))
    }
}

/// Where a section stands.
struct At<'a> {
    document: &'a Document<'a>,
    name: &'a BackendName,
    /// Relative paths are taken from here.
    directory: &'a Path,
}

impl At<'_> {
    fn wrong(&self, field: &str, what: &str) -> Error {
        self.document.wrong(&format!("backends.{}.{field}", self.name), what)
    }
}
