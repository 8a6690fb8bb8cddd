//! Writes of a `file://` store: staged directory, fsync, rename, fsync of the parent, all under a
//! lock file (`object_store`'s local backend has no conditional update).

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use std::io::Write;

use crate::error::CheckpointError;
use crate::version::{STAGED_PREFIX, VERSIONS, version_name};

/// The lock file; it stays empty and in place.
const LOCK_FILE: &str = "LOCK";
/// How long a writer waits for another one.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Makes the directory and gives its absolute path.
pub(crate) fn prepare(root: &Path) -> Result<PathBuf, CheckpointError> {
    let versions = root.join(VERSIONS);
    fs::create_dir_all(&versions).map_err(CheckpointError::io("creating", versions))?;
    fs::canonicalize(root).map_err(CheckpointError::io("opening", root))
}

/// Runs file work on a blocking thread.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, CheckpointError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, CheckpointError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CheckpointError::Refused(format!("a file operation stopped: {error}")))?
}

/// The exclusive right to write; given up when dropped, or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Waits for the lock without occupying a thread.
    pub(crate) async fn acquire(root: &Path) -> Result<Self, CheckpointError> {
        let path = root.join(LOCK_FILE);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(CheckpointError::io("opening", &path))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.file().try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(source)) => {
                    return Err(CheckpointError::Io {
                        action: "locking",
                        path,
                        source,
                    });
                }
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    let reason = format!("{} is locked by another process", path.display());
                    return Err(CheckpointError::Busy(reason));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            }
        }
    }
}

/// Removes staged directories. With the lock held they can only be what a crash left behind.
pub(crate) fn clean_staged(root: &Path) -> Result<usize, CheckpointError> {
    let versions = root.join(VERSIONS);
    let listing = CheckpointError::io("listing", &versions);
    let mut removed = 0;
    for entry in fs::read_dir(&versions).map_err(listing)? {
        let entry = entry.map_err(CheckpointError::io("listing", &versions))?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(STAGED_PREFIX)
        {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(CheckpointError::io("removing", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Writes a whole version: after this returns it is on the disk, before it is not there at all.
pub(crate) fn write_version(
    root: &Path,
    version: u64,
    files: &[(&str, Vec<u8>)],
) -> Result<(), CheckpointError> {
    let versions = root.join(VERSIONS);
    let staged = tempfile::Builder::new()
        .prefix(STAGED_PREFIX)
        .tempdir_in(&versions)
        .map_err(CheckpointError::io("staging in", &versions))?;
    for (name, bytes) in files {
        write_synced(&staged.path().join(name), bytes)?;
    }
    sync_directory(staged.path())?;
    let target = versions.join(version_name(version));
    fs::rename(staged.path(), &target).map_err(CheckpointError::io("renaming to", &target))?;
    // Renamed away: there is nothing left for the guard to remove.
    let _ = staged.keep();
    make_readable(&target)?;
    sync_directory(&versions)
}

/// Takes a version out of sight in one step, then deletes it.
pub(crate) fn remove_version(root: &Path, version: u64) -> Result<(), CheckpointError> {
    let versions = root.join(VERSIONS);
    let from = versions.join(version_name(version));
    let to = versions.join(format!("{STAGED_PREFIX}gone-{}", version_name(version)));
    fs::rename(&from, &to).map_err(CheckpointError::io("removing", &from))?;
    sync_directory(&versions)?;
    fs::remove_dir_all(&to).map_err(CheckpointError::io("removing", &to))
}

/// Replaces a file at the root: temporary file beside it, fsync, rename, fsync of the directory.
pub(crate) fn replace(root: &Path, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
    let target = root.join(name);
    let failed = |action| CheckpointError::io(action, &target);
    let mut file = tempfile::Builder::new()
        .prefix(".current-")
        .tempfile_in(root)
        .map_err(failed("staging"))?;
    file.write_all(bytes).map_err(failed("writing"))?;
    make_readable(file.path())?;
    file.as_file().sync_all().map_err(failed("syncing"))?;
    file.persist(&target)
        .map_err(|error| failed("renaming to")(error.error))?;
    sync_directory(root)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = fs::File::create_new(path).map_err(CheckpointError::io("creating", path))?;
    file.write_all(bytes)
        .map_err(CheckpointError::io("writing", path))?;
    file.sync_all()
        .map_err(CheckpointError::io("syncing", path))
}

fn sync_directory(path: &Path) -> Result<(), CheckpointError> {
    let directory = fs::File::open(path).map_err(CheckpointError::io("opening", path))?;
    directory
        .sync_all()
        .map_err(CheckpointError::io("syncing", path))
}

/// Temporary files and directories are the owner's alone; a router may run as another user.
fn make_readable(path: &Path) -> Result<(), CheckpointError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(CheckpointError::io("setting the permissions of", path))?;
    }
    Ok(())
}
