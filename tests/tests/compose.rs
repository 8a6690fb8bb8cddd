//! Every variable, port and path that docker-compose.yml and the Dockerfiles name exists in the code.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn read(path: &str) -> String {
    fs_err::read_to_string(root().join(path)).unwrap()
}

/// Lines `KEY: value` of the `environment` of a service.
fn environment(compose: &str, service: &str) -> Vec<(String, String)> {
    let start = compose.find(&format!("\n  {service}:\n")).unwrap();
    let block = &compose[start + 1..];
    let environment =
        &block[block.find("    environment:\n").unwrap() + "    environment:\n".len()..];
    environment
        .lines()
        .take_while(|line| line.starts_with("      "))
        .map(|line| line.trim().split_once(": ").unwrap())
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[test]
fn the_services_accept_their_environment() {
    let compose = read("docker-compose.yml");
    for (service, binary) in [("router", "router-service"), ("trainer", "trainer-worker")] {
        let environment = environment(&compose, service);
        assert!(
            environment.iter().any(|(k, _)| k.starts_with("MOERAG_")),
            "{service} sets nothing"
        );
        // A refused setting exits with 64 before anything else is looked at; here the encoder is
        // missing, which is found later and is another error.
        let output = std::process::Command::new(moerag_tests::binary(binary).unwrap())
            .envs(environment)
            .env("MOERAG_ENCODER_DIR", "/nonexistent")
            .env(
                "MOERAG_DATA_DIR",
                std::env::temp_dir().join("moerag-compose-test"),
            )
            .env("MOERAG_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_ne!(output.status.code(), Some(64), "{service}: {said}");
        assert!(said.contains("/nonexistent"), "{service}: {said}");
    }
}

#[test]
fn ports_are_those_of_the_defaults_and_files_exist() {
    let compose = read("docker-compose.yml");
    let router = router_service::config::RouterConfig::default().listen;
    let trainer = trainer_worker::config::WorkerConfig::default().listen;
    for (service, listen) in [("router", router), ("trainer", trainer)] {
        let environment = environment(&compose, service);
        let (_, value) = environment
            .iter()
            .find(|(k, _)| k == "MOERAG_LISTEN")
            .unwrap();
        assert_eq!(value, &format!("0.0.0.0:{}", listen.port()), "{service}");
        assert!(
            compose.contains(&format!("\"127.0.0.1:{0}:{0}\"", listen.port())),
            "{service}"
        );
        assert!(
            compose.contains(&format!("http://127.0.0.1:{}\"]", listen.port())),
            "{service}: health check"
        );
    }
    for line in compose
        .lines()
        .filter_map(|l| l.trim().strip_prefix("dockerfile: "))
    {
        let dockerfile = read(line);
        for copied in dockerfile
            .lines()
            .filter(|l| l.starts_with("COPY ") && !l.contains("--from"))
        {
            for path in copied
                .split_whitespace()
                .skip(1)
                .filter(|p| !p.starts_with("--"))
                .collect::<Vec<_>>()
                .split_last()
                .unwrap()
                .1
            {
                assert!(root().join(path).exists(), "{line}: COPY {path}");
            }
        }
        assert!(dockerfile.contains("USER "), "{line} runs as root");
        assert!(
            dockerfile.contains("moerag model fetch") || dockerfile.contains("model fetch"),
            "{line} has no encoder"
        );
    }
    // Variables of the volumes: what is mounted is what the service is told.
    {
        let volume = "checkpoints:/data/checkpoints";
        assert!(compose.contains(volume));
    }
}
