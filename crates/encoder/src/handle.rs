//! The encoder behind a channel, for async services (DESIGN.md section 4, Threads).

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::encoder::{Encoder, Reply, lost};
use crate::encoding::{EncodeOptions, Encoding, TextKind};
use crate::error::EncoderError;
use crate::gather::{Gathered, Part, most_parts};
use crate::together::{Waiting, alone};

/// Requests of each kind in the queue or at work; more wait for their turn without memory of
/// their own in the encoder.
const MOST_QUERIES: usize = 256;
const MOST_BULK: usize = 8;

/// An async, cheaply cloned front of an [`Encoder`].
///
/// No work runs on the async threads, tokenizing included. Queries and passages wait in separate
/// bounded lanes. Dropping the future drops the batches that have not begun.
#[derive(Clone, Debug)]
pub struct EncoderHandle {
    encoder: Arc<Encoder>,
    queries: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    waiting: Arc<Waiting>,
}

impl Reply for mpsc::Sender<Part> {
    fn is_open(&self) -> bool {
        !self.is_closed()
    }

    fn send(&self, part: Part) {
        // Never full (see `most_parts`); closed when the request's future was dropped.
        let _ = self.try_send(part);
    }
}

impl EncoderHandle {
    /// Puts a front before `encoder`.
    pub fn new(encoder: Arc<Encoder>) -> Self {
        EncoderHandle {
            encoder,
            queries: Arc::new(Semaphore::new(MOST_QUERIES)),
            bulk: Arc::new(Semaphore::new(MOST_BULK)),
            waiting: Arc::default(),
        }
    }

    /// The encoder itself: space, dimension, tokenizer.
    pub fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// Encodes `texts` in their order. Waits while the lane is full.
    ///
    /// # Errors
    ///
    /// As [`Encoder::encode`]; [`EncoderError::Closed`] when the encoder shuts down.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        options: EncodeOptions<'static>,
    ) -> Result<Vec<Encoding>, EncoderError> {
        let lane = match options.kind {
            TextKind::Query => &self.queries,
            TextKind::Passage => &self.bulk,
        };
        let _permit = lane.acquire().await.map_err(|_| EncoderError::Closed)?;
        let mut gathered = Gathered::new(texts.len());
        let (sender, mut receiver) = mpsc::channel(most_parts(texts.len(), &options));
        self.encoder.request(&options).queue(texts, sender)?;
        while !gathered.is_complete() {
            let part = receiver.recv().await.ok_or_else(lost)?;
            let done = gathered.add(part?);
            if let Some(progress) = options.progress {
                progress(done);
            }
        }
        Ok(gathered.into_encodings())
    }

    /// Encodes one query with its token states, together with others that wait at the same time; in 8 bits
    /// on this thread, if it belongs to a rayon pool, which is a place for such work.
    ///
    /// # Errors
    ///
    /// As [`EncoderHandle::encode`].
    pub async fn encode_query(&self, text: &str) -> Result<Encoding, EncoderError> {
        let permit = self.queries.acquire().await;
        let _permit = permit.map_err(|_| EncoderError::Closed)?;
        let request = self.encoder.request(&EncodeOptions::query());
        if request.runs_anywhere() && rayon::current_thread_index().is_some() {
            return alone(&request, text);
        }
        let answer = self.waiting.add(text.to_owned());
        let waiting = Arc::clone(&self.waiting);
        request.soon(move |request| waiting.serve(request))?;
        answer.await.map_err(|_| lost())?
    }
}
