//! Compiles the protos without a system protoc.

use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 5] = [
    "moerag/v1/common.proto",
    "moerag/v1/corpus.proto",
    "moerag/v1/model.proto",
    "moerag/v1/router.proto",
    "moerag/v1/trainer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("moerag_descriptor.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
