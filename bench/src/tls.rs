//! Measures the first call of a function that has just started, over TLS as on AWS: with a connection that the call has
//! to make, and with one that was made while the function started.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use shared::Error;
use shared::domain::Timestamp;
use shared::metrics::Metrics;
use shared::store::{Invocation, RetryPolicy, Store, StoreSettings};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Clients that are made anew for each kind of first call.
const CLIENTS: usize = 100;

/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long first calls took at this endpoint: cold, and warmed up.
pub(crate) async fn first_calls(endpoint: &str) -> Result<[Vec<Duration>; 2], Error> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key)?;
    let url = serve(Arc::new(server).into(), endpoint).await?;
    // The machine's own certificates are read as well, as a function does.
    let trusted = TrustStore::default().with_pem_certificate(cert.pem());
    let trusted = TlsContext::builder().with_trust_store(trusted).build()?;
    let (mut cold, mut warmed) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        cold.push(first_call(&store(&url, &trusted).await).await?);
        let store = store(&url, &trusted).await;
        store.warm_up().await?;
        warmed.push(first_call(&store).await?);
    }
    Ok([cold, warmed])
}

async fn first_call(store: &Store) -> Result<Duration, Error> {
    let invocation = Invocation {
        now: Timestamp::UNIX_EPOCH,
        deadline: tokio::time::Instant::now() + PATIENCE,
        correlation_id: "bench".to_owned(),
        metrics: Metrics::default(),
    };
    let began = Instant::now();
    store.ping(&invocation).await?;
    Ok(began.elapsed())
}

/// A client of its own, made as a function makes it.
async fn store(url: &str, trusted: &TlsContext) -> Store {
    let settings = StoreSettings {
        inventory_table: "holdfast-inventory".to_owned(),
        ledger_table: "holdfast-ledger".to_owned(),
        retention: Duration::from_secs(1),
        // A call that needs a second try says nothing.
        retry: RetryPolicy { max_attempts: 1, backoff: Duration::from_millis(1) },
        combines: false,
    };
    let config = shared::aws::config_for(url, "bench").http_client(shared::aws::http_client(trusted.clone()));
    Store::connect(config, settings).await
}

/// Serves an endpoint over TLS as well; answers where.
async fn serve(acceptor: TlsAcceptor, endpoint: &str) -> Result<String, Error> {
    let endpoint = endpoint.strip_prefix("http://").ok_or("the endpoint is not http")?.to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("https://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, endpoint) = (acceptor.clone(), endpoint.clone());
            tokio::spawn(async move {
                let (mut here, mut there) =
                    (acceptor.accept(stream).await?, TcpStream::connect(endpoint).await?);
                copy_bidirectional(&mut here, &mut there).await
            });
        }
    });
    Ok(url)
}
