//! One connection: connect, handshake, requests, and a close that leaves no trace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::http::Request;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::Failure;
use crate::record::Recorder;
use crate::schedule::Outstanding;
use crate::sessions::Sessions;

/// How long to wait for tickets that the server sends after the handshake.
const TICKETS_ARRIVE: Duration = Duration::from_secs(1);
/// How long to wait for the server to close its side.
const SERVER_CLOSES: Duration = Duration::from_millis(250);

/// What to connect to, and what to do there.
#[derive(Debug)]
pub struct Endpoint {
    /// Tried in order.
    pub addresses: Vec<SocketAddr>,
    /// Asked for, and verified.
    pub server_name: ServerName<'static>,
    /// The shared configuration.
    pub tls: Arc<ClientConfig>,
    /// Requests after the handshake.
    pub requests: u32,
    /// The request, without its empty body.
    pub request: Request<()>,
    /// Counted from when the connection was due.
    pub timeout: Duration,
    /// Where sessions are kept, if they are resumed.
    pub sessions: Option<Arc<Sessions>>,
}

impl Endpoint {
    /// Makes one connection, which was due at `due`, and records what became of it. Tells whether all went well.
    ///
    /// Returns when the connection's work is done. The close goes on in a task of its own, registered with
    /// `outstanding`: how quickly a server closes is not how quickly it serves.
    pub async fn visit(&self, due: Instant, recorder: &Recorder, outstanding: &Outstanding) -> bool {
        let deadline = tokio::time::Instant::from_std(due + self.timeout);
        match tokio::time::timeout_at(deadline, self.serve(due, recorder)).await {
            Ok(Ok(stream)) => {
                leave(stream, outstanding);
                return true;
            }
            Ok(Err(failure)) => recorder.failure(failure),
            Err(_) => recorder.failure(Failure::timeout()),
        }
        false
    }

    /// Makes a handshake that is not recorded, for the session that it leaves behind.
    ///
    /// # Errors
    ///
    /// Whatever made the handshake fail.
    pub async fn prime(&self, outstanding: &Outstanding) -> Result<(), Failure> {
        let handshake = async {
            let stream = self.handshake().await?;
            self.keep_session(stream).await
        };
        let stream = timeout(self.timeout, handshake).await.map_err(|_| Failure::timeout())??;
        leave(stream, outstanding);
        Ok(())
    }

    async fn serve(&self, due: Instant, recorder: &Recorder) -> Result<TlsStream<TcpStream>, Failure> {
        let mut stream = self.handshake().await?;
        recorder.handshake(due.elapsed(), stream.get_ref().1);
        if self.requests > 0 {
            stream = self.exchange(stream, recorder).await?;
        }
        self.keep_session(stream).await
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let tcp = self.connect().await?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(self.server_name.clone(), tcp).await?)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let mut result = Err(std::io::ErrorKind::AddrNotAvailable.into());
        for address in &self.addresses {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // The client writes twice in a row (Finished, then a request or close_notify). Nagle's algorithm
            // would hold the second back until the server's delayed acknowledgement, up to 40 ms later.
            socket.set_nodelay(true)?;
            result = socket.connect(*address).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn exchange(
        &self,
        stream: TlsStream<TcpStream>,
        recorder: &Recorder,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let requests = async move {
            for _ in 0..self.requests {
                let asked = Instant::now();
                let response =
                    sender.send_request(self.request.clone().map(|()| Empty::<Bytes>::new())).await?;
                let status = response.status();
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                if status.is_client_error() || status.is_server_error() {
                    return Err(Failure::status(status));
                }
                recorder.request(asked.elapsed());
            }
            Ok(())
        };
        // `requests` drops its sender at the end, which ends the connection's side too.
        let (requests, connection) = tokio::join!(requests, connection.without_shutdown());
        requests?;
        Ok(connection?.io.into_inner())
    }

    /// Reads until a ticket has come, if sessions are resumed.
    ///
    /// A TLS 1.3 server sends tickets after the handshake, and each serves once. A connection that used one
    /// up and did not wait for the next would leave its successor to make a full handshake.
    async fn keep_session(&self, mut stream: TlsStream<TcpStream>) -> Result<TlsStream<TcpStream>, Failure> {
        let comes_later = |stream: &TlsStream<TcpStream>| {
            let session = stream.get_ref().1;
            session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
                && session.tls13_tickets_received() == 0
        };
        if self.sessions.is_some() && comes_later(&stream) {
            let mut unexpected = [0; 1024];
            let arrive = async {
                // A read ends only with data or with the end of the connection, so look after each poll.
                std::future::poll_fn(|context| {
                    let read = std::pin::pin!(stream.read(&mut unexpected)).poll(context);
                    if read.is_ready() || !comes_later(&stream) {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                })
                .await;
            };
            // No ticket is no failure of this handshake: the report tells how many were resumed.
            let _ = timeout(TICKETS_ARRIVE, arrive).await;
        }
        Ok(stream)
    }
}

/// Says goodbye and lets the server close first.
///
/// Whoever closes first keeps the port in TIME_WAIT for a minute. If that were the client, its 28,000 ports
/// would be used up within seconds of a fast load, and connecting would fail or, where the kernel may reuse
/// such ports, become slow. Closing with SO_LINGER 0 frees the port but sends a reset, which can overtake
/// what the server has yet to read or send (TLS 1.3 tickets), and then the server reports a failed handshake
/// that was none. So: send close_notify, on which every server closes, and close when it has, off the
/// measured path. If it has not within a moment, this side closes first after all.
fn leave(stream: TlsStream<TcpStream>, outstanding: &Outstanding) {
    let (tcp, mut session) = stream.into_inner();
    session.send_close_notify();
    let mut farewell = Vec::with_capacity(64);
    let written = session.write_tls(&mut farewell).and_then(|_| tcp.try_write(&farewell));
    drop(session);
    if written.is_err() {
        // The server has closed already.
        return;
    }
    outstanding.spawn(async move {
        let until_closed = async {
            let mut rest = [0; 4096];
            while tcp.readable().await.is_ok() {
                match tcp.try_read(&mut rest) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        };
        let _ = timeout(SERVER_CLOSES, until_closed).await;
    });
}
