// SPDX-License-Identifier: Apache-2.0
//! What is built for a Cluster, word for word: `fixtures/<name>.yaml` through the real validate and
//! build gives `fixtures/<name>.expected.yaml`. An expected file changes only when pods shall be rolled;
//! `UPDATE_EXPECTED=1 cargo test -p odradek-operator --test build_expected` writes it anew.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use odradek_crds::Cluster;
use odradek_operator::cluster::fetch::Observed;
use odradek_operator::cluster::{build, validate};
use odradek_operator::context::BrokerImages;

fn images() -> BrokerImages {
    BrokerImages { repository: "registry.example/odradek-broker".into(), pull_policy: Some("IfNotPresent".into()) }
}

fn built(cluster: &Cluster, observed: &Observed) -> build::Objects {
    let valid = validate::validate(cluster, observed, &images())
        .unwrap_or_else(|refusals| panic!("the fixture is refused: {refusals:#?}"));
    build::build(&valid)
}

fn yaml(objects: &build::Objects) -> String {
    let mut all = vec![serde_json::to_value(&objects.service_account).unwrap()];
    all.push(serde_json::to_value(&objects.config_map).unwrap());
    all.extend(objects.services.iter().map(|service| serde_json::to_value(service).unwrap()));
    all.extend(objects.volume_claim.iter().map(|claim| serde_json::to_value(claim).unwrap()));
    all.push(serde_json::to_value(&objects.stateful_set).unwrap());
    all.push(serde_json::to_value(&objects.disruption_budget).unwrap());
    let documents: Vec<String> = all.iter().map(odradek_crds::render::definition_yaml).collect();
    format!("# SPDX-License-Identifier: Apache-2.0\n{}", documents.join("---\n"))
}

fn fixture(name: &str) -> Cluster {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_fixture_gives_its_expected_objects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut inputs: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.strip_suffix(".yaml").is_some_and(|stem| !stem.ends_with(".expected")))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 2, "fixtures are missing");
    for input in inputs {
        let actual = yaml(&built(&fixture(&input), &Observed::default()));
        let path = folder.join(input.replace(".yaml", ".expected.yaml"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(actual == expected, "{input} builds otherwise than {}:\n{actual}", path.display());
    }
}

#[test]
fn building_twice_gives_the_same() {
    let cluster = fixture("full.yaml");
    assert_eq!(built(&cluster, &Observed::default()), built(&cluster, &Observed::default()));
}

#[test]
fn an_operator_with_other_images_does_not_roll_a_cluster() {
    let cluster = fixture("small.yaml");
    let first = built(&cluster, &Observed::default());
    let with = |stateful_set| Observed {
        stateful_set: Some(stateful_set),
        volume_claim: first.volume_claim.clone(),
        ..Observed::default()
    };
    let observed = with(first.stateful_set.clone());
    let moved = BrokerImages { repository: "elsewhere/odradek-broker".into(), ..images() };
    let valid = validate::validate(&cluster, &observed, &moved).unwrap();
    assert_eq!(build::build(&valid).stateful_set, first.stateful_set);

    // An image of the user's own is taken, and the version's one again once it is removed.
    let mut with_image = cluster.clone();
    with_image.spec.image = Some("mine/broker:1".into());
    let valid = validate::validate(&with_image, &observed, &moved).unwrap();
    let second = build::build(&valid).stateful_set;
    let valid = validate::validate(&cluster, &with(second), &moved).unwrap();
    assert!(valid.image.starts_with("elsewhere/odradek-broker:"), "{}", valid.image);
}

#[test]
fn a_claim_grown_by_hand_is_not_asked_to_shrink() {
    let cluster = fixture("small.yaml");
    let mut claim = built(&cluster, &Observed::default()).volume_claim.unwrap();
    let requests = claim.spec.as_mut().unwrap().resources.as_mut().unwrap().requests.as_mut().unwrap();
    requests.get_mut("storage").unwrap().0 = "20Gi".into();
    let observed = Observed { volume_claim: Some(claim), ..Observed::default() };
    let claim = built(&cluster, &observed).volume_claim.unwrap();
    assert_eq!(claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"].0, "20Gi");
}

#[test]
fn a_volume_carries_no_label_by_which_tools_would_prune_it() {
    let claim = built(&fixture("small.yaml"), &Observed::default()).volume_claim.unwrap();
    assert!(!claim.metadata.labels.unwrap().contains_key("app.kubernetes.io/instance"));
}

#[test]
fn the_cluster_id_outlives_volume_and_status() {
    let cluster = fixture("small.yaml");
    let mut first = built(&cluster, &Observed::default()).stateful_set;
    let annotations = first.metadata.annotations.as_mut().unwrap();
    annotations.insert(odradek_crds::names::CLUSTER_ID_ANNOTATION.into(), "adopted".into());
    // No volume, no status: what is left is the StatefulSet.
    let observed = Observed { stateful_set: Some(first), ..Observed::default() };
    let valid = validate::validate(&cluster, &observed, &images()).unwrap();
    assert_eq!(valid.cluster_id, "adopted");
    assert_eq!(valid.volume_fault.as_ref().unwrap().reason, "VolumeMissing");
    assert_eq!(build::build(&valid).stateful_set.spec.unwrap().replicas, Some(0), "nothing is started");
}

#[test]
fn a_volume_that_is_going_gives_its_id_to_nobody() {
    let cluster = fixture("small.yaml");
    let own = validate::validate(&cluster, &Observed::default(), &images()).unwrap().cluster_id;
    let mut claim = built(&cluster, &Observed::default()).volume_claim.unwrap();
    let annotations = claim.metadata.annotations.as_mut().unwrap();
    annotations.insert(odradek_crds::names::CLUSTER_ID_ANNOTATION.into(), "earlier".into());
    let observed = Observed { volume_claim: Some(claim.clone()), ..Observed::default() };
    assert_eq!(validate::validate(&cluster, &observed, &images()).unwrap().cluster_id, "earlier");
    claim.metadata.deletion_timestamp = Some(odradek_operator::context::Context::now());
    let observed = Observed { volume_claim: Some(claim), ..Observed::default() };
    let valid = validate::validate(&cluster, &observed, &images()).unwrap();
    assert_eq!(valid.cluster_id, own);
    assert_eq!(valid.volume_fault.unwrap().reason, "WaitingForRemoval");
}

#[test]
fn the_configuration_alone_makes_a_new_pod_template() {
    let cluster = fixture("small.yaml");
    let mut changed = cluster.clone();
    changed.spec.config.insert("num.partitions".into(), serde_json::json!(3));
    let (before, after) = (built(&cluster, &Observed::default()), built(&changed, &Observed::default()));
    assert_ne!(before.stateful_set.spec.unwrap().template, after.stateful_set.spec.unwrap().template);
    assert_eq!(before.services, after.services);
}
