//! The connection of one command: which daemon, which partition, as whom.

use std::time::Duration;

use strongroom_protocol::client::{Connection, Deadlines};
use strongroom_protocol::node::Node;
use strongroom_protocol::settings::Settings;
use strongroom_protocol::v1::{
    ChangePassword, ListPartitions, Login, PartitionInfo, Role, request::Op, response,
};
use zeroize::Zeroizing;

use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::password::{self, Password};

/// Takes the expected kind of answer out of a call's result.
macro_rules! answer {
    ($result:expr, $kind:ident) => {
        match $result {
            Ok(strongroom_protocol::v1::response::Result::$kind(answer)) => Ok(answer),
            Ok(_) => Err($crate::failure::Failure::unexpected_answer()),
            Err(failure) => Err($crate::failure::Failure::from(failure)),
        }
    };
}
pub(crate) use answer;

/// Names a role as people do.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::CryptoOfficer => "crypto officer",
        Role::CryptoUser => "crypto user",
        Role::ApplianceUser => "appliance user",
        Role::Unspecified => "nobody",
    }
}

/// The nodes that this command may connect to, in the order in which it tries them.
///
/// # Errors
///
/// If the settings are wrong, or a file that they name.
pub fn nodes(global: &Global) -> Result<Vec<Node>, Failure> {
    if let Some(socket) = &global.socket {
        return Ok(vec![Node::unix(socket)]);
    }
    let mut settings = Settings::of_user(rustix::process::getuid().as_raw())?;
    if !global.nodes.is_empty() {
        settings.nodes.clone_from(&global.nodes);
    }
    Ok(settings.reach()?)
}

/// How long making a key may take: an RSA-4096 key seconds, on a busy machine many.
const GENERATION: Duration = Duration::from_secs(120);

/// Connects to the first node that answers.
///
/// # Errors
///
/// If none does: what was wrong with each.
pub fn connect(global: &Global) -> Result<Connection, Failure> {
    let mut failure: Option<Failure> = None;
    for node in nodes(global)? {
        match Connection::open_node(&node, "strongroom", Deadlines::default()) {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                let this = Failure::from(error);
                failure = Some(match failure {
                    None => this,
                    Some(before) => before.with_remedy(&this.to_string()),
                });
            }
        }
    }
    Err(failure.unwrap_or_else(|| Failure::usage("no node is named")))
}

/// Waits for replies as long as making a key, or looking at a whole store, may take.
///
/// # Errors
///
/// If the connection is broken.
pub fn be_patient(connection: &mut Connection) -> Result<(), Failure> {
    Ok(connection.set_reply_deadline(GENERATION)?)
}

/// Lists the daemon's partitions.
///
/// # Errors
///
/// If the daemon does not answer.
pub fn partitions(connection: &mut Connection) -> Result<Vec<PartitionInfo>, Failure> {
    let reply = connection.call(0, Op::ListPartitions(ListPartitions {}));
    Ok(answer!(reply, Partitions)?.partitions)
}

/// A connection for one partition.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    partition: PartitionInfo,
    /// Whether it is a password that gives it its rights, and not the caller's user id.
    logged_in: bool,
}

impl Session {
    /// Connects and chooses the partition. Logs in if `--login` or `--password-file` was given, in
    /// `role`; otherwise acts by the caller's user id.
    ///
    /// # Errors
    ///
    /// If there is no daemon or no such partition, if several partitions are there and none was named, or if
    /// the log-in fails.
    pub fn open(global: &Global, output: Output, role: Role) -> Result<Self, Failure> {
        Session::open_partition(global, output, global.partition.as_deref(), role)
    }

    /// As [`Session::open`], for the partition that `wanted` names.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub fn open_partition(
        global: &Global,
        output: Output,
        wanted: Option<&str>,
        role: Role,
    ) -> Result<Self, Failure> {
        let mut session = Session::to_partition(global, wanted)?;
        if global.login.is_some() || global.password_file.is_some() {
            let user = global.login.as_deref().unwrap_or_default();
            let password = match &global.password_file {
                Some(path) => password::from_file(path, output)?,
                None if password::interactive() => password::ask(&format!("Password of {user}"))?,
                None => {
                    return Err(Failure::usage(format!(
                        "no password for {user}: there is no terminal to ask at; give --password-file FILE, \
                         or - for standard input"
                    )));
                }
            };
            session.log_in(role, user, &password)?;
        }
        Ok(session)
    }

    /// As [`Session::open`], for what users of several roles may do: a user who is named logs in in the own role,
    /// `role` is that of the only user who is meant otherwise.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub fn open_in_own_role(global: &Global, output: Output, role: Role) -> Result<Self, Failure> {
        let role = if global.login.is_some() { Role::Unspecified } else { role };
        Session::open(global, output, role)
    }

    /// Connects and chooses the partition, and leaves `--login` and `--password-file` to the caller.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub fn open_without_log_in(global: &Global) -> Result<Self, Failure> {
        Session::to_partition(global, global.partition.as_deref())
    }

    fn to_partition(global: &Global, wanted: Option<&str>) -> Result<Self, Failure> {
        let mut connection = connect(global)?;
        let all = partitions(&mut connection)?;
        let partition = choose(all, wanted)?;
        if !partition.damaged.is_empty() {
            let message = format!("partition {:?} is damaged: {}", partition.label, partition.damaged);
            return Err(Failure::new(Exit::Failed, "damaged", message));
        }
        Ok(Session { connection, partition, logged_in: false })
    }

    /// Waits for replies as long as making a key may take.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    pub fn be_patient(&mut self) -> Result<(), Failure> {
        be_patient(&mut self.connection)
    }

    /// The partition.
    pub fn partition(&self) -> &PartitionInfo {
        &self.partition
    }

    /// Whether requests already act with a crypto user's rights: only then private keys can be seen.
    pub fn is_crypto_user(&self) -> bool {
        self.partition.acting_role() == Role::CryptoUser
    }

    /// Makes sure that the session acts as a crypto user, asking for a password if that is needed and
    /// somebody is there to be asked. For requests that would quietly leave out what they may not show.
    ///
    /// # Errors
    ///
    /// If nobody is there, or the log-in fails.
    pub fn require_crypto_user(&mut self) -> Result<(), Failure> {
        if self.is_crypto_user() {
            return Ok(());
        }
        let message = format!(
            "private keys of partition {:?} are shown to its crypto users only",
            self.partition.label
        );
        self.log_in_at_terminal(Role::CryptoUser, Failure::new(Exit::NotPermitted, "not_logged_in", message))
    }

    /// Sends a request that needs `role`. If the daemon asks for a log-in and somebody is at the terminal,
    /// asks for the password and sends it once more; so `op` makes the request anew each time.
    ///
    /// # Errors
    ///
    /// The daemon's refusal, with a remedy where a log-in is what is missing.
    pub fn call(&mut self, role: Role, op: impl Fn() -> Op) -> Result<response::Result, Failure> {
        let refused = match self.try_call(op()) {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let log_in_helps = match refused.code() {
            "not_logged_in" => true,
            // The caller's user id acts in another role.
            "not_permitted" => !self.logged_in && self.partition.acting_role() != role,
            _ => false,
        };
        if !log_in_helps {
            return Err(refused);
        }
        self.log_in_at_terminal(role, refused)?;
        self.try_call(op())
    }

    /// The partition's number and the connection, for requests that are not only about the partition.
    pub fn into_connection(self) -> (u32, Connection) {
        (self.partition.number, self.connection)
    }

    /// Sends a request with the rights that the session has.
    ///
    /// # Errors
    ///
    /// The daemon's refusal.
    pub fn try_call(&mut self, op: Op) -> Result<response::Result, Failure> {
        Ok(self.connection.call(self.partition.number, op)?)
    }

    /// Logs in. An empty `user` is the only user of that role. Who logs in with a password that somebody else has
    /// set is asked for another one, if there is a terminal to ask at; elsewhere the daemon refuses what comes next.
    ///
    /// # Errors
    ///
    /// The daemon's refusal.
    pub fn log_in(&mut self, role: Role, user: &str, password: &Password) -> Result<(), Failure> {
        let login = Login {
            role: role as i32,
            user: user.to_owned(),
            password: password.to_string(),
            ticket: Vec::new(),
        };
        let mut reply =
            answer!(self.try_call(Op::Login(login)), Login).map_err(|failure| match failure.code() {
                "no_such_user" if user.is_empty() => failure.with_remedy("choose a user with --login NAME"),
                _ => failure,
            })?;
        drop(Zeroizing::new(std::mem::take(&mut reply.ticket)));
        self.partition.set_acting_role(reply.role());
        self.partition.acting_as = reply.user.clone();
        self.logged_in = true;
        if reply.must_change_password && password::interactive() {
            let prompt = format!("Somebody else has set the password of {}. New password", reply.user);
            self.change_password(&reply.user, password, &password::ask_new(&prompt)?)?;
        }
        Ok(())
    }

    /// Changes a password, by who knows the present one or, with none, as its crypto officer.
    ///
    /// # Errors
    ///
    /// The daemon's refusal.
    pub fn change_password(&mut self, name: &str, old: &Password, new: &Password) -> Result<(), Failure> {
        let change = ChangePassword {
            name: name.to_owned(),
            old_password: old.to_string(),
            new_password: new.to_string(),
        };
        answer!(self.try_call(Op::ChangePassword(change)), Done).map(drop)
    }

    fn log_in_at_terminal(&mut self, role: Role, refused: Failure) -> Result<(), Failure> {
        let name = role_name(role);
        if !password::interactive() {
            return Err(refused.with_remedy(&format!(
                "as a {name} with --login NAME --password-file FILE; or let a crypto officer admit your user id: 'strongroom user admit NAME {}'",
                rustix::process::getuid().as_raw()
            )));
        }
        let password =
            password::ask(&format!("Password of the {name} of partition {}", self.partition.label))?;
        self.log_in(role, "", &password)
    }
}

/// Picks the partition that `wanted` names (its label, or else its number), or the only one.
fn choose(mut all: Vec<PartitionInfo>, wanted: Option<&str>) -> Result<PartitionInfo, Failure> {
    let names = all.iter().map(|p| format!("{} ({:?})", p.number, p.label)).collect::<Vec<_>>().join(", ");
    let index = match wanted {
        Some(wanted) => {
            let number = wanted.parse().ok();
            let by_label = all.iter().position(|p| p.label == wanted);
            by_label.or_else(|| all.iter().position(|p| number == Some(p.number)))
        }
        None if all.len() > 1 => {
            return Err(Failure::usage(format!(
                "which partition? Name one with --partition LABEL or NUMBER; there are {names}"
            )));
        }
        None => all.first().map(|_| 0),
    };
    index.map(|index| all.swap_remove(index)).ok_or_else(|| {
        let message = match wanted {
            _ if names.is_empty() => {
                "there is no partition yet: make one with 'strongroom init LABEL'".to_owned()
            }
            Some(wanted) => format!("no partition {wanted:?}; there are {names}"),
            None => "there is no partition".to_owned(),
        };
        Failure::new(Exit::NotFound, "no_such_partition", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<PartitionInfo> {
        let named = |number, label: &str| PartitionInfo { number, label: label.into(), ..Default::default() };
        vec![named(1, "tls"), named(4, "1")]
    }

    #[test]
    fn a_label_goes_before_a_number() {
        assert_eq!(choose(two(), Some("tls")).unwrap().number, 1);
        assert_eq!(choose(two(), Some("1")).unwrap().number, 4);
        assert_eq!(choose(two(), Some("4")).unwrap().number, 4);
    }

    #[test]
    fn only_a_single_partition_needs_no_name() {
        assert_eq!(choose(two(), None).unwrap_err().exit(), Exit::Usage);
        assert_eq!(choose(two().split_off(1), None).unwrap().number, 4);
        assert_eq!(choose(Vec::new(), None).unwrap_err().exit(), Exit::NotFound);
        let unknown = choose(two(), Some("web")).unwrap_err();
        assert_eq!(unknown.exit(), Exit::NotFound);
        assert!(unknown.to_string().contains("tls"), "{unknown}");
    }
}
