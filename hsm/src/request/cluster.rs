//! A cluster: made of this node, let others in, joined, and shown.

use std::sync::Arc;

use strongroom_owner::{Certificate, CertificateError, OwnerCertificate};
use strongroom_protocol::v1::{ErrorCode, NodeAdmitted, request::Op, response};

use super::{Context, blocking, done};
use crate::failure::{Failure, refuse};
use crate::policy;
use crate::vault::MAX_PARTITIONS;

pub(super) fn is_about_the_cluster(op: &Op) -> bool {
    matches!(
        op,
        Op::InitCluster(_)
            | Op::AdmitNode(_)
            | Op::JoinCluster(_)
            | Op::LeaveCluster(_)
            | Op::ExpelNode(_)
            | Op::ShowCluster(_)
    )
}

pub(super) async fn answer(context: &Context, op: &mut Op) -> Result<response::Result, Failure> {
    policy::authorize(op, &context.acting)?;
    let (vault, uid) = (Arc::clone(&context.service.vault), context.session.uid);
    match op {
        Op::InitCluster(_) => {
            blocking(move || {
                tracing::info!(uid, "a cluster is being made of this node");
                vault.found_cluster()?;
                Ok(response::Result::Cluster(vault.standing()?))
            })
            .await
        }
        Op::AdmitNode(m) => {
            let certificates = parsed(&m.certificates, "the node's certificate", Certificate::parse)?;
            blocking(move || {
                let node = vault.admit(&certificates)?;
                tracing::info!(uid, node, "a node is let into the cluster");
                Ok(response::Result::NodeAdmitted(NodeAdmitted { node }))
            })
            .await
        }
        Op::JoinCluster(m) => {
            let owners = parsed(&m.owners, "the owner's certificate", OwnerCertificate::parse)?;
            blocking(move || {
                tracing::info!(uid, "the node joins a cluster");
                vault.join_cluster(&owners)?;
                Ok(response::Result::Cluster(vault.standing()?))
            })
            .await
        }
        Op::LeaveCluster(_) => {
            blocking(move || {
                tracing::info!(uid, "the node leaves its cluster");
                vault.leave_cluster()?;
                Ok(done())
            })
            .await
        }
        Op::ExpelNode(m) => {
            let node = std::mem::take(&mut m.node);
            blocking(move || {
                tracing::info!(uid, node, "a node is expelled from the cluster");
                vault.expel(&node)?;
                Ok(response::Result::Cluster(vault.standing()?))
            })
            .await
        }
        Op::ShowCluster(_) => blocking(move || Ok(response::Result::Cluster(vault.standing()?))).await,
        _ => refuse!(Malformed, "not a request about the cluster"),
    }
}

/// One for each partition at most.
fn parsed<T>(
    all: &[Vec<u8>],
    what: &str,
    parse: impl Fn(&[u8]) -> Result<T, CertificateError>,
) -> Result<Vec<T>, Failure> {
    if all.len() > MAX_PARTITIONS {
        return refuse!(Limit, "{MAX_PARTITIONS} certificates at most: there are not more partitions");
    }
    let wrong = |error| Failure::new(ErrorCode::CertificateWrong, format!("{what} {error}"));
    all.iter().map(|der| parse(der).map_err(wrong)).collect()
}
