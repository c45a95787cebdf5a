//! A node in miniature: it executes plans against containers that the test ends when it likes.
#![allow(dead_code)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use skiff_lifecycle::{Command, ContainerRecord, Outcome, PodObserved, PodPlan, RecordState, TerminatedState, plan};

pub fn container(name: &str) -> Container {
    Container { name: name.into(), image: Some("img".into()), ..Container::default() }
}

pub fn sidecar(name: &str) -> Container {
    Container { restart_policy: Some("Always".into()), ..container(name) }
}

pub fn pod(policy: &str, init: Vec<Container>, mains: Vec<Container>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("p".into()),
            namespace: Some("default".into()),
            uid: Some("u1".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            init_containers: (!init.is_empty()).then_some(init),
            containers: mains,
            ..PodSpec::default()
        }),
        status: Some(PodStatus { qos_class: Some("BestEffort".into()), ..PodStatus::default() }),
    }
}

pub struct World {
    pub pod: Pod,
    pub observed: PodObserved,
    pub now: Timestamp,
    /// Image references that cannot be pulled, and containers that cannot be created.
    pub bad_images: Vec<String>,
    pub bad_config: Vec<String>,
    /// Containers whose postStart fails, and what it says.
    pub bad_hooks: Vec<(String, String)>,
    /// Containers that end only when they are killed: stops are remembered here.
    pub stopping: Vec<(String, Timestamp)>,
    pub history: Vec<String>,
    /// Stops take effect at once, with this code.
    pub obeys: Option<i32>,
}

impl World {
    pub fn new(pod: Pod) -> Self {
        Self {
            pod,
            observed: PodObserved::default(),
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            bad_images: vec![],
            bad_config: vec![],
            bad_hooks: vec![],
            stopping: vec![],
            history: vec![],
            obeys: Some(0),
        }
    }

    pub fn plan(&self) -> PodPlan {
        plan(&self.pod, &self.observed, self.now)
    }

    /// Plans and executes until nothing is left to do now; the commands that were executed.
    pub fn settle(&mut self) -> String {
        let mut all = vec![];
        for _ in 0..100 {
            let plan = self.plan();
            self.observed.status = Some(Arc::new(plan.status));
            if plan.commands.is_empty() {
                self.history.extend(all.iter().cloned());
                return all.join("\n");
            }
            for command in plan.commands {
                all.push(command.to_string());
                self.observed.begin(&command, self.now);
                self.execute(command);
                assert_invariants(&self.observed);
            }
        }
        panic!("never quiet: {all:?}");
    }

    fn execute(&mut self, command: Command) {
        let now = self.now;
        let outcome = match command {
            Command::MountVolumes => Outcome::VolumesReady,
            Command::UnmountVolumes => Outcome::VolumesGone,
            Command::RunSandbox { attempt } => {
                Outcome::SandboxReady { attempt, id: format!("s{attempt}"), ips: vec!["127.1.0.1".into()] }
            }
            Command::RemoveSandbox { .. } => Outcome::SandboxRemoved,
            Command::EnsureImage { container, image, .. } if self.bad_images.contains(&image) => {
                let (reason, message) = ("ErrImagePull".into(), "not there".into());
                Outcome::ImageFailed { container, image, reason, message }
            }
            Command::EnsureImage { container, attempt, image } => {
                Outcome::ImagePresent { container, attempt, image, id: "sha256:1".into() }
            }
            Command::CreateAndStart { container, .. } if self.bad_config.contains(&container) => {
                let (reason, message) = ("CreateContainerConfigError".into(), "configmap \"c\" not found".into());
                Outcome::NotCreated { container, reason, message }
            }
            Command::CreateAndStart { container, attempt, .. } => {
                let mut record = self.record(&container, attempt);
                match self.bad_hooks.iter().find(|(name, _)| *name == container).cloned() {
                    None => Outcome::Started(record),
                    Some((_, message)) => {
                        record.state = self.exited(137);
                        Outcome::StartedAndFailed { record, reason: "PostStartHookError".into(), message }
                    }
                }
            }
            Command::StopContainer { id, grace_s, .. } => {
                self.stopping.push((id.clone(), now + SignedDuration::from_secs(grace_s as i64)));
                let Some(code) = self.obeys else { return };
                Outcome::State { id, state: self.exited(code) }
            }
            Command::RemoveContainer { .. } => return,
            Command::DeletePodFromApi { .. } => Outcome::Deleted,
        };
        self.observed.apply(outcome, now);
    }

    fn record(&self, name: &str, attempt: u32) -> ContainerRecord {
        let spec = self.pod.spec.as_ref().expect("a spec");
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let image = all.clone().find(|c| c.name == name).and_then(|c| c.image.clone());
        ContainerRecord {
            name: name.into(),
            attempt,
            id: format!("{name}-{attempt}"),
            api_id: format!("fake://{name}-{attempt}"),
            sandbox: self.observed.sandbox.current(),
            state: RecordState::Running { started: self.now },
            image_spec: image.clone().unwrap_or_default(),
            image: image.unwrap_or_default(),
            image_id: "sha256:1".into(),
            kill_at: None,
        }
    }

    pub fn exited(&self, code: i32) -> RecordState {
        RecordState::Exited(TerminatedState {
            code,
            reason: if code == 0 { "Completed" } else { "Error" }.into(),
            message: String::new(),
            started: Some(self.now),
            finished: Some(self.now),
        })
    }

    /// The running attempt of `name` ends.
    pub fn exit(&mut self, name: &str, code: i32) -> &mut Self {
        let id = self.observed.newest(name).expect("an attempt").id.clone();
        let state = self.exited(code);
        self.observed.apply(Outcome::State { id, state }, self.now);
        self
    }

    pub fn pass(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    pub fn delete(&mut self, grace: i64) -> &mut Self {
        self.pod.metadata.deletion_timestamp = Some(Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self
    }

    pub fn phase(&self) -> String {
        self.plan().status.phase.expect("a phase")
    }

    /// `PHASE REASON; container=STATE ×RESTARTS ready …`, on one line.
    pub fn summary(&self) -> String {
        let status = self.plan().status;
        let mut text = status.phase.clone().unwrap_or_default();
        if let Some(reason) = &status.reason {
            text += &format!(" {reason}");
        }
        let inits = status.init_container_statuses.iter().flatten();
        for c in inits.chain(status.container_statuses.iter().flatten()) {
            let state = c.state.clone().unwrap_or_default();
            let state = match (state.running, state.waiting, state.terminated) {
                (Some(_), ..) => "running".into(),
                (_, Some(w), _) => w.reason.unwrap_or_default(),
                (.., Some(t)) => format!("{}({})", t.reason.unwrap_or_default(), t.exit_code),
                _ => "none".into(),
            };
            let ready = if c.ready { " ready" } else { "" };
            text += &format!("; {}={state} x{}{ready}", c.name, c.restart_count);
        }
        text
    }

    pub fn condition(&self, type_: &str) -> String {
        let conditions = self.plan().status.conditions.unwrap_or_default();
        let c = conditions.into_iter().find(|c| c.type_ == type_).expect("the condition");
        format!("{} {} {}", c.status, c.reason.unwrap_or_default(), c.message.unwrap_or_default()).trim().to_owned()
    }
}

/// Never two running attempts of one container.
pub fn assert_invariants(observed: &PodObserved) {
    for record in observed.containers.iter().filter(|r| r.running()) {
        let running = observed.containers.iter().filter(|r| r.name == record.name && r.running()).count();
        assert_eq!(running, 1, "two attempts of {} run at once", record.name);
        assert!(!observed.starting.contains(&record.name), "{} is started while it runs", record.name);
    }
}
