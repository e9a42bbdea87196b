//! A backend in memory, for tests of the keyring alone. What it holds outlives the keyring, as a
//! token outlives the process.

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use signkeep::backend::{Backend, Error, Input, KeyRef, Kind, Listed, Material, ObjectRef, Order};
use signkeep::key::{Algorithm, BackendName, Curve, KeySpec, MaterialId, PublicKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A vault of P-256 keys that can be told to fail or to wait.
pub(crate) struct Memory {
    name: BackendName,
    held: Mutex<BTreeMap<MaterialId, Arc<Pair>>>,
    out: AtomicBool,
    signing: Semaphore,
    disabling: Semaphore,
    generating: Semaphore,
    arrived: Semaphore,
    generations: AtomicUsize,
}

struct Pair {
    pair: EcdsaKeyPair,
    order: Order,
}

/// More permits than any test takes.
const OPEN: u32 = 1 << 20;

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            name: "token".parse().unwrap(),
            held: Mutex::default(),
            out: AtomicBool::new(false),
            signing: Semaphore::new(OPEN as usize),
            disabling: Semaphore::new(OPEN as usize),
            generating: Semaphore::new(OPEN as usize),
            arrived: Semaphore::new(0),
            generations: AtomicUsize::new(0),
        })
    }

    /// The ids of all material that it holds.
    pub(crate) fn materials(&self) -> BTreeSet<MaterialId> {
        self.held.lock().unwrap().keys().copied().collect()
    }

    /// How many keys were ever generated.
    pub(crate) fn generations(&self) -> usize {
        self.generations.load(Ordering::SeqCst)
    }

    /// How many signatures it was asked for, unless a test has waited for some.
    pub(crate) fn signatures(&self) -> usize {
        self.arrived.available_permits()
    }

    /// Puts it out of reach, or back.
    pub(crate) fn set_out(&self, out: bool) {
        self.out.store(out, Ordering::SeqCst);
    }

    /// Signatures wait from now on until [`Memory::let_sign`].
    pub(crate) async fn hold_signatures(&self) {
        self.signing.acquire_many(OPEN).await.unwrap().forget();
    }

    /// Keys are not disabled from now on: whoever asks waits for ever.
    pub(crate) async fn hold_disabling(&self) {
        self.disabling.acquire_many(OPEN).await.unwrap().forget();
    }

    /// Generations wait from now on until [`Memory::let_generate`].
    pub(crate) async fn hold_generations(&self) {
        self.generating.acquire_many(OPEN).await.unwrap().forget();
    }

    /// Lets every generation go.
    pub(crate) fn let_generate(&self) {
        self.generating.add_permits(OPEN as usize);
    }

    /// Waits until a signature is being held.
    pub(crate) async fn signature_arrives(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    /// Lets every signature go.
    pub(crate) fn let_sign(&self) {
        self.signing.add_permits(OPEN as usize);
    }

    fn reached(&self, op: &'static str) -> Result<(), Error> {
        if self.out.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Unavailable, op, "the vault is out"));
        }
        Ok(())
    }

    fn material(id: MaterialId, pair: &Pair) -> Material {
        let public = PublicKey::ec(Curve::P256, pair.pair.public_key().as_ref()).unwrap();
        Material { object: ObjectRef::new(format!("memory:{id}")), public }
    }
}

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &BackendName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn supports(&self, algorithm: Algorithm, _: KeySpec) -> Result<(), Error> {
        self.reached("supports")?;
        match algorithm {
            Algorithm::Es256 => Ok(()),
            other => Err(Error::new(Kind::Unsupported, "supports", format!("no {other}"))),
        }
    }

    async fn generate(&self, order: &Order) -> Result<Material, Error> {
        let _turn = self.generating.acquire().await.unwrap();
        self.reached("generate")?;
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pair = Arc::new(Pair { pair, order: order.clone() });
        let before = self.held.lock().unwrap().insert(order.material, Arc::clone(&pair));
        assert!(before.is_none(), "an id is used once");
        self.generations.fetch_add(1, Ordering::SeqCst);
        Ok(Self::material(order.material, &pair))
    }

    async fn find(&self, material: MaterialId, _: KeySpec) -> Result<Option<Material>, Error> {
        self.reached("find")?;
        let held = self.held.lock().unwrap();
        Ok(held.get(&material).map(|pair| Self::material(material, pair)))
    }

    async fn sign(
        &self,
        key: &Arc<KeyRef>,
        input: Input,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        self.reached("sign")?;
        let pair = self.held.lock().unwrap().get(&key.material).cloned();
        let pair = pair.ok_or_else(|| Error::new(Kind::NotFound, "sign", "no such key"))?;
        self.arrived.add_permits(1);
        let turn = tokio::time::timeout_at(deadline.into(), self.signing.acquire()).await;
        let _turn = turn.map_err(|_| Error::new(Kind::Late, "sign", "too late"))?;
        match input {
            Input::Message(message) => {
                Ok(pair.pair.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec())
            }
            Input::Digest(_) => Err(Error::new(Kind::Unsupported, "sign", "messages only")),
        }
    }

    async fn disable(&self, _: &KeyRef) -> Result<(), Error> {
        let _turn = self.disabling.acquire().await.unwrap();
        self.reached("disable")
    }

    async fn destroy(&self, material: MaterialId, _: Option<&ObjectRef>) -> Result<(), Error> {
        self.reached("destroy")?;
        self.held.lock().unwrap().remove(&material);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.reached("list")?;
        let held = self.held.lock().unwrap();
        let listed = held.iter().map(|(id, pair)| Listed {
            material: Some(*id),
            object: ObjectRef::new(format!("memory:{id}")),
            key_set: Some(pair.order.key_set.clone()),
        });
        Ok(listed.collect())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.reached("probe")
    }

    async fn stop(&self) {}
}

/// A deadline that no test reaches.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}
