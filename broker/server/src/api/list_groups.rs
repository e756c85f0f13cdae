// SPDX-License-Identifier: Apache-2.0
//! ListGroups (16): the groups that this broker coordinates; tools ask every broker (rule 45).
use std::collections::HashSet;
use std::sync::Arc;

use odradek_groups::GroupSummary;
use odradek_wire::messages::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

/// Kafka's name of the only type of groups that is there.
const CLASSIC: &str = "classic";

pub(crate) fn handle(broker: &Arc<Broker>, _call: &Call<'_>, request: ListGroupsRequest) -> Answer<ListGroupsResponse> {
    // Names that nobody knows match nothing.
    let states: HashSet<String> = request.states_filter.iter().map(|name| name.trim().to_lowercase()).collect();
    let has_type =
        request.types_filter.is_empty() || request.types_filter.iter().any(|name| name.eq_ignore_ascii_case(CLASSIC));
    let groups = match broker.coordinators.list() {
        Ok(groups) => groups,
        Err(error) => {
            let error_code = group_code(Some(error));
            return Answer::now(ListGroupsResponse { error_code, ..ListGroupsResponse::default() });
        }
    };
    let is_wanted =
        |group: &GroupSummary| has_type && (states.is_empty() || states.contains(&group.state.name().to_lowercase()));
    let listed = groups.iter().filter(|group| is_wanted(group)).map(|group| ListedGroup {
        group_id: (&*group.group_id).into(),
        protocol_type: (&*group.protocol_type).into(),
        group_state: group.state.name().into(),
        group_type: CLASSIC.into(),
    });
    Answer::now(ListGroupsResponse { groups: listed.collect(), ..ListGroupsResponse::default() })
}
