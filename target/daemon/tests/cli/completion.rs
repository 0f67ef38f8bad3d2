//! Completion scripts.

use crate::rig::{file, forebay};
use std::process::Command;

#[test]
fn scripts_know_every_command() {
    let help = forebay(&["help"]).out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"connect-info") && commands.len() > 20, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let said = forebay(&["completion", shell]);
        assert_eq!(said.code, 0, "{said:?}");
        for command in &commands {
            assert!(said.out.contains(command), "{shell} does not know {command}");
        }
        assert!(said.out.contains("drain-device"), "{shell} does not know what is below");
    }
}

#[test]
fn the_script_for_bash_is_one_and_completes() {
    let folder = tempfile::tempdir().unwrap();
    let script = file(folder.path(), "forebay.bash", &forebay(&["completion", "bash"]).out);
    let parsed = Command::new("bash").args(["-n", &script]).output().unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let line = format!(
        "source {script}; COMP_WORDS=(forebay volume cr); COMP_CWORD=2; \
         _forebay forebay cr volume; echo \"${{COMPREPLY[*]}}\""
    );
    let completed = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "create");
}

/// Both streams go to somebody who is gone: no panic, and the status says what happened.
#[test]
fn nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    for (words, status) in [("completion bash", "0"), ("pool list", "1")] {
        let script = format!(
            "{{ sleep 0.3; {} {words}; echo $? >status; }} 2>&1 | true; cat status",
            env!("CARGO_BIN_EXE_forebay")
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &script]).current_dir(folder.path());
        let said = bash.env("FOREBAY_DATA_DIR", folder.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), status, "{words}");
    }
}
