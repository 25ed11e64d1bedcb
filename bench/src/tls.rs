//! An endpoint over TLS as on AWS, and the first call of a client that has just been made: with a connection that the
//! call has to make, and with one that was made while the function started.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use shared::Error;
use shared::domain::Timestamp;
use shared::metrics::Metrics;
use shared::store::{Invocation, Store, StoreSettings};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::measure::{Sample, time};
use crate::raw::{INVENTORY, LEDGER, ONE_TRY};

/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(5);

/// An endpoint that is reached by TLS.
pub(crate) struct Endpoint {
    /// Where.
    pub(crate) url: String,
    /// The file with its certificate, for as long as this lives.
    pub(crate) certificate: PathBuf,
    pem: String,
    _folder: TempDir,
}

/// How long first calls took: cold, and warmed up. So many clients are made anew for each.
pub(crate) async fn first_calls(endpoint: &Endpoint, clients: usize) -> Result<[Sample; 2], Error> {
    // The machine's own certificates are read as well, as a function does.
    let trusted = TrustStore::default().with_pem_certificate(endpoint.pem.as_bytes());
    let trusted = TlsContext::builder().with_trust_store(trusted).build()?;
    let (mut cold, mut warmed) = (Vec::new(), Vec::new());
    for _ in 0..clients {
        cold.push(first_call(&store(&endpoint.url, &trusted).await).await?);
        let store = store(&endpoint.url, &trusted).await;
        store.warm_up().await?;
        warmed.push(first_call(&store).await?);
    }
    Ok([cold, warmed].map(Sample::from_iter))
}

async fn first_call(store: &Store) -> Result<Duration, Error> {
    let invocation = Invocation {
        now: Timestamp::UNIX_EPOCH,
        deadline: tokio::time::Instant::now() + PATIENCE,
        correlation_id: "bench".to_owned(),
        metrics: Metrics::default(),
    };
    let (done, took) = time(store.ping(&invocation)).await;
    done?;
    Ok(took)
}

/// A client of its own, made as a function makes it.
async fn store(url: &str, trusted: &TlsContext) -> Store {
    let settings = StoreSettings {
        inventory_table: INVENTORY.to_owned(),
        ledger_table: LEDGER.to_owned(),
        retention: Duration::from_secs(1),
        retry: ONE_TRY,
        combines: false,
    };
    let config = shared::aws::config_for(url, "bench").http_client(shared::aws::http_client(trusted.clone()));
    Store::connect(config, settings).await
}

/// Serves an endpoint over TLS as well, with a certificate of its own.
pub(crate) async fn serve(endpoint: &str) -> Result<Endpoint, Error> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let plain = endpoint.strip_prefix("http://").ok_or("the endpoint is not http")?.to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("https://{}", listener.local_addr()?);
    let folder = tempfile::tempdir()?;
    let certificate = folder.path().join("certificate.pem");
    std::fs::write(&certificate, cert.pem())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                // Otherwise a handshake may wait 40 ms for an acknowledgement, and that would be what is measured.
                stream.set_nodelay(true)?;
                let (mut here, mut there) =
                    (acceptor.accept(stream).await?, TcpStream::connect(plain).await?);
                there.set_nodelay(true)?;
                copy_bidirectional(&mut here, &mut there).await
            });
        }
    });
    Ok(Endpoint { url, certificate, pem: cert.pem(), _folder: folder })
}
