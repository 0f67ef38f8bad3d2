//! The API with callers that take every place they can have: others still find one.

use crate::appliance::Appliance;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::time::Duration;

/// Runs something in the network namespace of a process.
fn inside<R: Send>(pid: u32, f: impl FnOnce() -> R + Send) -> R {
    let enter = move || {
        let space = File::open(format!("/proc/{pid}/ns/net")).unwrap();
        // That of this thread alone; it ends here.
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        f()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// A connection from this address that the server keeps, and waits for the client to say something on.
fn hold(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(stream),
        _ => None,
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn two_who_hold_all_they_can_leave_places_to_a_third_and_to_the_command_line() {
    let (api, third) = ("10.7.0.1:4480", "10.7.0.1");
    let addresses = [third, "10.7.0.2", "10.7.0.3"];
    let Some(node) = Appliance::start_in_namespace(&addresses, api, &["--ram", "1MiB"]) else {
        return;
    };
    let made = node.ask(&["token", "create", "third", "--role", "viewer"]);
    assert!(made.status.success(), "{}", text(&made));
    let token = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let certificate = node.dir.path().join("api.crt");
    let url = format!("https://{api}");
    let (held, asked, asked_here) = inside(node.pid(), || {
        let hold_all = |from: &str| {
            let from = from.parse().unwrap();
            std::iter::from_fn(|| hold(from, api.parse().unwrap())).collect::<Vec<_>>()
        };
        let held = [hold_all(addresses[1]), hold_all(addresses[2])];
        let mut ask = Command::new(env!("CARGO_BIN_EXE_forebay"));
        ask.args(["status", "--api", &url, "--ca", certificate.to_str().unwrap()]);
        let asked = ask.env("FOREBAY_TOKEN", &token).output().unwrap();
        let asked_here = node.ask(&["status"]);
        (held.map(|held| held.len()), asked, asked_here)
    });
    assert!(held[0] > 60 && held[1] > 30, "they hold {held:?}");
    assert!(asked.status.success(), "a third address, while they hold {held:?}: {}", text(&asked));
    assert!(asked_here.status.success(), "the command line: {}", text(&asked_here));
}
