use super::*;

const GOOD: &str = r#"
[reactors]
cores = [0, 1]
poll = "busy"
memory = "64MiB"

[[bdev]]
name = "fast"
kind = "ram"
size = "512MiB"

[[bdev]]
name = "bad"
kind = "error"
base = "fast"
[[bdev.rule]]
ops = ["read"]
lba = 100
blocks = 8
status = [2, 0x81]

[[subsystem]]
nqn = "nqn.2026-01.org.example:a"
hosts = ["nqn.2014-08.org.nvmexpress:uuid:5e1d2f0e-0000-0000-0000-000000000001"]
[[subsystem.namespace]]
bdev = "bad"
nsid = 3

[[listener]]
address = "127.0.0.1:4420"
"#;

#[test]
fn a_full_file_is_read() {
    let config = Config::from_text(GOOD).unwrap();
    assert_eq!(config.reactors.cores, [0, 1]);
    assert_eq!(config.reactors.poll, PollMode::Busy);
    assert_eq!(config.bdevs.len(), 2);
    let BdevKind::Error { base, rules } = &config.bdevs[1].kind else { panic!("an error bdev") };
    assert_eq!((base.as_str(), rules[0].status), ("fast", [2, 0x81]));
    assert_eq!(config.subsystems[0].namespaces[0].nsid, Some(3));
}

#[test]
fn what_is_written_is_read_back() {
    let config = Config::from_text(GOOD).unwrap();
    let text = toml::to_string(&config).unwrap();
    assert_eq!(Config::from_text(&text).unwrap(), config);
    for config in [Config::plain("data".into()), Config::demo("data".into())] {
        config.check().unwrap();
        assert_eq!(Config::from_text(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}

#[test]
fn every_mistake_gets_its_sentence() {
    let cases = [
        ("poll = \"busy\"", "poll = \"lazy\"", "lazy"),
        ("cores = [0, 1]", "cores = [1, 1]", "Core 1 is given to two reactors"),
        ("memory = \"64MiB\"", "memory = \"1MiB\"", "between 16MiB and 64GiB"),
        ("memory = \"64MiB\"", "memery = \"64MiB\"", "memery"),
        ("memory = \"64MiB\"", "[tcp]\nconnections = 0", "1 or more"),
        ("memory = \"64MiB\"", "[tcp]\nconnections_per_address = 0", "1 or more"),
        ("size = \"512MiB\"", "size = \"much\"", "is no size"),
        ("size = \"512MiB\"", "size = \"5000\"", "not a multiple"),
        ("size = \"512MiB\"", "size = \"512MiB\"\nblock = 1024", "use 512 or 4096"),
        ("size = \"512MiB\"", "size = \"512MiB\"\ncolour = 3", "colour"),
        ("kind = \"ram\"", "kind = \"rom\"", "rom"),
        ("name = \"bad\"", "name = \"fast\"", "called \"fast\""),
        ("base = \"fast\"", "base = \"slow\"", "not defined before"),
        ("nqn = \"nqn.2026-01.org.example:a\"", "nqn = \"example\"", "not a valid NQN"),
        ("hosts = [\"nqn.", "hosts = [\"mqn.", "not a valid NQN"),
        ("hosts = [", "allow_any_host = false\n#", "No host may connect"),
        ("hosts = [", "allow_any_host = true\nhosts = [", "lists hosts and lets in any host"),
        ("uuid:5e1d2f0e-0000", "uuid:5e1d2f0e-000", "no UUID"),
        ("bdev = \"bad\"", "bdev = \"none\"", "which is no bdev"),
        ("[reactors]", "[api]\ndevice_folders = [\"disks\"]\n[reactors]", "no path from the root"),
        ("nsid = 3", "nsid = 0", "number 0"),
        ("nsid = 3", "uuid = \"x\"", "not a UUID"),
        ("127.0.0.1:4420", "localhost", "no address with a port"),
        (
            "127.0.0.1:4420\"",
            "127.0.0.1:4420\"\n[[listener]]\naddress = \"0.0.0.0:4420\"",
            "takes in",
        ),
    ];
    for (good, bad, says) in cases {
        assert!(GOOD.contains(good), "{good}");
        let error = Config::from_text(&GOOD.replacen(good, bad, 1)).expect_err(bad);
        assert!(error.0.contains(says), "{bad}: {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::from_file(Path::new("no/such.toml")).unwrap_err();
    assert!(error.0.contains("no/such.toml") && error.0.contains("--config"), "{error}");
}

#[test]
fn an_ipv4_address_is_one_however_it_is_written() {
    let config = Config::from_text(&GOOD.replace("127.0.0.1:4420", "[::ffff:127.0.0.1]:4420"));
    assert_eq!(config.unwrap().listeners[0].address, "127.0.0.1:4420".parse().unwrap());
    // Two wildcards share a port, each with a family of its own.
    let both = "127.0.0.1:4420\"\n[[listener]]\naddress = \"[::1]:4420";
    assert!(Config::from_text(&GOOD.replace("127.0.0.1:4420", both)).is_ok());
    let both = "0.0.0.0:4420\"\n[[listener]]\naddress = \"[::]:4420";
    assert!(Config::from_text(&GOOD.replace("127.0.0.1:4420", both)).is_ok());
}
