//! Tests of the trainer with the real encoder, on small corpora made here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod data;
mod small;
mod source;
mod store;
mod stub;
mod support;
mod synth;
mod teach;
mod text;
#[path = "../../../crates/encoder/tests/tiny/mod.rs"]
mod tiny;
mod train;
mod trouble;
mod worker;
