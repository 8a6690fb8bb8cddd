//! The encoder as the rest of the workspace sees it.

use std::path::Path;
use std::sync::{Arc, mpsc};

use crate::batch::{self, Item};
use crate::device::DeviceKind;
use crate::encoding::{EncodeOptions, Encoding, TextKind};
use crate::error::EncoderError;
use crate::gather::{Gathered, Part, most_parts};
use crate::network::{Network, Wanted};
use crate::precision::Precision;
use crate::space::EmbeddingSpaceId;
use crate::tokenize::TextTokenizer;
use crate::workers::{Lane, Submitter, Workers};

/// Requests of at most this many tokens are answered in the interactive lane: about 60 queries.
const INTERACTIVE_TOKENS: usize = 1024;

/// A frozen text encoder on one device, with its threads. Share it through an `Arc`.
///
/// Deterministic on CPU: the same text gives the same vector in every batch up to 1e-5.
#[derive(Debug)]
pub struct Encoder {
    network: Arc<Network>,
    workers: Workers,
}

/// How to load an encoder.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// The device to compute on.
    pub device: DeviceKind,
    /// The precision to compute in.
    pub precision: Precision,
    /// Threads for bulk work; as many as cores when `None`.
    pub threads: Option<usize>,
    /// Whether burn computes everything itself in `f32`, without our kernels for GELU and softmax: what
    /// these are compared with in docs/speed.md.
    pub plain_burn: bool,
}

/// Takes finished batches; says `false` when nobody waits for them any more.
pub(crate) trait Reply: Clone + Send + 'static {
    fn is_open(&self) -> bool;
    fn send(&self, part: Part);
}

impl Reply for mpsc::SyncSender<Part> {
    fn is_open(&self) -> bool {
        true
    }

    fn send(&self, part: Part) {
        // Never full (see `most_parts`); the receiver leaves after the first error, and later parts
        // have no reader.
        let _ = self.try_send(part);
    }
}

impl Encoder {
    /// Loads the encoder in `dir` (Hugging Face layout) on `device`, with a thread per core.
    ///
    /// Needs `config.json`, `tokenizer.json` and `model.safetensors`; reads `modules.json`,
    /// `1_Pooling/config.json`, `sentence_bert_config.json` and
    /// `config_sentence_transformers.json` where present. No network access.
    ///
    /// # Errors
    ///
    /// Each names the file, the tensor where there is one, and the remedy.
    pub fn load(dir: &Path, device: DeviceKind) -> Result<Self, EncoderError> {
        Encoder::load_with(
            dir,
            &LoadOptions {
                device,
                ..LoadOptions::default()
            },
        )
    }

    /// As [`Encoder::load`], with a precision and a number of threads.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`], and [`EncoderError::Precision`].
    pub fn load_with(dir: &Path, options: &LoadOptions) -> Result<Self, EncoderError> {
        let device = options.device;
        if device == DeviceKind::Ndarray && std::env::var_os("MATMUL_NUM_THREADS").is_none() {
            tracing::warn!("set MATMUL_NUM_THREADS=1 for ndarray: its products spin otherwise");
        }
        let network = Arc::new(Network::load(dir, options)?);
        let threads = options.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            |threads| threads.max(1),
        );
        // A GPU has one queue; a second thread would only interleave in it.
        let workers = match device {
            DeviceKind::Wgpu => Workers::start(1, false)?,
            DeviceKind::Flex | DeviceKind::Ndarray => Workers::start(threads, true)?,
        };
        Ok(Encoder { network, workers })
    }

    /// Checks the files in `dir` without computing anything: formats, names, shapes.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`], but for the device and for weights that are not finite.
    pub fn check(dir: &Path) -> Result<EmbeddingSpaceId, EncoderError> {
        Network::check(dir)
    }

    /// The space that this encoder's vectors live in.
    pub fn space(&self) -> &EmbeddingSpaceId {
        &self.network.space
    }

    /// Length of a vector, `d_model`.
    pub fn dim(&self) -> usize {
        self.network.dim()
    }

    /// The longest text in tokens that the encoder reads, CLS and SEP included.
    pub fn max_tokens(&self) -> usize {
        self.network.config.max_tokens
    }

    /// The device that it computes on.
    pub fn device(&self) -> DeviceKind {
        self.network.device
    }

    /// Whether a text's encoding is the same bit for bit in every batch, not only nearly.
    pub fn is_exact(&self) -> bool {
        self.network.is_host()
    }

    /// The tokenizer, for counting and for offsets.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.network.tokenizer
    }

    /// Encodes `texts`, in their order, batched by length on all cores. Blocks the calling thread:
    /// async code uses [`crate::EncoderHandle`].
    ///
    /// # Errors
    ///
    /// [`EncoderError::MaxTokens`], or [`EncoderError::Compute`] when a batch failed.
    pub fn encode<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EncodeOptions<'_>,
    ) -> Result<Vec<Encoding>, EncoderError> {
        let (sender, receiver) = mpsc::sync_channel(most_parts(texts.len(), options));
        self.request(options).run(texts, sender)?;
        let mut gathered = Gathered::new(texts.len());
        while !gathered.is_complete() {
            let part = receiver.recv().map_err(|_| lost())?;
            let done = gathered.add(part?);
            if let Some(progress) = options.progress {
                progress(done);
            }
        }
        Ok(gathered.into_encodings())
    }

    pub(crate) fn request(&self, options: &EncodeOptions<'_>) -> Request {
        Request {
            network: Arc::clone(&self.network),
            submitter: self.workers.submitter(),
            threads: self.workers.bulk_threads(),
            kind: options.kind,
            max_tokens: options.max_tokens,
            windows: options.windows,
            wanted: Wanted {
                tokens: options.tokens,
                cls_layers: options.cls_layers,
            },
        }
    }

    /// The vocabulary with its input embeddings, not normalised: words in id order and
    /// `[vocab_size, d_model]` row by row. For paraphrase neighbours (RECIPE.md, Synthetic
    /// queries).
    ///
    /// # Errors
    ///
    /// [`EncoderError::Compute`] when the device fails.
    pub fn word_embeddings(&self) -> Result<(Vec<String>, Vec<f32>), EncoderError> {
        let words = self
            .network
            .tokenizer
            .vocabulary(self.network.config.bert.vocab_size);
        Ok((words, self.network.word_embeddings()?))
    }
}

/// What a request carries to the threads: everything but the texts.
#[derive(Clone)]
pub(crate) struct Request {
    network: Arc<Network>,
    submitter: Submitter,
    threads: usize,
    kind: TextKind,
    max_tokens: usize,
    windows: usize,
    wanted: Wanted,
}

impl Request {
    /// Tokenizes on this thread and queues the batches.
    pub(crate) fn run<T: AsRef<str>>(
        self,
        texts: &[T],
        reply: impl Reply,
    ) -> Result<(), EncoderError> {
        let (lane, batches) = self.batches(texts)?;
        self.submit(lane, batches, &reply)
    }

    /// Threads that share the work.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Whether a thread that is none of the workers' may run it: what burn computes belongs on threads with a
    /// rayon pool of their own.
    pub(crate) fn runs_anywhere(&self) -> bool {
        self.network.is_host()
    }

    /// Encodes `texts`, in their order, on this thread: one of the workers', or see
    /// [`runs_anywhere`](Self::runs_anywhere).
    pub(crate) fn run_here(&self, texts: &[&str]) -> Result<Vec<Encoding>, EncoderError> {
        let (_, batches) = self.batches(texts)?;
        let mut gathered = Gathered::new(texts.len());
        for batch in batches {
            gathered.add(run_batch(&self.network, batch, self.wanted)?);
        }
        Ok(gathered.into_encodings())
    }

    /// Queues the tokenizing as well, for callers whose thread must not work. A request of one batch
    /// stays on the thread that tokenized it: a query is not handed over twice.
    pub(crate) fn queue(self, texts: Vec<String>, reply: impl Reply) -> Result<(), EncoderError> {
        let lane = match self.kind {
            TextKind::Query => Lane::Interactive,
            TextKind::Passage => Lane::Bulk,
        };
        let submitter = self.submitter.clone();
        submitter.submit(
            lane,
            Box::new(move || {
                if !reply.is_open() {
                    return;
                }
                let done = self.batches(&texts).and_then(|(own, mut batches)| {
                    match batches.pop() {
                        Some(batch) if batches.is_empty() && own == lane => {
                            reply.send(run_batch(&self.network, batch, self.wanted));
                        }
                        Some(batch) => {
                            batches.push(batch);
                            self.submit(own, batches, &reply)?;
                        }
                        None => {}
                    }
                    Ok(())
                });
                if let Err(error) = done {
                    reply.send(Err(error));
                }
            }),
        )
    }

    /// Tokenizes and cuts.
    fn batches<T: AsRef<str>>(&self, texts: &[T]) -> Result<(Lane, Vec<Vec<Item>>), EncoderError> {
        if self.max_tokens < 3 {
            return Err(EncoderError::MaxTokens(self.max_tokens));
        }
        let config = &self.network.config;
        let prefix = match self.kind {
            TextKind::Query => &config.query_prefix,
            TextKind::Passage => &config.passage_prefix,
        };
        let most = self.max_tokens.min(config.max_tokens);
        let tokenizer = &self.network.tokenizer;
        let prepare = |text: &T| tokenizer.prepare(prefix, text.as_ref(), most, self.windows);
        let texts = texts.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let tokens: usize = texts.iter().flatten().map(|text| text.ids.len()).sum();
        let lane = match self.kind {
            TextKind::Query if tokens <= INTERACTIVE_TOKENS => Lane::Interactive,
            TextKind::Query | TextKind::Passage => Lane::Bulk,
        };
        let budget = self.network.budget();
        Ok((lane, batch::cut(texts, self.threads, budget)))
    }

    /// Calls `job` on a thread that is free for somebody who waits.
    pub(crate) fn soon(self, job: impl FnOnce(&Self) + Send + 'static) -> Result<(), EncoderError> {
        let submitter = self.submitter.clone();
        submitter.submit(Lane::Interactive, Box::new(move || job(&self)))
    }

    fn submit(
        &self,
        lane: Lane,
        batches: Vec<Vec<Item>>,
        reply: &impl Reply,
    ) -> Result<(), EncoderError> {
        for batch in batches {
            let (network, wanted, reply) = (Arc::clone(&self.network), self.wanted, reply.clone());
            let job = Box::new(move || {
                if reply.is_open() {
                    reply.send(run_batch(&network, batch, wanted));
                }
            });
            self.submitter.submit(lane, job)?;
        }
        Ok(())
    }
}

fn run_batch(network: &Network, batch: Vec<Item>, wanted: Wanted) -> Part {
    // burn reports a misuse by panicking; the request gets an error, not silence.
    let run = std::panic::AssertUnwindSafe(|| network.run(batch, wanted));
    std::panic::catch_unwind(run).unwrap_or_else(|_| {
        Err(EncoderError::Compute(
            "the forward pass panicked; its message is in the log".into(),
        ))
    })
}

/// The error of a request whose workers went away.
pub(crate) fn lost() -> EncoderError {
    EncoderError::Closed
}
