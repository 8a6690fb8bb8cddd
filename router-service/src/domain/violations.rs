//! What is wrong with a request, field by field.

use super::error::{RouterError, Violation};

/// Violations that are told one by one.
const MOST_REPORTED: usize = 12;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub struct Violations {
    prefix: String,
    found: Vec<Violation>,
}

impl Violations {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `prefix` before the names of the fields that are reported from now on.
    pub fn set_prefix(&mut self, prefix: impl Into<String>) {
        self.prefix = prefix.into();
    }

    /// Reports a field.
    pub fn add(&mut self, field: impl AsRef<str>, description: impl Into<String>) {
        self.found.push(Violation {
            field: format!("{}{}", self.prefix, field.as_ref()),
            description: description.into(),
        });
    }

    /// Reports a field unless `ok`.
    pub fn check(
        &mut self,
        ok: bool,
        field: impl AsRef<str>,
        description: impl FnOnce() -> String,
    ) {
        if !ok {
            self.add(field, description());
        }
    }

    /// Ok if nothing was reported.
    ///
    /// # Errors
    /// [`RouterError::Invalid`] with what was, as far as it fits into a status: that is a header of the
    /// reply, and clients refuse long ones together with the connection.
    pub fn finish(mut self) -> Result<(), RouterError> {
        let more = self.found.len().saturating_sub(MOST_REPORTED);
        if more > 0 {
            self.found.truncate(MOST_REPORTED);
            self.prefix.clear();
            self.add("…", format!("and {more} more"));
        }
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(RouterError::Invalid(self.found))
        }
    }
}
