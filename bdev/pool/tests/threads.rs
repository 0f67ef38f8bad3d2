//! A pool's thread ends before what it uses: when the pool is gone, so is it.

use bdev::{Bdev, DmaSlice};
use bdev_mem::Null;
use bdev_pool::{FileMedium, Host, Medium, NewMember, Pool, Reactors};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const BYTES: u64 = 64 << 20;

/// A device that takes its time.
#[derive(Debug)]
struct Slow(FileMedium);

impl Medium for Slow {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read(at, into)
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(20));
        self.0.write(pieces)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Nobody;

impl Reactors for Nobody {
    fn count(&self) -> usize {
        1
    }

    fn wake(&self, _reactor: usize) {}

    fn add_child(&self, _parent: &Arc<dyn Bdev>, _child: &Arc<dyn Bdev>) -> Result<(), String> {
        Ok(())
    }

    fn remove_child(&self, _parent: &Arc<dyn Bdev>, _child: &Arc<dyn Bdev>) {}
}

#[test]
fn a_pool_that_is_dropped_has_no_thread_any_more() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(BYTES).unwrap();
    let medium: Arc<dyn Medium> = Arc::new(Slow(FileMedium::new(file, BYTES)));
    let bdev = Arc::new(Null::new(BYTES, 4096).unwrap());
    let member = NewMember { name: "slow".into(), bdev, medium: medium.clone() };
    let memory = vec![DmaSlice::EMPTY];
    let host = Host { reactors: Arc::new(Nobody), memory, journals: None, stepped: None };
    let mut number = 0;
    let uuid = || {
        number += 1;
        Uuid::from_u128(number)
    };
    // Not closed: as where it failed, or something else did on the way.
    drop(Pool::create("tank", vec![member], false, host, uuid).unwrap());
    // Its store writes when it ends, and whatever the thread had it has let go of.
    assert_eq!(Arc::strong_count(&medium), 1);
}
