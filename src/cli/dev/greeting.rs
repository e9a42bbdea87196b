//! What `dev` prints once it answers: where everything is, and what to paste next.

use crate::app::Addresses;
use crate::cli::{Failure, output};
use crate::transport::Address;
use std::path::Path;

/// Prints it on standard output.
pub(super) fn print(
    addresses: &Addresses,
    directory: &Path,
    outage: Option<&str>,
) -> Result<(), Failure> {
    output::line(&text(addresses, directory, outage))
}

fn text(addresses: &Addresses, directory: &Path, outage: Option<&str>) -> String {
    let state = match outage {
        None => "is ready".to_owned(),
        Some(why) => format!("is up, but cannot sign: {why}"),
    };
    let first =
        |list: &[Address]| list.first().map_or_else(|| "(off)".to_owned(), ToString::to_string);
    let grpc = first(&addresses.grpc);
    let http = first(&addresses.http);
    let metrics = first(&addresses.metrics);
    let directory = directory.display();
    format!(
        r#"
Signkeep {state}. Private keys are in a SoftHSM token; everything is kept in {directory}.

  gRPC     {grpc}
  JWKS     http://{http}/.well-known/jwks.json
  metrics  http://{metrics}/metrics

To paste next, in another terminal:

  # the keys: next and current
  grpcurl -plaintext -d '{{"key_set":"default"}}' {grpc} signkeep.v1.KeyService/ListKeys

  # a signature over "hello" (aGVsbG8= in base64)
  grpcurl -plaintext -d '{{"key_set":"default","message":"aGVsbG8="}}' {grpc} signkeep.v1.SigningService/Sign

  # a token
  grpcurl -plaintext -d '{{"key_set":"default","claims":{{"sub":"alice"}}}}' {grpc} signkeep.v1.SigningService/SignJwt

  # a rotation; without force it is refused until verifiers have seen the next key for 15 minutes
  grpcurl -plaintext -d '{{"key_set":"default","force":true,"reason":"trying it out"}}' {grpc} signkeep.v1.KeyService/Rotate

  # what verifiers see
  curl http://{http}/.well-known/jwks.json

Ctrl-C stops it; started again, it goes on with the same keys.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_pasted_has_the_real_addresses() {
        let addresses = Addresses {
            grpc: vec!["127.0.0.1:1234".parse().unwrap()],
            http: vec!["127.0.0.1:5678".parse().unwrap()],
            metrics: Vec::new(),
            management: Vec::new(),
        };
        let text = text(&addresses, Path::new("dev"), None);
        assert!(text.contains("127.0.0.1:1234 signkeep.v1.KeyService/Rotate"));
        assert!(text.contains("curl http://127.0.0.1:5678/.well-known/jwks.json"));
        assert!(text.contains("Signkeep is ready."));
        let out = super::text(&addresses, Path::new("dev"), Some("the PIN was refused"));
        assert!(out.contains("cannot sign: the PIN was refused") && !out.contains("ready"));
        assert!(text.contains(r#"-d '{"key_set":"default"}'"#));
    }
}
