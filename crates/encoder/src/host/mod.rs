//! The BERT encoder on the host with 8-bit weights: the CPU's default (figures: docs/speed.md).
//!
//! A query in f32 takes as long as reading 42 MB of weights; in 8 bits it is a quarter of that, and
//! processors multiply bytes four times as fast. Texts of a batch lie end to end, without padding:
//! linear layers see one long list of tokens, attention sees single texts. A text's result is the
//! same, bit for bit, in every batch.

mod attention;
mod linear;

use attention::Attention;
use linear::{Linear, Products};

use crate::config::BertShape;
use crate::error::EncoderError;
use crate::kernels::{gelu, layer_norm};
use crate::weights::Tensors;

/// Floats that one step of a loop handles, so that the compiler can use its widest registers.
const LANES: usize = 16;

/// Tokens that go through the linear layers together: enough to keep the product busy, few enough
/// for their inner states to stay in the second-level cache.
const BLOCK: usize = 64;

/// A BERT with 8-bit linear layers and everything else in f32.
pub(crate) struct HostBert {
    words: Vec<f32>,
    /// Positions, the first token type added, `[positions, d]`.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    d: usize,
    heads: usize,
}

struct Layer {
    qkv: Linear,
    output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    contract: Linear,
    norm: Norm,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

/// What a forward pass yields.
pub(crate) struct HostForward {
    /// Last hidden states of all texts end to end, `[tokens, d_model]`.
    pub(crate) hidden: Vec<f32>,
    /// CLS states after each layer, `[texts, d_model]` each; empty unless asked for.
    pub(crate) cls_layers: Vec<Vec<f32>>,
}

impl HostBert {
    /// Quantises the weights of a checked file.
    pub(crate) fn new(tensors: &Tensors<'_>, shape: &BertShape) -> Result<Self, EncoderError> {
        let d = shape.hidden_size;
        let norm = |name: &str| {
            Ok::<_, EncoderError>(Norm {
                weight: tensors.read(&format!("{name}.LayerNorm.weight"))?,
                bias: tensors.read(&format!("{name}.LayerNorm.bias"))?,
                epsilon: shape.layer_norm_eps as f32,
            })
        };
        let linear = |layer: usize, names: &[&str]| {
            let (mut weights, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                let name = format!("encoder.layer.{layer}.{name}");
                weights.extend(tensors.read(&format!("{name}.weight"))?);
                bias.extend(tensors.read(&format!("{name}.bias"))?);
            }
            Linear::new(&weights, bias)
        };
        let layer = |i: usize| {
            let names = ["query", "key", "value"].map(|part| format!("attention.self.{part}"));
            Ok(Layer {
                qkv: linear(i, &names.each_ref().map(String::as_str))?,
                output: linear(i, &["attention.output.dense"])?,
                attention_norm: norm(&format!("encoder.layer.{i}.attention.output"))?,
                intermediate: linear(i, &["intermediate.dense"])?,
                contract: linear(i, &["output.dense"])?,
                norm: norm(&format!("encoder.layer.{i}.output"))?,
            })
        };
        let layers = (0..shape.num_hidden_layers)
            .map(layer)
            .collect::<Result<Vec<_>, EncoderError>>()?;
        let mut positions = tensors.read("embeddings.position_embeddings.weight")?;
        let kinds = tensors.read("embeddings.token_type_embeddings.weight")?;
        for row in positions.chunks_exact_mut(d) {
            row.iter_mut().zip(&kinds).for_each(|(x, k)| *x += k);
        }
        Ok(HostBert {
            words: tensors.read("embeddings.word_embeddings.weight")?,
            positions,
            norm: norm("embeddings")?,
            layers,
            d,
            heads: shape.num_attention_heads,
        })
    }

    /// Input word embeddings, `[vocab_size, d_model]`.
    pub(crate) fn word_embeddings(&self) -> &[f32] {
        &self.words
    }

    /// Encodes texts, given as token ids that the vocabulary holds, none longer than the positions.
    pub(crate) fn forward(
        &self,
        texts: &[&[u32]],
        cls_layers: bool,
    ) -> Result<HostForward, EncoderError> {
        let d = self.d;
        let mut hidden = self.embed(texts);
        let mut qkv = vec![0.0; 3 * hidden.len()];
        let mut context = vec![0.0; hidden.len()];
        let mut space = Space::default();
        let mut cls = Vec::new();
        for layer in &self.layers {
            let blocks = hidden.chunks(BLOCK * d);
            for (input, output) in blocks.zip(qkv.chunks_mut(BLOCK * 3 * d)) {
                let products = &mut space.products;
                layer.qkv.forward(input, output, products)?;
            }
            let (mut rest, mut to) = (&qkv[..], &mut context[..]);
            for text in texts {
                let (own, others) = rest.split_at(text.len() * 3 * d);
                let (into, others_to) = to.split_at_mut(text.len() * d);
                space.attention.text(own, into, d, self.heads);
                (rest, to) = (others, others_to);
            }
            for (hidden, context) in hidden.chunks_mut(BLOCK * d).zip(context.chunks(BLOCK * d)) {
                layer.finish(hidden, context, &mut space)?;
            }
            if cls_layers {
                cls.push(first_tokens(texts, &hidden, d));
            }
        }
        Ok(HostForward {
            hidden,
            cls_layers: cls,
        })
    }

    fn embed(&self, texts: &[&[u32]]) -> Vec<f32> {
        let d = self.d;
        let tokens = texts.iter().map(|text| text.len()).sum::<usize>();
        let mut hidden = Vec::with_capacity(tokens * d);
        for text in texts {
            for (id, position) in text.iter().zip(self.positions.chunks_exact(d)) {
                let word = &self.words[*id as usize * d..][..d];
                hidden.extend(word.iter().zip(position).map(|(w, p)| w + p));
            }
        }
        self.norm.forward(&mut hidden);
        hidden
    }
}

impl Layer {
    /// Everything after attention, for a block of tokens: `hidden` is replaced.
    fn finish(
        &self,
        hidden: &mut [f32],
        context: &[f32],
        space: &mut Space,
    ) -> Result<(), EncoderError> {
        let Space {
            products,
            narrow,
            wide,
            ..
        } = space;
        narrow.resize(hidden.len(), 0.0);
        wide.resize(
            hidden.len() / self.output.outputs() * self.intermediate.outputs(),
            0.0,
        );
        self.output.forward(context, narrow, products)?;
        add(hidden, narrow);
        self.attention_norm.forward(hidden);
        self.intermediate.forward(hidden, wide, products)?;
        gelu(wide);
        self.contract.forward(wide, narrow, products)?;
        add(hidden, narrow);
        self.norm.forward(hidden);
        Ok(())
    }
}

impl Norm {
    fn forward(&self, rows: &mut [f32]) {
        layer_norm(rows, &self.weight, &self.bias, self.epsilon);
    }
}

/// Working space of a forward pass.
#[derive(Default)]
struct Space {
    products: Products,
    attention: Attention,
    /// `[BLOCK, d]` and `[BLOCK, intermediate]`.
    narrow: Vec<f32>,
    wide: Vec<f32>,
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

fn first_tokens(texts: &[&[u32]], hidden: &[f32], d: usize) -> Vec<f32> {
    let mut start = 0;
    let mut states = Vec::with_capacity(texts.len() * d);
    for text in texts {
        states.extend_from_slice(&hidden[start * d..][..d]);
        start += text.len();
    }
    states
}

impl std::fmt::Debug for HostBert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostBert")
            .field("layers", &self.layers.len())
            .field("d_model", &self.d)
            .finish_non_exhaustive()
    }
}
