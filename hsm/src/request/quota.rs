//! SetQuota: what the owner of the machine lets a partition have.

use std::sync::Arc;

use strongroom_protocol::v1::{SetQuota, response};

use super::{Context, changing, partitions};
use crate::failure::Failure;
use crate::partition::Partition;

pub(super) async fn set(
    context: &Context,
    partition: &Arc<Partition>,
    request: SetQuota,
) -> Result<response::Result, Failure> {
    let (place, asker) = (Arc::clone(partition), context.asker());
    changing(context, move || {
        let quota = place.change(|change| {
            asker.still_may(&place, &change.before().users)?;
            let quota = &mut change.settings().quota;
            quota.set(request);
            Ok(*quota)
        })?;
        let (uid, by) = (asker.session.uid, &asker.by);
        tracing::info!(uid, by, partition = place.label(), ?quota, "quota set");
        Ok(())
    })
    .await?;
    Ok(response::Result::Partition(partitions::info(&context.service, &context.session, partition)))
}
