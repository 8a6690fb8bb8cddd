//! A write of `CURRENT.json` that was applied, but whose reply was lost: the client sends it again, and
//! the condition is no longer met.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fmt;
use std::sync::Arc;

use common::request;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use moerag_checkpoint::{CURRENT_FILE, CheckpointStore, Expected, Target};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A store in memory whose writes of `CURRENT.json` always lose their reply.
#[derive(Debug)]
struct Forgetful(InMemory);

impl fmt::Display for Forgetful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forgetful")
    }
}

// What `async_trait` makes of async functions, without the dependency.
impl ObjectStore for Forgetful {
    fn put_opts<'a, 'b, 'f>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> BoxFuture<'f, Result<PutResult>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        async move {
            let first = self.0.put_opts(location, payload, opts).await?;
            if location.filename() != Some(CURRENT_FILE) {
                return Ok(first);
            }
            Err(Error::Precondition {
                path: location.to_string(),
                source: "the second attempt meets the first".into(),
            })
        }
        .boxed()
    }

    fn put_multipart_opts<'a, 'b, 'f>(
        &'a self,
        location: &'b Path,
        opts: PutMultipartOptions,
    ) -> BoxFuture<'f, Result<Box<dyn MultipartUpload>>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.0.put_multipart_opts(location, opts)
    }

    fn get_opts<'a, 'b, 'f>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> BoxFuture<'f, Result<GetResult>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.0.get_opts(location, options)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'f>(
        &'a self,
        prefix: Option<&'b Path>,
    ) -> BoxFuture<'f, Result<ListResult>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.0.list_with_delimiter(prefix)
    }

    fn copy_opts<'a, 'b, 'c, 'f>(
        &'a self,
        from: &'b Path,
        to: &'c Path,
        options: CopyOptions,
    ) -> BoxFuture<'f, Result<()>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.0.copy_opts(from, to, options)
    }
}

#[tokio::test]
async fn what_was_written_is_not_withdrawn() {
    let objects = Arc::new(Forgetful(InMemory::new()));
    let store = CheckpointStore::with_object_store(objects, Path::default());
    for version in 1..=2 {
        let outcome = store.publish(request(&[("docs", version)])).await.unwrap();
        assert!(outcome.promoted);
        assert_eq!(outcome.manifest.version, version);
        let current = store.current().await.unwrap().unwrap();
        assert_eq!(current, outcome.current);
        store.load_target(&Target::from(&current)).await.unwrap();
    }
    let pinned = store.pin(1, &Expected::default()).await.unwrap();
    assert_eq!((pinned.version, pinned.generation), (1, 3));
    assert_eq!(store.current().await.unwrap(), Some(pinned));
}
