//! Tests of the trainer with the real encoder, on small corpora made here.

#![allow(clippy::unwrap_used, reason = "tests")]

mod data;
mod small;
mod source;
mod store;
mod support;
mod synth;
mod text;
mod train;
mod worker;
