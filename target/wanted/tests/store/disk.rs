//! Files in memory, and what power cuts and failures leave of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use wanted::Files;

pub type Image = BTreeMap<String, Vec<u8>>;

/// What is written together, whatever was asked for.
const SECTOR: usize = 512;

/// Bytes of the beginning and of the end of what is written at each of which it is cut off.
const EDGE: usize = 24;

/// Bytes from one place between them to the next.
const STRIDE: usize = 131;

#[derive(Clone, Debug)]
pub enum Operation {
    Replace(String, Vec<u8>),
    Append(String, Vec<u8>),
    Remove(String),
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// Nothing of it is done.
    Nothing,
    /// Half of it is.
    Half,
    /// All of it is, and nobody knows: the file could not be made durable.
    All,
}

#[derive(Default)]
pub struct State {
    pub files: Image,
    /// What was there before each operation, and the operation.
    pub tape: Vec<(Image, Operation)>,
    /// How operations fail from one on, and how many of them do.
    pub failing: Option<(usize, usize, Failure)>,
    /// Bytes that were written.
    pub written: usize,
    /// What was there before is not kept on the tape.
    pub is_bare: bool,
}

#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub fn with(files: Image) -> Disk {
        Disk(Arc::new(Mutex::new(State { files, ..State::default() })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn perform(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        let number = state.tape.len();
        let failing =
            state.failing.filter(|(from, many, _)| (*from..from + many).contains(&number));
        let before = if state.is_bare { Image::new() } else { state.files.clone() };
        state.tape.push((before, operation.clone()));
        state.written += match &operation {
            Operation::Replace(_, bytes) | Operation::Append(_, bytes) => bytes.len(),
            Operation::Remove(_) => 0,
        };
        match (failing, &operation) {
            (None, _) => operation.carry_out(&mut state.files),
            (Some((.., Failure::All)), _) => operation.carry_out(&mut state.files),
            (Some((.., Failure::Half)), Operation::Append(name, bytes)) => {
                let half = Operation::Append(name.clone(), bytes[..bytes.len() / 2].to_vec());
                half.carry_out(&mut state.files);
            }
            (Some(_), _) => {}
        }
        failing.map_or(Ok(()), |_| Err(io::Error::other("planted")))
    }
}

impl Operation {
    pub fn carry_out(&self, files: &mut Image) {
        match self {
            Operation::Replace(name, bytes) => drop(files.insert(name.clone(), bytes.clone())),
            Operation::Append(name, bytes) => files.get_mut(name).unwrap().extend(bytes),
            Operation::Remove(name) => drop(files.remove(name)),
        }
    }

    /// What may be there when the power fails during it.
    pub fn images(&self, before: &Image, mut random: impl FnMut() -> u64) -> Vec<Image> {
        let mut after = before.clone();
        self.carry_out(&mut after);
        let mut images = vec![before.clone()];
        match self {
            Operation::Append(name, bytes) => {
                let start = before[name].len();
                // Cut off anywhere: at each byte of the beginning and of the end, and here and there.
                let edge = |length: &usize| {
                    *length < EDGE || length + EDGE > bytes.len() || length.is_multiple_of(STRIDE)
                };
                images.extend((0..=bytes.len()).filter(edge).map(|length| {
                    let mut image = after.clone();
                    image.get_mut(name).unwrap().truncate(start + length);
                    image
                }));
                // Sectors in any order: some are there, others are zeros.
                for _ in 0..16 {
                    let mut image = after.clone();
                    let file = image.get_mut(name).unwrap();
                    for at in start..file.len() {
                        let sector = at / SECTOR;
                        if at == start || at % SECTOR == 0 {
                            let is_there = random().is_multiple_of(2);
                            let end = ((sector + 1) * SECTOR).min(file.len());
                            if !is_there {
                                file[at..end].fill(0);
                            }
                        }
                    }
                    images.push(image);
                }
            }
            Operation::Replace(name, bytes) => {
                // The file beside it, in part.
                let mut image = before.clone();
                image.insert(format!("{name}.new"), bytes[..bytes.len() / 2].to_vec());
                images.push(image);
            }
            Operation::Remove(_) => {}
        }
        images.push(after);
        images
    }
}

impl Files for Disk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state().files.get(name).cloned())
    }

    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.perform(Operation::Replace(name.into(), content.to_vec()))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.perform(Operation::Append(name.into(), bytes.to_vec()))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.perform(Operation::Remove(name.into()))
    }

    fn show(&self, name: &str) -> String {
        name.to_owned()
    }
}
