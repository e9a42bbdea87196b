//! What is wrong with a file. There is one thing to do about all of it: mend the file.

use super::files::Digest;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// What is wrong with a file of a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct Error {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it, and what would be right.
    pub what: String,
}

impl Error {
    pub(super) fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), what: what.into() }
    }

    /// Stands for files that could not all be read: the same for the same fault.
    pub(super) fn digest(&self) -> Digest {
        Sha256::digest(self.to_string()).into()
    }
}
