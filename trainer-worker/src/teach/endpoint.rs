//! An OpenAI-compatible endpoint: one chat completion at a time, within a budget, with retries.

use std::cell::Cell;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;

use super::config::{LlmConfig, completions};
use super::prompts::Prompt;
use crate::error::TrainError;

/// Times that a request is repeated when the endpoint is busy or away.
const RETRIES: usize = 3;
/// Longest wait between two of them, also when the endpoint asks for more.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Tokens of an answer: a question has thirty, the rest is for models that think aloud.
const ANSWER_TOKENS: u32 = 512;
/// Sent along so that endpoints that sample give the same answer again.
const SAMPLING_SEED: u32 = 7;
/// Bytes of a response that are read.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// Bytes that make a token where the endpoint does not count; three is on the high side.
const BYTES_PER_TOKEN: usize = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Busy or away: a later request may do better.
    #[error("{reason}")]
    Away {
        reason: String,
        /// How long the endpoint asks to wait.
        wait: Option<Duration>,
    },
    /// The same request would fail again.
    #[error("{0}")]
    Refused(String),
    /// Nothing may be sent any more.
    #[error("{0}")]
    Spent(String),
}

/// Requests and tokens of one training. Lives on the one thread that asks.
#[derive(Debug)]
pub(super) struct Budget {
    max_requests: usize,
    max_tokens: u64,
    requests: Cell<usize>,
    tokens: Cell<u64>,
}

impl Budget {
    pub(super) fn new(config: &LlmConfig) -> Self {
        Self {
            max_requests: config.max_requests,
            max_tokens: config.max_tokens,
            requests: Cell::new(0),
            tokens: Cell::new(0),
        }
    }

    /// Requests sent.
    pub(super) fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Tokens used, as far as answers have come.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.get()
    }

    fn take_request(&self) -> Result<(), AskError> {
        let spent = |what: String| Err(AskError::Spent(format!("the budget of {what} is spent")));
        if self.requests.get() >= self.max_requests {
            return spent(format!("{} requests", self.max_requests));
        }
        if self.tokens.get() >= self.max_tokens {
            return spent(format!("{} tokens", self.max_tokens));
        }
        self.requests.set(self.requests.get() + 1);
        Ok(())
    }

    fn add_tokens(&self, tokens: u64) {
        self.tokens.set(self.tokens.get().saturating_add(tokens));
    }
}

/// Where completions come from.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    model: String,
    key: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
}

impl Endpoint {
    /// Reads the key; connects to nothing.
    pub(super) fn new(url: &str, config: &LlmConfig) -> Result<Self, TrainError> {
        let url = completions(url)?;
        let key = config.api_key_env.as_deref().map(read_key).transpose()?;
        let mut client = Client::builder()
            // A redirect would send passages to somebody whom nobody has configured.
            .redirect(Policy::none())
            .timeout(Duration::from_secs(config.timeout_secs));
        if url.scheme() == "http" {
            // Machines without certificates can still use an endpoint that needs none.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| TrainError::Config {
            field: "train.teachers.llm.url",
            reason: format!("no http client: {}", innermost(&error)),
        })?;
        Ok(Self {
            client,
            url,
            model: config.model.clone(),
            key,
        })
    }

    /// What the model answers, as it says it. Dropping the future ends the request.
    pub(super) async fn ask(&self, prompt: &Prompt, budget: &Budget) -> Result<String, AskError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(MAX_WAIT)
            .with_jitter()
            .with_max_times(RETRIES);
        (|| self.attempt(prompt, budget))
            .retry(backoff)
            .when(|error| matches!(error, AskError::Away { .. }))
            .adjust(|error, planned| match error {
                // Never sooner than planned, so that a wait of 0 does not become a storm.
                AskError::Away {
                    wait: Some(wait), ..
                } => planned.map(|planned| planned.max((*wait).min(MAX_WAIT))),
                _ => planned,
            })
            .await
    }

    async fn attempt(&self, prompt: &Prompt, budget: &Budget) -> Result<String, AskError> {
        budget.take_request()?;
        let body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ],
            "temperature": 0,
            "seed": SAMPLING_SEED,
            "max_tokens": ANSWER_TOKENS,
        });
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        let response = request.send().await.map_err(|error| away(&error))?;
        check(&response)?;
        let bytes = read(response).await?;
        let completion: Completion = serde_json::from_slice(&bytes).map_err(|_| {
            AskError::Refused("what it sent is no chat completion: is the url its base?".to_owned())
        })?;
        let first = completion.choices.into_iter().next();
        let answer = first
            .and_then(|choice| choice.message.content)
            .unwrap_or_default();
        let counted = completion.usage.and_then(|usage| usage.total_tokens);
        let bytes = prompt.system.len() + prompt.user.len() + answer.len();
        budget.add_tokens(counted.unwrap_or((bytes / BYTES_PER_TOKEN) as u64));
        Ok(answer)
    }
}

fn read_key(variable: &str) -> Result<HeaderValue, TrainError> {
    let refuse = |reason: &str| TrainError::Config {
        field: "train.teachers.llm.api_key_env",
        reason: format!("variable {variable} {reason}"),
    };
    let key = std::env::var(variable).map_err(|_| refuse("is not set to text"))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.trim()))
        .map_err(|_| refuse("holds what no header can"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Says what a status means for those that ask. The body is left out: it may repeat a passage.
fn check(response: &Response) -> Result<(), AskError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
    {
        let wait = response.headers().get(RETRY_AFTER);
        let seconds = wait.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        return Err(AskError::Away {
            reason: format!("it answered {status}"),
            wait: seconds.map(Duration::from_secs),
        });
    }
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": is the key right?",
        StatusCode::NOT_FOUND => ": are url and model right?",
        _ if status.is_redirection() => ": give the address that it redirects to",
        _ => "",
    };
    Err(AskError::Refused(format!("it answered {status}{hint}")))
}

async fn read(mut response: Response) -> Result<Vec<u8>, AskError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
        if bytes.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(AskError::Refused("its response is over 1 MiB".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn away(error: &reqwest::Error) -> AskError {
    let reason = if error.is_timeout() {
        "no answer in train.teachers.llm.timeout_secs".to_owned()
    } else {
        innermost(error)
    };
    AskError::Away { reason, wait: None }
}

/// The cause, which says "connection refused" where the error around it says "sending failed".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
