//! Queries that wait at the same time go through the network in one batch.
//!
//! Nobody waits for company: a thread that becomes free takes its share of the queries that wait, so
//! that others which become free find some too. A GPU has one thread, which takes all of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::encoder::{Request, lost};
use crate::encoding::Encoding;
use crate::error::EncoderError;

/// Queries in one batch at most.
const MOST: usize = 64;

/// Where the encoding of one query goes.
type Reply = oneshot::Sender<Result<Encoding, EncoderError>>;

/// The queries that no thread has taken yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<VecDeque<(String, Reply)>>);

impl Waiting {
    /// Puts a query at the end. Whoever adds one sees to one call of [`serve`](Self::serve).
    pub(crate) fn add(&self, text: String) -> oneshot::Receiver<Result<Encoding, EncoderError>> {
        let (reply, answer) = oneshot::channel();
        self.queue().push_back((text, reply));
        answer
    }

    /// Encodes a share of the queries on this thread. There may be none left: then others took them.
    pub(crate) fn serve(&self, request: &Request) {
        let taken = self.take(request.threads());
        let texts: Vec<&str> = taken.iter().map(|(text, _)| &**text).collect();
        match request.run_here(&texts) {
            Ok(encodings) => {
                for ((_, reply), encoding) in taken.into_iter().zip(encodings) {
                    // Nobody is there when the request's future was dropped.
                    let _ = reply.send(Ok(encoding));
                }
            }
            // Whose fault it was shows when each is alone.
            Err(error) if taken.len() > 1 => {
                tracing::debug!(%error, "a batch of queries failed, they go on one by one");
                for (text, reply) in taken {
                    let _ = reply.send(alone(request, &text));
                }
            }
            Err(error) => {
                if let Some((_, reply)) = taken.into_iter().next() {
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    fn take(&self, threads: usize) -> Vec<(String, Reply)> {
        let mut queue = self.queue();
        queue.retain(|(_, reply)| !reply.is_closed());
        let share = queue.len().div_ceil(threads.max(1)).min(MOST);
        queue.drain(..share).collect()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(String, Reply)>> {
        // No code under this lock can leave the queue half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes one query on this thread.
pub(crate) fn alone(request: &Request, text: &str) -> Result<Encoding, EncoderError> {
    let encodings = request.run_here(&[text])?;
    encodings.into_iter().next().ok_or_else(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_a_share_and_nobody_who_left_is_served() {
        let waiting = Waiting::default();
        let mut answers: Vec<_> = (0..9).map(|i| waiting.add(i.to_string())).collect();
        drop(answers.remove(0));
        let texts = |taken: Vec<(String, Reply)>| -> Vec<String> {
            taken.into_iter().map(|(text, _)| text).collect()
        };
        assert_eq!(texts(waiting.take(3)), ["1", "2", "3"]);
        assert_eq!(texts(waiting.take(3)), ["4", "5"]);
        assert_eq!(texts(waiting.take(1)), ["6", "7", "8"]);
        assert!(waiting.take(1).is_empty());
    }
}
