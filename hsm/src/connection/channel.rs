//! OpenChannel: the reply carries descriptors, which only the connection itself can send.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use strongroom_protocol::frame;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::{ChannelReply, ErrorCode, OpenChannel, Response, response};
use tokio::io::Interest;
use tokio::time::{Instant, timeout_at};

use super::{Connection, End, Reply};
use crate::audit::Trail;
use crate::engine::Descriptors;
use crate::failure::Failure;

impl Connection {
    /// Opens the connection's channel, and answers. What was asked before is answered before: a client that gets
    /// descriptors with another reply would close them.
    pub(super) async fn open_channel(&mut self, id: u64) -> Result<(), End> {
        self.flush().await?;
        let op = Op::OpenChannel(OpenChannel {});
        let trail = Trail::of(&self.service, &self.session, 0, id, &op);
        let opened = match &self.channel {
            Some(_) => Err(Failure::new(ErrorCode::Limit, "this connection has its channel already")),
            None => self.service.engine.open_channel(&self.session, &self.service),
        };
        trail.counted(opened.as_ref().err());
        match opened {
            Ok((channel, descriptors)) => {
                self.channel = Some(channel);
                self.send_descriptors(id, &descriptors).await
            }
            Err(failure) => {
                self.reply(Reply::refusal(id, failure));
                Ok(())
            }
        }
    }

    async fn send_descriptors(&mut self, id: u64, descriptors: &Descriptors) -> Result<(), End> {
        let reply = Response { id, result: Some(response::Result::Channel(ChannelReply {})) };
        let mut bytes = Vec::new();
        frame::encode(&reply, &mut bytes).map_err(io::Error::other)?;
        let deadline = Instant::now() + self.deadlines.frame;
        let Some(socket) = self.stream.unix() else {
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        };
        loop {
            let sent = socket.try_io(Interest::WRITABLE, || {
                let borrowed = descriptors.each_ref().map(AsFd::as_fd);
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(&borrowed));
                Ok(sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?)
            });
            match sent {
                Ok(sent) => {
                    self.out.push_bytes(bytes.get(sent..).unwrap_or_default());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match timeout_at(deadline, socket.writable()).await {
                        Ok(ready) => ready?,
                        Err(_) => return Err(End::Deadline),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
