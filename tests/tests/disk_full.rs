//! Too little disk: an ingest into a 512 MiB tmpfs is refused in time, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use moerag_proto::v1::corpus_service_client::CorpusServiceClient;
use moerag_proto::v1::{Document, DocumentStatus, StreamPassagesRequest};
use moerag_tests::{Sandbox, connect, ingest, texts, wait_until_serving};

/// A mounted tmpfs, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf) -> Option<Self> {
        fs_err::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"])
            .arg(&at)
            .output();
        mounted
            .is_ok_and(|o| o.status.success())
            .then_some(Self(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_documents_and_loses_none() {
    let sandbox = Sandbox::new().unwrap();
    let Some(tmpfs) = Tmpfs::mount(sandbox.data()) else {
        println!("SKIPPED: a full disk: mounting a tmpfs needs root");
        return;
    };
    let (mut process, url) = sandbox.router(&[]).unwrap();
    wait_until_serving(&url).await.unwrap();
    let channel = connect(&url).await.unwrap();
    let before = ingest(&channel, "notes", texts::documents(10))
        .await
        .unwrap();
    assert!(
        before
            .iter()
            .all(|o| o.status == DocumentStatus::Written as i32),
        "{before:?}"
    );

    // Someone else fills the disk; the store must notice before it writes.
    let free = free_bytes(&tmpfs.0);
    fs_err::write(
        tmpfs.0.join("ballast"),
        vec![1u8; usize::try_from(free - (8 << 20)).unwrap()],
    )
    .unwrap();
    let more: Vec<Document> = texts::documents(30).split_off(10);
    let refused = ingest(&channel, "notes", more).await;
    println!("on a full disk: {refused:?}");
    let reason = match &refused {
        Ok(outcomes) => {
            assert!(
                outcomes
                    .iter()
                    .all(|o| o.status != DocumentStatus::Written as i32),
                "{outcomes:?}"
            );
            outcomes
                .iter()
                .map(|o| o.reason.clone())
                .collect::<String>()
        }
        Err(error) => error.to_string(),
    };
    assert!(
        reason.contains("free") || reason.contains("disk"),
        "{reason}"
    );
    assert!(process.exited().unwrap().is_none(), "{}", process.log());

    // With space again the same documents go in, and after a kill everything is there.
    fs_err::remove_file(tmpfs.0.join("ballast")).unwrap();
    let after = ingest(&channel, "notes", texts::documents(30))
        .await
        .unwrap();
    assert!(
        after
            .iter()
            .all(|o| o.status != DocumentStatus::Refused as i32),
        "{after:?}"
    );
    process.kill().unwrap();
    let (_process, url) = sandbox.router(&[]).unwrap();
    wait_until_serving(&url).await.unwrap();
    let request = StreamPassagesRequest {
        collection: "notes".to_owned(),
        ..StreamPassagesRequest::default()
    };
    let mut stream = CorpusServiceClient::new(connect(&url).await.unwrap())
        .stream_passages(request)
        .await
        .unwrap()
        .into_inner();
    let mut documents = BTreeSet::new();
    while let Some(page) = stream.message().await.unwrap() {
        documents.extend(page.passages.into_iter().map(|p| p.document_id));
    }
    assert_eq!(documents.len(), 30);
}

/// Free bytes as `df` says.
fn free_bytes(path: &std::path::Path) -> u64 {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().nth(1).unwrap().trim().parse().unwrap()
}
