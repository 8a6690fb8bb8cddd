//! The data directory: who may use it, how much room it has, and how the shard's log stays small.

use std::path::{Path, PathBuf};

use crate::error::StoreError;

const LOCK_FILE: &str = "LOCK";

/// Held for as long as this process uses a data directory.
pub(super) struct DirLock {
    // The lock goes when the file is closed, however the process ends.
    _file: fs_err::File,
}

impl DirLock {
    /// Takes the lock of `dir`, making the directory if need be.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process (or another store in this one) has it.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        fs_err::create_dir_all(dir)?;
        let file = fs_err::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(dir.join(LOCK_FILE))?;
        match file.file().try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked {
                dir: dir.to_owned(),
            }),
            Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// Refuses to take in `incoming` bytes unless `reserve` bytes stay free on the file system of `dir`.
///
/// The shard writes through memory maps, where a full disk is a signal and not an error; so room is
/// looked for before anything is written.
///
/// # Errors
/// [`StoreError::DiskFull`].
pub(super) fn require_room(dir: &Path, reserve: u64, incoming: u64) -> Result<(), StoreError> {
    let needed = reserve.saturating_add(incoming);
    let free = free_bytes(dir)?;
    if free < needed {
        return Err(StoreError::DiskFull {
            dir: dir.to_owned(),
            free,
            needed,
        });
    }
    Ok(())
}

/// Bytes that this user may still write on the file system of `dir`.
pub(super) fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(dir).map_err(std::io::Error::from)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes entries of `dir` (created, renamed, removed) survive a power loss.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    Ok(fs_err::File::open(dir)?.sync_all()?)
}

/// Removes closed segments of a shard's log, all but the newest.
///
/// qdrant-edge 0.7.2 writes this log and never reads or truncates it. The newest closed segment carries
/// the numbering on. An open shard keeps the removed files mapped: their blocks are given back by
/// punching them out, so that the disk is free at once and not at the next start.
pub(super) fn prune_wal(wal: &Path) -> Result<(), StoreError> {
    let mut closed: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs_err::read_dir(wal)? {
        let entry = entry?;
        let name = entry.file_name();
        let start = name
            .to_str()
            .and_then(|name| name.strip_prefix("closed-")?.parse().ok());
        closed.extend(start.map(|start: u64| (start, entry.path())));
    }
    closed.sort_unstable();
    closed.pop();
    for (_, path) in closed {
        let file = fs_err::OpenOptions::new().write(true).open(&path)?;
        fs_err::remove_file(&path)?;
        punch(file.file());
    }
    Ok(())
}

/// Gives the blocks of an unlinked file back. Where the file system cannot, they go with its last user.
#[cfg(target_os = "linux")]
fn punch(file: &std::fs::File) {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let punched = file
        .metadata()
        .and_then(|metadata| Ok(fallocate(file, flags, 0, metadata.len().max(1))?));
    if let Err(error) = punched {
        tracing::debug!(%error, "cannot punch a removed log segment");
    }
}

#[cfg(not(target_os = "linux"))]
fn punch(_file: &std::fs::File) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        assert!(matches!(
            DirLock::take(dir.path()),
            Err(StoreError::Locked { .. })
        ));
        drop(lock);
        assert!(DirLock::take(dir.path()).is_ok());
    }

    #[test]
    fn room_is_looked_for_before_writing() {
        let dir = tempfile::tempdir().unwrap();
        let free = free_bytes(dir.path()).unwrap();
        assert!(free > 0);
        assert!(require_room(dir.path(), 1, 1).is_ok());
        let error = require_room(dir.path(), free, u64::MAX).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::DiskFull {
                    needed: u64::MAX,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn the_newest_closed_segment_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["closed-0", "closed-9", "closed-10", "open-3", "first-index"] {
            fs_err::write(dir.path().join(name), vec![1; 10_000]).unwrap();
        }
        prune_wal(dir.path()).unwrap();
        let mut names: Vec<_> = fs_err::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["closed-10", "first-index", "open-3"]);
    }
}
