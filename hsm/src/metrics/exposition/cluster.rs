//! The metrics of a cluster, as this node sees it.

use std::fmt;

use super::sheet::Sheet;
use crate::vault::Vault;

pub(super) fn cluster(sheet: &mut Sheet<'_>, vault: &Vault) -> fmt::Result {
    let standing = vault.standing().unwrap_or_default();
    let is_one = !standing.cluster.is_empty();
    sheet.gauge(
        "strongroom_cluster_members",
        "Nodes of the cluster; 0 if the node is of none.",
        standing.members.len() as f64,
    )?;
    sheet.gauge(
        "strongroom_cluster_cut_off",
        "1 if no majority of etcd's members answers: nothing can be changed, and keys are used until the lease ends.",
        f64::from(u8::from(is_one && !standing.majority)),
    )?;
    sheet.gauge(
        "strongroom_cluster_revision",
        "etcd's revision of the last change that the node has.",
        standing.revision as f64,
    )?;
    sheet.gauge(
        "strongroom_cluster_lag",
        "Changes that the cluster has had, and that the node does not have.",
        standing.lag as f64,
    )?;
    let left = if is_one { standing.lease_left_millis as f64 / 1e3 } else { f64::INFINITY };
    sheet.gauge(
        "strongroom_cluster_lease_left_seconds",
        "For how long keys are used if no majority answers from now on. +Inf: the node is of no cluster.",
        left,
    )
}
