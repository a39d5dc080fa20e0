//! `strongroom page`: a link to the daemon's page.

use serde::Serialize;
use strongroom_protocol::v1::{PageReply, Role, ShowPage, request::Op};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Output, Page, Report};
use crate::session::{self, Session};

/// The help of `strongroom page`.
pub const ABOUT: &str = "Print a link to the daemon's page, which shows what you may see.\n\n\
    Anybody on the machine can look at the page: the node, its partitions, how much is done and how fast. With this \
    link it also lists the keys that you may list, for eight hours or until strongroomd stops. Whoever has the link sees \
    what you see (and can do nothing), so treat it as you would the list.\n\n\
    The daemon has a page if it was started with --metrics. From another machine: 'ssh -L 9823:127.0.0.1:9823 HOST', \
    then open the link there.\n\n\
    Examples:\n  strongroom page\n  strongroom page --partition tls --login admin\n  xdg-open \"$(strongroom page)\"";

#[derive(Debug, Serialize)]
struct View {
    links: Vec<String>,
}

impl Report for View {
    fn text(&self, page: &mut Page) {
        self.links.iter().for_each(|link| page.line(link));
    }
}

/// Asks for a pass and prints the link.
///
/// # Errors
///
/// If the daemon does not run, has no page, or a log-in fails.
pub fn run(global: &Global, output: Output) -> Result<(), Failure> {
    let op = || Op::ShowPage(ShowPage {});
    let reply = match global.login.is_some() || global.password_file.is_some() {
        true => Session::open_in_own_role(global, output, Role::CryptoUser)?.call(Role::CryptoUser, op),
        false => session::connect(global)?.call(0, op()).map_err(Failure::from),
    };
    let PageReply { addresses, pass } = match reply? {
        strongroom_protocol::v1::response::Result::Page(reply) => reply,
        _ => return Err(Failure::unexpected_answer()),
    };
    output.print(&View { links: addresses.iter().map(|address| format!("{address}#pass={pass}")).collect() })
}
