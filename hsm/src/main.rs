//! strongroomd: keeps keys in partitions and signs with them, for programs on this machine.

mod arguments;

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{LazyLock, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use strongroom_hsm::vault::Vault;
use strongroom_hsm::web::{Address, Door};
use strongroom_hsm::{Config, Daemon};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps private keys in partitions and signs with them, for programs on this machine.
///
/// Starts without any configuration. Run by root it keeps its state in /var/lib/strongroom and listens on
/// /run/strongroom/strongroomd.sock; run by anybody else, in that user's own directories. Stays in the
/// foreground and logs to stderr; SIGTERM or ctrl-C stops it.
///
/// Next: 'strongroom init' makes a partition, 'strongroom key generate' a key in it.
#[derive(Debug, Parser)]
#[command(version, long_version = LONG_VERSION.as_str())]
struct Arguments {
    /// Where the sealed store and the key that opens it are kept [default: /var/lib/strongroom for root,
    /// ~/.local/state/strongroom for others].
    #[arg(long, value_name = "DIRECTORY", env = "STRONGROOM_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Where to listen [default: /run/strongroom/strongroomd.sock for root,
    /// $XDG_RUNTIME_DIR/strongroom/strongroomd.sock for others].
    #[arg(long, value_name = "PATH", env = "STRONGROOM_SOCKET")]
    socket: Option<PathBuf>,
    /// Permissions of the socket, octal [default: 666 for root, 600 for others]. Whoever may connect still has
    /// to log in, or be admitted by user id.
    #[arg(long, value_name = "MODE", value_parser = octal)]
    socket_mode: Option<u32>,
    /// Where to show metrics (/metrics, for Prometheus), health (/healthz, /readyz) and a page for people (/): an
    /// address like 127.0.0.1:9823, or the path of a socket, with the permissions of --socket-mode. May be given
    /// several times. Off by default: every user of the machine could look.
    #[arg(long, value_name = "ADDRESS", env = "STRONGROOM_METRICS", value_delimiter = ',')]
    metrics: Vec<Address>,
    /// Let --metrics be an address that other machines reach. They get metrics and health, not the page, without
    /// encryption and without a log-in: a firewall has to say who.
    #[arg(long)]
    metrics_from_anywhere: bool,
    #[command(flatten)]
    audit: arguments::Audit,
    #[command(flatten)]
    network: arguments::Network,
    #[command(flatten)]
    cluster: arguments::Cluster,
    /// How to write the log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, or a filter like 'strongroom_hsm::connection=debug'.
    #[arg(long, value_name = "FILTER", env = "STRONGROOM_LOG", default_value = "info", value_parser = log_filter)]
    log: String,
}

/// What `--version` says: the release, and what computes in this build.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let module = strongroom_hsm::crypto::aws_lc::module();
    format!("{}\ncomputes with {module} (docs/fips.md)", env!("CARGO_PKG_VERSION"))
});

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
}

/// Looked at before there is a log that an error could be written to.
fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("it is empty: error, warn, info, debug, or a filter".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    // (A number may begin with a sign, permissions may not.)
    let digits = text.bytes().all(|digit| digit.is_ascii_digit()).then_some(text);
    let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| "not like 660".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("strongroomd does not start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log).context("--log")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A log that takes no more (a full disk) is no reason for a thread to die: said where it fails too, it would.
        .log_internal_errors(false);
    match arguments.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    strongroom_hsm::memory::process::harden();
    let network = arguments.network.listeners()?;
    let mut config = Config::of_user(rustix::process::geteuid().as_raw());
    config.state_dir = arguments.state_dir.unwrap_or(config.state_dir);
    config.socket = arguments.socket.unwrap_or(config.socket);
    config.socket_mode = arguments.socket_mode.unwrap_or(config.socket_mode);
    anyhow::ensure!(
        !arguments.metrics_from_anywhere || !arguments.metrics.is_empty(),
        "--metrics-from-anywhere is for --metrics, and there is no address for them: --metrics 0.0.0.0:9823"
    );
    for address in &arguments.metrics {
        anyhow::ensure!(
            arguments.metrics_from_anywhere || !address.is_exposed(),
            "--metrics {address} can be reached from other machines: take 127.0.0.1, or say --metrics-from-anywhere"
        );
    }
    config.audit = arguments.audit.options()?;
    config.cluster = arguments.cluster.options()?;
    let inherited = Inherited::take()?;
    let mut doors = inherited.doors;
    for address in &arguments.metrics {
        doors.push(Door::open(address, config.socket_mode).context("--metrics")?);
    }
    // Before the first thread: what is given up is given up by those that come after.
    strongroom_hsm::daemon::make_directories(&config)?;
    strongroom_hsm::confinement::confine(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting")?;
    let done = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        // On a thread of its own: etcd may keep it waiting, and a signal has to end it meanwhile.
        let mut starting = tokio::task::spawn_blocking(|| Daemon::start(config, inherited.socket));
        let started = tokio::select! {
            started = &mut starting => started.context("starting")?,
            _ = terminate.recv() => return stopped_early(),
            _ = interrupt.recv() => return stopped_early(),
        };
        let daemon = started?.with_doors(doors).with_network(network);
        tokio::spawn(say_when_ready(daemon.vault()));
        daemon
            .serve(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            })
            .await;
        Ok(())
    });
    // A start that was ended is not waited for.
    runtime.shutdown_background();
    done
}

fn stopped_early() -> anyhow::Result<()> {
    tracing::info!("strongroomd was stopped before it had started");
    Ok(())
}

/// How often is looked whether the node has its partitions.
const LOOK: Duration = Duration::from_millis(200);

/// For so long systemd waits on, each time that it is told to.
const LONGER: Duration = Duration::from_secs(60);

/// Tells systemd that the daemon is ready: when it has its partitions, or does not have them for a reason that its owner has to end.
async fn say_when_ready(vault: Weak<Vault>) {
    let mut said = None;
    while vault.upgrade().is_some_and(|vault| vault.is_waiting()) {
        if said.is_none_or(|said: Instant| said.elapsed() > LONGER / 4) {
            said = Some(Instant::now());
            let _ = sd_notify::notify(&[
                sd_notify::NotifyState::Status("waits for a majority of etcd's members"),
                sd_notify::NotifyState::ExtendTimeoutUsec(LONGER.as_micros() as u32),
            ]);
        }
        tokio::time::sleep(LOOK).await;
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("")]);
}

/// The listening sockets that systemd hands over (socket activation).
#[derive(Default)]
struct Inherited {
    /// For clients.
    socket: Option<UnixListener>,
    /// For metrics: those that systemd calls "metrics" (FileDescriptorName).
    doors: Vec<Door>,
}

impl Inherited {
    fn take() -> anyhow::Result<Self> {
        let mut inherited = Self::default();
        for (socket, name) in sd_notify::listen_fds_with_names().context("socket activation")? {
            // SAFETY: by systemd's protocol this descriptor was opened for this process, which has not used it yet.
            let socket = unsafe { OwnedFd::from_raw_fd(socket) };
            match name.as_str() {
                "metrics" => inherited.doors.push(Door::inherited(socket).context("socket activation")?),
                _ => {
                    let before = inherited.socket.replace(UnixListener::from(socket));
                    anyhow::ensure!(
                        before.is_none(),
                        "socket activation with more than one socket for clients: those for metrics are called \
                         FileDescriptorName=metrics"
                    );
                }
            }
        }
        Ok(inherited)
    }
}
