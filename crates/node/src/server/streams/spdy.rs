//! exec and attach over SPDY: one stream per purpose, named by the header `streamType`.

use skiff_runtime::StreamsWanted;
use skiff_spdy::{Session, Stream, get};
use tokio::time::timeout;

use super::{OPEN, exec::Client};

/// Waits for the streams that the request announced. `None`: they did not come.
pub(super) async fn client(session: &mut Session, wanted: StreamsWanted, protocol: &str) -> Option<Client> {
    let resizes = wanted.tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let count = 1 + [wanted.stdin, wanted.stdout, wanted.stderr, resizes].iter().filter(|w| **w).count();
    let (mut error, mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None, None);
    let opening = async {
        let mut opened = 0;
        while opened < count {
            let stream = session.accept().await?;
            let place: &mut Option<Stream> = match get(stream.headers(), "streamtype") {
                Some("error") => &mut error,
                Some("stdin") if wanted.stdin => &mut stdin,
                Some("stdout") if wanted.stdout => &mut stdout,
                Some("stderr") if wanted.stderr => &mut stderr,
                Some("resize") if resizes => &mut resize,
                // Dropping it resets it.
                _ => continue,
            };
            opened += usize::from(place.replace(stream).is_none());
        }
        Some(())
    };
    timeout(OPEN, opening).await.ok()??;
    Some(Client {
        stdin: stdin.map(|s| Box::pin(s.read_only()) as _),
        stdout: stdout.map(|s| Box::pin(s) as _),
        stderr: stderr.map(|s| Box::pin(s) as _),
        resize: resize.map(|s| Box::pin(s.read_only()) as _),
        error: Box::pin(error?),
        as_status: protocol == "v4.channel.k8s.io",
    })
}
