//! The seal of a shard that was closed properly: a digest over its files.
//!
//! A shard's files carry no checksums. A shard whose seal does not fit is not trusted; one without a
//! seal was cut off while open.

use std::io::Read;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::disk::sync_dir;
use crate::error::StoreError;

const SEAL_FILE: &str = "SEAL";

/// What is known of a closed shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// Its files are what they were when it was closed.
    Intact,
    /// It was not closed.
    Missing,
    /// Its files have changed since it was closed.
    Broken,
}

/// Seals the closed shard in `dir`.
pub(super) fn seal(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(SEAL_FILE);
    let digest = digest(dir)?;
    let mut file = fs_err::File::create(&path)?;
    std::io::Write::write_all(&mut file, digest.as_bytes())?;
    file.sync_all()?;
    sync_dir(dir)
}

/// Looks at the seal and takes it off, as the shard is about to be opened.
pub(super) fn take(dir: &Path) -> Result<Seal, StoreError> {
    let path = dir.join(SEAL_FILE);
    let stored = match fs_err::read(&path) {
        Ok(stored) => stored,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Seal::Missing),
        Err(error) => return Err(error.into()),
    };
    fs_err::remove_file(&path)?;
    sync_dir(dir)?;
    Ok(if digest(dir)?.as_bytes() == stored {
        Seal::Intact
    } else {
        Seal::Broken
    })
}

/// Digest over names, lengths and contents of all files but the seal.
fn digest(dir: &Path) -> Result<String, StoreError> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files(dir)? {
        let name = path
            .strip_prefix(dir)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        if name == SEAL_FILE {
            continue;
        }
        let mut file = fs_err::File::open(&path)?;
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(&file.metadata()?.len().to_le_bytes());
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
    }
    Ok(format!("{:032x}", hash.digest128()))
}

/// All files below `dir`, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs_err::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_once_and_only_for_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("sub")).unwrap();
        let file = dir.path().join("sub/data");
        fs_err::write(&file, b"abc").unwrap();
        assert_eq!(take(dir.path()).unwrap(), Seal::Missing);
        seal(dir.path()).unwrap();
        assert_eq!(take(dir.path()).unwrap(), Seal::Intact);
        assert_eq!(take(dir.path()).unwrap(), Seal::Missing);
        seal(dir.path()).unwrap();
        fs_err::write(&file, b"abd").unwrap();
        assert_eq!(take(dir.path()).unwrap(), Seal::Broken);
        seal(dir.path()).unwrap();
        fs_err::rename(&file, dir.path().join("sub/date")).unwrap();
        assert_eq!(take(dir.path()).unwrap(), Seal::Broken);
    }
}
