//! `ModelService`.

use moerag_proto::v1;
use moerag_proto::v1::model_service_server::ModelService;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::server::Services;
use super::to_proto;

#[tonic::async_trait]
impl ModelService for Services {
    async fn get_active_model(
        &self,
        request: Request<v1::GetActiveModelRequest>,
    ) -> Result<Response<v1::GetActiveModelResponse>, Status> {
        let context = Context::new("GetActiveModel", request.metadata());
        context
            .run(async { Ok(to_proto::active_model(self.engine()?.active_model())) })
            .await
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let context = Context::new("ListVersions", request.metadata());
        context
            .run(async {
                let list = self.engine()?.list_versions().await?;
                Ok(v1::ListVersionsResponse {
                    versions: list
                        .versions
                        .into_iter()
                        .map(to_proto::model_version)
                        .collect(),
                    current_version: list.current,
                    pinned: list.pinned,
                })
            })
            .await
    }

    async fn reload_model(
        &self,
        request: Request<v1::ReloadModelRequest>,
    ) -> Result<Response<v1::ReloadModelResponse>, Status> {
        let context = Context::new("ReloadModel", request.metadata());
        context
            .run(async {
                let (model, changed) = self.engine()?.reload_model().await?;
                let model = Some(to_proto::served_model(&model));
                Ok(v1::ReloadModelResponse { model, changed })
            })
            .await
    }

    async fn pin_version(
        &self,
        request: Request<v1::PinVersionRequest>,
    ) -> Result<Response<v1::PinVersionResponse>, Status> {
        let context = Context::new("PinVersion", request.metadata());
        context
            .run(async {
                let version = request.into_inner().version;
                let model = self.engine()?.pin_version(version).await?;
                Ok(v1::PinVersionResponse {
                    model: Some(to_proto::served_model(&model)),
                })
            })
            .await
    }

    async fn unpin_version(
        &self,
        request: Request<v1::UnpinVersionRequest>,
    ) -> Result<Response<v1::UnpinVersionResponse>, Status> {
        let context = Context::new("UnpinVersion", request.metadata());
        context
            .run(async {
                let model = self.engine()?.unpin_version().await?;
                Ok(v1::UnpinVersionResponse {
                    model: Some(to_proto::served_model(&model)),
                })
            })
            .await
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let context = Context::new("Rollback", request.metadata());
        context
            .run(async {
                let model = self
                    .engine()?
                    .rollback(request.into_inner().version)
                    .await?;
                Ok(v1::RollbackResponse {
                    model: Some(to_proto::served_model(&model)),
                })
            })
            .await
    }
}
