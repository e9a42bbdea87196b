//! The bare loop of C_Sign: what the token itself can do.

use super::{Outcome, PIN, ROUND, Round, cpu_us};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// P-256 `prime256v1`, DER of its object identifier.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// The token without us.
pub(crate) struct Token {
    pkcs11: Pkcs11,
    slot: cryptoki::slot::Slot,
    anchor: Session,
}

impl Token {
    pub(crate) fn open(module: &Path) -> Outcome<Self> {
        let pkcs11 = Pkcs11::new(module)?;
        // Provisioning has initialised the module for the whole process already.
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(())
            | Err(cryptoki::error::Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(error.into()),
        }
        let found = pkcs11.get_slots_with_initialized_token()?.into_iter().find(|slot| {
            pkcs11.get_token_info(*slot).is_ok_and(|token| token.label().trim() == "signkeep")
        });
        let slot = found.ok_or("the token is not there")?;
        let anchor = pkcs11.open_rw_session(slot)?;
        anchor.login(UserType::User, Some(&AuthPin::from(PIN)))?;
        Ok(Self { pkcs11, slot, anchor })
    }

    pub(crate) fn generate(&self, algorithm: &str) -> Outcome<()> {
        let (mechanism, mut public) = match algorithm {
            "ES256" => (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P256.to_vec())]),
            _ => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])],
            ),
        };
        public.push(Attribute::Token(true));
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Label(format!("raw {algorithm}").into_bytes()),
        ];
        self.anchor.generate_key_pair(&mechanism, &public, &private)?;
        Ok(())
    }

    /// One C_SignInit and C_Sign after the other in every thread, as cryptoki makes them.
    pub(crate) fn load(&self, algorithm: &str, threads: usize) -> Outcome<Round> {
        let me = std::process::id();
        let (signed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let (before, began) = (cpu_us(me)?, Instant::now());
        // Not the whole of self: a session is not to be shared.
        let (pkcs11, slot) = (&self.pkcs11, self.slot);
        let loops = std::thread::scope(|scope| {
            let raw = || -> Outcome<()> {
                let session = pkcs11.open_ro_session(slot)?;
                let label = Attribute::Label(format!("raw {algorithm}").into_bytes());
                let key = *session.find_objects(&[label])?.first().ok_or("no raw key")?;
                // A DigestInfo for SHA-256 has 51 bytes.
                let (mechanism, input) = match algorithm {
                    "ES256" => (Mechanism::Ecdsa, vec![7; 32]),
                    _ => (Mechanism::RsaPkcs, vec![7; 51]),
                };
                while !stop.load(Ordering::Relaxed) {
                    session.sign(&mechanism, key, &input)?;
                    signed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let loops: Vec<_> = (0..threads).map(|_| scope.spawn(raw)).collect();
            while began.elapsed() < ROUND {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            stop.store(true, Ordering::Relaxed);
            loops.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        let took = began.elapsed().as_secs_f64();
        for outcome in loops {
            outcome.map_err(|_| "a raw thread panicked")??;
        }
        let signed = signed.load(Ordering::Relaxed) as f64;
        Ok(Round { rate: signed / took, cpu_us: (cpu_us(me)? - before) / signed })
    }
}
