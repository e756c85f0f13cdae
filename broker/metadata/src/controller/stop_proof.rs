// SPDX-License-Identifier: Apache-2.0
//! Whether a broker that starts anew is known to hold all that it held when it stopped.

use super::{ControllerSettings, PlantedBug, RegisterBroker};
use crate::BrokerImage;

/// What is known of a broker's logs when it registers anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LogsAfterStop {
    /// All there: its clean-shutdown marker is of its last registration, or folder and kernel are the same as then, so
    /// that a killed process has lost nothing that it had written.
    Proven,
    /// The same folder, but the kernel may have lost what was not yet on disk: all but what topics that force each record
    /// to the disk have.
    Unproven,
    /// Another folder, or no earlier registration to compare with.
    Lost,
}

/// Judges a new incarnation by the registration before.
pub(super) fn logs_after_stop(
    settings: &ControllerSettings,
    before: Option<&BrokerImage>,
    registration: &RegisterBroker,
) -> LogsAfterStop {
    let Some(before) = before else {
        return LogsAfterStop::Lost;
    };
    if before.directory_id != registration.directory_id {
        return LogsAfterStop::Lost;
    }
    let clean_stop = registration.clean_shutdown_of == Some(before.epoch);
    let same_kernel = !before.boot_id.is_empty() && before.boot_id == registration.boot_id;
    if clean_stop || same_kernel || settings.has(PlantedBug::StopProofNotChecked) {
        LogsAfterStop::Proven
    } else {
        LogsAfterStop::Unproven
    }
}
