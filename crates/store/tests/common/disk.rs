//! What an embedded store has on disk.

use std::path::{Path, PathBuf};

/// Name of the collection in these tests.
pub const NAME: &str = "docs";

/// Directories of the indexes of the collection [`NAME`] in a store.
pub fn index_dirs(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir.join("collections").join(NAME))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect()
}

/// All files below a directory, sorted.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path))
        } else {
            files.push(path)
        }
    }
    files.sort();
    files
}
