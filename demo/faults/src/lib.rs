//! A cluster, a web server and clients on hosts of their own, what befalls them, and what it costs.
//!
//! [`inside`] runs the program again in namespaces of its own; [`network`] makes the hosts and the [`link`]s between them;
//! [`etcd`] and [`cluster`] start the nodes, [`traffic`] nginx and its visitors, [`keys`] a client that makes keys.
//! [`trial`] does one [`fault`] many times and looks at what came of it; [`results`] is what remains, for [`markdown`] and
//! [`picture`].
#![deny(unsafe_code)]

pub mod cluster;
pub mod etcd;
pub mod fault;
pub mod inside;
pub mod keys;
pub mod link;
pub mod markdown;
pub mod network;
pub mod options;
pub mod picture;
pub mod results;
#[allow(unsafe_code)] // the ioctl that makes a network device
pub mod tap;
pub mod traffic;
pub mod trial;
