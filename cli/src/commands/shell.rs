//! `strongroom completions` and `strongroom man`: made from the command line's own definition.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::{Output, Page, Report};

/// What `strongroom completions --help` says.
pub const COMPLETIONS: &str = "\
Print the completion script for a shell.

  bash:  strongroom completions bash > /etc/bash_completion.d/strongroom
  zsh:   strongroom completions zsh > \"${fpath[1]}/_strongroom\"
  fish:  strongroom completions fish > ~/.config/fish/completions/strongroom.fish";

/// `strongroom completions`.
#[derive(Debug, Args)]

pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "strongroom", &mut script);
        match io::stdout().lock().write_all(&script) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::file("write", "standard output".as_ref(), &e))
            }
            _ => Ok(()),
        }
    }
}

/// What `strongroom man --help` says.
pub const MAN: &str = "\
Write the manual pages into a directory: strongroom.1 and one page for each command.

  strongroom man /usr/local/share/man/man1";

/// `strongroom man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The directory; it is made if it does not exist
    directory: PathBuf,
}

#[derive(Debug, Serialize)]
struct Pages {
    pages: Vec<PathBuf>,
}

impl Report for Pages {
    fn text(&self, page: &mut Page) {
        for path in &self.pages {
            page.line(path.display().to_string());
        }
    }
}

impl Man {
    /// Writes the pages.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written.
    pub fn run(self, output: Output) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::file("write manual pages into", &self.directory, &e);
        fs::create_dir_all(&self.directory).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(failed)?;
        let mut pages = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("strongroom") && name.ends_with(".1") {
                pages.push(path);
            }
        }
        pages.sort();
        output.print(&Pages { pages })
    }
}
