//! Compiles the protobuf files without protoc, and keeps their descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/store/migrations");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files([
        "signkeep/v1/error_reason.proto",
        "signkeep/v1/key_service.proto",
        "signkeep/v1/signing_service.proto",
    ])?;
    fs::write(out.join("signkeep.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".signkeep.v1")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
