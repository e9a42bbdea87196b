//! `signkeep sign` and `signkeep sign-jwt`.

use super::Failure;
use super::client::Connection;
use super::output::{self, Output};
use crate::config::Span;
use crate::grpc::proto as pb;
use base64ct::{Base64, Encoding as _};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The service takes no message larger than that; it is read no further.
const INPUT_MAX: u64 = 64 * 1024;

/// Sign bytes.
#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// What to sign: a file, or - for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The key set.
    #[arg(long, value_name = "ID", default_value = "default")]
    key_set: String,
    /// The input is a digest by the algorithm's own hash function, not a message.
    #[arg(long)]
    digest: bool,
    /// Refuse unless this is the current key.
    #[arg(
        long,
        value_name = "KID",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    expected_kid: String,
    /// How an ECDSA signature is written.
    #[arg(long, value_enum, default_value_t)]
    encoding: Encoding,
    /// Print the signature's bytes alone.
    #[arg(long, conflicts_with = "output")]
    raw: bool,
    /// How the result looks; a table is the signature in base64, alone on its line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Sign claims; prints a JWT.
#[derive(Debug, Args)]
pub(super) struct SignJwtArgs {
    /// The claims, a JSON object: a file, or - for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The key set.
    #[arg(long, value_name = "ID", default_value = "default")]
    key_set: String,
    /// The header's typ, e.g. at+jwt.
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    typ: String,
    /// How long the token is valid, e.g. 15m; without it and without an exp among the claims, an hour,
    /// or max_token_ttl if that is less.
    #[arg(long, value_name = "SPAN")]
    lifetime: Option<Span>,
    /// How the result looks; a table is the token, alone on its line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// r and s in full length, one after the other (RFC 7518 section 3.4).
    #[default]
    Jws,
    /// ASN.1 DER.
    Der,
}

pub(super) async fn sign(args: SignArgs) -> Result<(), Failure> {
    let bytes = read(&args.file, "hash it and sign the digest with --digest")?.into();
    let input = match args.digest {
        true => pb::sign_request::Input::Digest(bytes),
        false => pb::sign_request::Input::Message(bytes),
    };
    let encoding = match args.encoding {
        Encoding::Jws => pb::SignatureEncoding::Jws,
        Encoding::Der => pb::SignatureEncoding::Der,
    };
    let client = args.connection.open().await?;
    let request = client.request(pb::SignRequest {
        key_set: args.key_set.clone(),
        input: Some(input),
        expected_kid: args.expected_kid,
        encoding: encoding.into(),
    });
    let mut service = client.signing.clone();
    let signed = client.answer_for(&args.key_set, service.sign(request)).await?;
    if args.raw {
        return output::bytes(&signed.signature);
    }
    let signature = Base64::encode_string(&signed.signature);
    match args.output {
        Output::Table => output::line(&signature),
        Output::Json => output::json(&json!({
            "signature": signature,
            "kid": signed.kid,
            "algorithm": signed.algorithm,
        })),
    }
}

pub(super) async fn sign_jwt(args: SignJwtArgs) -> Result<(), Failure> {
    let claims = String::from_utf8(read(
        &args.file,
        "leave claims out, or name what they say by a reference",
    )?)
    .map_err(|_| Failure::usage("the claims must be a JSON object in UTF-8"))?;
    if claims.trim().is_empty() {
        return Err(Failure::usage(format!("{} has no claims", args.file.display()))
            .mend("give a JSON object, in a file or on standard input"));
    }
    let client = args.connection.open().await?;
    let request = client.request(pb::SignJwtRequest {
        key_set: args.key_set.clone(),
        payload: Some(pb::sign_jwt_request::Payload::ClaimsJson(claims)),
        typ: args.typ,
        lifetime: args.lifetime.map(|span| super::message::to_span(span.get())),
        ..pb::SignJwtRequest::default()
    });
    let mut service = client.signing.clone();
    let signed = client.answer_for(&args.key_set, service.sign_jwt(request)).await?;
    match args.output {
        Output::Table => output::line(&signed.jwt),
        Output::Json => output::json(&json!({
            "jwt": signed.jwt,
            "kid": signed.kid,
            "expireTime": super::message::time(signed.expire_time.as_ref()),
        })),
    }
}

/// What is to be signed, at most what the service takes; `too_large` says what to do with more.
fn read(file: &Path, too_large: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(INPUT_MAX + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(INPUT_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))?;
    if bytes.len() as u64 > INPUT_MAX {
        return Err(
            Failure::new(format!("{} is larger than 64 KiB", file.display())).mend(too_large)
        );
    }
    Ok(bytes)
}
