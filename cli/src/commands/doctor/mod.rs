//! `strongroom doctor`: finds the usual mistakes between a server and its key, and says the remedy.
//!
//! It only looks: no password is tried, nothing is written, no key is used.

mod daemon;
mod files;
mod openssl;
mod openssl_conf;
mod pin;
mod server;

use std::env;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::files::Person;
use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Cell, Output, Page, Report, Tone};

/// The help of `strongroom doctor`.
pub const ABOUT: &str = "Find the usual mistakes between a server and its key, and say the remedy.\n\n\
    Looks at the daemon and its socket, at openssl.cnf (the file that --openssl-conf or OPENSSL_CONF names, else \
    /etc/strongroom/openssl.cnf), at PIN files, at versions, and at the certificates and keys of the servers' \
    configuration files that are given (nginx, Apache, HAProxy, stunnel, lighttpd, PostgreSQL). It only looks: no PIN is \
    tried, so none is used up.\n\n\
    Exit code 0: no problem was found (there may be warnings). 1: there are problems. 2: the command line is wrong.\n\n\
    Examples:\n  strongroom doctor\n  strongroom doctor /etc/nginx/sites-enabled/shop.conf\n  \
    strongroom doctor --user www-data /etc/apache2/sites-enabled/shop.conf\n  strongroom doctor --json | jq '.findings[] | \
    select(.severity == \"problem\")'";

/// `strongroom doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Configuration files of servers, whose certificates and keys are looked at
    #[arg(value_name = "FILE")]
    servers: Vec<PathBuf>,
    /// The configuration of OpenSSL that the servers use
    #[arg(long, value_name = "FILE")]
    openssl_conf: Option<PathBuf>,
    /// As whom the servers use the key; files have to be readable for this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Looked at, and well.
    Ok,
    /// It works, and should be otherwise.
    Warning,
    /// It does not work.
    Problem,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    /// For programs: stable.
    code: &'static str,
    severity: Severity,
    /// The file, socket or partition.
    subject: String,
    message: String,
    /// What to do; empty if nothing is to be done.
    remedy: String,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, code: &'static str, subject: impl ToString, message: impl Into<String>) {
        self.add(code, Severity::Ok, subject, message, "");
    }

    fn warn(
        &mut self,
        code: &'static str,
        subject: impl ToString,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(code, Severity::Warning, subject, message, remedy);
    }

    fn problem(
        &mut self,
        code: &'static str,
        subject: impl ToString,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(code, Severity::Problem, subject, message, remedy);
    }

    fn add(
        &mut self,
        code: &'static str,
        severity: Severity,
        subject: impl ToString,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            code,
            severity,
            subject: subject.to_string(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl Report for Findings {
    fn text(&self, page: &mut Page) {
        let rows = self.findings.iter().map(|finding| {
            let (word, tone) = match finding.severity {
                Severity::Ok => ("ok", Tone::Good),
                Severity::Warning => ("warning", Tone::Doubtful),
                Severity::Problem => ("PROBLEM", Tone::Bad),
            };
            let remedy = match finding.remedy.as_str() {
                "" => String::new(),
                remedy => format!(" – {remedy}"),
            };
            let what = format!("{}: {}{remedy}", finding.subject, finding.message);
            vec![Cell::toned(word, tone), Cell::from(what)]
        });
        page.table(&["", ""], rows.collect());
        let (problems, warnings) = (self.count(Severity::Problem), self.count(Severity::Warning));
        page.line(format!("{problems} problems, {warnings} warnings"));
    }
}

impl Doctor {
    /// Looks at everything and prints what was found.
    ///
    /// # Errors
    ///
    /// If there are problems, if the user does not exist, or if nothing can be printed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let mut findings = Findings::default();
        let mut node = daemon::look(global, &mut findings);
        let sites: Vec<_> =
            self.servers.iter().filter_map(|path| server::Site::read(path, &mut findings)).collect();
        let named = self.user.as_deref().or_else(|| sites.iter().find_map(|site| site.user.as_deref()));
        let person = named.map(Person::named).transpose()?;
        let chosen = self.openssl_conf.or_else(|| env::var_os("OPENSSL_CONF").map(PathBuf::from));
        let conf = chosen.unwrap_or_else(|| "/etc/strongroom/openssl.cnf".into());
        openssl_conf::look(&conf, person.as_ref(), &mut findings);
        openssl::look(&conf, &mut findings);
        for site in &sites {
            site.look(node.as_mut(), person.as_ref(), &mut findings);
        }
        output.print(&findings)?;
        match findings.count(Severity::Problem) {
            0 => Ok(()),
            count => Err(Failure::new(Exit::Failed, "problems", format!("{count} problems were found"))),
        }
    }
}
