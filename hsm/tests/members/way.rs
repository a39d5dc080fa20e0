//! A way to a member of etcd that can be cut: a port of this host, and what comes there goes on to the member.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct State {
    is_cut: bool,
    connections: Vec<TcpStream>,
}

pub struct Way {
    here: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Way {
    pub fn to(member: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (here, member) = (listener.local_addr().unwrap(), member.to_owned());
        let state = Arc::<Mutex<State>>::default();
        let of = Arc::clone(&state);
        // Ends with the test's process.
        thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                let mut state = of.lock().unwrap();
                let Ok(there) = TcpStream::connect(&member) else { continue };
                if state.is_cut {
                    continue;
                }
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || pass_on(from, to));
                }
                state.connections.extend([here, there]);
            }
        });
        Way { here, state }
    }

    pub fn endpoint(&self) -> String {
        format!("https://{}", self.here)
    }

    /// Nothing comes through any more, and whoever is there is told so.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.state.lock().unwrap().is_cut = false;
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
