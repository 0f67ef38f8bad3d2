//! Peers that take all the places they can, from two addresses: a third is served, and so is the
//! command line.

use crate::appliance::{Appliance, NQN, eventually, private_folder};
use nvmf_wire::Nqn;
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect, ConnectData};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zerocopy::IntoBytes;

const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// One with 256 places: 128 of one address, and the last 32 for those who have fewer than 8.
fn node() -> Appliance {
    let dir = private_folder();
    let file = dir.path().join("forebay.toml");
    let text = format!(
        "[reactors]\nmemory = \"64MiB\"\n[tcp]\nconnections = 256\n\
         [[bdev]]\nname = \"ram\"\nkind = \"ram\"\nsize = \"16MiB\"\n\
         [[subsystem]]\nnqn = \"{NQN}\"\nallow_any_host = true\n\
         [[subsystem.namespace]]\nnsid = 1\nbdev = \"ram\"\n"
    );
    std::fs::write(&file, text).unwrap();
    Appliance::start_config_in(dir, &file)
}

/// A connection from 127.0.0.`last`.
pub fn from(node: &Appliance, last: u8) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into())?;
    socket.connect(&node.address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// An admin queue of a controller of its own, if the target gives one.
fn controller(node: &Appliance, last: u8, subsystem: &str) -> io::Result<TcpStream> {
    let mut stream = from(node, last)?;
    let mut icreq = [0; 128];
    (icreq[2], icreq[4]) = (128, 128);
    stream.write_all(&icreq)?;
    stream.read_exact(&mut [0; 128])?;
    let nqn = |text: &str| Nqn::new(text).expect("a name");
    let host = nqn("nqn.2026-01.org.example:crowd");
    let data = ConnectData::new([last; 16], CNTLID_DYNAMIC, &nqn(subsystem), &host);
    let connect = Connect { sqsize: 31, ..Connect::default() };
    // CapsuleCmd with the data of the Connect in it.
    let mut pdu = vec![4, 0, 72, 72];
    pdu.extend((72 + 1024u32).to_le_bytes());
    pdu.extend(connect.sqe(0).as_bytes());
    pdu.extend(data.as_bytes());
    stream.write_all(&pdu)?;
    let mut answer = [0; 24];
    stream.read_exact(&mut answer)?;
    match u16::from_le_bytes([answer[22], answer[23]]) >> 1 {
        0 => Ok(stream),
        status => Err(io::Error::other(format!("status {status:#x}"))),
    }
}

/// Controllers of 127.0.0.`last`, until it gets no more.
fn all_it_gets(node: &Appliance, last: u8, subsystem: &str) -> Vec<TcpStream> {
    std::iter::from_fn(|| controller(node, last, subsystem).ok()).collect()
}

fn is_served(node: &Appliance) {
    for action in ["write", "verify"] {
        let output = node.io(&[action, "--seed", "1", "--size", "64KiB"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{action}: {text}");
    }
    assert!(node.ask(&["status"]).status.code().is_some_and(|code| code < 2));
}

#[test]
fn two_addresses_take_all_they_can_and_a_third_is_served() {
    let node = node();
    let first = all_it_gets(&node, 2, NQN);
    let second = all_it_gets(&node, 3, NQN);
    assert_eq!((first.len(), second.len()), (128, 96));
    is_served(&node);
    eventually("an alert", || {
        let alerts = String::from_utf8(node.ask(&["alerts"]).stdout).unwrap();
        alerts.contains("127.0.0.2 has 128 connections")
    });
    drop(first);
    eventually("its places are free", || node.stats()["connections"]["open"] == 96);
    assert!(controller(&node, 2, NQN).is_ok());
}

#[test]
fn silent_connections_make_room_for_those_that_speak() {
    let node = node();
    let mut silent: Vec<TcpStream> = Vec::new();
    for last in [2, 3] {
        silent.extend((0..100).filter_map(|_| from(&node, last).ok()));
    }
    is_served(&node);
    // The oldest of each are told to go; the last 32 stay, until their time is over.
    for stream in silent.iter_mut().take(68) {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    eventually("32 of each are left", || node.stats()["connections"]["open"] == 64);
}

#[test]
fn one_address_does_not_take_every_discovery_controller() {
    let node = node();
    let held: Vec<Vec<TcpStream>> =
        (2..6).map(|last| all_it_gets(&node, last, DISCOVERY)).collect();
    assert!(held.iter().all(|theirs| theirs.len() == 16));
    // All 64 are taken: what is exported is served all the same.
    assert!(controller(&node, 6, DISCOVERY).is_err());
    is_served(&node);
    drop(held);
    let found = || {
        let address = node.address();
        crate::appliance::forebay(&["discover", &address]).status.success()
    };
    eventually("there is room again", found);
}
