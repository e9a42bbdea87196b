//! `[listeners.*.tls]`: with which certificate, and which clients are let in.

use crate::config::document::{Document, Error};
use crate::transport::tls::{Certificates, Clients, Settings, Version};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    certificate_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    client_certificates: Option<Wanted>,
    #[serde(default)]
    crl_files: Files,
    #[serde(default)]
    min_version: MinVersion,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Required,
    Optional,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum MinVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// One file, as a variable of the environment gives it, or several.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, expecting = "a file, or a list of files")]
enum Files {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Default for Files {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Section {
    pub(super) fn build(
        self,
        document: &Document<'_>,
        field: &str,
        directory: &Path,
    ) -> Result<Settings, Error> {
        let wrong = |name: &str, what: &str| Err(document.wrong(&format!("{field}.{name}"), what));
        let crl_files = match self.crl_files {
            Files::One(file) => vec![file],
            Files::Several(files) => files,
        };
        let clients = match (self.client_ca_file, self.client_certificates) {
            (None, Some(_)) => {
                return wrong(
                    "client_certificates",
                    "needs client_ca_file, with the CAs that vouch for clients",
                );
            }
            (None, None) if !crl_files.is_empty() => {
                return wrong(
                    "crl_files",
                    "needs client_ca_file, with the CAs that vouch for clients",
                );
            }
            (None, None) => None,
            (Some(ca), wanted) => Some(Clients {
                ca_file: directory.join(ca),
                certificates: match wanted {
                    Some(Wanted::Optional) => Certificates::Optional,
                    Some(Wanted::Required) | None => Certificates::Required,
                },
                crl_files: crl_files.iter().map(|file| directory.join(file)).collect(),
            }),
        };
        Ok(Settings {
            certificate_file: directory.join(self.certificate_file),
            key_file: directory.join(self.key_file),
            clients,
            min_version: match self.min_version {
                MinVersion::Tls12 => Version::Tls12,
                MinVersion::Tls13 => Version::Tls13,
            },
        })
    }
}
