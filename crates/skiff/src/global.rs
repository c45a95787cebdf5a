//! What every verb shares: which cluster, how to log, where state lives.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use etcetera::BaseStrategy;
use kube::config::{KubeConfigOptions, Kubeconfig};

#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The cluster to talk to; default: $KUBECONFIG, then the cluster that `skiff up` last started
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,

    /// What to log to stderr: error, warn, info, debug, trace, or per target (`info,skiff_node=debug`)
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "SKIFF_LOG",
        default_value = "warn",
        help_heading = "Logging"
    )]
    pub log: String,

    #[arg(long, global = true, value_enum, default_value_t, help = "How to log", help_heading = "Logging")]
    pub log_format: LogFormat,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Global {
    /// # Errors
    /// When the filter cannot be parsed.
    pub fn init_logging(&self) -> Result<()> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .with_context(|| format!("--log {:?} is not a filter", self.log))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }

    /// The kubeconfig file that names the cluster: `--kubeconfig`, `$KUBECONFIG`, or what `skiff up` last wrote.
    ///
    /// # Errors
    /// When there is none: the message says how to get one.
    pub fn kubeconfig_path(&self) -> Result<PathBuf> {
        if let Some(path) = self.named() {
            return Ok(path);
        }
        let pointer = last_kubeconfig_pointer()?;
        match fs::read_to_string(&pointer) {
            Ok(path) => Ok(PathBuf::from(path.trim_end())),
            Err(_) => bail!("no cluster named: start one with `skiff up`, or give --kubeconfig FILE or $KUBECONFIG"),
        }
    }

    /// Whether the user named a cluster (then `skiff run` uses it instead of a throwaway one).
    pub fn names_cluster(&self) -> bool {
        self.named().is_some()
    }

    /// `--kubeconfig`, else `$KUBECONFIG`. Not clap's `env`: for `skiff up` the flag is the file to *write*, and what
    /// happens to be in the environment must never be overwritten.
    fn named(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("KUBECONFIG").map(PathBuf::from);
        self.kubeconfig.clone().or_else(variable).filter(|p| !p.as_os_str().is_empty())
    }

    /// A client of the named cluster.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or does not make a client.
    pub async fn client(&self) -> Result<kube::Client> {
        let path = self.kubeconfig_path()?;
        client_from(&path, self.context.clone()).await
    }
}

/// # Errors
/// When the file cannot be read or does not make a client; the message names it.
pub async fn client_from(path: &Path, context: Option<String>) -> Result<kube::Client> {
    let file = Kubeconfig::read_from(path).with_context(|| format!("failed to read kubeconfig {}", path.display()))?;
    let options = KubeConfigOptions { context, ..Default::default() };
    let config = kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .with_context(|| format!("failed to use kubeconfig {}", path.display()))?;
    skiff_client::from_config(config).with_context(|| format!("failed to make a client from {}", path.display()))
}

/// `$XDG_DATA_HOME/skiff` (`~/.local/share/skiff`): the default `--data-dir`.
///
/// # Errors
/// When the user has no home directory.
pub fn default_data_dir() -> Result<PathBuf> {
    let dirs = etcetera::choose_base_strategy().context("no home directory: give --data-dir DIR")?;
    Ok(dirs.data_dir().join("skiff"))
}

/// The file that holds the path of the kubeconfig which `skiff up` wrote last.
///
/// # Errors
/// When the user has no home directory.
pub fn last_kubeconfig_pointer() -> Result<PathBuf> {
    let dirs = etcetera::choose_base_strategy().context("no home directory: give --kubeconfig FILE")?;
    Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_dir()).join("skiff").join("last-kubeconfig"))
}
