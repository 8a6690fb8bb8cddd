//! A router in this process.

use std::path::Path;
use std::time::Duration;

use moerag_checkpoint::CheckpointConfig;
use moerag_proto::v1;
use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::ingest_request::Message;
use moerag_proto::v1::model_service_client::ModelServiceClient;
use moerag_proto::v1::router_service_client::RouterServiceClient;
use moerag_runtime::Shutdown;
use router_service::config::RouterConfig;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Longest that a router may take to serve, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running router.
pub(crate) struct Sandbox {
    pub(crate) dir: TempDir,
    pub(crate) channel: Channel,
    pub(crate) router: RouterServiceClient<Channel>,
    pub(crate) corpus: CorpusServiceClient<Channel>,
    pub(crate) models: ModelServiceClient<Channel>,
    shutdown: Shutdown,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Sandbox {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut RouterConfig)) -> Self {
        Self::start_in(TempDir::new().unwrap(), change).await
    }

    pub(crate) async fn start_in(dir: TempDir, change: impl FnOnce(&mut RouterConfig)) -> Self {
        let mut config = RouterConfig {
            data_dir: Some(dir.path().to_owned()),
            // Tests reload by hand.
            checkpoints: CheckpointConfig {
                poll_interval_millis: 3_600_000,
                ..Default::default()
            },
            health_interval_millis: 20,
            ..RouterConfig::default()
        };
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(router_service::run_on(listener, config, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        let sandbox = Self {
            dir,
            router: RouterServiceClient::new(channel.clone()),
            corpus: CorpusServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20),
            models: ModelServiceClient::new(channel.clone()),
            channel,
            shutdown,
            server,
        };
        sandbox.wait_for(ServingStatus::Serving).await;
        sandbox
    }

    pub(crate) fn checkpoints(&self) -> std::path::PathBuf {
        self.dir.path().join("checkpoints")
    }

    pub(crate) async fn health(&self) -> ServingStatus {
        let request = HealthCheckRequest {
            service: String::new(),
        };
        let reply = HealthClient::new(self.channel.clone())
            .check(request)
            .await
            .unwrap();
        reply.into_inner().status()
    }

    pub(crate) async fn wait_for(&self, status: ServingStatus) {
        let waiting = async {
            while self.health().await != status {
                assert!(!self.server.is_finished(), "the router ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("health did not change in time");
    }

    /// Stops the router and gives its directory back.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.begin();
        drop((self.router, self.corpus, self.models, self.channel));
        tokio::time::timeout(PATIENCE, self.server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        self.dir
    }

    /// Sends documents and collects all outcomes.
    pub(crate) async fn ingest(
        &mut self,
        collection: &str,
        documents: Vec<v1::Document>,
    ) -> Vec<v1::DocumentOutcome> {
        let mut messages = vec![start(collection)];
        messages.extend(documents.into_iter().map(Message::Document));
        let (outcomes, end) = self.send(messages).await;
        end.unwrap();
        outcomes
    }

    /// Sends messages as they are; gives the outcomes and how the stream ended.
    pub(crate) async fn send(
        &mut self,
        messages: Vec<Message>,
    ) -> (
        Vec<v1::DocumentOutcome>,
        Result<Option<v1::IngestProgress>, Status>,
    ) {
        let requests = messages
            .into_iter()
            .map(|message| v1::IngestRequest {
                message: Some(message),
            })
            .collect::<Vec<_>>();
        let mut responses = match self.corpus.ingest(tokio_stream::iter(requests)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let (mut outcomes, mut progress) = (Vec::new(), None);
        loop {
            match responses.message().await {
                Ok(Some(response)) => {
                    outcomes.extend(response.outcomes);
                    progress = response.progress;
                }
                Ok(None) => return (outcomes, Ok(progress)),
                Err(status) => return (outcomes, Err(status)),
            }
        }
    }

    pub(crate) async fn ask(&mut self, query: &str) -> v1::AttendResponse {
        self.router
            .attend(question(query))
            .await
            .unwrap()
            .into_inner()
    }
}

pub(crate) fn start(collection: &str) -> Message {
    Message::Start(v1::IngestStart {
        collection: collection.into(),
        language: String::new(),
    })
}

pub(crate) fn question(query: &str) -> v1::AttendRequest {
    v1::AttendRequest {
        query: query.into(),
        ..Default::default()
    }
}

pub(crate) fn document(id: &str, title: &str, text: &str) -> v1::Document {
    v1::Document {
        id: id.into(),
        title: title.into(),
        text: text.into(),
        ..Default::default()
    }
}

/// Four short documents on different matters.
pub(crate) fn library() -> Vec<v1::Document> {
    let mut bees = document(
        "bees.md",
        "Bees",
        "# Honey\n\nHoney bees store honey in wax combs. A colony eats it in winter, when nothing \
         flowers.\n\n# Dance\n\nA forager that found food dances on the comb. The angle of its run \
         tells the direction of the flowers, and its length tells the distance.",
    );
    bees.format = v1::DocumentFormat::Markdown.into();
    bees.metadata = [("topic".to_owned(), "nature".to_owned())].into();
    let mut tides = document(
        "tides.txt",
        "Tides",
        "The tides are raised by the moon and the sun. At new and full moon both pull along one \
         line, and the spring tides are the highest of the month.",
    );
    tides.metadata = [("topic".to_owned(), "nature".to_owned())].into();
    vec![
        bees,
        tides,
        document(
            "rust.txt",
            "Ownership",
            "Every value in Rust has one owner. When the owner goes out of scope, the value is \
             dropped. A reference borrows a value without taking it over.",
        ),
        document(
            "bread.txt",
            "Sourdough",
            "A sourdough starter is flour and water in which wild yeast lives. Feed it once a day. \
             Bread rises because the yeast makes gas from sugar.",
        ),
    ]
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs_err::copy(entry.path(), target).unwrap();
        }
    }
}
