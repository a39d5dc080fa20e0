//! The C boundary that Strongroom's two libraries share.
//!
//! Everything that crosses between C and Rust goes through here: [`mod@fence`] around each entry point,
//! [`mod@pointer`] from raw pointers to references and slices, [`output`] for C's "ask for the size, then give a
//! buffer" calls.

pub mod fence;
mod library;
pub mod output;
pub mod pointer;
mod process;

pub use fence::fence;
pub use library::library_directory;
pub use process::process_generation;
