//! One environment and one file serve both services.

use std::collections::BTreeSet;

use router_service::config::RouterConfig;
use trainer_worker::config::{ELSEWHERE, WorkerConfig};

/// A setting of the router that the trainer does not know of would keep it from starting.
#[test]
fn the_trainer_passes_over_the_routers_settings() {
    let names = |config: serde_json::Value| -> BTreeSet<String> {
        let fields = config.as_object().unwrap();
        fields.keys().cloned().collect()
    };
    let routers = names(serde_json::to_value(RouterConfig::default()).unwrap());
    let own = names(serde_json::to_value(WorkerConfig::default()).unwrap());
    let unknown: Vec<&String> = routers
        .difference(&own)
        .filter(|name| !ELSEWHERE.contains(&name.as_str()))
        .collect();
    assert_eq!(unknown, Vec::<&String>::new());
    assert!(routers.len() > 5 && own.len() > 5);
}
