//! `grpc.health.v1`, straight from [`Health`]: a service is SERVING while the whole is ready, and
//! not a moment longer. Nothing is copied on the way, so nothing can lag behind or start out wrong.

use super::{status, stopped};
use crate::health::{Health, Report};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

/// The services that can be asked about; the empty name is the whole.
const SERVICES: [&str; 3] = ["", "signkeep.v1.KeyService", "signkeep.v1.SigningService"];

/// Answers probes.
pub(super) struct Probe {
    health: Health,
    stopping: watch::Receiver<bool>,
}

impl Probe {
    /// Follows `health`; its watches end once `stopping` says so.
    pub(super) const fn new(health: Health, stopping: watch::Receiver<bool>) -> Self {
        Self { health, stopping }
    }
}

#[tonic::async_trait]
impl health_server::Health for Probe {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if SERVICES.contains(&request.get_ref().service.as_str()) {
            Ok(Response::new(answer(serving(&self.health.report()))))
        } else {
            Err(Status::not_found("there is no such service"))
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let follower = Follower {
            known,
            reports: self.health.watch(),
            stopping: self.stopping.clone(),
            told: None,
        };
        let answers = stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.next().await {
                Some(status) => Some((Ok(answer(status)), Some(follower))),
                None => Some((Err(status::shutting_down()), None)),
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// What one watcher has been told, and what there is to tell.
struct Follower {
    known: bool,
    reports: watch::Receiver<Report>,
    stopping: watch::Receiver<bool>,
    told: Option<ServingStatus>,
}

impl Follower {
    /// The next status that differs from the last; none once the service stops.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let now = if self.known {
                serving(&self.reports.borrow_and_update())
            } else {
                ServingStatus::ServiceUnknown
            };
            if self.told != Some(now) {
                self.told = Some(now);
                return Some(now);
            }
            tokio::select! {
                biased;
                changed = self.reports.changed() => changed.ok()?,
                () = stopped(&mut self.stopping) => return None,
            }
        }
    }
}

fn serving(report: &Report) -> ServingStatus {
    if report.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
