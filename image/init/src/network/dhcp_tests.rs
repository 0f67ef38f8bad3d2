//! The client against a server that grants, refuses, or is away.

use super::*;
use crate::network::message;
use proptest::prelude::*;

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const LEASE_S: u32 = 600;

fn sent(actions: &[Action]) -> Option<Question<'static>> {
    actions.iter().find_map(|action| match action {
        Action::Broadcast(bytes) | Action::Send(_, bytes) => Some(message::question(bytes)),
        _ => None,
    })
}

fn answer(to: &Question<'_>, kind: Kind, address: &str) -> Vec<u8> {
    let seconds = LEASE_S.to_be_bytes();
    let options: [(u8, &[u8]); 4] =
        [(54, &[10, 0, 0, 1]), (51, &seconds), (1, &[255, 255, 254, 0]), (3, &[10, 0, 0, 254])];
    message::answer(to, kind, address.parse().unwrap(), &options)
}

/// A client with a lease since `now_ns` 0.
fn bound() -> Client {
    let mut client = Client::new(MAC, "node", 7);
    let discover = sent(&client.turn(0)).unwrap();
    assert_eq!((discover.kind, discover.has), (Kind::Discover, None));
    let request = sent(&client.receive(&answer(&discover, Kind::Offer, "10.0.0.5"), 0));
    let request = request.unwrap();
    assert_eq!(request.kind, Kind::Request);
    assert_eq!(request.takes, Some(([10, 0, 0, 5].into(), [10, 0, 0, 1].into())));
    let actions = client.receive(&answer(&request, Kind::Ack, "10.0.0.5"), 0);
    let [Action::Leased(lease)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((lease.address, lease.prefix), ([10, 0, 0, 5].into(), 23));
    assert_eq!(lease.gateway, Some([10, 0, 0, 254].into()));
    client
}

#[test]
fn a_lease_is_renewed_at_half_its_time() {
    let mut client = bound();
    let half_ns = u64::from(LEASE_S) * SECOND_NS / 2;
    assert_eq!(client.next_ns(), half_ns);
    assert!(client.turn(half_ns - 1).is_empty());
    let actions = client.turn(half_ns);
    let [Action::Send(server, _)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*server, Ipv4Addr::new(10, 0, 0, 1));
    let request = sent(&actions).unwrap();
    assert_eq!(request.has, Some(Ipv4Addr::new(10, 0, 0, 5)));
    let again = client.receive(&answer(&request, Kind::Ack, "10.0.0.5"), half_ns);
    assert!(matches!(&again[..], [Action::Leased(_)]));
    assert_eq!(client.next_ns(), 2 * half_ns);
}

#[test]
fn a_lease_that_nobody_prolongs_is_lost_on_time() {
    let mut client = bound();
    let whole_ns = u64::from(LEASE_S) * SECOND_NS;
    let mut anybody = 0;
    loop {
        let now_ns = client.next_ns();
        let actions = client.turn(now_ns);
        match &actions[..] {
            [Action::Send(..)] => assert!(now_ns < whole_ns / 8 * 7),
            [Action::Broadcast(_)] => anybody += 1,
            [Action::Lost(lease), Action::Broadcast(_)] => {
                assert_eq!(lease.address, Ipv4Addr::new(10, 0, 0, 5));
                assert_eq!(now_ns, whole_ns);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(anybody > 0, "another server was asked");
}

#[test]
fn a_refused_lease_is_given_up_and_looked_for_anew() {
    let mut client = bound();
    let now_ns = client.next_ns();
    let request = sent(&client.turn(now_ns)).unwrap();
    let actions = client.receive(&answer(&request, Kind::Nak, "0.0.0.0"), now_ns);
    assert!(matches!(&actions[..], [Action::Lost(_), Action::Broadcast(_)]));
}

#[test]
fn another_address_replaces_the_one_before() {
    let mut client = bound();
    let now_ns = client.next_ns();
    let request = sent(&client.turn(now_ns)).unwrap();
    let actions = client.receive(&answer(&request, Kind::Ack, "10.0.0.9"), now_ns);
    let [Action::Lost(old), Action::Leased(new)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((old.address.octets()[3], new.address.octets()[3]), (5, 9));
}

#[test]
fn answers_to_others_are_not_ours() {
    let mut client = Client::new(MAC, "node", 7);
    let mut discover = sent(&client.turn(0)).unwrap();
    discover.xid = 99;
    assert!(client.receive(&answer(&discover, Kind::Offer, "10.0.0.5"), 0).is_empty());
}

#[test]
fn without_a_server_it_asks_ever_less_often() {
    let mut client = Client::new(MAC, "node", 7);
    let mut waits = Vec::new();
    let mut now_ns = 0;
    for _ in 0..8 {
        assert!(matches!(&client.turn(now_ns)[..], [Action::Broadcast(_)]));
        waits.push((client.next_ns() - now_ns) / SECOND_NS);
        now_ns = client.next_ns();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32]);
}

proptest! {
    /// Whatever comes, when ever: no panic, and a lease always has an end.
    #[test]
    fn anything_may_come(
        steps in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..400), 0..100_u64, 0..4_u8), 1..40)
    ) {
        let mut client = bound();
        let mut now_ns = 0;
        for (bytes, seconds, what) in steps {
            now_ns += seconds * SECOND_NS;
            let turned = client.turn(now_ns);
            let packet = match (what, sent(&turned)) {
                (0, _) | (_, None) => bytes,
                (1, Some(request)) => answer(&request, Kind::Ack, "10.0.0.7"),
                (2, Some(request)) => answer(&request, Kind::Offer, "10.0.0.8"),
                (_, Some(request)) => {
                    let mut packet = answer(&request, Kind::Ack, "10.0.0.7");
                    for (place, byte) in bytes.iter().enumerate() {
                        let length = packet.len();
                        packet[(place * 31) % length] ^= byte;
                    }
                    packet
                }
            };
            client.receive(&packet, now_ns);
        }
    }
}
