//! `signkeep.v1.SigningService`: signatures by the current key, and public keys.

use super::call::{Call, about, about_key};
use super::convert::Form;
use super::gate::Failed;
use super::proto as pb;
use super::proto::sign_stream_response::Outcome;
use super::proto::signing_service_server::SigningService;
use super::release::{Releasing, Seal, Waiting};
use super::stream::{self, Answers, late};
use super::{Settings, answer, convert, encode, status, stopped};
use crate::access::Action;
use crate::key::Kid;
use crate::keyring::{Error, Keyring, Sign};
use crate::x509;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, FuturesUnordered};
use prost::Message;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Longest request id of an item, in bytes.
const ITEM_ID_LEN_MAX: usize = 128;

/// Answers for the keyring.
#[derive(Clone)]
pub(super) struct Signing {
    keyring: Keyring,
    settings: Settings,
    stopping: watch::Receiver<bool>,
    /// For the items of all streams.
    places: Arc<Semaphore>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Signing {
    /// Answers for `keyring`; streams end once `stopping` says so.
    pub(super) fn new(
        keyring: Keyring,
        settings: Settings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.requests_max)),
            keyring,
            settings,
            stopping,
        }
    }

    fn until(&self, call: &Call) -> Instant {
        call.until(self.settings.request_timeout_max)
    }

    async fn sign_one(
        &self,
        call: &Call,
        sign: Sign,
        form: Form,
    ) -> Result<(pb::SignResponse, Kid), Failed> {
        let _permit = call.may(Action::Sign, &sign.key_set)?;
        let signed = self.keyring.sign(&call.origin(), self.until(call), sign).await?;
        let signature = match form {
            Form::Jws => signed.signature,
            Form::Der => encode::signature_der(signed.algorithm, signed.signature)?,
        };
        let answer = pb::SignResponse {
            signature: signature.into(),
            kid: signed.kid.to_string(),
            algorithm: signed.algorithm.to_string(),
        };
        Ok((answer, signed.kid))
    }
}

#[tonic::async_trait]
impl SigningService for Signing {
    async fn sign(&self, request: Request<pb::SignRequest>) -> Answer<pb::SignResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (sign, form) = convert::sign(request)?;
            about(&sign.key_set);
            let (signed, kid) = self.sign_one(&call, sign, form).await?;
            about_key(&kid);
            Ok(signed)
        };
        call.reply(work.await)
    }

    async fn sign_jwt(&self, request: Request<pb::SignJwtRequest>) -> Answer<pb::SignJwtResponse> {
        let (call, request) = Call::open(request)?;
        let as_text = matches!(request.payload, Some(pb::sign_jwt_request::Payload::ClaimsJson(_)));
        let work = async {
            let sign = convert::sign_jwt(request)?;
            about(&sign.key_set);
            let (_permit, sign) = call.may_say(sign)?;
            let jwt = self.keyring.sign_jwt(&call.origin(), self.until(&call), sign).await?;
            about_key(&jwt.kid);
            Ok(pb::SignJwtResponse {
                jwt: jwt.compact,
                kid: jwt.kid.to_string(),
                expire_time: Some(answer::time(jwt.expires)),
            })
        };
        let done: Result<_, Failed> = work.await;
        call.reply(done.map_err(|error| if as_text { convert::in_text(error) } else { error }))
    }

    type SignStreamStream = BoxStream<'static, Result<pb::SignStreamResponse, Status>>;

    async fn sign_stream(
        &self,
        request: Request<Streaming<pb::SignStreamRequest>>,
    ) -> Answer<Self::SignStreamStream> {
        let (call, items) = Call::open(request)?;
        let id = call.id.clone();
        let (answers, received) = mpsc::channel(1);
        let signer = Stream { signing: self.clone(), call, answers: answers.clone() };
        stream::spawn(answers, id, signer.run(items));
        let released = Releasing::new(ReceiverStream::new(received), |waiting| {
            let waiting: Result<_, Status> = waiting;
            waiting.map(released)
        });
        Ok(Response::new(released.boxed()))
    }

    async fn get_public_key(
        &self,
        request: Request<pb::GetPublicKeyRequest>,
    ) -> Answer<pb::GetPublicKeyResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (id, kid) = convert::optional_key(&request.key_set, &request.kid)?;
            about(&id);
            let _permit = call.may(Action::View, &id)?;
            let key = match kid {
                Some(kid) => self.keyring.key(&id, &kid).await?,
                None => {
                    let set = self.keyring.key_set(&id)?;
                    let current = set.current().cloned();
                    current.ok_or(Error::NoCurrentKey { id })?
                }
            };
            about_key(&key.kid);
            Ok(pb::GetPublicKeyResponse {
                jwk: encode::jwk(&key)?,
                public_key_pem: encode::public_key_pem(&key.public),
                certificate_pem: x509::pem(&key.certificate),
                kid: key.kid.to_string(),
            })
        };
        call.reply(work.await)
    }
}

/// One SignStream.
struct Stream {
    signing: Signing,
    call: Call,
    answers: Answers<Waiting<pb::SignStreamResponse>>,
}

impl Stream {
    /// Reads items while there is room for them, answers each as soon as it is done, and after the
    /// last item, or a stop, lets those under way finish. An item that finds the whole face busy
    /// waits, and with it all that come after it. However long an answer waits, its key is checked
    /// when the transport takes it.
    async fn run(self, mut items: Streaming<pb::SignStreamRequest>) -> Result<(), Status> {
        let mut stopping = self.signing.stopping.clone();
        let mut read: Option<pb::SignStreamRequest> = None;
        let mut under_way = FuturesUnordered::new();
        let mut done = VecDeque::new();
        let mut end: Option<Result<(), Status>> = None;
        let late = late(self.call.deadline.end());
        tokio::pin!(late);
        while end.is_none() || read.is_some() || !under_way.is_empty() || !done.is_empty() {
            let open = end.is_none();
            let room = under_way.len() + done.len() < self.signing.settings.stream_items_max;
            tokio::select! {
                biased;
                () = self.answers.closed() => return Ok(()),
                () = stopped(&mut stopping), if open => end = Some(Err(status::shutting_down())),
                () = &mut late => return Err(status::deadline_exceeded()),
                Ok(slot) = self.answers.reserve(), if !done.is_empty() => {
                    if let Some(answer) = done.pop_front() {
                        slot.send(Ok(answer));
                    }
                }
                Some(answer) = under_way.next() => done.push_back(answer),
                place = self.signing.places.clone().acquire_owned(), if read.is_some() => {
                    if let Some(item) = read.take() {
                        under_way.push(self.answer(item, place.ok()));
                    }
                }
                item = items.message(), if open && room && read.is_none() => match item {
                    Ok(Some(item)) => read = Some(item),
                    Ok(None) => end = Some(Ok(())),
                    Err(error) => end = Some(Err(status::foreign(&error, &self.call.id))),
                },
            }
        }
        end.unwrap_or(Ok(()))
    }

    /// `place` is kept until the item is answered.
    async fn answer(
        &self,
        item: pb::SignStreamRequest,
        _place: Option<OwnedSemaphorePermit>,
    ) -> Waiting<pb::SignStreamResponse> {
        let request_id = item.request_id;
        let request = item.request.unwrap_or_default();
        let work = async {
            if request_id.len() > ITEM_ID_LEN_MAX {
                return Err(convert::wrong("request_id", "must be at most 128 bytes").into());
            }
            let (sign, form) = convert::sign(request)?;
            let key_set = sign.key_set.clone();
            let (signed, kid) = self.signing.sign_one(&self.call, sign, form).await?;
            let (keyring, request) = (self.signing.keyring.clone(), self.call.id.clone());
            Ok((signed, Seal::new(keyring, key_set, kid, request)))
        };
        let done: Result<_, Failed> = work.await;
        let (outcome, seal) = match done {
            Ok((signed, seal)) => (Outcome::Signed(signed), Some(seal)),
            Err(error) => (Outcome::Error(packed(&status::of(error, &self.call.id))), None),
        };
        let request_id = clipped(request_id);
        Waiting { answer: pb::SignStreamResponse { request_id, outcome: Some(outcome) }, seal }
    }
}

/// The answer as it may be told now: an error in place of a signature by a key that signs no more.
fn released(waiting: Waiting<pb::SignStreamResponse>) -> pb::SignStreamResponse {
    let Waiting { mut answer, seal } = waiting;
    if let Some(Err(told)) = seal.map(|seal| seal.check()) {
        answer.outcome = Some(Outcome::Error(packed(&told)));
    }
    answer
}

/// The status as a message, with its details.
fn packed(status: &Status) -> tonic_types::Status {
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// As much of an id as is returned, so that the caller finds the item whose id was too long.
fn clipped(mut id: String) -> String {
    let end = (0..=ITEM_ID_LEN_MAX.min(id.len())).rev().find(|at| id.is_char_boundary(*at));
    id.truncate(end.unwrap_or_default());
    id
}
