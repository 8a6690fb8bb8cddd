//! The router as its clients see it: a real server on port 0, the embedded store in a temporary
//! directory, the real encoder (`MOERAG_ENCODER_DIR`, or where `moerag model fetch` puts it).

#![allow(clippy::unwrap_used, clippy::panic)]

mod bad_input;
mod ingest;
mod models;
mod sandbox;
mod serve;
mod spelling;
#[path = "../../../crates/encoder/tests/tiny/mod.rs"]
mod tiny;
