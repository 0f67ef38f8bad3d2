//! Fair shares of a reactor's buffers, for each address and for each connection.
//!
//! A buffer comes back when the drive has done its part and the host has sent or taken the data. It
//! cannot be taken back from a drive or a host that does not, so what one may hold at once is bounded:
//!
//! - Whoever holds none of a size may take what one command needs: everybody gets on.
//! - Otherwise one may hold as many as came back in time before: few at first, and twice as many each
//!   time that so many have come back. One that comes back late starts again.
//! - The last quarter is for those who hold less than an equal part, as the last places are among
//!   connections ([`crate::places`]). So who is alone has three quarters, and not all: whoever comes
//!   then would wait for what cannot be taken back.

use crate::export::places::Peer;
use bdev::{DmaBuf, DmaPool, DmaSlice};
use std::collections::BTreeMap;

/// Size classes of the pool.
const CLASSES: usize = 4;

/// Buffers, by size class.
type Counts = [u32; CLASSES];

/// How long a buffer may be held and still come back in time, in ns.
const IN_TIME_NS: u64 = 1_000_000_000;

/// Buffers that one may hold at first, unless a sixteenth of all is more: what a fused pair needs.
const FIRST: u32 = 3;

/// What one connection, or all connections of one address, holds and may hold.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    held: Counts,
    /// How many it may hold.
    window: Counts,
    /// How many came back in time since the window grew.
    back: Counts,
    /// Buffers held, and commands that wait for some.
    busy: u32,
}

impl Share {
    fn new(counts: &Counts) -> Share {
        Share { window: counts.map(first), ..Share::default() }
    }

    /// Whether one more of `class` is within what it may hold, beside `others` that hold some or
    /// wait.
    #[inline]
    fn fits(&self, class: usize, stock: Stock, others: u32) -> bool {
        let after = self.held[class] + 1;
        let left = stock.free > stock.all / 4;
        after <= self.window[class] && (left || after <= stock.all / (others + 2))
    }

    /// It has one more buffer of `class`. `among`: the busy ones that it is counted with.
    #[inline]
    fn took(&mut self, class: usize, among: &mut u32) {
        self.held[class] += 1;
        self.enters(among);
    }

    /// It holds one thing more, or waits for it.
    #[inline]
    fn enters(&mut self, among: &mut u32) {
        *among += u32::from(self.busy == 0);
        self.busy += 1;
    }

    /// It does so no more.
    #[inline]
    fn leaves(&mut self, among: &mut u32) {
        self.busy -= 1;
        *among -= u32::from(self.busy == 0);
    }

    /// It has given one back that it has not used.
    fn untook(&mut self, class: usize, among: &mut u32) {
        self.held[class] -= 1;
        self.leaves(among);
    }

    /// It has given one back, in time or late, to a class of `all`.
    #[inline(always)]
    fn gave(&mut self, class: usize, in_time: bool, all: u32, among: &mut u32) {
        self.held[class] -= 1;
        self.leaves(among);
        if !in_time {
            (self.window[class], self.back[class]) = (first(all), 0);
            return;
        }
        self.back[class] += 1;
        if self.back[class] >= self.window[class] {
            (self.window[class], self.back[class]) = ((2 * self.window[class]).min(all), 0);
        }
    }
}

fn first(all: u32) -> u32 {
    (all / 16).max(FIRST)
}

/// The buffers of one size class: how many there are, and how many are free.
#[derive(Clone, Copy, Debug)]
struct Stock {
    all: u32,
    free: u32,
}

impl Stock {
    #[inline]
    fn of(pool: &DmaPool, class: usize) -> Stock {
        let (all, free) = pool.stock(class);
        Stock { all, free }
    }
}

/// A buffer that a command holds.
#[derive(Debug)]
pub(crate) struct Loan {
    buf: DmaBuf,
    since_ns: u64,
}

impl Loan {
    /// The whole buffer.
    pub(crate) fn slice(&self) -> DmaSlice {
        self.buf.slice()
    }
}

/// Why a command gets no buffer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// There is none.
    Buffers,
    /// Its connection holds its share.
    Share,
}

/// The pool, for one command of a connection.
pub(crate) struct Purse<'a> {
    pool: &'a mut DmaPool,
    shares: &'a mut Shares,
    key: u32,
    /// What the command has taken.
    taken: Counts,
    now_ns: u64,
}

impl Purse<'_> {
    /// A buffer of at least `bytes` bytes, if there is one and the connection may take it.
    #[inline(always)]
    pub(crate) fn take(&mut self, bytes: u32) -> Result<Loan, Lack> {
        let class = self.pool.class_to_take(bytes as usize).ok_or(Lack::Buffers)?;
        if !self.shares.take(self.key, class, self.taken[class], Stock::of(self.pool, class)) {
            return Err(Lack::Share);
        }
        self.taken[class] += 1;
        let buf = self.pool.take_from(class).expect("the class has one");
        Ok(Loan { buf, since_ns: self.now_ns })
    }

    /// Takes a buffer back that its command has not used, as it got not all that it needs.
    pub(crate) fn put_back(&mut self, loan: Loan) {
        let class = loan.buf.class();
        self.taken[class] -= 1;
        self.shares.untake(self.key, class);
        self.pool.give(loan.buf);
    }

    /// Takes a buffer back.
    #[inline(always)]
    pub(crate) fn give(&mut self, loan: Loan) {
        let class = loan.buf.class();
        let in_time = self.now_ns.saturating_sub(loan.since_ns) <= IN_TIME_NS;
        self.shares.gave(self.key, class, in_time, Stock::of(self.pool, class).all);
        self.pool.give(loan.buf);
    }
}

/// All connections of one address.
#[derive(Debug)]
struct Address {
    peer: Peer,
    share: Share,
    connections: u32,
    /// Those that hold buffers or wait for some.
    busy: u32,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    /// Its address, by number.
    address: u32,
    share: Share,
}

/// The shares of one reactor. A connection is named by the key of its queue pair.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    connections: Vec<Option<Connection>>,
    /// By number; found by their name when a connection comes and goes, and not for each command.
    addresses: Vec<Option<Address>>,
    numbers: BTreeMap<Peer, u32>,
    /// Addresses that hold buffers or wait for some.
    busy: u32,
}

impl Shares {
    /// One more connection, of `peer`, to buffers of which there are so many.
    pub(crate) fn join(&mut self, key: u32, peer: Peer, counts: &Counts) {
        let place = key as usize;
        if self.connections.len() <= place {
            self.connections.resize_with(place + 1, || None);
        }
        let address = self.address(peer, counts);
        self.connections[place] = Some(Connection { address, share: Share::new(counts) });
    }

    /// One more connection of an address. Returns its number.
    fn address(&mut self, peer: Peer, counts: &Counts) -> u32 {
        let Shares { addresses, numbers, .. } = self;
        let number = *numbers.entry(peer).or_insert_with(|| {
            let free = addresses.iter().position(Option::is_none);
            let number = free.unwrap_or_else(|| {
                addresses.push(None);
                addresses.len() - 1
            });
            let share = Share::new(counts);
            addresses[number] = Some(Address { peer, share, connections: 0, busy: 0 });
            number as u32
        });
        if let Some(address) = &mut addresses[number as usize] {
            address.connections += 1;
        }
        number
    }

    /// A connection is gone, and holds nothing.
    pub(crate) fn leave(&mut self, key: u32) {
        let Some(gone) = self.connections.get_mut(key as usize).and_then(Option::take) else {
            return;
        };
        debug_assert_eq!(gone.share.held, [0; CLASSES], "its commands have ended");
        let place = &mut self.addresses[gone.address as usize];
        if let Some(address) = place {
            address.connections -= 1;
            if address.connections == 0 {
                self.numbers.remove(&address.peer);
                *place = None;
            }
        }
    }

    /// The pool, for a command of connection `key`.
    #[inline]
    pub(crate) fn purse<'a>(
        &'a mut self,
        key: u32,
        pool: &'a mut DmaPool,
        now_ns: u64,
    ) -> Purse<'a> {
        Purse { pool, shares: self, key, taken: [0; CLASSES], now_ns }
    }

    /// Whether a connection holds any buffer.
    pub(crate) fn holds_any(&self, key: u32) -> bool {
        let connection = self.connections.get(key as usize).and_then(Option::as_ref);
        connection.is_some_and(|connection| connection.share.held != [0; CLASSES])
    }

    #[inline]
    fn of(&mut self, key: u32) -> Option<Of<'_>> {
        let connection = self.connections.get_mut(key as usize)?.as_mut()?;
        let address = self.addresses[connection.address as usize].as_mut()?;
        let alone = self.numbers.len() == 1;
        Some(Of { connection, address, busy: &mut self.busy, alone })
    }

    /// A connection takes one more buffer of `class`, of which its command has `taken` so many before.
    /// False if it may not.
    #[inline(always)]
    fn take(&mut self, key: u32, class: usize, taken: u32, stock: Stock) -> bool {
        let Some(of) = self.of(key) else { return true };
        let beside = |busy: u32, share: &Share| busy - u32::from(share.busy > 0);
        let (connection, address) = (&of.connection.share, &of.address.share);
        let mine = connection.held[class] == taken
            || connection.fits(class, stock, beside(of.address.busy, connection));
        // Of one address alone the connections share all.
        let ours = of.alone
            || address.held[class] == taken
            || address.fits(class, stock, beside(*of.busy, address));
        if mine && ours {
            of.change(|share, among| share.took(class, among));
        }
        mine && ours
    }

    /// It gives one back that it has not used.
    fn untake(&mut self, key: u32, class: usize) {
        self.change(key, |share, among| share.untook(class, among));
    }

    /// It has given it back, in time or late, to a class of `all`.
    #[inline(always)]
    fn gave(&mut self, key: u32, class: usize, in_time: bool, all: u32) {
        self.change(key, |share, among| share.gave(class, in_time, all, among));
    }

    /// A command of a connection gets in line.
    pub(crate) fn waits(&mut self, key: u32) {
        self.change(key, Share::enters);
    }

    /// It waits no more.
    pub(crate) fn served(&mut self, key: u32) {
        self.change(key, Share::leaves);
    }

    #[inline]
    fn change(&mut self, key: u32, change: impl Fn(&mut Share, &mut u32)) {
        if let Some(of) = self.of(key) {
            of.change(change);
        }
    }
}

/// A connection, with its address and the count of those that are busy.
struct Of<'a> {
    connection: &'a mut Connection,
    address: &'a mut Address,
    busy: &'a mut u32,
    /// There is no other address.
    alone: bool,
}

impl Of<'_> {
    /// Changes the shares of a connection and of its address, each with the count of the busy ones that
    /// it is among.
    #[inline]
    fn change(self, change: impl Fn(&mut Share, &mut u32)) {
        change(&mut self.connection.share, &mut self.address.busy);
        change(&mut self.address.share, self.busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LARGE: usize = 3;
    const COUNTS: Counts = [1024, 256, 128, 32];

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    /// Large buffers that are taken as the shares allow.
    struct World {
        shares: Shares,
        free: u32,
    }

    impl World {
        fn new(peers: &[u8]) -> World {
            let mut shares = Shares::default();
            for (key, last) in peers.iter().enumerate() {
                shares.join(key as u32, peer(*last), &COUNTS);
            }
            World { shares, free: COUNTS[LARGE] }
        }

        #[inline(always)]
        fn take(&mut self, key: u32) -> bool {
            let stock = Stock { all: COUNTS[LARGE], free: self.free };
            let may = self.free > 0 && self.shares.take(key, LARGE, 0, stock);
            self.free -= u32::from(may);
            may
        }

        /// What a connection holds, and what its address does.
        fn held(&mut self, key: u32) -> (u32, u32) {
            let of = self.shares.of(key).expect("it is there");
            (of.connection.share.held[LARGE], of.address.share.held[LARGE])
        }

        #[inline(always)]
        fn give(&mut self, key: u32, in_time: bool) {
            self.shares.gave(key, LARGE, in_time, COUNTS[LARGE]);
            self.free += 1;
        }

        fn take_all(&mut self, key: u32) -> u32 {
            (0..).take_while(|_| self.take(key)).count() as u32
        }
    }

    #[test]
    fn who_gives_back_has_all_but_a_quarter() {
        let mut world = World::new(&[1, 1, 1]);
        for expected in [3, 6, 12, 24, 24] {
            let taken = world.take_all(0);
            assert_eq!(taken, expected);
            (0..taken).for_each(|_| world.give(0, true));
        }
        assert_eq!(world.take_all(0), 24);
        assert_eq!((world.take_all(1), world.take_all(2)), (3, 3), "the others have theirs");
    }

    #[test]
    fn eight_that_give_nothing_back_leave_some_to_a_ninth() {
        for peers in [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1; 9]] {
            let mut world = World::new(&peers);
            world.shares.waits(8);
            let taken: Vec<u32> = (0..8).map(|key| world.take_all(key)).collect();
            assert_eq!(taken, [3; 8]);
            assert_eq!(world.take_all(8), 3, "and as much as they");
        }
    }

    #[test]
    fn what_comes_back_in_time_is_trusted_and_what_does_not_is_not() {
        let mut world = World::new(&[1, 2]);
        for _ in 0..5 {
            let taken = world.take_all(0);
            (0..taken).for_each(|_| world.give(0, true));
        }
        assert_eq!(world.take_all(0), 24, "all but the last quarter");
        assert_eq!(world.take_all(1), 3);
        world.give(0, false);
        (0..23).for_each(|_| world.give(0, true));
        assert!(world.take_all(0) < 24);
    }

    #[test]
    fn what_was_put_back_unused_earns_no_trust() {
        let mut world = World::new(&[1, 2]);
        for _ in 0..50 {
            assert!(world.take(0));
            world.shares.untake(0, LARGE);
            world.free += 1;
        }
        assert_eq!(world.take_all(0), 3, "as at first");
    }

    proptest! {
        /// Whatever is taken and given back: who holds nothing gets one as long as there is any, and
        /// the counts of the busy ones are right.
        #[test]
        fn nobody_who_holds_nothing_is_refused(
            ops in proptest::collection::vec((0u32..6, any::<bool>(), any::<bool>()), 1..300),
        ) {
            let mut world = World::new(&[1, 1, 2, 3, 3, 3]);
            for (key, take, in_time) in ops {
                let (held, ours) = world.held(key);
                if take {
                    let alone = ours == 0 && held == 0;
                    let any = world.free > 0;
                    let taken = world.take(key);
                    prop_assert!(taken || !alone || !any);
                } else if held > 0 {
                    world.give(key, in_time);
                }
                let busy = |share: &Share| u32::from(share.busy > 0);
                let addresses = world.shares.addresses.iter().flatten();
                prop_assert_eq!(world.shares.busy, addresses.map(|a| busy(&a.share)).sum::<u32>());
            }
        }
    }
}
