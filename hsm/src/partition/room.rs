//! Whether there is room for what is added to a partition: its quota, and what any partition has at most.

use super::{Contents, MAX_OBJECT_BYTES, MAX_OBJECTS, Settings};
use crate::failure::{Failure, refuse};
use crate::object::{self, Object};

/// What a partition holds when the changes are made that have been planned so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    objects: usize,
    /// Private and secret keys that can be used: not those that were deleted softly.
    keys: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn taken_by(contents: &Contents) -> Self {
        Room {
            objects: contents.objects.len() + contents.deleted.len(),
            keys: contents.objects.keys(),
            bytes: contents.bytes(),
        }
    }

    /// With so many more, however small.
    pub(super) fn with(self, keys: usize, others: usize) -> Self {
        let objects = keys + others;
        Room {
            objects: self.objects + objects,
            keys: self.keys + keys,
            bytes: self.bytes + objects * size_of::<Object>(),
        }
    }

    /// Puts a new object in.
    pub(super) fn add(&mut self, object: &Object) {
        self.objects += 1;
        self.bytes += object.size();
        if is_usable(object) {
            self.keys += 1;
        }
    }

    /// Takes one out that was there before the change.
    pub(super) fn remove(&mut self, object: &Object) {
        self.objects = self.objects.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(object.size());
        if is_usable(object) {
            self.keys = self.keys.saturating_sub(1);
        }
    }

    /// Refuses what grows beyond a limit. What is there already stays, and may always become less.
    pub(super) fn check(self, before: Self, settings: &Settings, partition: &str) -> Result<(), Failure> {
        self.check_count(before, settings, partition)?;
        self.check_bytes(before, settings, partition)
    }

    /// As [`Room::check`], whatever memory it takes: of what comes back it was taken all the time.
    pub(super) fn check_count(
        self,
        before: Self,
        settings: &Settings,
        partition: &str,
    ) -> Result<(), Failure> {
        if self.objects > before.objects && self.objects > MAX_OBJECTS {
            return refuse!(
                Limit,
                "partition \"{partition}\" is full: it holds {MAX_OBJECTS} objects, with the deleted keys; purge of those, delete \
                 certificates or data, or use another partition ('strongroom key list --deleted', 'strongroom key purge')"
            );
        }
        let quota = settings.quota;
        if quota.keys > 0 && self.keys > before.keys && self.keys as u64 > quota.keys {
            return refuse!(
                Quota,
                "partition \"{partition}\" has its quota of {} keys: delete some, or have root raise it ('strongroom \
                 partition set-quota {partition} --keys NUMBER')",
                quota.keys
            );
        }
        Ok(())
    }

    fn check_bytes(self, before: Self, settings: &Settings, partition: &str) -> Result<(), Failure> {
        let quota = settings.quota;
        if self.bytes <= before.bytes {
            return Ok(());
        }
        if quota.memory > 0 && self.bytes as u64 > quota.memory {
            return refuse!(
                Quota,
                "partition \"{partition}\" has its quota of memory: this would take it to {} bytes of {}; purge deleted \
                 keys, delete what is not needed, or have root raise it ('strongroom partition set-quota {partition} \
                 --memory SIZE')",
                self.bytes,
                quota.memory
            );
        }
        if self.bytes > MAX_OBJECT_BYTES {
            return refuse!(
                Limit,
                "partition \"{partition}\" is full: its objects take {MAX_OBJECT_BYTES} bytes of memory, with the deleted keys; \
                 purge of those, delete certificates or data, or use another partition"
            );
        }
        Ok(())
    }
}

fn is_usable(object: &Object) -> bool {
    object.info.deleted_at == 0 && object::holds_key(object.info.class())
}
