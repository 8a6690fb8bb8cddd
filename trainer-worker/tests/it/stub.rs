//! A chat-completions endpoint on a local port: real HTTP, answers as each test wants them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Position among all requests, from 0.
    pub(crate) number: usize,
    /// Request line and headers, as sent.
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Request {
    /// What the user's message says.
    pub(crate) fn prompt(&self) -> &str {
        self.body["messages"][1]["content"].as_str().unwrap()
    }
}

/// What goes out.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: "no".to_owned(),
        }
    }

    /// A completion that says `answer` and counts `tokens`.
    pub(crate) fn says(answer: &str, tokens: u64) -> Self {
        let body = json!({
            "choices": [{"message": {"role": "assistant", "content": answer}}],
            "usage": {"total_tokens": tokens},
        });
        Reply {
            body: body.to_string(),
            ..Reply::status(200)
        }
    }
}

/// A question about the passage of a request, the same whenever it is asked.
pub(crate) fn question(request: &Request) -> Reply {
    let prompt = request.prompt();
    let title = prompt
        .split("Title: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let kind = prompt.lines().next().unwrap();
    Reply::says(
        &format!("1. \"So what of {title}, if {} matters?\"", kind.len()),
        100,
    )
}

type Behaviour = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

/// The endpoint; closes on drop.
pub(crate) struct Stub {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
}

impl Stub {
    /// Answers with `behaviour`; where it gives nothing, the connection is left open in silence.
    pub(crate) fn start(
        behaviour: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Stub {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            closed: Arc::default(),
        };
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (requests, closed) = (Arc::clone(&stub.requests), Arc::clone(&stub.closed));
        let accept = move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (requests, behaviour) = (Arc::clone(&requests), Arc::clone(&behaviour));
                let closed = Arc::clone(&closed);
                spawn(move || serve(stream.unwrap(), &requests, &*behaviour, &closed));
            }
        };
        spawn(accept);
        stub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

/// A port that refuses connections.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .name("stub".to_owned())
        .spawn(run)
        .unwrap();
}

fn serve(
    stream: TcpStream,
    requests: &Mutex<Vec<Request>>,
    behaviour: &Behaviour,
    closed: &AtomicBool,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        // A client that was cancelled before it had sent anything.
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let head = head.to_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let request = {
        let mut requests = requests.lock().unwrap();
        let request = Request {
            number: requests.len(),
            head,
            body: serde_json::from_slice(&body).unwrap(),
        };
        requests.push(request.clone());
        request
    };
    let Some(reply) = behaviour(&request) else {
        while !closed.load(Ordering::SeqCst) {
            thread::sleep(std::time::Duration::from_millis(20));
        }
        return;
    };
    let mut out = format!(
        "HTTP/1.1 {} x\r\ncontent-length: {}\r\nconnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in reply.headers {
        out += &format!("{name}: {value}\r\n");
    }
    // The client may have gone.
    let _ = (&stream).write_all(format!("{out}\r\n{}", reply.body).as_bytes());
}
