//! The limiter of failed log-ins, with a clock of our own.

use proptest::prelude::*;
use std::net::IpAddr;
use webui_api::security::{LoginLimiter, Refill};

const OWN: Refill = Refill { burst: 3, every_ns: 100 };

fn address(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// At no time are there more failures in a stretch than the burst and what came back in it.
fn within(times: &[u64], refill: Refill) -> bool {
    times.iter().enumerate().all(|(i, from)| {
        times[i..]
            .iter()
            .enumerate()
            .all(|(n, to)| (n as u64) < u64::from(refill.burst) + (to - from) / refill.every_ns)
    })
}

/// Tries at these times, from these addresses; returns the failures that were let through.
fn run(steps: &[(u64, u8)], limiter: &mut LoginLimiter) -> Result<Vec<(u64, u8)>, TestCaseError> {
    let (mut now, mut through) = (0, Vec::new());
    for (gap, who) in steps {
        now += gap;
        match limiter.failed(address(*who), now) {
            Ok(()) => through.push((now, *who)),
            Err(wait) => {
                prop_assert_eq!(limiter.wait_ns(address(*who), now + wait), 0);
                prop_assert_eq!(limiter.wait_ns(address(*who), now + wait - 1), 1);
            }
        }
    }
    Ok(through)
}

fn kept(through: &[(u64, u8)]) -> bool {
    let of =
        |who: u8| through.iter().filter(|(_, w)| *w == who).map(|(t, _)| *t).collect::<Vec<_>>();
    (0..4).all(|who| within(&of(who), OWN))
}

proptest! {
    #[test]
    fn no_more_get_through_than_may(steps in prop::collection::vec((0_u64..60, 0_u8..4), 1..200)) {
        let through = run(&steps, &mut LoginLimiter::new(OWN))?;
        prop_assert!(kept(&through));
    }
}

#[test]
fn the_check_sees_a_limiter_that_lets_one_more_through() {
    let steps = vec![(0, 1); 20];
    let more = Refill { burst: 4, every_ns: 100 };
    let through = run(&steps, &mut LoginLimiter::new(more)).unwrap();
    assert!(!kept(&through));
}

#[test]
fn a_network_of_ipv6_is_one_caller_and_the_table_is_bounded() {
    let mut limiter = LoginLimiter::new(OWN);
    for n in 0..3 {
        limiter.failed(format!("2001:db8::{n}").parse().unwrap(), 0).unwrap();
    }
    let mut fails = |address: &str| limiter.failed(address.parse().unwrap(), 0).is_err();
    assert!(fails("2001:db8::ffff"));
    assert!(!fails("2001:db8:0:1::1"));
    assert!(!fails("::ffff:10.0.0.1"));
    for n in 0..20_000_u32 {
        limiter.failed(IpAddr::from(n.to_be_bytes()), 0).unwrap();
    }
}

#[test]
fn one_address_does_not_hold_up_another() {
    let mut limiter = LoginLimiter::new(OWN);
    for who in 0..200 {
        for _ in 0..3 {
            limiter.failed(address(who), 0).unwrap();
        }
    }
    assert!(limiter.failed(address(200), 0).is_ok());
}
