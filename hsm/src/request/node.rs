//! The node's seal, tampering, and its end: for the owner, in every state.

use std::sync::Arc;

use strongroom_protocol::v1::{
    ClearTampering, SealWith, Tampering, Unseal, Unsealing, request::Op, response,
};
use zeroize::Zeroizing;

use super::{Context, blocking, done};
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::policy;
use crate::vault::{Unlock, Vault};

/// Shares that one request may bring.
const MOST_SHARES: usize = crate::quorum::MAX_HOLDERS;

pub(super) fn is_about_the_node(op: &Op) -> bool {
    matches!(
        op,
        Op::Seal(_)
            | Op::Unseal(_)
            | Op::SealWith(_)
            | Op::ShowSeal(_)
            | Op::ShowTampering(_)
            | Op::ClearTampering(_)
            | Op::CheckStore(_)
            | Op::Zeroize(_)
    )
}

pub(super) async fn answer(context: &Context, op: &mut Op) -> Result<response::Result, Failure> {
    policy::authorize(op, &context.acting)?;
    let (vault, uid) = (Arc::clone(&context.service.vault), context.session.uid);
    match op {
        Op::Seal(_) => {
            tracing::info!(uid, "the node is being sealed");
            blocking(move || vault.seal().map(|()| done())).await
        }
        Op::Unseal(m) => {
            let unlock = unlock(m)?;
            blocking(move || {
                let progress = vault.unseal(unlock);
                if let Err(failure) = &progress {
                    tracing::warn!(uid, "the node was not unsealed: {failure}");
                }
                Ok(unsealing(&vault, progress?))
            })
            .await
        }
        Op::SealWith(m) => seal_with(vault, std::mem::take(m)).await,
        Op::ShowSeal(_) => blocking(move || Ok(response::Result::Quorum(vault.seal_quorum()?))).await,
        Op::ShowTampering(_) => Ok(tampering(&vault)),
        Op::ClearTampering(m) => {
            let ClearTampering { unseal, use_as_is, accept_loss } = std::mem::take(m);
            let unlock = unlock(&mut unseal.unwrap_or_default())?;
            blocking(move || {
                let progress = vault.clear_tampering(unlock, use_as_is, accept_loss)?;
                Ok(unsealing(&vault, progress))
            })
            .await
        }
        Op::CheckStore(_) => {
            blocking(move || match vault.check() {
                Err(failure) if vault.tampering().is_none() => Err(failure),
                _ => Ok(tampering(&vault)),
            })
            .await
        }
        Op::Zeroize(m) => {
            let path = std::mem::take(&mut m.store_path);
            tracing::warn!(uid, "the node is being zeroized");
            blocking(move || vault.zeroize(&path).map(|()| done())).await
        }
        _ => refuse!(Malformed, "not a request about the node"),
    }
}

fn unlock(request: &mut Unseal) -> Result<Unlock, Failure> {
    let shares = Zeroizing::new(std::mem::take(&mut request.shares));
    if shares.len() > MOST_SHARES {
        return refuse!(Limit, "{MOST_SHARES} shares at most");
    }
    Ok(Unlock {
        passphrase: Zeroizing::new(std::mem::take(&mut request.passphrase)),
        shares: shares.iter().map(|share| SecretBytes::from(share.as_slice())).collect(),
    })
}

fn unsealing(vault: &Vault, progress: Option<(u32, u32)>) -> response::Result {
    let (given, needed) = progress.unwrap_or_default();
    response::Result::Unsealing(Unsealing { state: vault.node_state().into(), given, needed })
}

fn tampering(vault: &Vault) -> response::Result {
    let found = vault.tampering().unwrap_or_default();
    response::Result::Tampering(Tampering { findings: found.findings, found: found.found })
}

async fn seal_with(vault: Arc<Vault>, request: SealWith) -> Result<response::Result, Failure> {
    let SealWith { passphrase, holders, needed } = request;
    let passphrase = Zeroizing::new(passphrase);
    blocking(move || {
        Ok(match vault.seal_with(&passphrase, &holders, needed)? {
            Some(quorum) => response::Result::Quorum(quorum),
            None => done(),
        })
    })
    .await
}
