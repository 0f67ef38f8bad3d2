//! Asks a child process to end, and lets the measured processes run before others.
#![allow(unsafe_code)]

use std::io;

/// Sends SIGTERM to the process `pid`, a child that was not waited for yet.
///
/// # Errors
/// The kernel's.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: no memory is involved; a child that was not waited for keeps its number.
    let rc = unsafe { libc::kill(pid, libc::SIGTERM) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread, and what it starts from now on, into the round-robin real-time class.
///
/// # Errors
/// The kernel's, `EPERM` without CAP_SYS_NICE.
pub fn become_realtime() -> io::Result<()> {
    // SAFETY: an all-zero sched_param is valid; its only use on Linux is the priority.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = 1;
    // SAFETY: `param` outlives the call.
    let rc = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const param) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
