//! One document as it is served: its bytes, plain and packed, each with its validator.

use crate::jose::base64url;
use axum::http::HeaderValue;
use axum::http::header::InvalidHeaderValue;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Below this many bytes a packet holds the answer anyway.
const GZIP_MIN: usize = 512;

/// The bytes of one answer, with all that can be worked out beforehand.
pub(super) struct Document {
    /// `Content-Type`.
    pub(super) content_type: &'static str,
    /// `Content-Disposition`, for downloads.
    pub(super) disposition: Option<HeaderValue>,
    /// The bytes as they are.
    pub(super) plain: Variant,
    /// The bytes under gzip, where that is worth it.
    pub(super) gzip: Option<Variant>,
}

/// One encoding of a document.
pub(super) struct Variant {
    /// The body.
    pub(super) body: Bytes,
    /// A strong validator (RFC 9110 section 8.8.3), of this encoding alone.
    pub(super) etag: HeaderValue,
}

/// Why a key set cannot be rendered: a defect of ours or of what the store holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The current key's certificate.
    #[error("certificate of the current key: {0}")]
    Certificate(#[from] crate::x509::bundle::Error),
    /// Compression.
    #[error("gzip: {0}")]
    Gzip(#[from] io::Error),
    /// A header of characters that a header cannot hold.
    #[error("header: {0}")]
    Header(#[from] InvalidHeaderValue),
}

impl Document {
    /// A document that is shown where it is fetched.
    pub(super) fn inline(content_type: &'static str, body: Vec<u8>) -> Result<Self, Error> {
        let tag = base64url(&Sha256::digest(&body));
        let gzip = if body.len() < GZIP_MIN {
            None
        } else {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&body)?;
            let packed = encoder.finish()?;
            let smaller = packed.len() < body.len();
            smaller.then(|| Variant::new(packed, &format!("\"{tag}-gzip\""))).transpose()?
        };
        Ok(Self {
            content_type,
            disposition: None,
            plain: Variant::new(body, &format!("\"{tag}\""))?,
            gzip,
        })
    }

    /// A document that is saved under the name of `file`.
    pub(super) fn download(
        content_type: &'static str,
        file: &str,
        body: Vec<u8>,
    ) -> Result<Self, Error> {
        let disposition = format!("attachment; filename=\"{file}\"").try_into()?;
        Ok(Self { disposition: Some(disposition), ..Self::inline(content_type, body)? })
    }
}

impl Variant {
    fn new(body: Vec<u8>, etag: &str) -> Result<Self, Error> {
        Ok(Self { body: body.into(), etag: etag.try_into()? })
    }
}
