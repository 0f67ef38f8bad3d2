//! The initiator against our own target, over loopback.

mod support;

use bdev::{Bdev, Memory};
use loopback::{NQN, Node};
use nvme_spec::opcode::nvm;
use nvme_spec::{Fabric, Sqe, Status};
use nvmf::registry::{Listener, Serves};
use nvmf::subsystem::Hosts;
use nvmf_host::qpair::Payload;
use nvmf_host::{Data, Host, LinkState, Options, RemoteBdev, Session, discover};
use nvmf_wire::Nqn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{BLOCK, DISK, Rig, ram};

fn host() -> Host {
    Host::of_id([5; 16])
}

fn options(address: SocketAddr) -> Options {
    Options {
        reconnect_delay: Duration::from_millis(5),
        reconnect_delay_max: Duration::from_millis(50),
        ..Options::new(address, Nqn::new(NQN).unwrap(), host())
    }
}

#[test]
fn every_operation_with_and_without_digests() {
    let node = Node::start(ram(), Hosts::Any, None);
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)]
    {
        let options = Options { header_digest, data_digest, ..options(node.address) };
        let bdev = Arc::new(RemoteBdev::connect(options, 1).unwrap());
        assert_eq!(bdev.geometry().bytes(), DISK);
        assert_eq!(bdev.controller().model, "Forebay");
        let mut rig = Rig::new(bdev.clone());
        rig.every_operation();
        rig.stack.close(rig.addr);
        bdev.disconnect();
    }
}

#[test]
fn a_target_that_is_killed_and_started_again_loses_nothing() {
    let disk = ram();
    let mut node = Node::start(disk.clone(), Hosts::Any, None);
    let address = node.address;
    let bdev = Arc::new(RemoteBdev::connect(options(address), 1).unwrap());
    let mut rig = Rig::new(bdev.clone());
    for seed in 0..5 {
        rig.write_and_check(seed, 256, 32, || {
            node.kill();
            node = Node::start(disk.clone(), Hosts::Any, Some(address));
        });
        assert_eq!(bdev.link(), LinkState::Connected);
    }
}

#[test]
fn several_queues_at_once_and_a_kill_under_all_of_them() {
    let disk = ram();
    let mut node = Node::start(disk.clone(), Hosts::Any, None);
    let address = node.address;
    let options = Options { queues: 3, ..options(address) };
    let bdev: Arc<dyn Bdev> = Arc::new(RemoteBdev::connect(options, 1).unwrap());
    let threads: Vec<_> = (0..3)
        .map(|n: u64| {
            let bdev = bdev.clone();
            std::thread::spawn(move || {
                let mut rig = Rig::new(bdev);
                rig.base = n * 16384;
                for seed in 0..20 {
                    rig.write_and_check(seed, 8, 100, || {});
                    rig.write_and_check(seed, 256, 20, || {});
                }
                rig.stack.close(rig.addr);
            })
        })
        .collect();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(20));
        node.kill();
        node = Node::start(disk.clone(), Hosts::Any, Some(address));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn discovery_and_refusal() {
    let friend = host().nqn.as_str().to_string();
    let node = Node::start(ram(), Hosts::Listed([friend].into()), None);
    node.registry.add_listener(Listener {
        fabric: Fabric::Tcp,
        addr: node.address,
        only_ipv6: false,
        port_id: 1,
        serves: Serves::Everything,
    });
    let found = discover(node.address, host()).unwrap().records;
    let of_ours = |f: &&nvmf_host::Found| f.subsystem == NQN;
    let ours: Vec<_> = found.iter().filter(of_ours).collect();
    assert_eq!(ours.len(), 1, "{found:?}");
    assert_eq!(ours[0].socket_address(), Some(node.address));

    let stranger = Host::of_id([6; 16]);
    let found = discover(node.address, stranger).unwrap().records;
    assert_eq!(found.iter().filter(of_ours).count(), 0, "{found:?}");
    let refused = Options { host: stranger, ..options(node.address) };
    let text = RemoteBdev::connect(refused, 1).map(drop).unwrap_err().to_string();
    assert!(text.contains("Connect Invalid Host") && text.contains("add nqn."), "{text}");
    let other = Nqn::new("nqn.2026-01.io.forebay:other").unwrap();
    let absent = Options { subsystem: other, ..options(node.address) };
    let text = RemoteBdev::connect(absent, 1).map(drop).unwrap_err().to_string();
    assert!(text.contains("there is no subsystem nqn.2026-01.io.forebay:other"), "{text}");
}

#[test]
fn raw_commands_and_a_fused_pair() {
    let node = Node::start(ram(), Hosts::Any, None);
    let mut session = Session::connect(&options(node.address)).unwrap();
    let controller = session.controller().unwrap();
    let mut queue = session.io_queue(1, 16, &controller).unwrap();
    let write = |opcode, flags| {
        let mut sqe = Sqe::new(opcode, 0, 1);
        sqe.set_blocks(1);
        sqe.flags |= flags;
        sqe
    };
    let old = [7; BLOCK];
    queue.succeed("Write", write(nvm::WRITE, 0), Data::Out(&old)).unwrap();
    queue.succeed("Compare", write(nvm::COMPARE, 0), Data::Out(&old)).unwrap();
    let other = queue.execute("Compare", write(nvm::COMPARE, 0), Data::Out(&[8; BLOCK])).unwrap();
    assert_eq!(other.cqe.status().code(), Status::COMPARE_FAILURE);

    let memory = Memory::map(1, 2 * BLOCK).unwrap();
    let (compare, new) = (memory.slice(0, 0, BLOCK), memory.slice(0, BLOCK, BLOCK));
    compare.copy_in(0, &old);
    new.copy_in(0, &[9; BLOCK]);
    for (first, second) in [
        (Status::SUCCESS, Status::SUCCESS),
        (Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED),
    ] {
        let sqe = write(nvm::COMPARE, Sqe::FUSE_FIRST);
        let a = queue.post(sqe, Payload::ToController(compare));
        let b = queue.post(write(nvm::WRITE, Sqe::FUSE_SECOND), Payload::ToController(new));
        assert_eq!(queue.wait("Compare", a).unwrap().cqe.status().code(), first);
        assert_eq!(queue.wait("Write", b).unwrap().cqe.status().code(), second);
    }
    let mut data = [0; BLOCK];
    queue.succeed("Read", write(nvm::READ, 0), Data::In(&mut data)).unwrap();
    assert_eq!(data, [9; BLOCK]);

    let unknown = queue.execute("0xc0", Sqe::new(0xc0, 0, 1), Data::None).unwrap();
    assert_eq!(unknown.cqe.status().code(), Status::INVALID_OPCODE);
    session.keep_alive().unwrap();
    session.shut_down(Duration::from_secs(2)).unwrap();
}
