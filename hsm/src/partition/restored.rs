//! Objects that come back from the backup of a key.

use strongroom_protocol::v1::ObjectInfo;

use super::{Partition, parse};
use crate::crypto::KeyKind;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object;
use crate::records;

/// Adds objects to a partition, from their records' contents: all or none. Blocks.
///
/// # Errors
///
/// EXISTS if one of them is there, BACKUP_WRONG if one makes no sense, LIMIT, STORE.
pub fn add_objects(partition: &Partition, objects: &[SecretBytes]) -> Result<(), Failure> {
    let wrong = |what: &str| Failure::new(strongroom_protocol::v1::ErrorCode::BackupWrong, what.to_owned());
    let mut read = Vec::new();
    for plain in objects {
        let (record, bytes) =
            records::split_object(plain).ok_or_else(|| wrong("the backup has an object of another form"))?;
        let info: ObjectInfo =
            record.info.ok_or_else(|| wrong("the backup has an object without description"))?;
        let key = match object::holds_key(info.class()) {
            true => Some(parse(&info, bytes).ok_or_else(|| wrong("the backup has a key that is none"))?),
            false => None,
        };
        read.push((info, key));
    }
    partition.change(|change| {
        for (info, key) in &read {
            if change.before().objects.get(&info.object).is_some() {
                return refuse!(
                    Exists,
                    "{} is in partition \"{}\" already: nothing was restored",
                    object::title(info),
                    partition.label()
                );
            }
            if change.before().deleted.get(&info.object).is_some() {
                return refuse!(
                    Exists,
                    "{} was deleted from partition \"{}\" and can be recovered: 'strongroom key recover'; nothing was \
                     restored",
                    object::title(info),
                    partition.label()
                );
            }
            change.add_object(info.clone(), KeyKind::from_wire(info.key_type()), key.as_ref())?;
        }
        Ok(())
    })
}
