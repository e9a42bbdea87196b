//! `signkeep.v1.SigningService`: signatures by the current key, and public keys.

use super::call::{Call, about, about_key};
use super::convert::Form;
use super::keys::late;
use super::proto as pb;
use super::proto::sign_stream_response::Outcome;
use super::proto::signing_service_server::SigningService;
use super::{Settings, answer, convert, encode, status, stopped};
use crate::key::Kid;
use crate::keyring::{Error, Keyring, Sign};
use crate::x509;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

/// Longest request id of an item, in bytes.
const ITEM_ID_LEN_MAX: usize = 128;
/// Answers that wait for the transport.
const ANSWERS_MAX: usize = 16;
/// How long a caller that reads nothing is waited for with the last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Answers for the keyring.
#[derive(Clone)]
pub(super) struct Signing {
    keyring: Keyring,
    settings: Settings,
    stopping: watch::Receiver<bool>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Signing {
    /// Answers for `keyring`; streams end once `stopping` says so.
    pub(super) const fn new(
        keyring: Keyring,
        settings: Settings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { keyring, settings, stopping }
    }

    fn until(&self, call: &Call) -> Instant {
        call.until(self.settings.request_timeout_max)
    }

    async fn sign_one(
        &self,
        deadline: Instant,
        sign: Sign,
        form: Form,
    ) -> Result<(pb::SignResponse, Kid), Error> {
        let signed = self.keyring.sign(deadline, sign).await?;
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
            let (signed, kid) = self.sign_one(self.until(&call), sign, form).await?;
            about_key(&kid);
            Ok(signed)
        };
        call.reply(work.await)
    }

    async fn sign_jwt(&self, request: Request<pb::SignJwtRequest>) -> Answer<pb::SignJwtResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let sign = convert::sign_jwt(request)?;
            about(&sign.key_set);
            let jwt = self.keyring.sign_jwt(self.until(&call), sign).await?;
            about_key(&jwt.kid);
            Ok(pb::SignJwtResponse {
                jwt: jwt.compact,
                kid: jwt.kid.to_string(),
                expire_time: Some(answer::time(jwt.expires)),
            })
        };
        call.reply(work.await)
    }

    type SignStreamStream = ReceiverStream<Result<pb::SignStreamResponse, Status>>;

    async fn sign_stream(
        &self,
        request: Request<Streaming<pb::SignStreamRequest>>,
    ) -> Answer<Self::SignStreamStream> {
        let (call, items) = Call::open(request)?;
        let (answers, stream) = mpsc::channel(ANSWERS_MAX);
        let signer = Stream { signing: self.clone(), call, answers };
        tokio::spawn(signer.run(items).in_current_span());
        Ok(Response::new(stream.into()))
    }

    async fn get_public_key(
        &self,
        request: Request<pb::GetPublicKeyRequest>,
    ) -> Answer<pb::GetPublicKeyResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (id, kid) = convert::optional_key(&request.key_set, &request.kid)?;
            about(&id);
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
    answers: mpsc::Sender<Result<pb::SignStreamResponse, Status>>,
}

impl Stream {
    /// Reads items while there is room for them, answers each as soon as it is done, and after the
    /// last item, or a stop, lets those under way finish.
    async fn run(self, mut items: Streaming<pb::SignStreamRequest>) {
        let places = self.signing.settings.stream_items_max;
        let mut stopping = self.signing.stopping.clone();
        let mut under_way = FuturesUnordered::new();
        let mut done = VecDeque::new();
        let mut end: Option<Result<(), Status>> = None;
        let late = late(self.call.deadline.end());
        tokio::pin!(late);
        while end.is_none() || !under_way.is_empty() || !done.is_empty() {
            let reading = end.is_none();
            let room = under_way.len() + done.len() < places;
            tokio::select! {
                biased;
                () = self.answers.closed() => return,
                () = stopped(&mut stopping), if reading => end = Some(Err(status::shutting_down())),
                () = &mut late => {
                    end = Some(Err(status::deadline_exceeded()));
                    break;
                }
                Ok(slot) = self.answers.reserve(), if !done.is_empty() => {
                    if let Some(answer) = done.pop_front() {
                        slot.send(Ok(answer));
                    }
                }
                Some(answer) = under_way.next() => done.push_back(answer),
                item = items.message(), if reading && room => match item {
                    Ok(Some(item)) => under_way.push(self.answer(item)),
                    Ok(None) => end = Some(Ok(())),
                    Err(error) => end = Some(Err(status::foreign(&error, &self.call.id))),
                },
            }
        }
        if let Some(Err(last)) = end {
            // A caller that does not listen does not hear why.
            let _ = tokio::time::timeout(LAST_WORD, self.answers.send(Err(last))).await;
        }
    }

    async fn answer(&self, item: pb::SignStreamRequest) -> pb::SignStreamResponse {
        let deadline = self.signing.until(&self.call);
        let request_id = item.request_id;
        let request = item.request.unwrap_or_default();
        let work = async {
            if request_id.len() > ITEM_ID_LEN_MAX {
                return Err(convert::wrong("request_id", "must be at most 128 bytes"));
            }
            let (sign, form) = convert::sign(request)?;
            let (signed, _) = self.signing.sign_one(deadline, sign, form).await?;
            Ok(signed)
        };
        let outcome = match work.await {
            Ok(signed) => Outcome::Signed(signed),
            Err(error) => Outcome::Error(packed(&status::of(error, &self.call.id))),
        };
        pb::SignStreamResponse { request_id: clipped(request_id), outcome: Some(outcome) }
    }
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
