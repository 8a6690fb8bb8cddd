//! Gives back what a database's file has and does not use.
//!
//! redb writes every change to free pages and doubles a file that has none, so that after a large ingest a
//! sixth of it is free. It is put in order before the collection is opened, because nobody may read
//! meanwhile; 3.5 s for a gigabyte, once, and again when it has grown by a tenth.

use std::path::Path;
use std::time::Instant;

use redb::Database;

use super::rows;
use super::snapshot::database_error;
use super::truth::{Opened, begin, read_meta};
use crate::error::StoreError;

/// Larger files would keep the service from starting for a quarter of a minute.
const LARGEST: u64 = 4 << 30;

/// Compacts the database in `path` if it takes at least `from` bytes and a tenth more than it did after
/// the last time.
///
/// # Errors
/// [`StoreError::Database`]: what the file holds is as it was.
pub(super) fn compact(path: &Path, open: &dyn Fn() -> Opened, from: u64) -> Result<(), StoreError> {
    let before = used(path);
    if !(from..=LARGEST).contains(&before) {
        return Ok(());
    }
    let fail = |error: redb::Error| database_error(path, error);
    let mut database = open().map_err(|error| fail(error.into()))?;
    let meta = |key| read_meta(path, &database, key);
    if meta(rows::META_FORMAT)?.as_deref() != Some(&rows::FORMAT.to_le_bytes()[..]) {
        return Ok(());
    }
    let last = meta(rows::META_COMPACTED)?
        .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
        .unwrap_or(0);
    if before <= last + last / 10 {
        return Ok(());
    }
    let started = Instant::now();
    database.compact().map_err(|error| fail(error.into()))?;
    let after = used(path);
    note(&database, after).map_err(fail)?;
    tracing::info!(
        path = %path.display(),
        before,
        after,
        seconds = started.elapsed().as_secs_f64(),
        "database compacted"
    );
    Ok(())
}

/// Bytes that a file takes on disk; 0 if it is not there. Not its length: redb doubles that when it needs a
/// page, and what was never written takes no room.
#[cfg(unix)]
fn used(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs_err::metadata(path).map_or(0, |file| file.blocks() * 512)
}

#[cfg(not(unix))]
fn used(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |file| file.len())
}

fn note(database: &Database, length: u64) -> Result<(), redb::Error> {
    let tx = begin(database)?;
    tx.open_table(rows::META)?
        .insert(rows::META_COMPACTED, &length.to_le_bytes()[..])?;
    Ok(tx.commit()?)
}
