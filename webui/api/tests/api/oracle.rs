//! Random operations through real HTTP against a model that knows no more than names, sizes and who
//! stands in whose way.

use crate::appliance::{Appliance, MIB};
use crate::client::Rig;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a pool of one device for data, in MiB, as the appliance in memory has it.
const POOL_MIB: u64 = 48;
const NAMES: [&str; 3] = ["a", "b", "c"];
const HOSTS: [&str; 2] = ["nqn.2014-08.org.example:h0", "nqn.2014-08.org.example:h1"];

/// One operation. Numbers choose among the names.
#[derive(Clone, Debug)]
enum Step {
    CreatePool(usize),
    DeletePool(usize),
    CreateVolume { pool: usize, volume: usize, mib: u64, thick: bool, host: Option<usize> },
    DeleteVolume(usize, usize),
    Rename(usize, usize, usize),
    Resize { pool: usize, volume: usize, mib: u64, may_shrink: bool },
    Snapshot(usize, usize, usize),
    Group(usize, Vec<usize>, usize),
    DeleteSnapshot(usize, usize, usize),
    Clone { pool: usize, volume: usize, snapshot: usize, new: usize },
    RollBack(usize, usize, usize),
    Promote(usize, usize),
    Unexport(usize, usize),
    Export(usize, usize, Option<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let (pool, name, mib) = (|| 0..2_usize, || 0..3_usize, || 1..40_u64);
    let host = || prop::option::of(0..2_usize);
    prop_oneof![
        2 => pool().prop_map(Step::CreatePool),
        1 => pool().prop_map(Step::DeletePool),
        6 => (pool(), name(), mib(), any::<bool>(), host()).prop_map(
            |(pool, volume, mib, thick, host)| Step::CreateVolume { pool, volume, mib, thick, host }),
        3 => (pool(), name()).prop_map(|(p, v)| Step::DeleteVolume(p, v)),
        2 => (pool(), name(), name()).prop_map(|(p, v, n)| Step::Rename(p, v, n)),
        3 => (pool(), name(), mib(), any::<bool>()).prop_map(
            |(pool, volume, mib, may_shrink)| Step::Resize { pool, volume, mib, may_shrink }),
        5 => (pool(), name(), name()).prop_map(|(p, v, s)| Step::Snapshot(p, v, s)),
        2 => (pool(), prop::collection::vec(name(), 1..3), name())
            .prop_map(|(p, v, s)| Step::Group(p, v, s)),
        3 => (pool(), name(), name()).prop_map(|(p, v, s)| Step::DeleteSnapshot(p, v, s)),
        4 => (pool(), name(), name(), name()).prop_map(
            |(pool, volume, snapshot, new)| Step::Clone { pool, volume, snapshot, new }),
        2 => (pool(), name(), name()).prop_map(|(p, v, s)| Step::RollBack(p, v, s)),
        3 => (pool(), name()).prop_map(|(p, v)| Step::Promote(p, v)),
        1 => (pool(), name()).prop_map(|(p, v)| Step::Unexport(p, v)),
        2 => (pool(), name(), host()).prop_map(|(p, v, h)| Step::Export(p, v, h)),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Volume {
    mib: u64,
    thick: bool,
    /// Nothing: not exported. Otherwise who may connect, and the name its subsystem has.
    export: Option<(Option<usize>, usize)>,
    origin: Option<(usize, usize)>,
    /// Size and age by name.
    snapshots: BTreeMap<usize, (u64, u64)>,
}

/// What should be there, and what each step should answer.
#[derive(Clone, Debug, Default)]
struct Model {
    pools: BTreeMap<usize, BTreeMap<usize, Volume>>,
    age: u64,
}

impl Model {
    fn reserved(&self, pool: usize) -> u64 {
        self.pools[&pool].values().filter(|v| v.thick).map(|v| v.mib).sum()
    }

    fn there(&self, pool: usize, volume: usize) -> bool {
        self.pools.get(&pool).is_some_and(|p| p.contains_key(&volume))
    }

    fn volume(&mut self, pool: usize, volume: usize) -> Option<&mut Volume> {
        self.pools.get_mut(&pool)?.get_mut(&volume)
    }

    fn has(&self, pool: usize, volume: usize, snapshot: usize) -> bool {
        self.there(pool, volume) && self.pools[&pool][&volume].snapshots.contains_key(&snapshot)
    }

    /// Whether a volume's own subsystem, named as this, is there.
    fn taken(&self, pool: usize, name: usize) -> bool {
        self.pools[&pool].values().any(|v| v.export.is_some_and(|(_, own)| own == name))
    }

    /// Carries a step out; returns the status it should be answered with.
    fn take(&mut self, step: &Step) -> u16 {
        match *step {
            Step::CreatePool(pool) if self.pools.contains_key(&pool) => 200,
            Step::CreatePool(pool) => {
                self.pools.insert(pool, BTreeMap::new());
                201
            }
            Step::DeletePool(pool) => match self.pools.get(&pool) {
                None => 404,
                Some(volumes) if !volumes.is_empty() => 409,
                Some(_) => {
                    self.pools.remove(&pool);
                    204
                }
            },
            Step::CreateVolume { pool, volume, mib, thick, host } => {
                let new = Volume {
                    mib,
                    thick,
                    export: Some((host, volume)),
                    origin: None,
                    snapshots: BTreeMap::new(),
                };
                self.create(pool, volume, new)
            }
            Step::DeleteVolume(pool, volume) => match self.volume(pool, volume) {
                None => 404,
                Some(there) if !there.snapshots.is_empty() => 409,
                Some(_) => {
                    self.pools.get_mut(&pool).unwrap().remove(&volume);
                    204
                }
            },
            Step::Rename(pool, volume, new) => self.rename(pool, volume, new),
            Step::Resize { pool, volume, mib, may_shrink } => {
                self.resize(pool, volume, mib, may_shrink)
            }
            Step::Snapshot(pool, volume, name) => self.snapshot(pool, volume, name),
            Step::Group(pool, ref volumes, name) => self.group(pool, volumes, name),
            Step::DeleteSnapshot(pool, volume, name) => self.delete_snapshot(pool, volume, name),
            Step::Clone { pool, volume, snapshot, new } => {
                self.clone_snapshot(pool, (volume, snapshot), new)
            }
            Step::RollBack(pool, volume, name) => {
                if !self.has(pool, volume, name) {
                    return 404;
                }
                let there = self.volume(pool, volume).unwrap();
                there.mib = there.snapshots[&name].0;
                200
            }
            Step::Promote(pool, volume) => self.promote(pool, volume),
            Step::Unexport(pool, volume) => {
                let export = self.volume(pool, volume).and_then(|there| there.export.take());
                if export.is_some() { 204 } else { 404 }
            }
            Step::Export(pool, volume, host) => self.export(pool, volume, host),
        }
    }

    fn resize(&mut self, pool: usize, volume: usize, mib: u64, may_shrink: bool) -> u16 {
        let Some(there) = self.volume(pool, volume) else { return 404 };
        let (now, thick) = (there.mib, there.thick);
        let more = mib.saturating_sub(now);
        if (mib < now && !may_shrink) || (thick && self.reserved(pool) + more > POOL_MIB) {
            return 409;
        }
        self.volume(pool, volume).unwrap().mib = mib;
        200
    }

    fn delete_snapshot(&mut self, pool: usize, volume: usize, name: usize) -> u16 {
        if !self.has(pool, volume, name) {
            return 404;
        }
        for other in self.pools.get_mut(&pool).unwrap().values_mut() {
            other.origin.take_if(|origin| *origin == (volume, name));
        }
        self.volume(pool, volume).unwrap().snapshots.remove(&name);
        204
    }

    fn clone_snapshot(&mut self, pool: usize, of: (usize, usize), new: usize) -> u16 {
        if !self.has(pool, of.0, of.1) {
            return 404;
        }
        let mib = self.pools[&pool][&of.0].snapshots[&of.1].0;
        let (export, snapshots) = (Some((None, new)), BTreeMap::new());
        self.create(pool, new, Volume { mib, thick: false, export, origin: Some(of), snapshots })
    }

    fn export(&mut self, pool: usize, volume: usize, host: Option<usize>) -> u16 {
        if !self.there(pool, volume) {
            return 404;
        }
        let own = self.pools[&pool][&volume].export.map(|(_, own)| own);
        if own.is_none() && self.taken(pool, volume) {
            return 409;
        }
        let own = own.unwrap_or(volume);
        self.volume(pool, volume).unwrap().export = Some((host, own));
        200
    }

    fn create(&mut self, pool: usize, name: usize, new: Volume) -> u16 {
        let Some(volumes) = self.pools.get(&pool) else { return 404 };
        if let Some(there) = volumes.get(&name) {
            let who = |v: &Volume| v.export.map(|(host, _)| host);
            // The size of a clone is that of its snapshot, and may have changed since.
            let same = (there.mib == new.mib || new.origin.is_some())
                && (there.thick == new.thick || new.origin.is_some())
                && there.origin == new.origin
                && who(there) == who(&new);
            return if same { 200 } else { 409 };
        }
        if self.taken(pool, name) || (new.thick && self.reserved(pool) + new.mib > POOL_MIB) {
            return 409;
        }
        self.pools.get_mut(&pool).unwrap().insert(name, new);
        201
    }

    fn rename(&mut self, pool: usize, volume: usize, new: usize) -> u16 {
        if !self.there(pool, volume) {
            return 404;
        }
        if volume == new {
            return 200;
        }
        if self.there(pool, new) {
            return 409;
        }
        let volumes = self.pools.get_mut(&pool).unwrap();
        let moved = volumes.remove(&volume).unwrap();
        volumes.insert(new, moved);
        for other in volumes.values_mut() {
            if let Some((origin, _)) = other.origin.as_mut().filter(|(o, _)| *o == volume) {
                *origin = new;
            }
        }
        200
    }

    fn snapshot(&mut self, pool: usize, volume: usize, name: usize) -> u16 {
        self.age += 1;
        let age = self.age;
        let Some(there) = self.volume(pool, volume) else { return 404 };
        if there.snapshots.contains_key(&name) {
            return 200;
        }
        there.snapshots.insert(name, (there.mib, age));
        201
    }

    fn group(&mut self, pool: usize, volumes: &[usize], name: usize) -> u16 {
        if volumes.iter().collect::<BTreeSet<_>>().len() < volumes.len() {
            return 422;
        }
        if !self.pools.contains_key(&pool) {
            return 404;
        }
        let before = self.clone();
        for volume in volumes {
            let status = match self.snapshot(pool, *volume, name) {
                201 => continue,
                200 => 409,
                status => status,
            };
            *self = before;
            return status;
        }
        200
    }

    fn promote(&mut self, pool: usize, volume: usize) -> u16 {
        let Some(there) = self.volume(pool, volume) else { return 404 };
        let Some((origin, snapshot)) = there.origin else { return 409 };
        let own: BTreeSet<usize> = there.snapshots.keys().copied().collect();
        let former = self.volume(pool, origin).unwrap();
        let last = former.snapshots[&snapshot].1;
        let moved: BTreeMap<_, _> =
            former.snapshots.iter().filter(|(_, s)| s.1 <= last).map(|(n, s)| (*n, *s)).collect();
        if moved.keys().any(|name| own.contains(name)) {
            return 409;
        }
        former.snapshots.retain(|name, _| !moved.contains_key(name));
        let grand = former.origin.replace((volume, snapshot));
        for (name, other) in self.pools.get_mut(&pool).unwrap() {
            if *name == volume {
                other.origin = grand;
                other.snapshots.extend(moved.iter());
            } else if let Some((from, s)) = other.origin
                && from == origin
                && moved.contains_key(&s)
            {
                other.origin = Some((volume, s));
            }
        }
        200
    }
}

fn pool_name(pool: usize) -> String {
    format!("p{pool}")
}

fn access(host: Option<usize>) -> Vec<&'static str> {
    host.map(|h| HOSTS[h]).into_iter().collect()
}

/// The request of a step.
fn request(step: &Step) -> (&'static str, String, Option<Value>) {
    let pools = "/api/v1/pools";
    let volumes = |pool: &usize| format!("{pools}/p{pool}/volumes");
    let volume = |pool: &usize, v: &usize| format!("{}/{}", volumes(pool), NAMES[*v]);
    let snapshot =
        |p: &usize, v: &usize, s: &usize| format!("{}/snapshots/{}", volume(p, v), NAMES[*s]);
    match step {
        Step::CreatePool(p) => {
            let body = json!({"name": pool_name(*p), "devices": [format!("d{p}")]});
            ("POST", pools.into(), Some(body))
        }
        Step::DeletePool(p) => ("DELETE", format!("{pools}/p{p}"), None),
        Step::CreateVolume { pool, volume, mib, thick, host } => {
            let hosts = access(*host);
            let body =
                json!({"name": NAMES[*volume], "bytes": mib * MIB, "thick": thick, "hosts": hosts});
            ("POST", volumes(pool), Some(body))
        }
        Step::DeleteVolume(p, v) => ("DELETE", volume(p, v), None),
        Step::Rename(p, v, n) => {
            ("POST", format!("{}/rename", volume(p, v)), Some(json!({"name": NAMES[*n]})))
        }
        Step::Resize { pool, volume: v, mib, may_shrink } => {
            let body = json!({"bytes": mib * MIB, "may_shrink": may_shrink});
            ("POST", format!("{}/resize", volume(pool, v)), Some(body))
        }
        Step::Snapshot(p, v, s) => {
            ("POST", format!("{}/snapshots", volume(p, v)), Some(json!({"name": NAMES[*s]})))
        }
        Step::Group(p, v, s) => {
            let named: Vec<&str> = v.iter().map(|v| NAMES[*v]).collect();
            let body = json!({"name": NAMES[*s], "volumes": named});
            ("POST", format!("{pools}/p{p}/snapshots"), Some(body))
        }
        Step::DeleteSnapshot(p, v, s) => ("DELETE", snapshot(p, v, s), None),
        Step::Clone { pool, volume, snapshot: s, new } => {
            let path = format!("{}/clone", snapshot(pool, volume, s));
            ("POST", path, Some(json!({"name": NAMES[*new]})))
        }
        Step::RollBack(p, v, s) => {
            ("POST", format!("{}/roll-back", volume(p, v)), Some(json!({"snapshot": NAMES[*s]})))
        }
        Step::Promote(p, v) => ("POST", format!("{}/promote", volume(p, v)), None),
        Step::Unexport(p, v) => ("DELETE", format!("{}/export", volume(p, v)), None),
        Step::Export(p, v, h) => {
            ("PUT", format!("{}/export", volume(p, v)), Some(json!({"hosts": access(*h)})))
        }
    }
}

/// What the API says is there, in the words of the model.
fn seen(rig: &Rig) -> Value {
    let items = |path: &str| rig.ask("GET", path, None).json()["items"].as_array().unwrap().clone();
    let mut pools = json!({});
    for pool in items("/api/v1/pools") {
        let name = pool["name"].as_str().unwrap();
        let mut volumes = json!({});
        for v in items(&format!("/api/v1/pools/{name}/volumes")) {
            volumes[v["name"].as_str().unwrap()] = json!({
                "bytes": v["bytes"], "thick": v["thick"], "hosts": v["export"]["hosts"],
                "subsystem": v["export"]["subsystem"], "snapshots": {},
                "origin": [v["origin"]["volume"], v["origin"]["snapshot"]],
            });
        }
        for s in items(&format!("/api/v1/pools/{name}/snapshots")) {
            let (volume, snapshot) = (s["volume"].as_str().unwrap(), s["name"].as_str().unwrap());
            volumes[volume]["snapshots"][snapshot] = s["bytes"].clone();
        }
        pools[name] = json!({"volumes": volumes, "reserved": pool["space"]["reserved_bytes"]});
    }
    pools
}

fn wanted(model: &Model) -> Value {
    let mut pools = json!({});
    for (p, there) in &model.pools {
        let mut volumes = json!({});
        for (name, v) in there {
            let origin = v.origin.map(|(v, s)| (NAMES[v], NAMES[s]));
            let snapshots: BTreeMap<&str, u64> =
                v.snapshots.iter().map(|(n, s)| (NAMES[*n], s.0 * MIB)).collect();
            volumes[NAMES[*name]] = json!({
                "bytes": v.mib * MIB, "thick": v.thick, "hosts": v.export.map(|(h, _)| access(h)),
                "subsystem": v.export.map(|(_, own)| format!("nqn.2026-01.io.forebay:p{p}:{}", NAMES[own])),
                "snapshots": snapshots, "origin": [origin.map(|o| o.0), origin.map(|o| o.1)],
            });
        }
        let reserved = model.reserved(*p) * MIB;
        pools[pool_name(*p)] = json!({"volumes": volumes, "reserved": reserved});
    }
    pools
}

fn rig() -> Rig {
    let rig = Rig::new(Appliance::new());
    for n in 0..2 {
        // 16 MiB of each are the pool's own.
        let device = json!({"name": format!("d{n}"), "bytes": (POOL_MIB + 16) * MIB});
        assert_eq!(rig.ask("POST", "/api/v1/devices", Some(&device)).status, 201);
    }
    rig
}

/// Carries the steps out on both sides.
fn run(steps: &[Step], model: &mut Model) -> Result<(), TestCaseError> {
    let rig = rig();
    for (n, step) in steps.iter().enumerate() {
        let (method, path, body) = request(step);
        let answer = rig.ask(method, &path, body.as_ref());
        let status = model.take(step);
        prop_assert_eq!(answer.status, status, "step {}: {:?}: {}", n, step, answer.text());
        if status >= 400 {
            answer.refusal();
        }
        prop_assert_eq!(seen(&rig), wanted(model), "after step {}: {:?}", n, step);
    }
    let declared = rig.ask("GET", "/api/v1/config", None).json();
    let applied = rig.ask("PUT", "/api/v1/config?dry_run=true", Some(&declared));
    prop_assert_eq!(applied.status, 200, "{}", applied.text());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn random_operations_do_what_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut steps = steps;
        steps.insert(0, Step::CreatePool(0));
        run(&steps, &mut Model::default())?;
    }
}

#[test]
fn the_check_sees_a_model_that_is_wrong() {
    let steps = [
        Step::CreatePool(0),
        Step::CreateVolume { pool: 0, volume: 0, mib: 4, thick: false, host: None },
        Step::Resize { pool: 0, volume: 0, mib: 2, may_shrink: false },
    ];
    assert!(run(&steps, &mut Model::default()).is_ok());
    let shrinks = Step::Resize { pool: 0, volume: 0, mib: 2, may_shrink: true };
    let mut model = Model::default();
    let rig = rig();
    for step in &steps[..2] {
        let (method, path, body) = request(step);
        assert_eq!(rig.ask(method, &path, body.as_ref()).status, model.take(step));
    }
    model.take(&shrinks);
    assert_ne!(seen(&rig), wanted(&model), "a volume of another size is seen");
}
