//! Secret keys, and what is computed with them.
//!
//! For AES-GCM a key is expanded once, into protected memory. Its operation takes no lock and no memory, so it is carried out
//! where the request is: 4 KiB take less than a microsecond, the largest frame some hundred. The other ways expand the key
//! for each request.

mod blocks;
mod ccm;
mod gcm;
mod key;
mod mac;

pub use blocks::BlockMode;
pub use ccm::CcmParameters;
pub use gcm::{GcmParameters, decrypt, encrypt};
pub use key::{MAX_SECRET, SecretKey, SecretKind};
pub use mac::Mac;
