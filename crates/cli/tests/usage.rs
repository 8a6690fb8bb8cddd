//! What scripts rely on: exit codes, what goes to standard output, and errors that name the remedy.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// A port that nothing listens on.
const NOWHERE: &str = "http://127.0.0.1:9";

fn moerag(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_moerag"))
        .args(arguments)
        .env_remove("MOERAG_ROUTER_URL")
        .env_remove("MOERAG_TRAINER_URL")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_and_version_are_no_mistake() {
    for arguments in [["--help"], ["--version"]] {
        let output = moerag(&arguments);
        assert_eq!(code(&output), 0);
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn bad_usage_exits_64() {
    for arguments in [
        &[][..],
        &["attend"],
        &["ask"],
        &["ask", "x", "--top-k", "many"],
        &["ingest"],
        &["eval", "--dataset", ".", "--queries", "0"],
        &["eval", "--dataset", ".", "--corrupt", "everything"],
        &[
            "eval-set",
            "--from",
            "/nowhere",
            "--kind",
            "buried",
            "--out",
            "/nowhere/new",
        ],
        &["eval-set", "--from", ".", "--kind", "easier", "--out", "."],
        &["up", "--device", "abacus"],
        &["ingest", "/nowhere/at/all", "--router", "not an address"],
        &["health", "--router", "not an address"],
        &["health", "--addr", "not an address"],
        &["status", "--router", "not an address"],
        &["status", "--trainer", "not an address"],
    ] {
        let output = moerag(arguments);
        assert_eq!(code(&output), 64, "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_service_that_is_not_there_is_named_with_the_remedy() {
    for arguments in [&["ask", "why?"][..], &["models", "list"], &["ingest", "."]] {
        let output = moerag(&[arguments, &["--router", NOWHERE]].concat());
        assert_eq!(code(&output), 1, "{arguments:?}");
        assert!(stderr(&output).contains("moerag up"), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    let output = moerag(&["train", "--trainer", NOWHERE]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("cannot reach the trainer"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn status_and_health_answer_for_services_that_do_not() {
    let output = moerag(&[
        "status",
        "--json",
        "--router",
        NOWHERE,
        "--trainer",
        NOWHERE,
    ]);
    assert_eq!(code(&output), 1);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["router"]["health"], "unreachable");
    let output = moerag(&["health", "--addr", NOWHERE]);
    assert_eq!(
        (code(&output), output.stdout.as_slice()),
        (1, &b"unreachable\n"[..])
    );
}

#[test]
fn health_asks_the_router_of_the_other_commands_unless_told() {
    let there = "http://127.0.0.1:10";
    for (arguments, expected) in [
        (&["--router", there][..], there),
        (&[][..], NOWHERE),
        (&["--router", NOWHERE, "--addr", there][..], there),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_moerag"))
            .args(["health", "--json"])
            .args(arguments)
            .env("MOERAG_ROUTER_URL", NOWHERE)
            .output()
            .unwrap();
        let health: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(health["addr"], expected, "{arguments:?}");
    }
}

#[test]
fn a_fetch_into_a_directory_of_the_user_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thesis.txt");
    fs_err::write(&file, "mine").unwrap();
    let output = moerag(&["model", "fetch", "--dest", dir.path().to_str().unwrap()]);
    assert_eq!(code(&output), 64, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("thesis.txt"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs_err::read_to_string(file).unwrap(), "mine");
}

#[test]
fn the_help_says_which_head_sparse_routing_leaves_out() {
    let output = moerag(&["ask", "--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        help.matches("the feedback head takes no part").count(),
        2,
        "{help}"
    );
}

#[test]
fn missing_encoder_files_are_named_with_the_command_that_fetches_them() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("encoder");
    let empty = empty.to_str().unwrap();
    let data = dir.path().join("data");
    for arguments in [
        &[
            "up",
            "--data-dir",
            data.to_str().unwrap(),
            "--encoder-dir",
            empty,
        ][..],
        &["eval", "--dataset", ".", "--encoder-dir", empty],
    ] {
        let output = moerag(arguments);
        assert_eq!(code(&output), 64, "{}", stderr(&output));
        let message = stderr(&output);
        assert!(
            message.contains(empty) && message.contains("moerag model fetch"),
            "{message}"
        );
    }
}

#[test]
fn an_unknown_method_is_refused_with_the_list() {
    let output = moerag(&["eval", "--dataset", ".", "--methods", "bm25,magic"]);
    assert_eq!(code(&output), 64);
    assert!(stderr(&output).contains("\"magic\"") && stderr(&output).contains("single_head"));
}

#[test]
fn no_escape_codes_reach_a_pipe() {
    let output = moerag(&["status", "--router", NOWHERE, "--trainer", NOWHERE]);
    assert!(!output.stdout.is_empty() && !output.stdout.contains(&0x1b));
}
