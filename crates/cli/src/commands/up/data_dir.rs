//! The directory one `moerag up` owns: a lock, logs, and a note of what runs.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use moerag_runtime::default_data_dir;
use serde::{Deserialize, Serialize};

use crate::failure::Usage;

/// What runs, for the message to whoever comes second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Running {
    /// Process id of `moerag up`.
    pub(super) pid: i32,
    /// Process id and address of the router.
    pub(super) router: (i32, SocketAddr),
    /// Process id and address of the trainer.
    pub(super) trainer: (i32, SocketAddr),
}

/// A data directory, locked for this process.
pub(super) struct DataDir {
    path: PathBuf,
    /// The lock goes when the file is closed, also after a kill.
    lock: File,
    /// Whether the note about what runs is ours: one about left-overs must outlive a refusal.
    noted: Cell<bool>,
}

/// Where the services keep their data, too, unless they are told.
pub(super) fn default_path() -> Result<PathBuf> {
    default_data_dir().ok_or_else(|| {
        Usage("no HOME is set; name a directory with --data-dir or MOERAG_DATA_DIR".into()).into()
    })
}

impl DataDir {
    /// Makes the directory and takes its lock.
    ///
    /// # Errors
    /// Another `moerag up` holds it, or a service of a killed one still runs: both are named with
    /// their process id.
    pub(super) fn open(path: &Path) -> Result<DataDir> {
        fs_err::create_dir_all(path.join("logs"))?;
        let path = fs_err::canonicalize(path)?;
        let lock_path = path.join("up.lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("cannot open {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).ok();
                let who = pid.trim();
                let who = if who.is_empty() {
                    String::new()
                } else {
                    format!(" (process {who})")
                };
                return Err(Usage(format!(
                    "another `moerag up`{who} uses {}; stop it, or give this one a --data-dir and addresses of its own",
                    path.display()
                ))
                .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)?;
        lock.write_all(std::process::id().to_string().as_bytes())?;
        let dir = DataDir {
            path,
            lock,
            noted: Cell::new(false),
        };
        dir.refuse_left_overs()?;
        Ok(dir)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A fresh log; the one of the last run is kept as `NAME.log.1`.
    pub(super) fn log(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path.join("logs").join(format!("{name}.log"));
        if path.exists() {
            fs_err::rename(&path, path.with_extension("log.1"))?;
        }
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        Ok((
            path.clone(),
            file.with_context(|| format!("cannot write {}", path.display()))?,
        ))
    }

    /// Notes what runs.
    pub(super) fn note(&self, running: &Running) -> Result<()> {
        fs_err::write(self.note_path(), serde_json::to_vec_pretty(running)?)?;
        self.noted.set(true);
        Ok(())
    }

    fn note_path(&self) -> PathBuf {
        self.path.join("up.json")
    }

    /// If a `moerag up` was killed hard, its services may live on and hold the store.
    fn refuse_left_overs(&self) -> Result<()> {
        let Ok(text) = fs_err::read(self.note_path()) else {
            return Ok(());
        };
        let Ok(old) = serde_json::from_slice::<Running>(&text) else {
            return Ok(());
        };
        for (name, (pid, address)) in [
            ("router-service", old.router),
            ("trainer-worker", old.trainer),
        ] {
            if runs(pid, name) {
                return Err(Usage(format!(
                    "an earlier `moerag up` was killed and its {name} still runs at {address}; stop it with `kill {pid}`"
                ))
                .into());
            }
        }
        Ok(())
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.noted.get() {
            // If it stays, whoever comes next reads about processes that are gone and copes.
            fs_err::remove_file(self.note_path()).ok();
        }
        self.lock.set_len(0).ok();
    }
}

/// Whether the process runs that executable. Where `/proc` is missing this is not known: false.
fn runs(pid: i32, name: &str) -> bool {
    fs_err::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
        exe.file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(name))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_second_one_is_kept_out_and_told_who_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains(&std::process::id().to_string()) && error.contains("--data-dir"),
            "{error}"
        );
        drop(first);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn the_last_log_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let (path, mut file) = data.log("router").unwrap();
        file.write_all(b"one").unwrap();
        data.log("router").unwrap();
        assert_eq!(
            fs_err::read_to_string(path.with_extension("log.1")).unwrap(),
            "one"
        );
        assert_eq!(fs_err::read_to_string(path).unwrap(), "");
    }

    #[test]
    fn a_note_about_left_overs_outlives_the_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("up.json");
        fs_err::write(&note, "{}").unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        assert!(note.exists());
    }

    #[test]
    fn processes_that_are_gone_do_not_block_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        // A process id beyond the kernel's limit never runs.
        let gone = Running {
            pid: i32::MAX,
            router: (i32::MAX, address),
            trainer: (i32::MAX, address),
        };
        fs_err::write(
            dir.path().join("up.json"),
            serde_json::to_vec(&gone).unwrap(),
        )
        .unwrap();
        assert!(DataDir::open(dir.path()).is_ok());
    }
}
