//! What happens in a run, drawn from its seed.

use crate::Rng;

/// Something that lies on purpose, for the tests of the checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The drive answers a write without doing it.
    LostWrite,
    /// The drive answers a write a while before it does it.
    LateWrite,
    /// The drive writes to the block next to the right one.
    MisplacedWrite,
    /// The drive answers a Flush without doing it.
    LyingFlush,
    /// The drive keeps a write with FUA in its cache.
    LyingFua,
    /// A power cut tears a block in the middle.
    TornBlock,
    /// The drive never ends an operation.
    LostCompletion,
    /// The drive ends an operation twice.
    DoubleCompletion,
    /// The host's side hears of an end twice.
    DoubleAnswer,
    /// Something on the reactor keeps a buffer.
    LeakedBuffer,
    /// Something on the reactor keeps a channel open.
    LeakedChannel,
    /// The network changes a byte, and nobody asked for digests.
    FlippedBit,
    /// Fused commands are sent as two that are not.
    UnfusedPair,
    /// The network says that more bytes have arrived than have.
    BytesThatAreNotThere,
    /// The target waits for ever for a host that takes nothing.
    EndlessPatience,
    /// A question of the target is never answered.
    LostReply,
    /// A question of the target is answered twice.
    DoubleReply,
}

/// An accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// A connection is reset.
    Reset,
    /// Nothing arrives on a connection for a while, in ns.
    Stall(u64),
    /// The target is killed; the drive stays up.
    Kill,
    /// The power of the node goes.
    PowerCut,
    /// The first host takes nothing from its I/O queues for so long, in ns, and goes on asking.
    Deaf(u64),
    /// The namespace that nobody reads or writes is taken out of its subsystem.
    RemoveNamespace,
}

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all other randomness comes from.
    pub seed: u64,
    /// Reactors of the node.
    pub reactors: usize,
    /// Hosts.
    pub hosts: usize,
    /// I/O queues of each host.
    pub queues: u16,
    /// Commands outstanding on one queue.
    pub depth: u16,
    /// Commands of each host.
    pub commands: u32,
    /// Header digests.
    pub header_digest: bool,
    /// Data digests.
    pub data_digest: bool,
    /// The device is not a drive but memory, which is kept when the target is killed and has no
    /// power cuts and errors.
    pub memory: bool,
    /// Blocks of the device.
    pub blocks: u64,
    /// Blocks that most commands are about.
    pub hot_blocks: u64,
    /// Hosts reset their controllers now and then.
    pub resets: bool,
    /// One command in so many is large.
    pub large: u64,
    /// One operation in so many fails at the drive, or none if 0.
    pub errors: u64,
    /// Longest usual delay of a segment, in ns.
    pub net_delay_ns: u64,
    /// Bytes that may be under way in one direction of a connection.
    pub net_window: usize,
    /// Longest usual time of an operation of the drive, in ns.
    pub disk_delay_ns: u64,
    /// The reactors have so few buffers that commands wait for them.
    pub few_buffers: bool,
    /// Keep Alive Timeout of the hosts, in ms.
    pub kato_ms: u32,
    /// Accidents and when they happen, in commands done by all hosts.
    pub accidents: Vec<(u32, Accident)>,
    /// The bug, if any.
    pub planted: Option<Planted>,
}

impl Plan {
    /// The plan of `seed`.
    pub fn of(seed: u64) -> Plan {
        let mut rng = Rng::new(seed).part("plan");
        let hosts = rng.within(1, 2) as usize;
        let commands = rng.within(60, 260) as u32;
        let total = u64::from(commands) * hosts as u64;
        let memory = Rng::new(seed).part("memory").one_in(3);
        let accidents = (0..rng.below(6)).map(|_| (rng.below(total) as u32, accident(&mut rng)));
        let mut accidents: Vec<(u32, Accident)> = accidents.collect();
        accidents.sort_by_key(|(at, _)| *at);
        let plan = Plan {
            seed,
            reactors: rng.within(1, 3) as usize,
            hosts,
            queues: rng.within(1, 3) as u16,
            depth: rng.within(1, 12) as u16,
            commands,
            header_digest: rng.coin(),
            data_digest: rng.coin(),
            memory: false,
            blocks: 2048,
            hot_blocks: rng.within(4, 48),
            resets: true,
            large: 40,
            errors: [0, 0, 40, 200][rng.below(4) as usize],
            net_delay_ns: [20_000, 200_000, 3_000_000][rng.below(3) as usize],
            net_window: [3_000, 40_000, 400_000][rng.below(3) as usize],
            disk_delay_ns: [10_000, 100_000, 5_000_000][rng.below(3) as usize],
            kato_ms: rng.within(10, 30) as u32 * 100,
            few_buffers: rng.one_in(3),
            accidents,
            planted: None,
        };
        if memory { plan.on_memory() } else { plan }
    }

    /// The same with three hosts that want more memory than there is, of which the first takes nothing
    /// for longer than commands may take.
    pub fn crowded(self) -> Plan {
        let accidents = (1..4).map(|n| (n * self.commands / 2, Accident::Deaf(25_000_000_000)));
        let accidents = accidents.collect();
        let (hosts, queues, depth, large) = (3, 1, 12, 4);
        let (few_buffers, errors, kato_ms) = (true, 0, 3_000);
        let crowded = Plan { hosts, queues, depth, large, few_buffers, accidents, ..self };
        Plan { errors, kato_ms, resets: false, ..crowded }.on_drive()
    }

    /// The same on a device that is memory.
    pub fn on_memory(mut self) -> Plan {
        for (_, accident) in &mut self.accidents {
            if *accident == Accident::PowerCut {
                *accident = Accident::Kill;
            }
        }
        Plan { memory: true, errors: 0, ..self }
    }

    /// The same on a drive.
    pub fn on_drive(self) -> Plan {
        Plan { memory: false, ..self }
    }

    /// The same with a bug in it.
    pub fn with(self, planted: Planted) -> Plan {
        Plan { planted: Some(planted), ..self }
    }
}

fn accident(rng: &mut Rng) -> Accident {
    match rng.below(9) {
        0 | 1 => Accident::Reset,
        2 => Accident::Stall(rng.within(10_000_000, 400_000_000)),
        // Longer than any keep alive timeout.
        3 => Accident::Stall(rng.within(4_000_000_000, 5_000_000_000)),
        4 => Accident::Kill,
        8 => Accident::RemoveNamespace,
        _ => Accident::PowerCut,
    }
}
