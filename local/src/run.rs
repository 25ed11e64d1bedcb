//! Brings everything up, says where it is, and takes everything down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::{self, Issuer};
use crate::aws::{self, Endpoint};
use crate::bus::Bus;
use crate::dynamodb::DynamoDb;
use crate::gateway::Gateway;
use crate::iam::Iam;
use crate::lambda::{Concurrency, Lambda};
use crate::queues::Queues;
use crate::sources::Sources;
use crate::template::Template;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The template; none for the nearest `template.yaml` upwards from here.
    pub template: Option<PathBuf>,
    /// The template's parameters that are not to take their defaults.
    pub parameters: BTreeMap<String, String>,
    /// Port of the HTTP API; 0 for any.
    pub port: u16,
    /// Port of the AWS endpoint; 0 for any.
    pub aws_port: u16,
    /// Where all is kept; none to keep nothing.
    pub data: Option<PathBuf>,
    /// Whether tokens are asked for.
    pub auth: bool,
    /// How much of one function runs at once.
    pub concurrency: Concurrency,
    /// How often schedules fire that do so more than hourly; none for what the template says.
    pub sweep_every: Option<Duration>,
    /// Whether queues deliver out of order and some messages twice, on purpose.
    pub unruly: bool,
    /// Whether to end when standard input does: for a program that starts this one.
    pub exit_with_stdin: bool,
}

/// Everything that is up.
pub struct Running {
    /// Where the HTTP API is.
    pub api: SocketAddr,
    /// Where the AWS endpoint is.
    pub aws: SocketAddr,
    /// Held while the folder is ours.
    _lock: Option<File>,
}

/// Brings everything up and returns.
///
/// # Errors
/// One sentence that says what is in the way.
pub async fn start(options: &Options) -> Result<Running, String> {
    let file = find_template(options.template.as_deref())?;
    let mut parameters = options.parameters.clone();
    parameters.insert("JwtIssuer".to_owned(), auth::ISSUER.to_owned());
    parameters.insert("JwtAudience".to_owned(), auth::AUDIENCE.to_owned());
    // The template is looked at before anything is taken, and again when the address is known.
    Template::read(&file, &parameters, "http://127.0.0.1").map_err(|e| e.to_string())?;
    let lock = options.data.as_deref().map(lock_folder).transpose()?;
    let authorizer =
        if options.auth { Some(open_issuer(options.data.as_deref())?.authorizer()?) } else { None };
    let api_listener = bind_port(options.port, "--port").await?;
    let aws_listener = bind_port(options.aws_port, "--aws-port").await?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(|e| e.to_string());
    let (api, aws) = (address(&api_listener)?, address(&aws_listener)?);

    let url = format!("http://{aws}");
    let template = Template::read(&file, &parameters, &url).map_err(|e| e.to_string())?;
    let dynamodb = DynamoDb::open(options.data.as_deref())?;
    dynamodb.create_tables(&template.tables)?;
    let queues = Queues::open(options.data.as_deref(), template.queues, options.unruly)?;
    let lambda = Lambda::start(&template.functions, &url, options.concurrency)
        .await
        .map_err(|e| format!("no port for the Lambda Runtime API: {e}"))?;
    let iam = Iam::new(&template.functions);
    let bus = Bus::new(template.rules, queues.clone(), lambda.clone());
    let sources = Sources {
        lambda: lambda.clone(),
        queues: queues.clone(),
        dynamodb: dynamodb.clone(),
        buckets: bucket_folder(options.data.as_deref()),
        every: options.sweep_every,
    };
    let router = aws::router(Endpoint { dynamodb, queues, bus, iam, lambda: lambda.clone(), url });
    tokio::spawn(async move { axum::serve(aws_listener, router).await });
    let router = Gateway::router(&template.functions, lambda.clone(), authorizer)?;
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(api_listener, router).await });
    sources.start(&template.functions)?;
    Ok(Running { api, aws, _lock: lock })
}

/// Brings everything up, says so, and waits to be ended.
///
/// # Errors
/// One sentence that says what is in the way.
pub async fn run(options: &Options) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let running = start(options).await?;
    announce(options, &running).map_err(|e| e.to_string())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = wait_for_end_of_stdin(), if options.exit_with_stdin => {}
    }
    Ok(())
}

/// The issuer of this machine's tokens.
///
/// # Errors
/// If its key cannot be used.
pub fn open_issuer(data: Option<&Path>) -> Result<Issuer, String> {
    match data {
        Some(folder) => Issuer::open(folder),
        None => Issuer::open(&auth::default_folder()?),
    }
}

/// Where buckets lie. What is put into one outlives this process, also where all else is in memory.
fn bucket_folder(data: Option<&Path>) -> PathBuf {
    data.map_or_else(std::env::temp_dir, Path::to_owned).join("holdfast-buckets")
}

/// A named template, or the nearest one upwards from here.
fn find_template(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(file) = named {
        return Ok(file.to_owned());
    }
    let here = std::env::current_dir().map_err(|e| format!("the current folder cannot be read: {e}"))?;
    here.ancestors().map(|folder| folder.join("template.yaml")).find(|file| file.is_file()).ok_or_else(|| {
        format!("no template.yaml in {} or above it; name one with --template", here.display())
    })
}

/// Makes a folder this process's own, for as long as it lives.
fn lock_folder(folder: &Path) -> Result<File, String> {
    let failed =
        |e: &dyn std::fmt::Display| format!("the folder {} cannot be written: {e}", folder.display());
    std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    let lock = File::create(folder.join("lock")).map_err(|e| failed(&e))?;
    lock.try_lock().map_err(|_| format!("the folder {} is in use by another holdfast", folder.display()))?;
    Ok(lock)
}

async fn bind_port(port: u16, option: &str) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "port {port} on 127.0.0.1 is taken; end what listens there, or choose another with {option}"
            )
        }
        _ => format!("port {port} on 127.0.0.1 cannot be used: {e}"),
    })
}

/// Waits until standard input is closed.
pub(crate) async fn wait_for_end_of_stdin() {
    let reading = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    if let Err(e) = reading.await {
        eprintln!("standard input: {e}");
    }
}

fn announce(options: &Options, running: &Running) -> std::io::Result<()> {
    let Running { api, aws, .. } = running;
    let kept = match &options.data {
        Some(folder) => format!("in {}", folder.display()),
        None => "in memory, gone at the end (--data DIR keeps it)".to_owned(),
    };
    let (access, header) = if options.auth {
        let header = " -H \"authorization: Bearer $TOKEN\"";
        let data = options.data.as_ref().map(|folder| format!(" --data {}", folder.display()));
        let data = data.unwrap_or_default();
        (format!("by token: TOKEN=$(cargo run -q -- token --role ADMIN --role SYSTEM{data})"), header)
    } else {
        ("OPEN: every caller has every role (--auth asks for tokens)".to_owned(), "")
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\
Holdfast is up.

  HTTP API      http://{api}
  AWS endpoint  http://{aws}
  data          {kept}
  access        {access}

Try:
  curl{header} -d '{{\"productId\":\"LAPTOP-001\",\"quantity\":100}}' http://{api}/api/inventory/add
  curl{header} -d '{{\"orderId\":\"order-123\",\"productId\":\"LAPTOP-001\",\"quantity\":5}}' http://{api}/api/inventory/reserve
  curl http://{api}/api/inventory/LAPTOP-001
A page to read and try it: http://{api}/docs

Ctrl-C ends it."
    )?;
    out.flush()
}
