//! The BERT encoder as a burn module (post-norm layers, absolute positions, GELU).
//!
//! Field names follow the Hugging Face checkpoint, so that two renames load it (`weights.rs`).
//! Hidden states are kept as `[batch * seq, d_model]`: everything but attention works on single
//! tokens, and a two-dimensional product is one call into the matrix kernel.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::config::BertShape;
use crate::device::DeviceKind;
use crate::error::EncoderError;
use crate::kernels;

/// Who computes softmax and GELU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elementwise {
    /// burn's own operations.
    Device,
    /// [`kernels`], on a device whose tensors live in host memory.
    Host,
}

impl From<DeviceKind> for Elementwise {
    fn from(device: DeviceKind) -> Self {
        match device {
            DeviceKind::Flex => Elementwise::Host,
            DeviceKind::Ndarray | DeviceKind::Wgpu => Elementwise::Device,
        }
    }
}

#[derive(Module, Debug)]
pub(crate) struct Bert {
    embeddings: Embeddings,
    encoder: Stack,
}

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Stack {
    layer: Vec<Layer>,
}

#[derive(Module, Debug)]
struct Layer {
    attention: Attention,
    intermediate: Dense,
    output: DenseNorm,
}

#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: DenseNorm,
    heads: usize,
}

#[derive(Module, Debug)]
struct Dense {
    dense: Linear,
}

#[derive(Module, Debug)]
struct DenseNorm {
    dense: Linear,
    layer_norm: LayerNorm,
}

/// What makes a cross-encoder of a BERT: pooler and classifier with one label.
#[derive(Module, Debug)]
pub(crate) struct Head {
    pooler: Dense,
    classifier: Linear,
}

impl Head {
    /// Logits `[batch, 1]` of CLS states `[batch, d_model]`.
    pub(crate) fn forward(&self, cls: Tensor<2>) -> Tensor<2> {
        self.classifier
            .forward(self.pooler.dense.forward(cls).tanh())
    }
}

/// One padded batch of token ids.
pub(crate) struct PaddedBatch<'a> {
    /// `[batch * seq]`, padded with anything valid.
    pub(crate) ids: Vec<i64>,
    /// `[batch * seq]`, 0 in the first text of a pair and 1 in the second; `None` for single texts.
    pub(crate) kinds: Option<Vec<i64>>,
    /// Tokens of each text, at most `seq`.
    pub(crate) lengths: &'a [usize],
    /// Padded length.
    pub(crate) seq: usize,
}

/// What a forward pass yields.
pub(crate) struct Forward {
    /// Last hidden states, `[batch * seq, d_model]`.
    pub(crate) hidden: Tensor<2>,
    /// CLS state after each layer, `[batch, d_model]` each; empty unless asked for.
    pub(crate) cls_layers: Vec<Tensor<2>>,
}

impl BertShape {
    pub(crate) fn init(&self, device: &Device) -> Bert {
        let d = self.hidden_size;
        let norm = || {
            LayerNormConfig::new(d)
                .with_epsilon(self.layer_norm_eps)
                .init(device)
        };
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let embedding = |n| EmbeddingConfig::new(n, d).init(device);
        let layer = || Layer {
            attention: Attention {
                query: linear(d, d),
                key: linear(d, d),
                value: linear(d, d),
                output: DenseNorm {
                    dense: linear(d, d),
                    layer_norm: norm(),
                },
                heads: self.num_attention_heads,
            },
            intermediate: Dense {
                dense: linear(d, self.intermediate_size),
            },
            output: DenseNorm {
                dense: linear(self.intermediate_size, d),
                layer_norm: norm(),
            },
        };
        Bert {
            embeddings: Embeddings {
                word_embeddings: embedding(self.vocab_size),
                position_embeddings: embedding(self.max_position_embeddings),
                token_type_embeddings: embedding(self.type_vocab_size),
                layer_norm: norm(),
            },
            encoder: Stack {
                layer: (0..self.num_hidden_layers).map(|_| layer()).collect(),
            },
        }
    }
}

impl BertShape {
    pub(crate) fn init_head(&self, device: &Device) -> Head {
        let d = self.hidden_size;
        Head {
            pooler: Dense {
                dense: LinearConfig::new(d, d).init(device),
            },
            classifier: LinearConfig::new(d, 1).init(device),
        }
    }
}

impl Bert {
    /// Input word embeddings, `[vocab_size, d_model]`.
    pub(crate) fn word_embeddings(&self) -> Tensor<2> {
        self.embeddings.word_embeddings.weight.val()
    }

    pub(crate) fn forward(
        &self,
        batch: PaddedBatch<'_>,
        elementwise: Elementwise,
        cls_layers: bool,
    ) -> Result<Forward, EncoderError> {
        let (n, seq) = (batch.lengths.len(), batch.seq);
        let mask = Mask::new(&batch, elementwise, &self.word_embeddings().device());
        let mut hidden = self.embeddings.forward(batch.ids, batch.kinds, n, seq);
        let [_, d] = hidden.dims();
        let mut cls = Vec::new();
        for layer in &self.encoder.layer {
            hidden = layer.forward(hidden, &mask)?;
            if cls_layers {
                let states = hidden.clone().reshape([n, seq * d]);
                cls.push(states.slice([0..n, 0..d]));
            }
        }
        Ok(Forward {
            hidden,
            cls_layers: cls,
        })
    }
}

impl Embeddings {
    fn forward(&self, ids: Vec<i64>, kinds: Option<Vec<i64>>, n: usize, seq: usize) -> Tensor<2> {
        let rows = |table: &Embedding, rows: Vec<i64>| {
            let table = table.weight.val();
            let rows = TensorData::new(rows, [n * seq]);
            let rows = Tensor::<1, Int>::from_data(rows, &table.device());
            let [_, d] = table.dims();
            table.select(0, rows).reshape([n, seq, d])
        };
        let words = rows(&self.word_embeddings, ids);
        let [_, _, d] = words.dims();
        let positions = self.position_embeddings.weight.val().slice([0..seq, 0..d]);
        let input = match kinds {
            None => {
                let kind = self.token_type_embeddings.weight.val().slice([0..1, 0..d]);
                words + (positions + kind).unsqueeze::<3>()
            }
            Some(kinds) => {
                let kinds = rows(&self.token_type_embeddings, kinds);
                words + kinds + positions.unsqueeze::<3>()
            }
        };
        self.layer_norm.forward(input.reshape([n * seq, d]))
    }
}

/// The shape of a batch and its padding, in the form that the attention of this device needs.
struct Mask<'a> {
    n: usize,
    seq: usize,
    lengths: &'a [usize],
    elementwise: Elementwise,
    /// Added to the scores on devices that compute softmax themselves: `[n, 1, 1, seq]`, very
    /// negative at padding; `None` when nothing is padded.
    bias: Option<Tensor<4>>,
}

impl<'a> Mask<'a> {
    fn new(batch: &PaddedBatch<'a>, elementwise: Elementwise, device: &Device) -> Self {
        let (n, seq) = (batch.lengths.len(), batch.seq);
        let padded = batch.lengths.iter().any(|length| *length < seq);
        let bias = (padded && elementwise == Elementwise::Device).then(|| {
            let columns = batch
                .lengths
                .iter()
                .flat_map(|&length| (0..seq).map(move |i| if i < length { 0.0f32 } else { -1e9 }));
            let data = TensorData::new(columns.collect::<Vec<f32>>(), [n, 1, 1, seq]);
            Tensor::from_data(data, device)
        });
        Mask {
            n,
            seq,
            lengths: batch.lengths,
            elementwise,
            bias,
        }
    }
}

impl Layer {
    fn forward(&self, hidden: Tensor<2>, mask: &Mask<'_>) -> Result<Tensor<2>, EncoderError> {
        let attended = self.attention.forward(hidden, mask)?;
        let wide = self.intermediate.dense.forward(attended.clone());
        let wide = match mask.elementwise {
            Elementwise::Device => gelu(wide),
            Elementwise::Host => kernels::on_host(wide, kernels::gelu)?,
        };
        Ok(self.output.forward(wide, attended))
    }
}

impl DenseNorm {
    fn forward(&self, input: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        self.layer_norm
            .forward(self.dense.forward(input) + residual)
    }
}

impl Attention {
    fn forward(&self, hidden: Tensor<2>, mask: &Mask<'_>) -> Result<Tensor<2>, EncoderError> {
        let [tokens, d] = hidden.dims();
        let (n, seq, heads) = (mask.n, mask.seq, self.heads);
        let head_dim = d / heads;
        let split = |linear: &Linear| {
            linear
                .forward(hidden.clone())
                .reshape([n, seq, heads, head_dim])
                .swap_dims(1, 2)
        };
        let (query, key, value) = (split(&self.query), split(&self.key), split(&self.value));
        // `[n, heads, seq, seq]`; keys as a transposed view, which the product reads in place.
        let scores = query.matmul(key.swap_dims(2, 3));
        let scale = 1.0 / (head_dim as f32).sqrt();
        let weights = match mask.elementwise {
            Elementwise::Host => kernels::on_host(scores, |scores| {
                kernels::masked_softmax(scores, seq, heads * seq, mask.lengths, scale);
            })?,
            Elementwise::Device => {
                let scores = scores.mul_scalar(scale);
                let scores = match &mask.bias {
                    Some(bias) => scores + bias.clone(),
                    None => scores,
                };
                softmax(scores, 3)
            }
        };
        let context = weights.matmul(value).swap_dims(1, 2).reshape([tokens, d]);
        Ok(self.output.forward(context, hidden))
    }
}
