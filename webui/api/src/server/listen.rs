//! Connections: accepted, counted, wrapped in TLS, served, and ended when the server stops.

use super::fault::caught_in;
use super::places::{self, Places};
use super::socket;
use crate::limits;
use crate::peer::Peer;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// How long to wait after accepting failed, for lack of descriptors as a rule.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// How long a client may be gone before its connection is broken.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The next connection; nothing when the server stops.
async fn next<C>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<C>>,
    stopped: &mut watch::Receiver<bool>,
) -> Option<C> {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return None,
            accepted = poll_fn(&accept) => accepted,
        };
        match accepted {
            Ok(connection) => return Some(connection),
            Err(error) => {
                tracing::warn!(%error, "the API could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Accepts connections over TCP until the server stops.
pub(super) async fn accept(
    listener: TcpListener,
    acceptor: watch::Receiver<Option<TlsAcceptor>>,
    router: Router,
    places: Arc<Places<IpAddr>>,
    mut stopped: watch::Receiver<bool>,
) {
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx);
    while let Some((stream, peer)) = next(accept, &mut stopped).await {
        let (group, caller) = places::of_address(peer.ip());
        let Some(place) = places.enter(group, caller) else {
            // At once: one that waits here would stand in the way of those that have a place.
            tracing::debug!(%peer, "an address has all the connections of the API it may have");
            continue;
        };
        let acceptor = acceptor.borrow().clone();
        let (router, stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            let ended = caught_in(connection(stream, peer, acceptor, router, stopped)).await;
            if let Err(fault) = ended {
                tracing::error!(%peer, said = fault.0, "a connection of the API panicked");
            }
            drop(place);
        });
    }
}

/// Accepts connections over the socket of the data directory until the server stops.
pub(super) async fn accept_local(
    listener: UnixListener,
    router: Router,
    room: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx);
    loop {
        // Room first: what cannot be served waits in the kernel's queue.
        let place = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            place = Arc::clone(&room).acquire_owned() => place,
        };
        let (Ok(place), Some((stream, _))) = (place, next(accept, &mut stopped).await) else {
            return;
        };
        let peer = match socket::peer(&stream) {
            Ok(peer) => peer,
            Err(why) => {
                tracing::warn!("a connection over the socket of the API is refused: {why}");
                continue;
            }
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            if let Err(fault) = caught_in(serve(stream, peer, router, stopped)).await {
                tracing::error!(said = fault.0, "a connection of the API panicked");
            }
            drop(place);
        });
    }
}

/// Has the kernel break a connection whose client vanishes: one that follows events may be silent for
/// ever, and has a place.
fn notice_vanishing(stream: &TcpStream) -> std::io::Result<()> {
    let asking = TcpKeepalive::new().with_time(PATIENCE / 2).with_interval(PATIENCE / 6);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&asking.with_retries(3))?;
    socket.set_tcp_user_timeout(Some(PATIENCE))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    let from = Peer::Address(peer.ip());
    // Answers are whole: to wait for more only delays them.
    let _ = stream.set_nodelay(true);
    if let Err(error) = notice_vanishing(&stream) {
        tracing::debug!(%peer, %error, "a client that vanishes is noticed late");
    }
    match acceptor {
        None => serve(stream, from, router, stopped).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(limits::HANDSHAKE_TIME, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => serve(stream, from, router, stopped).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => tracing::debug!(%peer, "no TLS in time"),
            }
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits::HEAD_TIME);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection of the API ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_vanishes_is_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (stream, _client) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener.accept().await.unwrap().0, client)
        });
        notice_vanishing(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PATIENCE / 2);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(PATIENCE));
    }
}
