//! `signkeep.v1.KeyService`: the life of keys.

use super::call::{Call, about, about_key};
use super::gate::Failed;
use super::page;
use super::proto as pb;
use super::proto::key_service_server::KeyService;
use super::stream;
use super::watch::Watcher;
use super::{Settings, answer, convert, status};
use crate::access::Action;
use crate::key::{Hold, KeySet, KeySetId, Service};
use crate::keyring::{Changed, Context, Keyring, Listed, PolicyUpdate, RequestId};
use prost::Message;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// No page of key sets is longer, in bytes: clients read 4 MiB unless told otherwise.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Answers for the keyring.
pub(super) struct Keys {
    keyring: Keyring,
    settings: Settings,
    stopping: watch::Receiver<bool>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Keys {
    /// Answers for `keyring`; watches end once `stopping` says so.
    pub(super) const fn new(
        keyring: Keyring,
        settings: Settings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { keyring, settings, stopping }
    }

    fn context(&self, call: &Call, request_id: Option<RequestId>) -> Context {
        call.context(request_id, self.settings.change_timeout_max)
    }

    async fn serve(
        &self,
        call: &Call,
        set: &str,
        reason: String,
        request_id: &str,
        service: Service,
    ) -> Result<Changed, Failed> {
        let ((id, reason), request_id) = convert::serve(set, reason, request_id)?;
        about(&id);
        let action = match service {
            Service::Enabled => Action::Enable,
            Service::Disabled => Action::Disable,
            Service::Deleted => Action::Delete,
        };
        let _permit = call.may(action, &id)?;
        let context = self.context(call, request_id);
        Ok(self.keyring.set_service(context, id, service, reason).await?)
    }

    fn list_key_sets(
        &self,
        call: &Call,
        request: &pb::ListKeySetsRequest,
    ) -> Result<pb::ListKeySetsResponse, Failed> {
        let asked = page::KeySets::asked(request)?;
        call.may_look(None)?;
        let found = self.visible(call, asked.after.as_ref(), asked.limit + 1);
        let mut page = pb::ListKeySetsResponse::default();
        let mut last: Option<&KeySetId> = None;
        let mut bytes = 0;
        for set in &found {
            let next = answer::key_set(set);
            bytes += next.encoded_len();
            let full = page.key_sets.len() >= asked.limit || bytes > PAGE_BYTES_MAX;
            if let Some(last) = last.filter(|_| full) {
                page.next_page_token = page::KeySets::token(last);
                break;
            }
            page.key_sets.push(next);
            last = Some(&set.id);
        }
        Ok(page)
    }

    /// At most `limit` key sets after `after` that the caller may see.
    fn visible(&self, call: &Call, after: Option<&KeySetId>, limit: usize) -> Vec<Arc<KeySet>> {
        let mut visible = Vec::new();
        let mut after = after.cloned();
        loop {
            let found = self.keyring.key_sets(after.as_ref(), limit);
            let more = found.len() == limit;
            after = found.last().map(|set| set.id.clone());
            visible.extend(found.into_iter().filter(|set| call.may_see(&set.id)));
            if !more || visible.len() >= limit {
                visible.truncate(limit);
                return visible;
            }
        }
    }

    async fn list_keys(
        &self,
        call: &Call,
        request: &pb::ListKeysRequest,
    ) -> Result<pb::ListKeysResponse, Failed> {
        let asked = page::Keys::asked(request)?;
        about(&asked.key_set);
        let _permit = call.may(Action::View, &asked.key_set)?;
        let set = self.keyring.key_set(&asked.key_set)?;
        let found =
            self.keyring.keys(&asked.key_set, &asked.states, asked.after, asked.limit).await?;
        let keys = found.keys.iter().map(|listed| match listed {
            Listed::Key(key) => answer::key(key, &set),
            Listed::Pending(reserved) => answer::pending(reserved),
        });
        Ok(pb::ListKeysResponse {
            keys: keys.collect(),
            next_page_token: found.after.map(|after| asked.token(after)).unwrap_or_default(),
            incomplete: set.missing().any(),
            rotation_hold: set.rotation_hold == Hold::On,
        })
    }
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn create_key_set(
        &self,
        request: Request<pb::CreateKeySetRequest>,
    ) -> Answer<pb::CreateKeySetResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (create, request_id) = convert::create(request)?;
            about(&create.id);
            let _permit = call.may(Action::Create, &create.id)?;
            let context = self.context(&call, request_id);
            let changed = self.keyring.create(context, create).await?;
            Ok(pb::CreateKeySetResponse {
                key_set: Some(answer::key_set(&changed.key_set)),
                replayed: changed.replayed,
                barrier: Some(answer::barrier(changed.barrier)),
            })
        };
        work.await.map(Response::new).map_err(|error| status::of_creation(error, &call.id))
    }

    async fn get_key_set(
        &self,
        request: Request<pb::GetKeySetRequest>,
    ) -> Answer<pb::GetKeySetResponse> {
        let (call, request) = Call::open(request)?;
        let work = || -> Result<_, Failed> {
            let id = convert::key_set(&request.key_set)?;
            about(&id);
            let _permit = call.may(Action::View, &id)?;
            let set = self.keyring.key_set(&id)?;
            Ok(pb::GetKeySetResponse { key_set: Some(answer::key_set(&set)) })
        };
        call.reply(work())
    }

    async fn list_key_sets(
        &self,
        request: Request<pb::ListKeySetsRequest>,
    ) -> Answer<pb::ListKeySetsResponse> {
        let (call, request) = Call::open(request)?;
        call.reply(self.list_key_sets(&call, &request))
    }

    async fn update_key_set(
        &self,
        request: Request<pb::UpdateKeySetRequest>,
    ) -> Answer<pb::UpdateKeySetResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (id, (update, request_id)) = convert::update(request)?;
            about(&id);
            let only_hold =
                update.rotation_hold.is_some() && update.policy == PolicyUpdate::default();
            let action = if only_hold { Action::Hold } else { Action::Update };
            let _permit = call.may(action, &id)?;
            let context = self.context(&call, request_id);
            let changed = self.keyring.update(context, id, update).await?;
            Ok(pb::UpdateKeySetResponse {
                key_set: Some(answer::key_set(&changed.key_set)),
                replayed: changed.replayed,
                barrier: Some(answer::barrier(changed.barrier)),
            })
        };
        work.await.map(Response::new).map_err(|error| status::of_creation(error, &call.id))
    }

    async fn disable_key_set(
        &self,
        request: Request<pb::DisableKeySetRequest>,
    ) -> Answer<pb::DisableKeySetResponse> {
        let (call, request) = Call::open(request)?;
        let (set, reason, again) = (request.key_set, request.reason, request.request_id);
        let changed = self.serve(&call, &set, reason, &again, Service::Disabled);
        call.reply(changed.await.map(|changed| pb::DisableKeySetResponse {
            key_set: Some(answer::key_set(&changed.key_set)),
            replayed: changed.replayed,
            barrier: Some(answer::barrier(changed.barrier)),
        }))
    }

    async fn enable_key_set(
        &self,
        request: Request<pb::EnableKeySetRequest>,
    ) -> Answer<pb::EnableKeySetResponse> {
        let (call, request) = Call::open(request)?;
        let (set, reason, again) = (request.key_set, request.reason, request.request_id);
        let changed = self.serve(&call, &set, reason, &again, Service::Enabled);
        call.reply(changed.await.map(|changed| pb::EnableKeySetResponse {
            key_set: Some(answer::key_set(&changed.key_set)),
            replayed: changed.replayed,
            barrier: Some(answer::barrier(changed.barrier)),
        }))
    }

    async fn delete_key_set(
        &self,
        request: Request<pb::DeleteKeySetRequest>,
    ) -> Answer<pb::DeleteKeySetResponse> {
        let (call, request) = Call::open(request)?;
        let (set, reason, again) = (request.key_set, request.reason, request.request_id);
        let changed = self.serve(&call, &set, reason, &again, Service::Deleted);
        call.reply(changed.await.map(|changed| pb::DeleteKeySetResponse {
            key_set: Some(answer::key_set(&changed.key_set)),
            replayed: changed.replayed,
            barrier: Some(answer::barrier(changed.barrier)),
        }))
    }

    async fn list_keys(
        &self,
        request: Request<pb::ListKeysRequest>,
    ) -> Answer<pb::ListKeysResponse> {
        let (call, request) = Call::open(request)?;
        call.reply(self.list_keys(&call, &request).await)
    }

    async fn get_key(&self, request: Request<pb::GetKeyRequest>) -> Answer<pb::GetKeyResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (id, kid) = convert::key(&request.key_set, &request.kid)?;
            about(&id);
            about_key(&kid);
            let _permit = call.may(Action::View, &id)?;
            let set = self.keyring.key_set(&id)?;
            let key = self.keyring.key(&id, &kid).await?;
            Ok(pb::GetKeyResponse { key: Some(answer::key(&key, &set)) })
        };
        call.reply(work.await)
    }

    async fn rotate(&self, request: Request<pb::RotateRequest>) -> Answer<pb::RotateResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (rotate, request_id) = convert::rotate(request)?;
            about(&rotate.key_set);
            let _permit = call.may(Action::Rotate, &rotate.key_set)?;
            let mode = rotate.mode;
            let context = self.context(&call, request_id);
            let changed = self.keyring.rotate(context, rotate).await?;
            Ok(answer::rotated(changed, mode))
        };
        call.reply(work.await)
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Answer<pb::RevokeResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (revoke, request_id) = convert::revoke(request)?;
            about(&revoke.key_set);
            about_key(&revoke.kid);
            let _permit = call.may(Action::Revoke, &revoke.key_set)?;
            let mode = revoke.mode;
            let context = self.context(&call, request_id);
            let changed = self.keyring.revoke(context, revoke).await?;
            Ok(answer::revoked(changed, mode))
        };
        call.reply(work.await)
    }

    async fn rollback(
        &self,
        request: Request<pb::RollbackRequest>,
    ) -> Answer<pb::RollbackResponse> {
        let (call, request) = Call::open(request)?;
        let work = async {
            let (rollback, request_id) = convert::roll_back(request)?;
            about(&rollback.key_set);
            let _permit = call.may(Action::Rollback, &rollback.key_set)?;
            let mode = rollback.mode;
            let context = self.context(&call, request_id);
            let changed = self.keyring.roll_back(context, rollback).await?;
            Ok(answer::rolled_back(changed, mode))
        };
        call.reply(work.await)
    }

    type WatchKeysStream = ReceiverStream<Result<pb::WatchKeysResponse, Status>>;

    async fn watch_keys(
        &self,
        request: Request<pb::WatchKeysRequest>,
    ) -> Answer<Self::WatchKeysStream> {
        let (call, request) = Call::open(request)?;
        let watch = || -> Result<_, Failed> {
            let only = convert::optional_key_set(&request.key_set)?;
            only.as_ref().inspect(|id| about(id));
            let permit = match &only {
                Some(id) => Some(call.may(Action::View, id)?),
                None => call.may_look(None).map(|()| None)?,
            };
            let changes = call.gate.access.changes();
            Ok((self.keyring.watch(only.clone())?, only, permit, changes))
        };
        let (events, only, permit, changes) =
            watch().map_err(|error| status::of(error, &call.id))?;
        let (answers, received) = mpsc::channel(1);
        let id = call.id.clone();
        let watcher = Watcher {
            stopping: self.stopping.clone(),
            end: call.deadline.end(),
            answers: answers.clone(),
            call,
            only,
            changes,
            _permit: permit,
        };
        stream::spawn(answers, id, watcher.follow(events));
        Ok(Response::new(received.into()))
    }
}
