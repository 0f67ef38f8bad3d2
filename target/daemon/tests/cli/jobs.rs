//! Jobs: shown, waited for, cancelled.

use crate::rig::Rig;
use std::time::Duration;
use webui_model::JobStatus;

/// The number of the furnished appliance's only job.
fn only_job(rig: &Rig) -> u64 {
    *rig.appliance.lock().jobs.keys().next().expect("a job")
}

/// Ends a job a while from now, half way at first.
fn end_later(rig: &Rig, id: u64, status: JobStatus) -> std::thread::JoinHandle<()> {
    let appliance = rig.appliance.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        let half = |job: &mut webui_model::Job| {
            job.total_bytes = 64 << 20;
            job.done_bytes = 32 << 20;
            job.bytes_per_second = 16 << 20;
            job.seconds_left = Some(2);
        };
        half(appliance.lock().jobs.get_mut(&id).expect("the job"));
        std::thread::sleep(Duration::from_millis(900));
        let mut state = appliance.lock();
        let job = state.jobs.get_mut(&id).expect("the job");
        job.status = status;
        job.seconds_left = None;
        job.done_bytes = job.total_bytes;
        job.reason = "It came to its end.".into();
    })
}

#[test]
fn waiting_ends_when_the_job_does() {
    let rig = Rig::furnished();
    let id = only_job(&rig);
    rig.appliance.lock().jobs.get_mut(&id).unwrap().status = JobStatus::Running;
    let ender = end_later(&rig, id, JobStatus::Done);
    let said = rig.run(&["jobs", "wait", &id.to_string()]);
    ender.join().unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out, format!("Job {id} is done: It came to its end.\n"));
    assert_eq!(said.err, "", "no bar where nobody sees it");
}

#[test]
fn a_bar_is_drawn_on_a_terminal() {
    let rig = Rig::furnished();
    let id = only_job(&rig);
    rig.appliance.lock().jobs.get_mut(&id).unwrap().status = JobStatus::Running;
    let ender = end_later(&rig, id, JobStatus::Done);
    let (code, shown) = rig.on_terminal(&["jobs", "wait", &id.to_string()], "");
    ender.join().unwrap();
    assert_eq!(code, 0, "{shown}");
    for part in ["50%", "32.00 MiB of 64.00 MiB", "16.00 MiB/s, 2 s left"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
}

#[test]
fn a_job_that_fails_fails_whoever_waits() {
    let rig = Rig::furnished();
    let id = only_job(&rig);
    rig.appliance.lock().jobs.get_mut(&id).unwrap().status = JobStatus::Running;
    let ender = end_later(&rig, id, JobStatus::Failed);
    let sentence = rig.bad(1, &["jobs", "wait", &id.to_string()]);
    ender.join().unwrap();
    assert!(sentence.contains("was not done: It came to its end."), "{sentence}");
}

#[test]
fn a_job_is_shown_and_cancelled() {
    let rig = Rig::furnished();
    let id = only_job(&rig).to_string();
    assert!(rig.good(&["jobs", "show", &id]).contains("drain"));
    rig.appliance.lock().jobs.values_mut().for_each(|job| job.status = JobStatus::Running);
    let said = rig.good(&["jobs", "cancel", &id, "--yes"]);
    assert_eq!(said, format!("Job {id} is cancelled: Somebody asked.\n"));
    rig.bad(1, &["jobs", "show", "999999"]);
}
