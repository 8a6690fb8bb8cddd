//! What can go wrong in this crate: only data that comes from outside.

use thiserror::Error;

/// Errors of `moerag-retrieve`.
#[derive(Debug, Error)]
pub enum RetrieveError {
    /// Stored corpus statistics were written by another version of the code.
    #[error(
        "corpus statistics have format {found}, this build reads {expected}; rebuild the statistics of the collection"
    )]
    StatsVersion {
        /// Format found in the bytes.
        found: u8,
        /// Format this build writes and reads.
        expected: u8,
    },
    /// Stored corpus statistics cannot be decoded.
    #[error("corpus statistics are damaged, rebuild the statistics of the collection: {0}")]
    StatsDecode(#[source] postcard::Error),
    /// Corpus statistics cannot be encoded.
    #[error("corpus statistics cannot be encoded: {0}")]
    StatsEncode(#[source] postcard::Error),
    /// A key block does not fit the key specification of its collection.
    #[error(
        "key block does not fit {spec}: {field} has {found} entries, {expected} expected; ingest the document again"
    )]
    KeyBlockShape {
        /// [`crate::KeySpec::id`] of the collection.
        spec: String,
        /// The field at fault.
        field: &'static str,
        /// Entries found.
        found: usize,
        /// Entries expected.
        expected: usize,
    },
    /// A language code that the analyzer does not know.
    #[error("language `{0}` is unknown; use a code such as en, de, fr, or none")]
    UnknownLanguage(String),
}
