//! Which services there are.

use super::health::Probe;
use super::keys::Keys;
use super::proto;
use super::proto::key_service_server::KeyServiceServer;
use super::proto::signing_service_server::SigningServiceServer;
use super::signing::Signing;
use super::{Deps, Error};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

/// The services on top of `deps`, which read messages of at most `limit` bytes; their streams end
/// once `stopping` says so.
pub(super) fn routes(
    deps: Deps,
    limit: usize,
    stopping: &watch::Receiver<bool>,
) -> Result<Routes, Error> {
    let Deps { access: _, keyring, health, settings } = deps;
    let signing = Signing::new(keyring.clone(), settings.clone(), stopping.clone());
    let keys = Keys::new(keyring, settings, stopping.clone());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().map_err(Error::Reflection)?;
    let v1alpha = reflection().build_v1alpha().map_err(Error::Reflection)?;
    let probe = HealthServer::new(Probe::new(health, stopping.clone()));
    Ok(Routes::new(KeyServiceServer::new(keys).max_decoding_message_size(limit))
        .add_service(SigningServiceServer::new(signing).max_decoding_message_size(limit))
        .add_service(probe.max_decoding_message_size(limit))
        .add_service(v1.max_decoding_message_size(limit))
        .add_service(v1alpha.max_decoding_message_size(limit))
        .prepare())
}
