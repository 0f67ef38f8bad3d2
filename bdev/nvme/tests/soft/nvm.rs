//! I/O commands.

use super::engine::Engine;
use nvme_spec::dsm::{DatasetManagement, Range};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use zerocopy::IntoBytes;

const PAGE: usize = 4096;

impl Engine {
    /// Does an I/O command.
    pub fn nvm(&mut self, sqe: &Sqe) -> Status {
        let Some(at) = self.spaces.iter().position(|space| space.nsid == sqe.nsid()) else {
            return Status::INVALID_NAMESPACE.dnr();
        };
        if sqe.opcode == nvm::FLUSH {
            return Status::SUCCESS;
        }
        if sqe.opcode == nvm::DATASET_MANAGEMENT {
            return self.discard(sqe, at);
        }
        let (block, blocks) = (self.spaces[at].block_bytes as usize, self.spaces[at].blocks());
        let end = sqe.slba().checked_add(u64::from(sqe.blocks()));
        if end.is_none_or(|end| end > blocks) {
            return Status::LBA_OUT_OF_RANGE.dnr();
        }
        let bytes = sqe.blocks() as usize * block;
        let from = sqe.slba() as usize * block;
        match sqe.opcode {
            nvm::WRITE_ZEROES if self.config.write_zeroes => {
                self.spaces[at].data[from..from + bytes].fill(0);
                Status::SUCCESS
            }
            nvm::READ | nvm::WRITE => {
                let most = PAGE << self.config.mdts;
                if self.config.mdts > 0 && bytes > most {
                    self.blame(format!("a transfer of {bytes} bytes is beyond MDTS"));
                    return Status::INVALID_FIELD.dnr();
                }
                self.transfer(sqe, at, from, bytes)
            }
            _ => Status::INVALID_OPCODE.dnr(),
        }
    }

    /// Dataset Management: what is deallocated holds anything afterwards.
    fn discard(&mut self, sqe: &Sqe, space: usize) -> Status {
        let Some(most) = self.config.discards else { return Status::INVALID_OPCODE.dnr() };
        let wanted = DatasetManagement::of(sqe);
        let mut range = Range::default();
        if !wanted.deallocate
            || wanted.ranges != 1
            || !self.dma_read(sqe.prps().0, range.as_mut_bytes())
        {
            self.blame("a range is deallocated at a time, and lies on the bus");
            return Status::INVALID_FIELD.dnr();
        }
        let (slba, count) = (range.slba.get(), u64::from(range.blocks.get()));
        if most != 0 && count > u64::from(most) {
            self.blame(format!("{count} blocks are more than DMRSL"));
        }
        if slba + count > self.spaces[space].blocks() {
            return Status::LBA_OUT_OF_RANGE.dnr();
        }
        let block = self.spaces[space].block_bytes as usize;
        self.spaces[space].data[slba as usize * block..(slba + count) as usize * block].fill(0xdd);
        Status::SUCCESS
    }

    fn transfer(&mut self, sqe: &Sqe, space: usize, from: usize, bytes: usize) -> Status {
        let runs = match self.runs(sqe, bytes) {
            Ok(runs) => runs,
            Err(status) => return status,
        };
        let is_read = sqe.opcode == nvm::READ;
        let mut at = from;
        for (address, run) in runs {
            let mut piece = vec![0; run];
            let done = if is_read {
                piece.copy_from_slice(&self.spaces[space].data[at..at + run]);
                self.check_lent(address, run);
                self.dma_write(address, &piece)
            } else {
                let done = self.dma_read(address, &mut piece);
                // The driver's own page of zeros is lent to nobody.
                if piece.iter().any(|byte| *byte != 0) {
                    self.check_lent(address, run);
                }
                self.spaces[space].data[at..at + run].copy_from_slice(&piece);
                done
            };
            if !done {
                if !self.isolated {
                    self.blame(format!("{run} bytes at {address:#x} are not on the bus"));
                }
                return Status::DATA_TRANSFER_ERROR;
            }
            at += run;
        }
        Status::SUCCESS
    }

    fn check_lent(&mut self, address: u64, bytes: usize) {
        if !self.isolated && !self.is_lent(address, bytes) {
            self.blame("memory is used that no operation under way owns");
        }
    }

    /// The pieces of memory that PRPs stand for.
    fn runs(&mut self, sqe: &Sqe, bytes: usize) -> Result<Vec<(u64, usize)>, Status> {
        let (prp1, prp2) = sqe.prps();
        if !prp1.is_multiple_of(4) {
            self.blame("PRP1 is not aligned to a dword");
            return Err(Status::INVALID_PRP_OFFSET.dnr());
        }
        let first = (PAGE - prp1 as usize % PAGE).min(bytes);
        let mut runs = vec![(prp1, first)];
        let mut left = bytes - first;
        let mut list = prp2;
        let is_list = left > PAGE;
        if is_list && self.faults.list_off_by_one {
            list += 8;
        }
        while left > 0 {
            let page = if is_list {
                let mut entry = [0; 8];
                let is_last_of_page = list as usize % PAGE == PAGE - 8;
                if !self.dma_read(list, &mut entry) {
                    self.blame("a PRP list is not on the bus");
                    return Err(Status::DATA_TRANSFER_ERROR);
                }
                let entry = u64::from_le_bytes(entry);
                if is_last_of_page && left > PAGE {
                    list = entry;
                    continue;
                }
                list += 8;
                entry
            } else {
                prp2
            };
            if !page.is_multiple_of(PAGE as u64) {
                self.blame("a PRP after the first is not a page");
                return Err(Status::INVALID_PRP_OFFSET.dnr());
            }
            let run = left.min(PAGE);
            runs.push((page, run));
            left -= run;
        }
        Ok(runs)
    }
}
