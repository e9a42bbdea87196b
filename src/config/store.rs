//! `[store]`: where the truth about keys is kept.

use super::document::{Document, Error};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    url: String,
}

impl Default for Section {
    fn default() -> Self {
        Self { url: "sqlite:signkeep.db".to_owned() }
    }
}

impl Section {
    pub(super) fn build(self, document: &Document<'_>, directory: &Path) -> Result<PathBuf, Error> {
        let path = self.url.strip_prefix("sqlite:").ok_or_else(|| {
            document.wrong(
                "store.url",
                "must be sqlite:<path>, e.g. sqlite:/var/lib/signkeep/signkeep.db; this build offers only SQLite",
            )
        })?;
        if path.is_empty() || path.starts_with("//") || path.starts_with(':') || path.contains('?')
        {
            return Err(document.wrong(
                "store.url",
                "must be sqlite: and the path of a file, without //, parameters or :memory:",
            ));
        }
        Ok(directory.join(path))
    }
}
