//! The node's own certificate: its request, its installation, and the proof that the node has its key.

use std::sync::Arc;
use std::time::SystemTime;

use strongroom_owner::{Certificate, CertificateError, node};
use strongroom_protocol::v1::{InstallNodeCertificate, NodeProof, NodeRequest, ProveNode, response};

use super::{Context, blocking, changing, done};
use crate::failure::{Failure, refuse};
use crate::partition::Partition;
use crate::users::Users;

pub(super) async fn request(context: &Context) -> Result<response::Result, Failure> {
    let service = Arc::clone(&context.service);
    let request = blocking(move || Ok(service.vault.identity()?.request()?)).await?;
    Ok(response::Result::NodeRequest(NodeRequest { request }))
}

pub(super) async fn install(
    context: &Context,
    partition: &Arc<Partition>,
    request: InstallNodeCertificate,
) -> Result<response::Result, Failure> {
    let Some(owner) = partition.contents().settings.owner.clone() else {
        return refuse!(
            CertificateWrong,
            "partition \"{}\" has no owner's certificate: nobody can sign a node's for it",
            partition.label()
        );
    };
    let wrong = |error: CertificateError| {
        Failure::new(
            strongroom_protocol::v1::ErrorCode::CertificateWrong,
            format!("the node's certificate {error}"),
        )
    };
    let certificate = Certificate::parse(&request.certificate).map_err(wrong)?;
    node::check_certificate(&owner, &certificate, SystemTime::now()).map_err(wrong)?;
    let (service, changed, asker) = (Arc::clone(&context.service), Arc::clone(partition), context.asker());
    changing(context, move || {
        if service.vault.identity()?.public_key()? != certificate.public_key {
            return refuse!(
                CertificateWrong,
                "the certificate is not for this node's key: sign the request that 'strongroom node request' writes"
            );
        }
        let may = |users: &Users| asker.still_may(&changed, users).map(drop);
        service.vault.set_node_certificate(&changed, may, certificate.der().to_vec())?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = changed.label(), "node certificate installed");
        Ok(())
    })
    .await?;
    Ok(done())
}

pub(super) async fn prove(
    context: &Context,
    partition: &Arc<Partition>,
    request: &ProveNode,
) -> Result<response::Result, Failure> {
    let Ok(nonce) = <[u8; node::NONCE]>::try_from(request.nonce.as_slice()) else {
        return refuse!(Malformed, "a nonce has {} bytes", node::NONCE);
    };
    let (service, partition) = (Arc::clone(&context.service), Arc::clone(partition));
    let prove = move || {
        let identity = service.vault.identity()?;
        let Some(certificate) = identity.certificate(partition.number()) else {
            return refuse!(
                CertificateWrong,
                "the node has no certificate for partition \"{}\": 'strongroom node request' says how to make it",
                partition.label()
            );
        };
        let signature = identity.sign(&node::proof(partition.serial(), &nonce))?;
        Ok(NodeProof { certificate: certificate.to_vec(), signature })
    };
    Ok(response::Result::NodeProof(context.compute(node::NONCE, prove).await?))
}
