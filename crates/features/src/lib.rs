//! Pins one feature set for the whole workspace; holds no code.
//!
//! Cargo unifies features over the packages of one command, so `cargo test -p moerag-store` and
//! `cargo build --workspace` would build tokio, serde and with them burn and qdrant-edge twice.
//! Every crate depends on this one, which names every third-party dependency once: any `-p`
//! selection then resolves to the same features and shares the same artefacts.
