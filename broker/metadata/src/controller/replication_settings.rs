// SPDX-License-Identifier: Apache-2.0
//! Topic settings that wait for replication: refused by name before, so that none is taken and not obeyed. Must not know
//! what they mean.

use odradek_model::{SettingError, TopicOverrides};

use crate::{Image, REPLICATION_FEATURE_LEVEL};

/// Settings that nothing obeys before brokers replicate.
const REPLICATION_SETTINGS: [&str; 3] = [
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "unclean.leader.election.enable",
];

/// Whether a topic setting of this name is obeyed at the cluster's feature level.
pub fn topic_setting_is_in_force(image: &Image, name: &str) -> bool {
    image.feature_level() >= REPLICATION_FEATURE_LEVEL || !REPLICATION_SETTINGS.contains(&name)
}

/// Refuses settings by name that would be taken and not obeyed below [`REPLICATION_FEATURE_LEVEL`].
pub(super) fn check_replication_settings(image: &Image, overrides: &TopicOverrides) -> Result<(), SettingError> {
    match overrides.keys().find(|name| !topic_setting_is_in_force(image, name)) {
        Some(name) => Err(SettingError::Unknown { name: name.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply;
    use crate::records::FeatureLevelRecord;

    #[test]
    fn a_setting_of_replication_is_refused_by_name_until_brokers_replicate() {
        let level = |level| apply(&Image::empty(), 0, &FeatureLevelRecord { level }.into()).expect("a known level");
        let overrides = TopicOverrides::from([("unclean.leader.election.enable".to_owned(), "true".to_owned())]);
        let refused = check_replication_settings(&level(1), &overrides).expect_err("not obeyed yet");
        assert!(refused.to_string().contains("unclean.leader.election.enable"), "{refused}");
        assert_eq!(check_replication_settings(&level(1), &TopicOverrides::new()), Ok(()));
        assert_eq!(check_replication_settings(&level(REPLICATION_FEATURE_LEVEL), &overrides), Ok(()));
    }
}
