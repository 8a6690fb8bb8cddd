//! The invariants of ARCHITECTURE.md that a machine can check: who may depend on what, where names
//! may appear, and the shape of the tree.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// Every tracked-looking Rust file below `dir`.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

/// Workspace packages that name `dependency` in their own manifest (not through others).
fn direct_dependents(dependency: &str) -> BTreeSet<String> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    metadata
        .packages
        .iter()
        .filter(|package| {
            package
                .dependencies
                .iter()
                .any(|d| d.name == dependency && d.kind != DependencyKind::Build)
        })
        .map(|package| package.name.to_string())
        .filter(|name| name != "moerag-features")
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

#[test]
fn only_the_numeric_crates_depend_on_burn() {
    let allowed = names(&[
        "moerag-model",
        "moerag-encoder",
        "moerag-checkpoint",
        "trainer-worker",
    ]);
    let found = direct_dependents("burn");
    assert!(
        found.is_subset(&allowed),
        "burn is named by {found:?}, allowed is {allowed:?}"
    );
    assert!(
        found.contains("moerag-model"),
        "the check itself is blind: {found:?}"
    );
}

#[test]
fn the_trainer_names_burn_only_below_train() {
    for file in rust_files(&root().join("trainer-worker/src")) {
        let text = fs_err::read_to_string(&file).unwrap();
        let below_train = file.components().any(|c| c.as_os_str() == "train");
        assert!(
            below_train || !text.contains("burn::"),
            "{} names a burn type outside train/",
            file.display()
        );
    }
}

#[test]
fn only_the_store_talks_to_qdrant_and_redb() {
    for dependency in ["qdrant-client", "qdrant-edge", "redb"] {
        let found = direct_dependents(dependency);
        let allowed = names(&["moerag-store"]);
        assert_eq!(found, allowed, "{dependency} is named by {found:?}");
    }
}

#[test]
fn retrieve_is_plain_f32_without_io() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let retrieve = metadata
        .packages
        .iter()
        .find(|p| *p.name == "moerag-retrieve")
        .unwrap();
    for banned in [
        "burn",
        "tokio",
        "tonic",
        "moerag-store",
        "moerag-proto",
        "fs-err",
    ] {
        assert!(
            !retrieve
                .dependencies
                .iter()
                .any(|d| d.name == banned && d.kind == DependencyKind::Normal),
            "moerag-retrieve must not depend on {banned}"
        );
    }
}

#[test]
fn proto_types_stay_in_transport_and_domain_does_no_io() {
    for service in ["router-service", "trainer-worker"] {
        for file in rust_files(&root().join(service).join("src")) {
            let text = fs_err::read_to_string(&file).unwrap();
            let path = file.display().to_string();
            let transport = path.contains("/transport/") || path.ends_with("/transport.rs");
            // The trainer's source of passages is a gRPC client of the router: a transport too.
            assert!(
                transport || !text.contains("moerag_proto"),
                "{path} names moerag_proto outside transport/"
            );
            if path.contains("/domain/") {
                for io in [
                    "tokio::",
                    "std::fs",
                    "fs_err",
                    "std::net",
                    "tonic::",
                    "PassageStore",
                ] {
                    assert!(!text.contains(io), "{path} is domain code and names {io}");
                }
            }
        }
    }
}

#[test]
fn only_publish_writes_the_checkpoint_store() {
    // What it takes to write, and the files that may: publish and the store put and delete objects and
    // call `local`, which alone touches the files of a `file://` store.
    let rules: [(&[&str], BTreeSet<String>); 2] = [
        (
            &[".put", ".delete(", ".copy", ".rename", "local::"],
            names(&["publish.rs", "store.rs"]),
        ),
        (
            &["fs::", "fs_err", "std::fs", "tempfile"],
            names(&["local.rs"]),
        ),
    ];
    for (writing, allowed) in rules {
        let mut found = BTreeSet::new();
        for file in rust_files(&root().join("crates/checkpoint/src")) {
            let text = fs_err::read_to_string(&file).unwrap();
            let production = text.split("#[cfg(test)]").next().unwrap();
            if writing.iter().any(|call| production.contains(call)) {
                found.insert(file.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        // Equal, so that neither a stray writer nor a stale entry goes unnoticed.
        assert_eq!(found, allowed, "these name one of {writing:?}");
    }
    for crate_dir in [
        "router-service",
        "trainer-worker",
        "crates/cli",
        "crates/eval",
    ] {
        for file in rust_files(&root().join(crate_dir).join("src")) {
            let text = fs_err::read_to_string(&file).unwrap();
            assert!(
                !text.contains("object_store"),
                "{} reaches for object_store: go through moerag-checkpoint",
                file.display()
            );
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for file in rust_files(&root()) {
        let text = fs_err::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(
            lines <= 500,
            "{} has {lines} lines; 500 is the limit",
            file.display()
        );
        assert!(
            text.trim_start().starts_with("//!") || file.ends_with("build.rs"),
            "{} has no //! on top",
            file.display()
        );
    }
}

#[test]
fn mains_are_thin() {
    for main in ["router-service/src/main.rs", "trainer-worker/src/main.rs"] {
        let lines = fs_err::read_to_string(root().join(main))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= 60, "{main} has {lines} lines; 60 is the limit");
    }
}
