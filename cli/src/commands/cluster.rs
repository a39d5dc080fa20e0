//! `strongroom cluster`: nodes that hold the same partitions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_protocol::client::Connection;
use strongroom_protocol::v1::{
    AdmitNode, ClusterInfo, ExpelNode, InitCluster, JoinCluster, LeaveCluster, ShowCluster, request::Op,
    response,
};

use crate::args::Global;
use crate::commands::{confirm, moment, owner};
use crate::failure::Failure;
use crate::output::{Cell, Output, Page, Report, Tone};
use crate::session::{self, answer};

/// What `strongroom cluster --help` says.
pub const ABOUT: &str = "\
Make several nodes one: they hold the same partitions, and any of them signs. The partitions lie in etcd, sealed; each \
strongroomd is started with --etcd, --etcd-ca, --etcd-cert and --etcd-key.

  strongroom cluster init                                 on the node that has the keys

  strongroom node request --out node2.csr                 on a new node, which has no partitions
  openssl x509 -req -in node2.csr -CA PO.crt -CAkey PO.key -days 825 -out node2.crt
                                                          the owner of each partition: the agreement
  strongroom cluster admit node2.crt                      on a node of the cluster
  strongroom cluster join --owner PO.crt                  on the new node, within an hour

  strongroom cluster status                               on each

  strongroom cluster leave                                on a node that goes
  strongroom cluster expel NODE                           for one that is broken or stolen, on another one";

const INIT: &str = "\
Make a cluster of this node: its partitions, with all keys and users, move to etcd. The node's own key, its \
certificates and its audit log stay here. Signatures go on meanwhile, but for the moment in which the keys are read \
from there; changes wait. What interrupts it leaves the node as it was, or a node of the cluster with all keys.

There is no way back but a backup: 'strongroom backup create' first.

strongroomd has to know where etcd is (--etcd https://HOST:2379,…). To let other nodes in, the node needs a \
certificate of each partition's owner: 'strongroom node request --help'.

  strongroom cluster init
  strongroom cluster init --yes --json";

const ADMIT: &str = "\
Let a new node into the cluster of this one. The certificates are those that the partitions' owners have made of the \
request that 'strongroom node request' writes on the new node: one of each owner, who agrees by that. The new node \
has an hour to join.

  strongroom cluster admit node2.crt
  strongroom cluster admit node2-by-alice.crt node2-by-bob.crt";

const JOIN: &str = "\
Make this node one of the cluster to which it was admitted. The owner's certificate says whose cluster that has to \
be: take it from a place that you trust, not from etcd or the network. With several owners, one is enough.

The node has no partitions of its own: a new state directory, or 'strongroom backup create' and 'strongroom partition \
delete' for each, first.

  strongroom cluster join --owner PO.crt";

const LEAVE: &str = "\
Take this node out of its cluster: to replace the machine, or to use it for something else. Its partitions are gone from \
it then, with all keys; the other nodes have them. The node keeps its own key and its audit log, and may join again, or \
make partitions of its own.

Those who stay get a new key of the cluster and of each partition, so that a copy of this node's disk opens nothing that \
is written from now on. Log-ins on them go on; their tickets are worth nothing, so new connections give the password again.

The last node cannot leave: with it the keys would be gone. To have them on one machine again, back the partitions up \
and restore them there.

  strongroom cluster leave
  strongroom cluster leave --yes --json";

const EXPEL: &str = "\
Take another node out of the cluster, also one that does not run: its machine is broken, lost or stolen. 'strongroom \
cluster status' lists the nodes. The node cannot change or read anything that is written from now on. When it comes \
back, or if it runs, it finds out, forgets the cluster's keys, and says so to whoever asks.

A node that reaches neither etcd nor this one goes on signing until its lease is over ('strongroom cluster status' says \
how long that is). Whoever has its disk and its seal may have the private keys that it had: make new ones if you have to \
think so ('strongroom key rotate'). Take its certificate for etcd away, too.

  strongroom cluster expel 0f3a52c1d97be640
  strongroom cluster expel 0f3a52c1d97be640 --yes --json";

const STATUS: &str = "\
Show the cluster as this node sees it: the nodes, the last change that it has, whether a majority of etcd's members \
answers, and for how long keys can be used without.

Exit code 0: a majority answers. 3: none does. 1: this node is of no cluster.

  strongroom cluster status
  strongroom cluster status --json";

/// Moving a hundred thousand keys takes its time.
const MOVE: Duration = Duration::from_secs(15 * 60);

/// `strongroom cluster`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Make a cluster of this node: its partitions move to etcd (as root)
    #[command(long_about = INIT)]
    Init(Init),
    /// Let a new node into the cluster, with the owners' certificates (as root)
    #[command(long_about = ADMIT)]
    Admit(Admit),
    /// Make this node one of the cluster to which it was admitted (as root)
    #[command(long_about = JOIN)]
    Join(Join),
    /// Take this node out of its cluster (as root)
    #[command(long_about = LEAVE)]
    Leave(Leave),
    /// Take another node out of the cluster (as root)
    #[command(long_about = EXPEL)]
    Expel(Expel),
    /// Show the nodes, and whether a majority of etcd answers
    #[command(long_about = STATUS)]
    Status,
}

/// `strongroom cluster init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `strongroom cluster admit`.
#[derive(Debug, Args)]
pub struct Admit {
    /// The new node's certificate (PEM); of each owner, if there are several
    #[arg(required = true, value_name = "CERTIFICATE")]
    certificates: Vec<PathBuf>,
}

/// `strongroom cluster join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The certificate (PEM) of a partition's owner, from a place that you trust; may be repeated
    #[arg(long, required = true, value_name = "FILE")]
    owner: Vec<PathBuf>,
}

/// `strongroom cluster leave`.
#[derive(Debug, Args)]
pub struct Leave {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

fn node_name(text: &str) -> Result<String, String> {
    match text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => {
            Err("not 16 hexadecimal digits: 'strongroom cluster status' shows the nodes' names".to_owned())
        }
    }
}

/// `strongroom cluster expel`.
#[derive(Debug, Args)]
pub struct Expel {
    /// The node's name: 16 hexadecimal digits, as 'strongroom cluster status' shows it
    #[arg(value_parser = node_name)]
    node: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Left {
    left: bool,
}

impl Report for Left {
    fn text(&self, page: &mut Page) {
        page.line("This node is of no cluster any more, and has no partition.");
    }
}

/// The cluster as a node sees it.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// What has happened; nothing if it is only looked at.
    #[serde(skip)]
    sentence: &'static str,
    /// `null`: the node is of none.
    cluster: Option<String>,
    /// This one.
    node: Option<String>,
    members: Vec<Member>,
    /// etcd's revision of the last change that this node has.
    revision: u64,
    /// Changes that this node does not have yet.
    lag: u64,
    /// Of etcd's members.
    majority: bool,
    alone_seconds: u64,
    lease_seconds: u64,
    lease_left_seconds: u64,
    etcd: Vec<String>,
    /// The cluster that this node was expelled from, and by which node.
    expelled: Option<Expelled>,
}

#[derive(Debug, Serialize)]
struct Expelled {
    cluster: String,
    by: String,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    /// RFC 3339.
    since: String,
    this: bool,
}

impl From<ClusterInfo> for Shown {
    fn from(info: ClusterInfo) -> Self {
        Shown::of("", info)
    }
}

impl Shown {
    /// For `strongroom status`: one line.
    pub fn line(&self, page: &mut Page) {
        let lag = match self.lag {
            0 => String::new(),
            lag => format!(", {lag} changes not here yet"),
        };
        page.line(format!(
            "cluster      {} nodes{lag}; majority of etcd: {}; see 'strongroom cluster status'",
            self.members.len(),
            self.majority().text()
        ));
    }

    fn of(sentence: &'static str, info: ClusterInfo) -> Self {
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let members = info.members.into_iter().map(|member| Member {
            this: member.name == info.node,
            since: moment(member.since),
            name: member.name,
        });
        Shown {
            sentence,
            members: members.collect(),
            cluster: named(info.cluster),
            node: named(info.node),
            revision: info.revision,
            lag: info.lag,
            majority: info.majority,
            alone_seconds: info.alone_millis / 1000,
            lease_seconds: info.lease_millis / 1000,
            lease_left_seconds: info.lease_left_millis / 1000,
            etcd: info.etcd,
            expelled: named(info.expelled_from).map(|cluster| Expelled { cluster, by: info.expelled_by }),
        }
    }

    fn majority(&self) -> Cell {
        match (self.majority, self.lease_left_seconds) {
            (true, _) => Cell::toned("answers", Tone::Good),
            (false, 0) => Cell::toned(
                format!("none for {} s: keys are not used, nothing can be changed", self.alone_seconds),
                Tone::Bad,
            ),
            (false, left) => Cell::toned(
                format!(
                    "none for {} s: keys are used for {left} s more, nothing can be changed",
                    self.alone_seconds
                ),
                Tone::Doubtful,
            ),
        }
    }
}

impl Report for Shown {
    fn text(&self, page: &mut Page) {
        if !self.sentence.is_empty() {
            page.line(self.sentence);
        }
        if let Some(Expelled { cluster, by }) = &self.expelled {
            page.line(format!("This node was expelled from the cluster {cluster} by its node {by}, and has none of its keys."));
        }
        let Some(cluster) = &self.cluster else {
            return page
                .line("This node is of no cluster. 'strongroom cluster --help' says how to make one.");
        };
        let changes = match self.lag {
            0 => Cell::from("all are here"),
            lag => Cell::toned(format!("{lag} not here yet"), Tone::Doubtful),
        };
        page.fields([
            ("cluster", cluster.as_str().into()),
            ("this node", self.node.as_deref().unwrap_or("without a name").into()),
            ("revision", self.revision.to_string().into()),
            ("changes", changes),
            ("majority of etcd", self.majority()),
            ("lease", format!("{} s", self.lease_seconds).into()),
            ("etcd", self.etcd.join(", ").into()),
        ]);
        let rows = self.members.iter().map(|member| {
            vec![
                member.name.as_str().into(),
                member.since.as_str().into(),
                if member.this { "this one" } else { "" }.into(),
            ]
        });
        page.line("");
        page.table(&["NODE", "SINCE", ""], rows.collect());
    }
}

#[derive(Debug, Serialize)]
struct Admitted {
    node: String,
}

impl Report for Admitted {
    fn text(&self, page: &mut Page) {
        page.line(format!("Node {} is admitted. On that node, within an hour:", self.node));
        page.line("  strongroom cluster join --owner PO.crt");
    }
}

impl Cluster {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Cluster::Init(init) => init.run(global, output),
            Cluster::Admit(admit) => admit.run(global, output),
            Cluster::Join(join) => join.run(global, output),
            Cluster::Leave(leave) => leave.run(global, output),
            Cluster::Expel(expel) => expel.run(global, output),
            Cluster::Status => status(global, output),
        }
    }
}

/// The cluster of the node that answers. Neither etcd nor a change that waits for it holds this up.
///
/// # Errors
///
/// The daemon's refusal.
pub fn standing(connection: &mut Connection) -> Result<ClusterInfo, Failure> {
    answer!(connection.call(0, Op::ShowCluster(ShowCluster {})), Cluster)
}

/// Sends what may take long: the whole store moves.
fn patiently(connection: &mut Connection, op: Op) -> Result<response::Result, Failure> {
    connection.set_reply_deadline(MOVE)?;
    Ok(connection.call(0, op)?)
}

fn status(global: &Global, output: Output) -> Result<(), Failure> {
    let mut connection = session::connect(global)?;
    let shown = Shown::of("", standing(&mut connection)?);
    output.print(&shown)?;
    match (&shown.cluster, shown.majority) {
        (Some(_), true) => Ok(()),
        (Some(_), false) => Err(Failure::new(
            crate::failure::Exit::Unreachable,
            "no_quorum",
            "no majority of etcd's members answers: see that they run, and that this machine reaches them",
        )),
        (None, _) => {
            Err(Failure::new(crate::failure::Exit::Failed, "no_cluster", "this node is of no cluster"))
        }
    }
}

impl Init {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        confirm(
            self.yes,
            "Move this node's partitions, with all keys, to etcd? There is no way back but a backup",
        )?;
        let mut connection = session::connect(global)?;
        let info = patiently(&mut connection, Op::InitCluster(InitCluster {}));
        output.print(&Shown::of(
            "The partitions are in etcd, and this node is of the cluster.",
            answer!(info, Cluster)?,
        ))
    }
}

impl Admit {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let read = |path| Ok(owner::read_signed(path)?.der().to_vec());
        let certificates = self.certificates.iter().map(|path| read(path)).collect::<Result<_, Failure>>()?;
        let mut connection = session::connect(global)?;
        let admitted = patiently(&mut connection, Op::AdmitNode(AdmitNode { certificates }));
        output.print(&Admitted { node: answer!(admitted, NodeAdmitted)?.node })
    }
}

impl Join {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let read = |path| Ok(owner::read_owner(path)?.certificate().der().to_vec());
        let owners = self.owner.iter().map(|path| read(path)).collect::<Result<_, Failure>>()?;
        let mut connection = session::connect(global)?;
        let info = patiently(&mut connection, Op::JoinCluster(JoinCluster { owners }));
        output.print(&Shown::of("This node is of the cluster now.", answer!(info, Cluster)?))
    }
}

impl Leave {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        confirm(
            self.yes,
            "Take this node out of its cluster? Its partitions and keys stay on the other nodes only",
        )?;
        let mut connection = session::connect(global)?;
        let left = patiently(&mut connection, Op::LeaveCluster(LeaveCluster {}));
        answer!(left, Done)?;
        output.print(&Left { left: true })
    }
}

impl Expel {
    fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        confirm(
            self.yes,
            &format!("Take the node {} out of the cluster, with all that it knows?", self.node),
        )?;
        let mut connection = session::connect(global)?;
        let expelled = patiently(&mut connection, Op::ExpelNode(ExpelNode { node: self.node }));
        output.print(&Shown::of("The node is of the cluster no more.", answer!(expelled, Cluster)?))
    }
}
