//! Weights of a network as a file of `safetensors`, with the names that PyTorch gives to a `Sequential` of `Linear`
//! layers and activations: `0.weight` (outputs × inputs), `0.bias`, `2.weight`, …

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gibbs::policies::Network;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The names and the shapes of the tensors, in the order of the parameters of a [`Network`].
fn tensors(network: &Network) -> impl Iterator<Item = (String, Vec<usize>)> {
    network.sizes().windows(2).enumerate().flat_map(|(layer, sizes)| {
        let weight = (format!("{}.weight", 2 * layer), vec![sizes[1], sizes[0]]);
        [weight, (format!("{}.bias", 2 * layer), vec![sizes[1]])]
    })
}

/// Writes the weights of a network.
pub fn save(path: &Path, network: &Network, weights: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let mut at = 0;
    let views = tensors(network).map(|(name, shape)| {
        let from = at;
        at += 4 * shape.iter().product::<usize>();
        Ok((name, TensorView::new(Dtype::F32, shape, &bytes[from..at])?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let file = safetensors::serialize(views, None::<HashMap<String, String>>)?;
    std::fs::write(path, file).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the weights of a network.
///
/// # Errors
///
/// If the file is not one of `safetensors`, or its tensors are not those of the network.
pub fn load(path: &Path, network: &Network) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&bytes, network).with_context(|| format!("cannot take the weights of {}", path.display()))
}

fn read(bytes: &[u8], network: &Network) -> Result<Vec<f32>> {
    let file = SafeTensors::deserialize(bytes).context("this is not a file of safetensors")?;
    let mut weights = Vec::with_capacity(network.parameters());
    for (name, shape) in tensors(network) {
        let Ok(tensor) = file.tensor(&name) else {
            bail!("there is no tensor `{name}` (the network has layers {:?})", network.sizes())
        };
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let (of, found) = (tensor.dtype(), tensor.shape());
            bail!(
                "`{name}` is {found:?} of {of:?}, but must be {shape:?} of F32: the layers are {:?}",
                network.sizes()
            );
        }
        weights.extend(tensor.data().as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)));
    }
    let expected = tensors(network).count();
    if file.len() != expected {
        bail!("there are {} tensors, but the network has {expected}: layers {:?}", file.len(), network.sizes());
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use gibbs::policies::Activation;

    use super::*;

    #[test]
    fn a_file_has_the_weights_that_were_saved_or_says_what_it_lacks() {
        let network = |sizes: &[usize]| Network::new(0, sizes, Activation::Tanh).unwrap();
        let small = network(&[2, 3, 1]);
        let weights: Vec<f32> = (0..small.parameters()).map(|i| i as f32 * 0.1 - 0.4).collect();
        let path = std::env::temp_dir().join(format!("gibbs-learned-{}.safetensors", std::process::id()));
        save(&path, &small, &weights).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(load(&path, &small).unwrap(), weights);
        std::fs::remove_file(&path).unwrap();

        let refused = |bytes: &[u8], sizes: &[usize]| format!("{:#}", read(bytes, &network(sizes)).unwrap_err());
        let sentence = "`0.weight` is [3, 2] of F32, but must be [4, 2] of F32: the layers are [2, 4, 1]";
        assert_eq!(refused(&bytes, &[2, 4, 1]), sentence);
        assert!(refused(&bytes, &[2, 3, 1, 1]).starts_with("there is no tensor `4.weight`"));
        assert!(refused(&bytes[..40], &[2, 3, 1]).starts_with("this is not a file of safetensors"));
        assert!(format!("{:#}", load(&path, &small).unwrap_err()).starts_with("cannot read "));
    }
}
