//! The main path with the real binaries: up -> ingest -> train -> publish -> hot-load -> ask, and
//! what a user sees of it.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::Command;
use std::time::{Duration, Instant};

use moerag_proto::v1::Document;
use moerag_tests::{Process, Sandbox, binary, encoder_dir, texts, wait_until_serving};
use serde_json::Value;

/// `moerag up` on free ports; gives it with the addresses of router and trainer.
fn up(sandbox: &Sandbox) -> (Process, String, String) {
    let mut command = Command::new(binary("moerag").unwrap());
    command.args([
        "up",
        "--json",
        "--router-listen",
        "127.0.0.1:0",
        "--trainer-listen",
        "127.0.0.1:0",
    ]);
    command
        .arg("--data-dir")
        .arg(sandbox.data())
        .arg("--encoder-dir")
        .arg(encoder_dir().unwrap());
    let mut process = Process::start(command, sandbox.dir.path().join("up.log")).unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let log = process.log();
        if let Some(said) = log
            .find('{')
            .and_then(|at| serde_json::from_str::<Value>(&log[at..]).ok())
        {
            let url = |name: &str| said[name].as_str().unwrap().to_owned();
            return (process, url("router"), url("trainer"));
        }
        assert!(
            process.exited().unwrap().is_none() && Instant::now() < until,
            "moerag up: {log}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn write_documents(sandbox: &Sandbox, count: usize) -> String {
    let docs = sandbox.dir.path().join("docs");
    fs_err::create_dir_all(&docs).unwrap();
    for Document {
        id, title, text, ..
    } in texts::documents(count)
    {
        fs_err::write(
            docs.join(format!("{id}.md")),
            format!("# {title}\n\n{text}\n"),
        )
        .unwrap();
    }
    docs.display().to_string()
}

/// Runs `moerag … --json` against the services and reads what it prints.
fn json(sandbox: &Sandbox, router: &str, trainer: &str, args: &[&str]) -> Value {
    let args = [args, &["--json", "--router", router, "--trainer", trainer]].concat();
    let output = sandbox.moerag(&args).unwrap();
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "moerag {args:?}: {out}\n{err}");
    // Progress may come as one JSON object a line; the last one is the result.
    serde_json::from_str(&out).unwrap_or_else(|_| {
        let last = out
            .lines()
            .rfind(|l| !l.trim().is_empty())
            .unwrap_or_default();
        serde_json::from_str(last)
            .unwrap_or_else(|e| panic!("moerag {args:?} printed no JSON: {e}\n{out}"))
    })
}

#[test]
fn documents_become_a_served_model_and_answers() {
    let sandbox = Sandbox::new().unwrap();
    let (mut process, router, trainer) = up(&sandbox);
    let docs = write_documents(&sandbox, 120);

    // A second one on the same data directory is kept out, by name.
    let second = Command::new(binary("moerag").unwrap())
        .args([
            "up",
            "--router-listen",
            "127.0.0.1:0",
            "--trainer-listen",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(sandbox.data())
        .arg("--encoder-dir")
        .arg(encoder_dir().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains(&*sandbox.data().display().to_string()),
        "{said}"
    );

    json(&sandbox, &router, &trainer, &["ingest", &docs]);
    let before = json(
        &sandbox,
        &router,
        &trainer,
        &["ask", "how does the lighthouse guide ships"],
    );
    assert_eq!(before["model"]["version"], 0, "{before}");

    json(&sandbox, &router, &trainer, &["train", "--watch"]);
    let after = json(
        &sandbox,
        &router,
        &trainer,
        &["ask", "how does the lighthouse guide ships"],
    );
    println!("{after:#}");
    assert!(after["model"]["version"].as_u64().unwrap() >= 1, "{after}");
    assert!(
        after["passages"][0]["text"]
            .as_str()
            .unwrap()
            .contains("lighthouse"),
        "{after}"
    );

    let status = json(&sandbox, &router, &trainer, &["status"]);
    println!("{status:#}");
    json(&sandbox, &router, &trainer, &["models", "list"]);

    // Ingesting the same again changes nothing; with fewer files and --prune one document goes.
    fs_err::remove_file(sandbox.dir.path().join("docs/doc-00000.md")).unwrap();
    json(&sandbox, &router, &trainer, &["ingest", &docs, "--prune"]);
    let gone = json(
        &sandbox,
        &router,
        &trainer,
        &["ask", "Notes on lighthouse 0", "-k", "100"],
    );
    let ids: Vec<&str> = gone["passages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["document_id"].as_str())
        .collect();
    assert!(
        !ids.contains(&"doc-00000.md") && ids.contains(&"doc-00012.md"),
        "{ids:?}"
    );

    // What a person sees: no escape codes in a pipe, the bars, the version, the source.
    let output = sandbox
        .moerag(&[
            "ask",
            "how does the lighthouse guide ships",
            "--router",
            &router,
        ])
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(
        !said.contains('\u{1b}') && said.contains("token") && said.contains("lighthouse"),
        "{said}"
    );

    // The clients of examples/ work against a deployment that has other collections too.
    let example = Command::new(binary("moerag-example").unwrap())
        .arg(&router)
        .output()
        .unwrap();
    assert!(
        example.status.success(),
        "{}",
        String::from_utf8_lossy(&example.stderr)
    );

    let status = process.terminate().unwrap();
    assert!(status.success(), "{status}: {}", process.log());
    assert!(!process.log().contains("panicked"));
}

#[test]
fn usage_errors_exit_with_64_and_failures_with_1() {
    let sandbox = Sandbox::new().unwrap();
    let code = |args: &[&str]| sandbox.moerag(args).unwrap().status.code().unwrap();
    assert_eq!(code(&["ask"]), 64);
    assert_eq!(code(&["no-such-command"]), 64);
    assert_eq!(code(&["ask", "hello", "--router", "http://127.0.0.1:1"]), 1);
    assert_eq!(code(&["--help"]), 0);
    for service in ["router-service", "trainer-worker"] {
        let mut bad_flag = Command::new(binary(service).unwrap());
        bad_flag.args(["--listen", "not-an-address"]);
        let mut bad_name = Command::new(binary(service).unwrap());
        bad_name.env("MOERAG_LISTNE", "127.0.0.1:0");
        let mut homeless = Command::new(binary(service).unwrap());
        let no_place = ["HOME", "XDG_DATA_HOME", "MOERAG_DATA_DIR"];
        no_place.iter().for_each(|name| {
            homeless.env_remove(name);
        });
        let named = [
            (bad_flag, "`listen`"),
            (bad_name, "MOERAG_LISTNE"),
            (homeless, "`data_dir`"),
        ];
        for (mut command, name) in named {
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(64), "{service}: {said}");
            assert!(said.contains(name), "{service}: {said}");
        }
    }
}

#[tokio::test]
async fn a_training_job_can_be_cancelled_within_a_second() {
    use moerag_proto::v1::trainer_service_client::TrainerServiceClient;
    use moerag_proto::v1::{CancelJobRequest, GetJobRequest, JobState, StartTrainingRequest};
    let sandbox = Sandbox::new().unwrap();
    let (_router, url) = sandbox.router(&[]).unwrap();
    wait_until_serving(&url).await.unwrap();
    let channel = moerag_tests::connect(&url).await.unwrap();
    moerag_tests::ingest(&channel, "notes", texts::documents(120))
        .await
        .unwrap();
    let (_trainer, trainer) = sandbox.trainer(&url, &[]).unwrap();
    wait_until_serving(&trainer).await.unwrap();
    let mut client = TrainerServiceClient::connect(trainer).await.unwrap();
    for wait in [200, 2500, 5000] {
        let request = StartTrainingRequest {
            force: true,
            synthetic_queries: Some(20_000),
            ..StartTrainingRequest::default()
        };
        let job = client
            .start_training(request)
            .await
            .unwrap()
            .into_inner()
            .job
            .unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let asked = Instant::now();
        client
            .cancel_job(CancelJobRequest {
                job_id: job.id.clone(),
            })
            .await
            .unwrap();
        loop {
            let state = client
                .get_job(GetJobRequest {
                    job_id: job.id.clone(),
                })
                .await
                .unwrap()
                .into_inner()
                .job
                .unwrap();
            if state.state == JobState::Cancelled as i32 {
                println!(
                    "cancelled in {:?} at stage {:?}",
                    asked.elapsed(),
                    state.stage()
                );
                break;
            }
            assert!(asked.elapsed() < Duration::from_secs(5), "still {state:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
