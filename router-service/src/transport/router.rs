//! `RouterService`.

use moerag_proto::v1;
use moerag_proto::v1::router_service_server::RouterService;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::server::Services;
use super::{from_proto, to_proto};
use crate::domain::RouterError;
use crate::domain::validate;
use crate::domain::violations::Violations;

#[tonic::async_trait]
impl RouterService for Services {
    async fn attend(
        &self,
        request: Request<v1::AttendRequest>,
    ) -> Result<Response<v1::AttendResponse>, Status> {
        let context = Context::new("Attend", request.metadata());
        context
            .run(async {
                let engine = self.engine()?;
                let mut violations = Violations::new();
                let query = from_proto::attend_query(request.into_inner(), &mut violations);
                validate::attend(&query, engine.limits(), &mut violations);
                violations.finish()?;
                let attended = engine.attend(&query, &context.stages).await?;
                Ok(to_proto::attend_response(&context.id, attended))
            })
            .await
    }

    async fn batch_attend(
        &self,
        request: Request<v1::BatchAttendRequest>,
    ) -> Result<Response<v1::BatchAttendResponse>, Status> {
        let context = Context::new("BatchAttend", request.metadata());
        context
            .run(async {
                let engine = self.engine()?;
                let requests = request.into_inner().requests;
                check_batch(requests.len(), engine.limits().batch)?;
                let mut violations = Violations::new();
                let mut queries = Vec::with_capacity(requests.len());
                for (i, request) in requests.into_iter().enumerate() {
                    violations.set_prefix(format!("requests[{i}]."));
                    let query = from_proto::attend_query(request, &mut violations);
                    validate::attend(&query, engine.limits(), &mut violations);
                    queries.push(query);
                }
                violations.finish()?;
                let attended = engine.batch_attend(&queries, &context.stages).await?;
                let responses = attended
                    .into_iter()
                    .map(|attended| to_proto::attend_response(&context.id, attended))
                    .collect();
                Ok(v1::BatchAttendResponse { responses })
            })
            .await
    }

    async fn route(
        &self,
        request: Request<v1::RouteRequest>,
    ) -> Result<Response<v1::RouteResponse>, Status> {
        let context = Context::new("Route", request.metadata());
        context
            .run(async {
                let engine = self.engine()?;
                let mut violations = Violations::new();
                let query = from_proto::route_query(request.into_inner(), &mut violations);
                validate::route(&query, engine.limits(), &mut violations);
                violations.finish()?;
                let routed = engine.route(&query, &context.stages).await?;
                Ok(to_proto::route_response(&context.id, &routed))
            })
            .await
    }
}

/// The size goes first: a list of a million violations helps nobody.
fn check_batch(length: usize, most: usize) -> Result<(), RouterError> {
    if (1..=most).contains(&length) {
        return Ok(());
    }
    let description = format!("has {length} entries, must have 1 to {most}");
    Err(RouterError::invalid("requests", description))
}
