//! Tokens on this machine: an issuer with a key of its own, and the check that API Gateway's JWT
//! authorizer makes (RS256 only, issuer, audience, times).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _, LineEnding};
use rsa::pkcs8::DecodePrivateKey as _;
use serde_json::{Map, Value, json};

use crate::clock::now_ms;

/// Issuer of this machine's tokens.
pub const ISSUER: &str = "https://holdfast.localhost";
/// Audience of this machine's tokens.
pub const AUDIENCE: &str = "holdfast";

/// Size of the key, in bits.
const KEY_BITS: usize = 2048;

/// The roles that a token can be given.
pub const ROLES: [&str; 2] = ["ADMIN", "SYSTEM"];

/// The claims of a valid token, as text, as API Gateway passes them on.
pub type Claims = Map<String, Value>;

/// Issues tokens.
pub struct Issuer {
    key: RsaPrivateKey,
}

/// Checks tokens.
pub struct Authorizer {
    key: DecodingKey,
    validation: Validation,
}

impl Issuer {
    /// The issuer whose key lies in a folder; the first call makes it, readable for its owner only.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let file = folder.join("issuer.pem");
        let failed =
            |e: &dyn std::fmt::Display| format!("the signing key {} cannot be used: {e}", file.display());
        match fs::read_to_string(&file) {
            Ok(pem) => {
                let key = rsa::pkcs1::DecodeRsaPrivateKey::from_pkcs1_pem(&pem)
                    .or_else(|_| RsaPrivateKey::from_pkcs8_pem(&pem))
                    .map_err(|e| failed(&e))?;
                Ok(Self { key })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir_all(folder).map_err(|e| failed(&e))?;
                let key = RsaPrivateKey::new(&mut rand_core::OsRng, KEY_BITS).map_err(|e| failed(&e))?;
                let pem = key.to_pkcs1_pem(LineEnding::LF).map_err(|e| failed(&e))?;
                write_secret(&file, pem.as_bytes()).map_err(|e| failed(&e))?;
                // Two that begin at once agree on the file that was first.
                Self::open(folder)
            }
            Err(e) => Err(failed(&e)),
        }
    }

    /// A token for these roles, from now on for so many seconds.
    ///
    /// # Errors
    /// If signing fails.
    pub fn token(&self, roles: &[String], seconds: i64) -> Result<String, String> {
        let now = now_ms() / 1_000;
        self.sign(&json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "local", "token_use": "access",
            "iat": now, "nbf": now, "exp": now + seconds, "cognito:groups": roles,
        }))
    }

    /// Signs any claims.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign(&self, claims: &Value) -> Result<String, String> {
        let der = self.key.to_pkcs1_der().map_err(|e| e.to_string())?;
        jsonwebtoken::encode(
            &Header::new(Algorithm::RS256),
            claims,
            &EncodingKey::from_rsa_der(der.as_bytes()),
        )
        .map_err(|e| e.to_string())
    }

    /// The key with which this issuer's tokens are checked.
    ///
    /// # Errors
    /// If the key has no public half, which cannot be.
    pub fn authorizer(&self) -> Result<Authorizer, String> {
        let der = self.key.to_public_key().to_pkcs1_der().map_err(|e| e.to_string())?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        Ok(Authorizer { key: DecodingKey::from_rsa_der(der.as_bytes()), validation })
    }
}

impl Authorizer {
    /// The claims of the token in an `Authorization` header, if it is valid.
    #[must_use]
    pub fn check(&self, header: Option<&str>) -> Option<Claims> {
        let header = header?;
        let token =
            header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer ")).unwrap_or(header);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?.claims;
        Some(claims.into_iter().map(|(name, value)| (name, as_text(value).into())).collect())
    }
}

/// The claims that the gateway passes on where no token is asked for: every role.
#[must_use]
pub fn open_claims() -> Claims {
    let groups = as_text(json!(ROLES));
    Map::from_iter([("sub".to_owned(), "local".into()), ("cognito:groups".to_owned(), groups.into())])
}

/// API Gateway passes every claim on as text; a list as `"[a b]"`.
fn as_text(claim: Value) -> String {
    match claim {
        Value::String(text) => text,
        Value::Array(items) => format!("[{}]", items.into_iter().map(as_text).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

/// Where the key lies unless the data folder is given: the user's folder for state.
///
/// # Errors
/// If the environment names no such folder.
pub fn default_folder() -> Result<PathBuf, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "where the user keeps state is said by the environment alone"
    )]
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_STATE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".local").join("state")))
        .map(|state| state.join("holdfast"))
        .ok_or_else(|| {
            "neither HOME nor XDG_STATE_HOME is set; say with --data where the signing key is kept".to_owned()
        })
}

/// Writes a file that only its owner reads. A file that is there already is left as it is.
fn write_secret(file: &Path, secret: &[u8]) -> std::io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    temporary.write_all(secret)?;
    match temporary.persist_noclobber(file) {
        Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => Err(e.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_passed_on_as_api_gateway_does() {
        assert_eq!(as_text(json!(["ADMIN", "SYSTEM"])), "[ADMIN SYSTEM]");
        assert_eq!(as_text(json!(17)), "17");
        assert_eq!(open_claims()["cognito:groups"], "[ADMIN SYSTEM]");
    }
}
