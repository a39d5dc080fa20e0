//! Requests that come again because their answers were lost, see [`crate::partition::once`].

use strongroom_protocol::once::makes_objects;
use strongroom_protocol::v1::{request::Op, response};

use super::{Context, objects};
use crate::failure::{Failure, refuse};
use crate::partition::Partition;
use crate::partition::once::Once;

/// What a request that makes objects is known by.
pub(super) fn of(op: &Op, once: &[u8]) -> Result<Option<Once>, Failure> {
    if once.is_empty() {
        return Ok(None);
    }
    match Once::try_from(once) {
        Ok(once) => Ok(Some(once).filter(|_| makes_objects(op))),
        Err(_) => refuse!(Malformed, "the name of a request that makes something has 16 bytes"),
    }
}

/// The answer to a request that was carried out before: what it has made, as it is now.
pub(super) fn made_before(context: &Context, partition: &Partition) -> Option<response::Result> {
    let once = context.once?;
    let acting = context.session.acting(partition);
    let contents = partition.contents();
    let found = contents.once.objects(&once).iter();
    let visible = |id| objects::visible_in(&contents, &acting, partition, id).ok();
    let mut made: Vec<_> = found.filter_map(|id| visible(id)).collect();
    made.sort_by_key(|object| object.sequence);
    (!made.is_empty()).then(|| objects::listed(&made))
}
