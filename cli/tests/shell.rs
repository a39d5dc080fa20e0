//! Completions, manual pages, and the command line itself.

mod harness;

use std::fs;
use std::process::Command;

use harness::{Run, strongroom};

fn run(arguments: &[&str]) -> Run {
    let mut command = strongroom();
    command.args(arguments);
    Run::of(command)
}

#[test]
fn completions_are_scripts_for_each_shell() {
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef strongroom"), ("fish", "complete -c strongroom")]
    {
        let script = run(&["completions", shell]).succeeds();
        assert!(script.contains(sign) && script.contains("reference"), "{shell}");
    }
    // bash completes a command and an option.
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("strongroom.bash");
    fs::write(&script, run(&["completions", "bash"]).succeeds()).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=(strongroom key gen); COMP_CWORD=2; _strongroom strongroom gen key; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "generate", "{output:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    run(&["man", pages.to_str().unwrap()]).succeeds();
    for (page, sign) in [
        ("strongroom.1", "Exit codes"),
        ("strongroom-init.1", "www\\-data"),
        ("strongroom-key-generate.1", "rsa\\-4096"),
        ("strongroom-cert-put.1", "fullchain.pem"),
        ("strongroom-user-admit.1", "kernel"),
        ("strongroom-cluster-init.1", "no way back"),
    ] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains(sign), "{sign} in {page}: {text}");
    }
}

#[test]
fn help_and_version() {
    let help = run(&["--help"]).succeeds();
    assert!(help.contains("Exit codes") && help.contains("strongroom init"), "{help}");
    let help = run(&["key", "import", "--help"]).succeeds();
    assert!(help.contains("PKCS#8") && help.contains("strongroom key import web"), "{help}");
    assert!(run(&["--version"]).succeeds().starts_with("strongroom "));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [
        &["key", "generate", "web"][..],
        &["key", "generate", "web", "--type", "rsa-1024"],
        &["key", "show", "id:xyz"],
        &["key", "list", "--no-such-option"],
        &["reboot"],
        &[],
    ] {
        let answer = run(arguments);
        assert!(answer.code == 2 && answer.stdout.is_empty() && !answer.stderr.is_empty(), "{answer:?}");
    }
    let error = run(&["key", "generate", "web", "--type", "rsa-1024", "--json"]).json_error();
    assert_eq!(error["code"], "usage");
    assert!(error["message"].as_str().unwrap().contains("rsa-2048"), "{error}");
}
