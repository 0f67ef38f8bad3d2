//! As many descriptors as the machine allows, and what is said when these are few.

use crate::appliance::{Appliance, eventually};
use crate::crowds::from;
use std::io::Read;
use std::net::TcpStream;

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let node = Appliance::start_under("ulimit -S -n 100", &["--ram", "16MiB"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}

#[test]
fn connections_beyond_the_descriptors_are_closed_and_an_alert_says_so() {
    let node = Appliance::start_under("ulimit -n 200", &["--ram", "16MiB", "--cores", "0"]);
    let text = |args: &[&str]| String::from_utf8(node.ask(args).stdout).unwrap();
    assert!(!text(&["alerts"]).contains("connections"));
    // Half of them are for hosts.
    let served: Vec<TcpStream> = (0..100).map(|at| from(&node, 2 + at / 3).unwrap()).collect();
    eventually("all are taken", || node.stats()["connections"]["open"] == 100);
    let mut surplus = TcpStream::connect(node.address).unwrap();
    assert!(matches!(surplus.read(&mut [0]), Ok(0) | Err(_)), "it is told, and does not wait");
    eventually("an alert", || text(&["alerts"]).contains("All 100 connections are in use"));
    assert!(text(&["status"]).contains("degraded"), "the API has descriptors left");
    drop(served);
    eventually("it is over", || !text(&["alerts"]).contains("connections"));
}
