// SPDX-License-Identifier: Apache-2.0
//! The certificates and keys of a test cluster: one authority, and what it signs.

use std::time::Duration;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// The authority that every component of one test cluster trusts.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn generate() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        parameters.distinguished_name.push(DnType::CommonName, "odradek-e2e");
        Ok(Self { issuer: CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)? })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate for these names and addresses.
    pub fn server(&self, name: &str, hosts: &[String]) -> Result<Identity> {
        self.sign(name, None, hosts, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate; Kubernetes reads the user from `name` and the group from `group`.
    pub fn client(&self, name: &str, group: Option<&str>) -> Result<Identity> {
        self.sign(name, group, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        name: &str,
        group: Option<&str>,
        hosts: &[String],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        let mut parameters = CertificateParams::new(hosts)?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A key pair that signs service accounts' tokens: (private, public), PEM.
pub fn token_keys() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// How long kube-apiserver, etcd or a node may take to answer before a start has failed. A start takes
/// 4 s on two idle cores; the tests run beside compilers.
pub const START_PATIENCE: Duration = Duration::from_secs(90);
