//! Bounds of every request.

use serde::{Deserialize, Serialize};

/// Largest sizes of what a request may carry. Lengths of texts are in bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest query text that is read; longer ones are refused, or cut here if `truncate` is set.
    pub query_bytes: usize,
    /// Queries in one batch.
    pub batch: usize,
    /// Collections named in one query.
    pub collections: usize,
    /// Conditions and document ids in one filter.
    pub filter_entries: usize,
    /// Longest text of a document.
    pub document_bytes: usize,
    /// Longest title of a document.
    pub title_bytes: usize,
    /// Metadata entries of a document.
    pub metadata_entries: usize,
    /// Largest gRPC message that is read, in bytes.
    pub message_bytes: usize,
    /// Largest gRPC message that is sent, in bytes.
    pub reply_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query_bytes: 64 << 10,
            batch: 64,
            collections: 32,
            filter_entries: 1000,
            document_bytes: 4 << 20,
            title_bytes: 4 << 10,
            metadata_entries: 64,
            message_bytes: 8 << 20,
            reply_bytes: 64 << 20,
        }
    }
}

/// Largest number of passages a query may ask for.
pub const MAX_TOP_K: u32 = 1000;
/// Number of passages returned if the query does not say.
pub const DEFAULT_TOP_K: u32 = 10;
/// Longest document id in bytes.
pub const MAX_DOCUMENT_ID_BYTES: usize = 1024;
/// Longest metadata key in bytes.
pub const MAX_METADATA_KEY_BYTES: usize = 256;
/// Longest metadata value in bytes.
pub const MAX_METADATA_VALUE_BYTES: usize = 1024;
/// Documents deleted by one call.
pub const MAX_DELETE: usize = 10_000;
