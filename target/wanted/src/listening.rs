//! Addresses that stand in each other's way.

use std::net::SocketAddr;

/// Whether a listener on `all`, if that is every address of a family, takes in what comes to
/// `other`. One on `[::]` takes IPv4, too, unless it `leaves_ipv4` to another.
pub fn takes_in(all: SocketAddr, leaves_ipv4: bool, other: SocketAddr) -> bool {
    let family = all.is_ipv4() == other.is_ipv4() || all.is_ipv6() && !leaves_ipv4;
    all != other && all.ip().is_unspecified() && all.port() == other.port() && family
}

/// Whether a listener on `address` leaves IPv4 to one of `others`, by their addresses.
pub fn leaves_ipv4(address: SocketAddr, mut others: impl Iterator<Item = SocketAddr>) -> bool {
    let beside = |other: SocketAddr| other.is_ipv4() && other.port() == address.port();
    address.is_ipv6() && others.any(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_listener_on_all_addresses_takes_in_single_ones() {
        assert!(takes_in(at("0.0.0.0:1"), false, at("127.0.0.1:1")));
        for other in ["127.0.0.1:1", "0.0.0.0:1", "[::1]:1"] {
            assert!(takes_in(at("[::]:1"), false, at(other)), "{other}");
            assert_eq!(takes_in(at("[::]:1"), true, at(other)), other == "[::1]:1");
        }
        assert!(!takes_in(at("0.0.0.0:1"), false, at("[::1]:1")));
        assert!(!takes_in(at("0.0.0.0:1"), false, at("127.0.0.1:2")));
        assert!(!takes_in(at("127.0.0.1:1"), false, at("0.0.0.0:1")));
    }

    #[test]
    fn all_addresses_of_ipv6_leave_ipv4_to_another_on_that_port() {
        let others = [at("0.0.0.0:1"), at("[::1]:2")];
        assert!(leaves_ipv4(at("[::]:1"), others.into_iter()));
        assert!(!leaves_ipv4(at("[::]:2"), others.into_iter()));
        assert!(!leaves_ipv4(at("127.0.0.1:1"), others.into_iter()));
    }
}
