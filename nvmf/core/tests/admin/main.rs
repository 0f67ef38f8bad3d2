//! Admin commands against a whole registry, through the public interface only.

mod arbitrary;
mod discovery;
mod event;
mod feature;
mod identify;
mod lab;
mod life;
mod log;
mod refusal;
mod registry;
