//! Errors in words.

use std::error::Error;

/// An error and its causes in a line, for whoever reads only the text. A cause that the text before it
/// names already is left out: some errors print their own.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    enum Failure {
        #[error("no space left")]
        Cause,
        #[error("writing a file")]
        Silent(#[source] Box<Failure>),
        #[error("publishing: {0}")]
        Spoken(#[source] Box<Failure>),
    }

    #[test]
    fn every_cause_is_named_once() {
        let silent = Failure::Silent(Box::new(Failure::Cause));
        assert_eq!(chain(&silent), "writing a file: no space left");
        let spoken = Failure::Spoken(Box::new(silent));
        assert_eq!(chain(&spoken), "publishing: writing a file: no space left");
        assert_eq!(chain(&Failure::Cause), "no space left");
    }
}
