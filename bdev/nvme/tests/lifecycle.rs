//! Bring-up, identification, admin commands, events, shutdown.

mod rig;
mod soft;

use bdev::{Bdev, DmaSlice, Memory, Op, Stack};
use bdev_nvme::{Failure, Hardware, Health, Request, RequestError};
use nvme_spec::identify::ascii;
use nvme_spec::log::{ErrorEntry, FirmwareSlots, SmartLog, lid};
use nvme_spec::maintenance::{Format, Sanitize, SecureErase};
use nvme_spec::property::{CC, Cc};
use nvme_spec::{Status, aen};
use rig::Rig;
use soft::{Config, Space};
use std::sync::Arc;
use zerocopy::FromBytes;

fn two_spaces() -> Config {
    let spaces = vec![Space::new(1, 512, 4096), Space::new(3, 4096, 256)];
    Config { spaces, ..Config::default() }
}

#[test]
fn a_controller_says_what_it_is() {
    let rig = Rig::new(two_spaces());
    let identity = rig.controller.identity().unwrap();
    assert_eq!((&*identity.model, &*identity.serial), ("Software Controller", "SOFT0001"));
    assert_eq!((&*identity.firmware, identity.version_text()), ("1.0", "1.4.0".to_owned()));
    assert_eq!((identity.transfer_bytes, identity.io_queues), (128 << 10, 4));
    assert!(identity.volatile_cache && !identity.shadow_doorbells);
    let spaces = rig.controller.namespaces();
    assert_eq!(spaces.iter().map(|s| s.nsid).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((spaces[0].nguid, spaces[1].uuid), (Some([1; 16]), Some([3; 16])));
    assert_eq!(spaces[0].formats.len(), 4);
    let geometry = rig.bdev(3).unwrap().geometry();
    assert_eq!((geometry.block_bytes, geometry.blocks), (4096, 256));
    assert_eq!((geometry.atomic_blocks, geometry.volatile_cache), (8, true));
    assert!(geometry.deallocates && rig.bdev(2).is_err());
    rig.check();
}

#[test]
fn one_that_somebody_left_enabled_is_stopped_first() {
    let mut rig = Rig::cold(Config { lag: 5, ..Config::default() });
    // As a boot loader leaves it: enabled, and not even ready yet.
    rig.soft.write32(CC as usize, Cc::ENABLE.0);
    rig.settle();
    assert_eq!(rig.controller.health(), Health::Ready);
    assert_eq!(rig.soft.engine().resets, 1);
    rig.check();
}

#[test]
fn one_that_never_becomes_ready_is_given_up() {
    let mut rig = Rig::cold(Config::default());
    rig.soft.engine().faults.never_ready = true;
    rig.settle();
    let hung = Failure::Hung("it does not become ready");
    assert_eq!(rig.controller.health(), Health::Dead(hung));
    assert!(rig.soft.engine().isolated);
    // CAP.TO is 2 s, for each of four attempts.
    assert!(rig.now_ns >= 8_000_000_000 && rig.now_ns < 10_000_000_000, "{}", rig.now_ns);
}

#[test]
fn one_that_is_not_there_or_fatal_is_given_up() {
    let mut rig = Rig::cold(Config::default());
    rig.soft.engine().faults.gone = true;
    rig.settle();
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Gone));
    let mut rig = Rig::cold(Config::default());
    rig.soft.engine().faults.fatal = true;
    rig.settle();
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Fatal));
}

#[test]
fn one_that_was_given_up_comes_back_when_asked() {
    let mut rig = Rig::cold(Config::default());
    rig.soft.engine().faults.fatal = true;
    rig.settle();
    rig.soft.engine().faults.fatal = false;
    rig.controller.reset(rig.now_ns);
    rig.settle();
    assert_eq!(rig.controller.health(), Health::Ready);
    let ns = rig.open(1);
    assert_eq!(rig.write(ns, 0, 8, &[1; 4096]), Status::SUCCESS);
    rig.check();
}

#[test]
fn formats_that_cannot_be_used_are_refused_with_a_sentence() {
    let mut with_metadata = Space::new(1, 4096, 64);
    with_metadata.metadata_bytes = 8;
    let spaces = vec![with_metadata, Space::new(2, 65536, 4)];
    let rig = Rig::new(Config { spaces, ..Config::default() });
    let why = rig.bdev(1).err().unwrap();
    assert!(why.contains("8 bytes of metadata with each block"), "{why}");
    let why = rig.bdev(2).err().unwrap();
    assert!(why.contains("blocks of 65536 bytes"), "{why}");
    let format = rig.controller.namespaces()[0].format.unwrap();
    assert_eq!(format.to_string(), "4096 + 8 B");
}

#[test]
fn logs_are_read() {
    let mut rig = Rig::new(Config::default());
    let smart = rig.ask(Request::smart_log()).unwrap();
    let smart = SmartLog::read_from_bytes(&smart).unwrap();
    assert_eq!((smart.temperature.get(), smart.percentage_used), (311, 7));
    let errors = rig.ask(Request::error_log(4)).unwrap();
    assert_eq!(errors.len(), 256);
    assert_eq!(ErrorEntry::read_from_bytes(&errors[..64]).unwrap().error_count.get(), 5);
    let slots = rig.ask(Request::firmware_log()).unwrap();
    let slots = FirmwareSlots::read_from_bytes(&slots).unwrap();
    assert_eq!(ascii(&slots.revisions[0]), "1.0");
    let refused = rig.ask(Request::sanitize_log()).unwrap_err();
    assert_eq!(refused, RequestError::Refused(Status::INVALID_LOG_PAGE.dnr()));
    let odd = Request::Log { lid: lid::SMART, nsid: 1, offset: 0, bytes: 3 };
    assert!(matches!(rig.ask(odd), Err(RequestError::NotDone(_))));
    // More at once than are sent at once.
    let tickets: Vec<_> = (0..40).map(|_| rig.controller.ask(Request::smart_log())).collect();
    for _ in 0..40 {
        rig.now_ns += 1;
        rig.controller.poll(rig.now_ns);
        rig.soft.work();
    }
    assert!(tickets.into_iter().all(|t| rig.controller.answer(t).unwrap().is_ok()));
    rig.check();
}

#[test]
fn format_changes_the_blocks_and_retires_who_knew_the_old_ones() {
    let mut rig = Rig::new(Config::default());
    let ns = rig.open(1);
    let old = rig.bdev(1).unwrap();
    assert_eq!(rig.write(ns, 0, 8, &[7; 4096]), Status::SUCCESS);
    let format = Request::Format(Format { nsid: 1, lbaf: 1, erase: SecureErase::None });
    let in_use = rig.ask(format.clone()).unwrap_err();
    assert!(in_use.to_string().contains("in use"), "{in_use}");
    rig.stack.close(ns);
    rig.settle_queues();
    rig.ask(format).unwrap();
    rig.settle_queues();
    assert_eq!(rig.bdev(1).unwrap().geometry().block_bytes, 4096);
    assert_eq!(old.geometry().blocks, 0);
    let ns = rig.stack.open(&(Arc::new(old) as Arc<dyn Bdev>), rig.now_ns).unwrap();
    let status = rig.one(ns, Op::Flush, 0, 0, DmaSlice::EMPTY);
    assert_eq!(status, Status::INVALID_NAMESPACE.dnr());
    rig.stack.close(ns);
    rig.settle_queues();
    rig.ask(Request::Sanitize(Sanitize::BlockErase)).unwrap();
    rig.check();
}

impl Rig {
    /// Lets the controller delete queues and look at namespaces.
    fn settle_queues(&mut self) {
        for _ in 0..50 {
            self.now_ns += 1_000_000;
            self.controller.poll(self.now_ns);
            self.soft.work();
        }
    }
}

#[test]
fn a_namespace_that_grows_is_seen() {
    let mut rig = Rig::new(Config::default());
    let ns = rig.open(1);
    let bdev = rig.bdev(1).unwrap();
    rig.turns(20);
    let blocks = bdev.geometry().blocks;
    assert_eq!(rig.write(ns, blocks, 8, &[9; 4096]), Status::LBA_OUT_OF_RANGE.dnr());
    rig.soft.engine().spaces[0].data.resize(20 << 20, 0);
    assert!(rig.soft.engine().raise_event(aen::Event::NAMESPACE_CHANGED.dword()));
    rig.turns(60);
    assert_eq!(bdev.geometry().blocks, 40 << 10);
    assert_eq!(rig.write(ns, blocks, 8, &[9; 4096]), Status::SUCCESS);
    assert_eq!(rig.controller.events(), [aen::Event::NAMESPACE_CHANGED]);
    assert_eq!(rig.controller.events(), []);
    // Events were asked for again.
    assert!(rig.soft.engine().raise_event(0x0002_0101));
    rig.turns(60);
    assert_eq!(rig.controller.warned_of().unwrap().percentage_used, 7);
    assert!(rig.soft.engine().events_wanted & aen::config::NAMESPACE != 0);
    rig.check();
}

#[test]
fn shutdown_and_drop_keep_the_controller_from_memory() {
    let mut rig = Rig::new(Config::default());
    rig.controller.shut_down(rig.now_ns);
    rig.settle();
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Asked));
    assert!(rig.soft.engine().isolated && !rig.soft.engine().cc.enabled());
    let why = rig.ask(Request::smart_log()).unwrap_err();
    assert!(why.to_string().contains("does nothing any more"), "{why}");
    rig.check();

    let Rig { soft, controller, .. } = Rig::new(Config::default());
    drop(controller);
    assert!(soft.engine().isolated, "cut off when nobody has it any more");
    assert_eq!(soft.engine().bus.len(), 0, "and its memory is off the bus");
    assert_eq!(soft.violations(), [""; 0]);
}

#[test]
fn queues_run_out_with_a_sentence_and_come_back() {
    let mut rig = Rig::new(Config { io_queues: 2, ..Config::default() });
    let bdev: Arc<dyn Bdev> = Arc::new(rig.bdev(1).unwrap());
    let mut stacks: Vec<(Stack, bdev::Addr)> = Vec::new();
    for reactor in 0..2 {
        let mut stack = Stack::new(reactor, Arc::new(Memory::map(1, 4096).unwrap()));
        let addr = stack.open(&bdev, rig.now_ns).unwrap();
        stacks.push((stack, addr));
    }
    let mut third = Stack::new(2, Arc::new(Memory::map(1, 4096).unwrap()));
    let why = third.open(&bdev, rig.now_ns).unwrap_err();
    assert!(why.0.contains("2 I/O queues and all are in use"), "{why}");
    rig.settle_queues();
    assert_eq!(rig.soft.engine().sqs.len(), 3);
    let (mut stack, addr) = stacks.remove(0);
    stack.close(addr);
    rig.settle_queues();
    assert_eq!(rig.soft.engine().sqs.keys().copied().collect::<Vec<_>>(), [0, 2]);
    let addr = third.open(&bdev, rig.now_ns).unwrap();
    rig.settle_queues();
    assert_eq!(rig.soft.engine().cqs.len(), 3);
    third.close(addr);
    let (mut stack, addr) = stacks.remove(0);
    stack.close(addr);
    rig.check();
}
