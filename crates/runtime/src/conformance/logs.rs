//! What a container prints is in its log file, line by line, all of it, and within the stated size.

use super::{Harness, Program, eventually};

pub async fn lines_are_complete_before_the_exit_is_reported(h: &Harness) {
    for count in [1, 1000] {
        let Some(mut container) = h.start(Program::PrintsLines(count)).await else { return };
        let exit = container.exit().await;
        assert_eq!(exit.code, 0, "{exit:?}");
        let expected: Vec<_> = (0..count).map(|line| format!("line {line}")).collect();
        assert_eq!(container.stdout(), expected);
    }
}

pub async fn both_streams_are_kept_in_order(h: &Harness) {
    let Some(mut container) = h.start(Program::PrintsBothStreams).await else { return };
    container.exit().await;
    let row = |stream: &str, text: &str| (stream.to_owned(), 'F', text.to_owned());
    assert_eq!(container.log_lines(), [row("stdout", "out"), row("stderr", "err")]);
}

/// The rest of a stream that ends without a newline is a partial record, as containerd writes it.
pub async fn an_unterminated_line_is_partial(h: &Harness) {
    let Some(mut container) = h.start(Program::PrintsUnterminated).await else { return };
    container.exit().await;
    assert_eq!(container.log_lines(), [("stdout".to_owned(), 'P', "no newline".to_owned())]);
}

pub async fn a_long_line_comes_in_parts(h: &Harness) {
    let length = 100_000;
    let Some(mut container) = h.start(Program::PrintsLongLine(length)).await else { return };
    container.exit().await;
    let lines = container.log_lines();
    let (last, parts) = lines.split_last().expect("something is in the log");
    assert_eq!(last.1, 'F');
    assert!(parts.len() >= 6 && parts.iter().all(|part| part.1 == 'P' && part.2.len() <= 16 << 10));
    let whole: String = lines.iter().map(|line| line.2.as_str()).collect();
    assert_eq!(whole, "x".repeat(length as usize));
}

pub async fn a_flood_is_rotated(h: &Harness) {
    let Some(mut config) = h.config(Program::FloodsLog).await else { return };
    let (bytes_max, files_max) = (64 << 10, 3);
    config.log_bytes_max = Some(bytes_max);
    config.log_files_max = Some(files_max);
    let directory = config.log_path.parent().expect("it is in a directory").to_owned();
    let container = h.start_with(config).await;
    let files = || {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok().map(|data| data.len())).collect::<Vec<_>>()
    };
    eventually("the rotation of the log", async {
        while files().len() < files_max as usize {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..1000 {
        let sizes = files();
        // A moment of renaming may show one more.
        assert!(sizes.len() <= files_max as usize + 1, "{sizes:?}");
        assert!(sizes.iter().all(|&size| size <= bytes_max + (16 << 10) + 100), "{sizes:?}");
        tokio::task::yield_now().await;
    }
    eventually("the end of a flood", h.runtime.stop_container(&container.id, std::time::Duration::from_secs(10)))
        .await
        .expect("stopped");
    assert!(files().len() <= files_max as usize);
}

pub async fn attempts_have_their_own_logs(h: &Harness) {
    let Some(config) = h.config(Program::PrintsLines(1)).await else { return };
    let mut first = h.start_with(config.clone()).await;
    first.exit().await;
    let mut config = config;
    config.attempt = 1;
    config.log_path.set_file_name("1.log");
    let mut second = h.start_with(config).await;
    second.exit().await;
    h.runtime.remove_container(&first.id).await.expect("removed");
    assert_eq!(first.stdout(), ["line 0"], "the log of a removed container stays");
    assert_eq!(second.stdout(), ["line 0"]);
}
