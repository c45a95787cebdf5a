//! The suite that every runtime passes, by topic.
//!
//! Cases speak of [`Program`]s, not of artefacts: a runtime says for each program what to run
//! ([`Subject::map`], an exhaustive match, so that a missing mapping does not compile) or why it cannot. A case whose
//! program a runtime lacks says so and passes. `runtime_conformance!(Subject)` makes one test of every case.

pub mod attach;
pub mod capabilities;
pub mod dial;
pub mod events;
pub mod exec;
pub mod exits;
pub mod harness;
pub mod images;
pub mod inputs;
pub mod isolation;
pub mod lifecycle;
pub mod logs;
pub mod stop;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use crate::{ImageSource, Runtime};

pub use harness::{Harness, eventually};

/// What a container is to do. Lines go to stdout unless the program says otherwise; a program that does not say how
/// it ends exits with 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    ExitsWith(u8),
    /// `line 0` … `line N-1`.
    PrintsLines(u32),
    /// `out` to stdout, then `err` to stderr.
    PrintsBothStreams,
    /// `no newline`, and no newline.
    PrintsUnterminated,
    /// One line of that many `x`.
    PrintsLongLine(u32),
    /// Prints lines of 63 bytes and a newline, for ever.
    FloodsLog,
    /// Waits for ever without using the processor.
    Sleeps,
    /// Waits for ever and does not end when asked to.
    IgnoresTerm,
    /// Computes for ever and never calls the host.
    LoopsForever,
    /// Copies stdin to stdout until its end.
    EchoesStdin,
    /// Listens on that TCP port (which is the container's only one) and sends what it gets back to whom it came from, one
    /// connection after the other, each to its end.
    EchoesConnections(u16),
    /// Each variable as a line `NAME=VALUE`.
    PrintsEnv,
    /// Each argument as a line, without the program's own name.
    PrintsArgs,
    /// The content of the file; exits with 1 if it cannot be read.
    PrintsFile(String),
    /// Creates the file with the content `written`; exits with 1 if it cannot.
    WritesFile(String),
    /// Ends by a fault, not by an exit.
    Traps,
    /// Calls itself without end.
    Recurses,
    /// Takes memory until it gets no more, and uses it.
    GrowsMemory,
    /// Does what its arguments say: `sleep`, `loop` and `flood` (stdout) for ever, `input` (copies stdin to stdout),
    /// `quit CODE`, `args` (prints those after it), `variables` (prints the environment), `read PATH`,
    /// `write PATH TEXT`, `grow` (memory, until it gets no more), `trap`, `both` (`out` to stdout, `err` to stderr).
    Obeys(Vec<String>),
}

/// What a runtime runs for a program.
#[derive(Clone, Debug, Default)]
pub struct Artefact {
    pub reference: String,
    /// Loaded under the reference first, unless `None`.
    pub source: Option<ImageSource>,
    pub command: Vec<String>,
    pub args: Vec<String>,
}

impl Artefact {
    pub fn named(reference: &str) -> Self {
        Self { reference: reference.to_owned(), ..Self::default() }
    }

    pub fn source(mut self, source: ImageSource) -> Self {
        self.source = Some(source);
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|&arg| arg.to_owned()).collect();
        self
    }
}

pub enum Mapping {
    Runs(Artefact),
    /// Why this runtime has no such program.
    Lacks(&'static str),
}

/// A runtime under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A fresh runtime, with nothing in it, that keeps what it keeps under `root`.
    async fn open(&self, root: &Path) -> Arc<dyn Runtime>;
    /// Write it as a match without a wildcard.
    fn map(&self, program: &Program) -> Mapping;
    /// Whether images are real: absent until loaded, gone when removed.
    fn keeps_images(&self) -> bool {
        true
    }
    /// Bytes that are no image for this runtime, if there are such.
    fn unusable(&self) -> Option<ImageSource> {
        None
    }
}

/// One test for every case of the suite: `runtime_conformance!(MySubject);`. Needs tokio as a dependency.
#[macro_export]
macro_rules! runtime_conformance {
    ($subject:expr) => {
        $crate::runtime_conformance!(@topic $subject, lifecycle, [
            a_container_goes_from_created_through_running_to_exited,
            a_sandbox_is_keyed_by_uid_and_attempt,
            a_container_needs_a_ready_sandbox,
            a_container_starts_once,
            a_restart_is_a_new_container,
            names_are_unique_within_a_sandbox_only,
            removing_a_container_kills_it,
            removing_a_sandbox_kills_and_forgets,
            stopping_a_sandbox_kills_what_runs_in_it,
            unknown_ids,
            shutdown_ends_everything,
        ]);
        $crate::runtime_conformance!(@topic $subject, exits, [
            exit_codes_are_the_programs_own,
            a_trap_is_an_error_with_a_message,
            running_out_of_memory_is_told,
        ]);
        $crate::runtime_conformance!(@topic $subject, logs, [
            lines_are_complete_before_the_exit_is_reported,
            both_streams_are_kept_in_order,
            an_unterminated_line_is_partial,
            a_long_line_comes_in_parts,
            a_flood_is_rotated,
            attempts_have_their_own_logs,
        ]);
        $crate::runtime_conformance!(@topic $subject, stop, [
            a_sleeper_ends_within_its_grace,
            a_loop_ends_within_its_grace,
            without_grace_it_is_killed,
            who_ignores_the_request_is_killed_after_the_grace,
            stopping_twice_or_what_never_started_is_fine,
        ]);
        $crate::runtime_conformance!(@topic $subject, inputs, [
            variables_arrive_and_the_later_one_wins,
            arguments_arrive,
            stdin_is_empty,
            a_mount_is_read,
            a_read_only_mount_is_not_written,
            a_mount_is_written,
            a_mounted_file_is_read,
            the_root_is_private_and_writable,
        ]);
        $crate::runtime_conformance!(@topic $subject, images, [
            names_become_canonical,
            wrong_names_are_refused,
            images_come_and_go,
            one_content_has_one_id,
            a_container_needs_its_image,
            what_cannot_be_run_is_refused,
        ]);
        $crate::runtime_conformance!(@topic $subject, events, [
            start_comes_before_exit_and_each_once,
            every_subscriber_gets_every_event,
            a_slow_subscriber_is_told_to_resync,
        ]);
        $crate::runtime_conformance!(@topic $subject, capabilities, [
            what_is_absent_is_unsupported,
            the_default_handler_is_answered,
        ]);
        $crate::runtime_conformance!(@topic $subject, exec, [
            arguments_and_streams_are_its_own,
            exit_codes_are_told,
            stdin_arrives_and_ends,
            files_and_variables_are_the_containers,
            who_is_not_read_waits,
            stdin_that_never_ends_is_held_back,
            what_is_dropped_is_killed,
            it_ends_with_its_container,
            it_needs_a_running_container,
            a_time_out_kills,
            memory_is_shared_and_the_main_process_survives,
            processes_are_bounded,
        ]);
        $crate::runtime_conformance!(@topic $subject, attach, [
            input_goes_in_and_output_comes_out,
            stdin_stays_open_between_clients,
            stdin_once_ends_with_its_client,
            without_stdin_there_is_none,
            a_slow_client_holds_nobody,
            the_end_is_told,
        ]);
        $crate::runtime_conformance!(@topic $subject, dial, [
            bytes_go_both_ways_and_each_way_ends,
            who_leaves_disturbs_nobody,
            a_closed_port_is_refused,
            who_cannot_says_so,
        ]);
        $crate::runtime_conformance!(@topic $subject, isolation, [
            loops_do_not_stop_others,
            recursion_ends_only_itself,
            a_flood_does_not_stop_others,
            many_containers_live_at_once,
        ]);
    };
    (@topic $subject:expr, $topic:ident, [$($case:ident,)*]) => {
        mod $topic {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let harness = $crate::conformance::Harness::open(Box::new($subject)).await;
                    $crate::conformance::$topic::$case(&harness).await;
                }
            )*
        }
    };
}
