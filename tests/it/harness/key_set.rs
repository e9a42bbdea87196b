//! One key set as a caller meets it: gRPC on one side, the JWKS on the other.

use super::http;
use super::verifiers::Case;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::sign_jwt_request::Payload;
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::proto::{
    CreateKeySetRequest, CreateKeySetResponse, Key, KeySet as KeySetMessage, KeyState,
    ListKeysRequest, Policy, RevokeRequest, RevokeResponse, RollbackRequest, RollbackResponse,
    RotateRequest, RotateResponse, SignJwtRequest, SignJwtResponse, SignRequest, SignResponse,
    SignStreamRequest, SignStreamResponse,
};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

/// The key set that the JWKS without a key set in its path is of.
const DEFAULT: &str = "default";

/// A key set of a running service.
#[derive(Clone)]
pub(crate) struct KeySet {
    keys: KeyServiceClient<Channel>,
    signing: SigningServiceClient<Channel>,
    http: String,
    id: String,
}

impl KeySet {
    pub(crate) fn new(
        keys: KeyServiceClient<Channel>,
        signing: SigningServiceClient<Channel>,
        http: &str,
        id: &str,
    ) -> Self {
        Self { keys, signing, http: http.to_owned(), id: id.to_owned() }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The `iss` of the tokens of a key set that [`KeySet::create`] made.
    pub(crate) fn issuer(&self) -> String {
        format!("https://{}.example/", self.id)
    }

    /// Creates it.
    pub(crate) async fn create(&self, algorithm: &str, policy: Policy) -> CreateKeySetResponse {
        self.create_in("", algorithm, policy).await.unwrap()
    }

    /// Creates it in that backend; in the only one if that is empty.
    pub(crate) async fn create_in(
        &self,
        backend: &str,
        algorithm: &str,
        policy: Policy,
    ) -> Result<CreateKeySetResponse, Status> {
        let key_set = KeySetMessage {
            id: self.id.clone(),
            algorithm: algorithm.to_owned(),
            backend: backend.to_owned(),
            issuer: self.issuer(),
            policy: Some(policy),
            ..KeySetMessage::default()
        };
        let request = CreateKeySetRequest { key_set: Some(key_set), request_id: String::new() };
        answer(self.keys.clone().create_key_set(request).await)
    }

    /// Every key in any of `states`; none: the published ones. Reads all pages.
    pub(crate) async fn keys_in(&self, states: &[KeyState]) -> Vec<Key> {
        let mut found = Vec::new();
        let mut request = ListKeysRequest {
            key_set: self.id.clone(),
            page_size: 500,
            page_token: String::new(),
            states: states.iter().map(|state| i32::from(*state)).collect(),
        };
        loop {
            let page = answer(self.keys.clone().list_keys(request.clone()).await).unwrap();
            found.extend(page.keys);
            if page.next_page_token.is_empty() {
                return found;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The published keys: next, current, previous.
    pub(crate) async fn published(&self) -> Vec<Key> {
        self.keys_in(&[]).await
    }

    /// The one key in `state`; panics if there is none, or another.
    pub(crate) async fn the(&self, state: KeyState) -> Key {
        let mut keys = self.keys_in(&[state]).await;
        assert_eq!(keys.len(), 1, "keys of {} in {state:?}: {keys:#?}", self.id);
        keys.remove(0)
    }

    /// The kid of the current key.
    pub(crate) async fn current(&self) -> String {
        self.the(KeyState::Current).await.kid
    }

    /// The kid of the next key.
    pub(crate) async fn next(&self) -> String {
        self.the(KeyState::Next).await.kid
    }

    /// Rotate, under its guard.
    pub(crate) async fn rotate(&self) -> Result<RotateResponse, Status> {
        self.rotate_as(RotateRequest::default()).await
    }

    /// Rotate, past its guard.
    pub(crate) async fn force_rotate(&self) -> Result<RotateResponse, Status> {
        self.rotate_as(forced_rotation()).await
    }

    /// Rotate as `request` says, but for the key set's id.
    pub(crate) async fn rotate_as(&self, request: RotateRequest) -> Result<RotateResponse, Status> {
        let request = RotateRequest { key_set: self.id.clone(), ..request };
        answer(self.keys.clone().rotate(request).await)
    }

    /// Revoke, under its guard.
    pub(crate) async fn revoke(&self, kid: &str) -> Result<RevokeResponse, Status> {
        self.revoke_as(kid, RevokeRequest::default()).await
    }

    /// Revoke, past its guard.
    pub(crate) async fn force_revoke(&self, kid: &str) -> Result<RevokeResponse, Status> {
        let request =
            RevokeRequest { force: true, reason: "a drill".to_owned(), ..RevokeRequest::default() };
        self.revoke_as(kid, request).await
    }

    /// Revoke as `request` says, but for the key set's id and the kid.
    pub(crate) async fn revoke_as(
        &self,
        kid: &str,
        request: RevokeRequest,
    ) -> Result<RevokeResponse, Status> {
        let request = RevokeRequest { key_set: self.id.clone(), kid: kid.to_owned(), ..request };
        answer(self.keys.clone().revoke(request).await)
    }

    /// Rollback.
    pub(crate) async fn roll_back(&self) -> Result<RollbackResponse, Status> {
        let request = RollbackRequest {
            key_set: self.id.clone(),
            reason: "a drill".to_owned(),
            ..RollbackRequest::default()
        };
        answer(self.keys.clone().rollback(request).await)
    }

    /// Sign.
    pub(crate) async fn sign(&self, input: Input) -> Result<SignResponse, Status> {
        let request =
            SignRequest { key_set: self.id.clone(), input: Some(input), ..SignRequest::default() };
        answer(self.signing.clone().sign(request).await)
    }

    /// Sign, of a message.
    pub(crate) async fn sign_message(&self, message: &[u8]) -> Result<SignResponse, Status> {
        self.sign(Input::Message(message.to_vec().into())).await
    }

    /// SignStream: sends `requests`, then nothing more.
    pub(crate) async fn sign_stream(
        &self,
        requests: Vec<SignStreamRequest>,
    ) -> Streaming<SignStreamResponse> {
        let stream = tokio_stream::iter(requests);
        answer(self.signing.clone().sign_stream(stream).await).unwrap()
    }

    /// SignJwt, of the text of a JSON object.
    pub(crate) async fn sign_jwt(&self, claims: &str) -> Result<SignJwtResponse, Status> {
        let request = SignJwtRequest {
            key_set: self.id.clone(),
            payload: Some(Payload::ClaimsJson(claims.to_owned())),
            ..SignJwtRequest::default()
        };
        answer(self.signing.clone().sign_jwt(request).await)
    }

    /// A token for `subject`, and that it ought to verify.
    pub(crate) async fn token(&self, subject: &str) -> Case {
        let claims = json!({ "sub": subject }).to_string();
        let signed = self.sign_jwt(&claims).await.unwrap();
        let header = signed.jwt.split('.').next().unwrap();
        let header = Base64UrlUnpadded::decode_vec(header).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["kid"], signed.kid.as_str());
        Case {
            name: format!("{} for {subject}", self.id),
            jwks_uri: self.jwks_uri(),
            algorithm: header["alg"].as_str().unwrap().to_owned(),
            issuer: None,
            jwt: signed.jwt,
            verifies: true,
        }
    }

    /// Where its JWKS is.
    pub(crate) fn jwks_uri(&self) -> String {
        format!("http://{}{}", self.http, self.jwks_path())
    }

    /// Its JWKS; an error when the service is away.
    pub(crate) async fn jwks(&self) -> std::io::Result<Value> {
        let response = http::get(&self.http, &self.jwks_path()).await?;
        if response.status != 200 {
            return Err(std::io::Error::other(format!("HTTP {}", response.status)));
        }
        serde_json::from_slice(&response.body).map_err(std::io::Error::other)
    }

    /// The kids in its JWKS.
    pub(crate) async fn jwks_kids(&self) -> Vec<String> {
        kids(&self.jwks().await.unwrap())
    }

    fn jwks_path(&self) -> String {
        if self.id == DEFAULT {
            "/.well-known/jwks.json".to_owned()
        } else {
            format!("/{}/.well-known/jwks.json", self.id)
        }
    }
}

/// A rotation past its guard.
pub(crate) fn forced_rotation() -> RotateRequest {
    RotateRequest { force: true, reason: "a drill".to_owned(), ..RotateRequest::default() }
}

/// The kids in a JWKS.
pub(crate) fn kids(jwks: &Value) -> Vec<String> {
    let keys = jwks["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn answer<T>(response: Result<Response<T>, Status>) -> Result<T, Status> {
    response.map(Response::into_inner)
}
