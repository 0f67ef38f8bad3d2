//! A recorder between a host and a target: forwards TCP both ways and keeps the bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Both directions of one TCP connection.
#[derive(Default, Clone)]
pub struct Conversation {
    /// From the host to the target.
    pub host: Vec<u8>,
    /// From the target to the host.
    pub target: Vec<u8>,
}

/// Listens on the loopback and forwards every connection.
pub struct Recorder {
    port: u16,
    kept: Arc<Mutex<Vec<Arc<Mutex<Conversation>>>>>,
}

impl Recorder {
    /// Starts to forward connections to `upstream` on this machine's loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(upstream: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let kept: Arc<Mutex<Vec<Arc<Mutex<Conversation>>>>> = Arc::default();
        let shared = Arc::clone(&kept);
        std::thread::spawn(move || {
            for host in listener.incoming().flatten() {
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
                let Ok(target) = TcpStream::connect(target) else { continue };
                let conversation: Arc<Mutex<Conversation>> = Arc::default();
                shared.lock().expect("no holder panics").push(Arc::clone(&conversation));
                let _ = forward(&host, &target, &conversation, |c| &mut c.host);
                let _ = forward(&target, &host, &conversation, |c| &mut c.target);
            }
        });
        Ok(Self { port, kept })
    }

    /// The port to give to the host.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What passed so far, one entry per connection, in the order of their coming.
    pub fn conversations(&self) -> Vec<Conversation> {
        let kept = self.kept.lock().expect("no holder panics");
        kept.iter().map(|one| one.lock().expect("no holder panics").clone()).collect()
    }
}

fn forward(
    from: &TcpStream,
    to: &TcpStream,
    conversation: &Arc<Mutex<Conversation>>,
    side: fn(&mut Conversation) -> &mut Vec<u8>,
) -> std::io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    let conversation = Arc::clone(conversation);
    std::thread::spawn(move || {
        let mut piece = vec![0; 65536];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            side(&mut conversation.lock().expect("no holder panics"))
                .extend_from_slice(&piece[..count]);
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_both_directions() {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let recorder = Recorder::start(target.local_addr().unwrap().port()).unwrap();
        let mut host = TcpStream::connect((Ipv4Addr::LOCALHOST, recorder.port())).unwrap();
        let (mut served, _) = target.accept().unwrap();
        let mut bytes = [0; 5];
        host.write_all(b"hello").unwrap();
        served.read_exact(&mut bytes).unwrap();
        served.write_all(b"world").unwrap();
        host.read_exact(&mut bytes).unwrap();
        let kept = recorder.conversations();
        assert_eq!(kept.len(), 1);
        assert_eq!((&kept[0].host[..], &kept[0].target[..]), (&b"hello"[..], &b"world"[..]));
    }
}
