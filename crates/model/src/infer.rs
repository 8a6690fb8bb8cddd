//! One collection's model for inference: plain slices in and out (DESIGN.md section 3).

use burn::tensor::{Bool, Device, Tensor, TensorData, Transaction};
use moerag_encoder::DeviceKind;
use moerag_retrieve::BEST_SCORES;
use ndarray::ArrayView2;

use crate::batch::columns;
use crate::classifier::LinearClassifier;
use crate::error::ModelError;
use crate::features::GateFeatures;
use crate::feedback::{Feedback, keep_first, sharpened};
use crate::gate::Routing;
use crate::mixture::{Mixture, MixtureOutput};
use crate::named::favour;
use crate::prior::{FIRST_STAGE_HEADS, HEAD_COLUMNS, NUM_VIEWS, QUERY_TYPES};
use crate::weights::{CollectionWeights, GATE_FEATURES};

/// A query with its candidates' views.
#[derive(Clone, Copy, Debug)]
pub struct AttendInput<'a> {
    /// z-scored views of the candidates, `[n, 13]`; `n` may be 0.
    pub z: ArrayView2<'a, f32>,
    /// `moerag_retrieve::gate_inputs`, `[56]`.
    pub gate_inputs: &'a [f32],
    /// What the feedback head reads; `None` for a collection without a latent space. Sparse routing
    /// chooses among the heads of the first stage and does not look at it.
    pub feedback: Option<&'a Feedback>,
    /// Whether the query names the title of each candidate, `[n]`; empty stands for none.
    pub named: &'a [bool],
    /// The pooled query vector, `[d_model]`.
    pub query_vector: &'a [f32],
}

/// What the model attends to, over `n` candidates in the order given.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// `softmax(alpha ln A)`, `[n]`, sums to 1.
    pub attn_weight: Vec<f32>,
    /// `A`, `[n]`, sums to 1.
    pub mixture: Vec<f32>,
    /// `g`, `[heads]`, sums to 1; in the order of [`crate::HEADS`], without the linear head where it takes no
    /// part.
    pub head_weights: Vec<f32>,
    /// Each head's own attention, `[heads][n]`, each sums to 1.
    pub head_attn: Vec<Vec<f32>>,
    /// Posterior of the six overlap levels.
    pub levels: Vec<f32>,
    /// Posterior of the eight query types; uniform when the classifier is untrained.
    pub types: Vec<f32>,
}

impl Attention {
    /// Share of each head in candidate `row`: `g_h a_h / A`, sums to 1 (to 0 where no head
    /// in use gives it any attention that f32 can hold).
    pub fn contributions(&self, row: usize) -> Vec<f32> {
        let mut shares: Vec<f32> = self
            .head_weights
            .iter()
            .zip(&self.head_attn)
            .map(|(weight, attn)| weight * attn[row])
            .collect();
        let total: f32 = shares.iter().sum();
        if total > 0.0 {
            shares.iter_mut().for_each(|share| *share /= total);
        }
        shares
    }

    /// Makes mixture and weights those of the heads and the gate as they are; the gate need not sum to 1.
    pub(crate) fn remix(&mut self, alpha: f32) {
        let total: f32 = self.head_weights.iter().sum();
        for (row, a) in self.mixture.iter_mut().enumerate() {
            let heads = self.head_weights.iter().zip(&self.head_attn);
            *a = heads.map(|(g, attn)| g * attn[row]).sum::<f32>() / total;
        }
        self.attn_weight = sharpened(&self.mixture, alpha);
    }
}

/// A collection's model on a device. `Send + Sync`; a request shares it through an `Arc`.
#[derive(Debug)]
pub struct CollectionModel {
    mixture: Mixture,
    features: GateFeatures,
    types: Option<LinearClassifier>,
    device: Device,
    row_step: usize,
    alpha: f32,
    heads: usize,
    feedback_head: Option<usize>,
    /// What the linear head takes of the weights of the first stage; 0 without one.
    linear_share: f32,
}

impl CollectionModel {
    /// Puts weights on a device.
    ///
    /// # Errors
    ///
    /// [`ModelError::Device`] when the device is not there.
    pub fn load(weights: &CollectionWeights, kind: DeviceKind) -> Result<Self, ModelError> {
        let device = kind.device()?;
        Ok(Self {
            mixture: Mixture::from_weights(weights, &device).fixed(),
            features: weights.gate_features(),
            types: weights.type_classifier(),
            device,
            // A GPU backend compiles and tunes per shape; a few row counts keep that bounded.
            row_step: if kind == DeviceKind::Wgpu { 64 } else { 1 },
            alpha: weights.alpha(),
            heads: weights.heads(),
            feedback_head: weights.feedback_head(),
            linear_share: weights.linear().map_or(0.0, |(_, share)| share),
        })
    }

    /// Width of the query vectors it reads; 0 when the type classifier is untrained and any will do.
    pub fn query_dim(&self) -> usize {
        self.types.as_ref().map_or(0, |types| types.inputs)
    }

    /// How sharply the mixture is read: `alpha`.
    pub fn alpha(&self) -> f32 {
        self.alpha
    }

    /// Standard deviation of the best raw scores over the collection's synthetic queries; `None` for
    /// weights that have seen none.
    pub(crate) fn score_spread(&self) -> Option<[f32; BEST_SCORES.len()]> {
        let spread = BEST_SCORES.map(|at| self.features.standardiser.sd[at]);
        spread.iter().any(|sd| *sd != 1.0).then_some(spread)
    }

    /// In-head weights, `[heads][14]`, each row summing to 1.
    ///
    /// # Errors
    ///
    /// [`ModelError::Compute`] when the device fails.
    pub fn view_weights(&self) -> Result<Vec<Vec<f32>>, ModelError> {
        let weights = self.mixture.heads.view_weights();
        let flat = weights
            .try_into_vec_as::<f32>()
            .map_err(ModelError::compute)?;
        Ok(flat.chunks(HEAD_COLUMNS).map(<[f32]>::to_vec).collect())
    }

    /// Attends to the candidates of one query.
    ///
    /// # Errors
    ///
    /// Wrong lengths, values that are not finite, a bad `routing`, or a device failure.
    pub fn attend(
        &self,
        input: &AttendInput<'_>,
        routing: Routing,
    ) -> Result<Attention, ModelError> {
        let mut one = self.attend_batch(std::slice::from_ref(input), routing)?;
        one.pop().ok_or(ModelError::BadLength {
            field: "queries",
            expected: 1,
            found: 0,
        })
    }

    /// Attends for several queries in one forward pass; the result does not depend on the batch
    /// beyond rounding.
    ///
    /// # Errors
    ///
    /// As [`Self::attend`].
    pub fn attend_batch(
        &self,
        inputs: &[AttendInput<'_>],
        routing: Routing,
    ) -> Result<Vec<Attention>, ModelError> {
        routing.validate(FIRST_STAGE_HEADS)?;
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let mut x = Vec::with_capacity(inputs.len() * GATE_FEATURES);
        let mut posteriors = Vec::with_capacity(inputs.len());
        let mut log_mass = Vec::with_capacity(inputs.len());
        for input in inputs {
            let feedback = input.feedback.filter(|_| routing == Routing::Soft);
            log_mass.push(Feedback::log_mass(feedback));
            let (features, levels) = self.features.apply(input.gate_inputs)?;
            x.extend(features);
            posteriors.push((levels, self.types_of(input.query_vector)?));
        }
        let x = self.tensor(x, [inputs.len(), GATE_FEATURES]);
        let log_mass = self.tensor(log_mass, [inputs.len(), 1]);
        let gate = self.mixture.gate.forward(x, log_mass);
        let gate = self.route(gate, inputs.len(), routing)?;
        let rows = inputs
            .iter()
            .map(|input| input.z.nrows())
            .max()
            .unwrap_or(0);
        if rows == 0 {
            let gate = host(gate)?;
            return Ok(gate
                .chunks(self.heads)
                .zip(posteriors)
                .map(|(gate, (levels, types))| {
                    let gate = self.head_weights(gate, routing == Routing::Soft);
                    without_candidates(gate, levels, types)
                })
                .collect());
        }
        let (z, mask) = self.pad(inputs, rows.next_multiple_of(self.row_step))?;
        let output = match routing {
            Routing::Soft => self.mixture.forward_gated(z, mask, gate),
            _ => self.mixture.forward_sparse(z, mask, gate),
        };
        self.read(output, inputs, posteriors)
    }

    /// The same heads under another gate `[heads]`: what routing by another query, or by no query,
    /// would have given.
    #[must_use]
    pub fn regated(&self, attention: &Attention, gate: &[f32]) -> Attention {
        let mut attention = attention.clone();
        attention.head_weights = gate.to_vec();
        attention.remix(self.alpha);
        if let Some(head) = self.feedback_head {
            keep_first(&mut attention, head, self.alpha);
        }
        attention
    }

    /// The weights of all heads, after the linear one has taken its share where it takes part.
    fn head_weights(&self, gate: &[f32], soft: bool) -> Vec<f32> {
        let mut weights = gate.to_vec();
        if !(soft && self.linear_share > 0.0) {
            return weights;
        }
        let mut taken = 0.0;
        for (head, weight) in weights.iter_mut().enumerate() {
            if Some(head) != self.feedback_head {
                taken += self.linear_share * *weight;
                *weight -= self.linear_share * *weight;
            }
        }
        weights.push(taken);
        weights
    }

    fn types_of(&self, query_vector: &[f32]) -> Result<Vec<f32>, ModelError> {
        let Some(types) = &self.types else {
            return Ok(vec![1.0 / QUERY_TYPES.len() as f32; QUERY_TYPES.len()]);
        };
        if query_vector.len() != types.inputs {
            return Err(ModelError::BadLength {
                field: "query_vector",
                expected: types.inputs,
                found: query_vector.len(),
            });
        }
        if query_vector.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::NonFiniteInput("query_vector"));
        }
        Ok(types.posterior(query_vector))
    }

    /// Sparse routing goes through the host: eight numbers a query.
    fn route(
        &self,
        gate: Tensor<2>,
        batch: usize,
        routing: Routing,
    ) -> Result<Tensor<2>, ModelError> {
        if routing == Routing::Soft {
            return Ok(gate);
        }
        let mut weights = host(gate)?;
        weights
            .chunks_mut(self.heads)
            .for_each(|row| routing.apply(row));
        Ok(self.tensor(weights, [batch, self.heads]))
    }

    /// Pads to `rows`; the mask is left out when nothing is padded.
    fn pad(
        &self,
        inputs: &[AttendInput<'_>],
        rows: usize,
    ) -> Result<(Tensor<3>, Option<Tensor<2, Bool>>), ModelError> {
        let batch = inputs.len();
        let mut z = vec![0.0; batch * rows * HEAD_COLUMNS];
        let mut mask = Vec::with_capacity(batch * rows);
        for (input, slots) in inputs.iter().zip(z.chunks_mut(rows * HEAD_COLUMNS)) {
            if input.z.ncols() != NUM_VIEWS {
                return Err(ModelError::BadLength {
                    field: "z columns",
                    expected: NUM_VIEWS,
                    found: input.z.ncols(),
                });
            }
            if let Some(feedback) = input.feedback
                && feedback.view.len() != input.z.nrows()
            {
                return Err(ModelError::BadLength {
                    field: "feedback",
                    expected: input.z.nrows(),
                    found: feedback.view.len(),
                });
            }
            if !input.named.is_empty() && input.named.len() != input.z.nrows() {
                return Err(ModelError::BadLength {
                    field: "named",
                    expected: input.z.nrows(),
                    found: input.named.len(),
                });
            }
            columns(slots, input.z, input.feedback);
            mask.resize(mask.len() + input.z.nrows(), true);
            mask.resize(mask.len() + rows - input.z.nrows(), false);
        }
        if z.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::NonFiniteInput("z"));
        }
        let mask = mask
            .contains(&false)
            .then(|| Tensor::from_data(TensorData::new(mask, [batch, rows]), &self.device));
        Ok((self.tensor(z, [batch, rows, HEAD_COLUMNS]), mask))
    }

    fn read(
        &self,
        output: MixtureOutput,
        inputs: &[AttendInput<'_>],
        posteriors: Vec<(Vec<f32>, Vec<f32>)>,
    ) -> Result<Vec<Attention>, ModelError> {
        let attn = output.attn();
        let [_, rows] = attn.dims();
        // One transaction: on a GPU every read waits for the device.
        let read = Transaction::default()
            .register(attn)
            .register(output.log_mixture)
            .register(output.gate)
            .register(output.head_log_attn.swap_dims(1, 2));
        let read = match output.linear_log_attn {
            None => read,
            Some(linear) => read.register(linear),
        };
        let read = read.try_execute().map_err(ModelError::compute)?;
        let read: Result<Vec<Vec<f32>>, _> = read
            .into_iter()
            .map(|data| data.try_into_vec_as::<f32>())
            .collect();
        let read = read.map_err(ModelError::compute)?;
        let [attn, log_mixture, gate, head_log_attn, linear @ ..] = &read[..] else {
            return Err(ModelError::compute(
                "the device returned another number of tensors",
            ));
        };
        let mut results = Vec::with_capacity(inputs.len());
        for (query, (input, (levels, types))) in inputs.iter().zip(posteriors).enumerate() {
            let n = input.z.nrows();
            let gate = &gate[query * self.heads..][..self.heads];
            let gate = self.head_weights(gate, !linear.is_empty());
            if n == 0 {
                results.push(without_candidates(gate, levels, types));
                continue;
            }
            let heads = &head_log_attn[query * self.heads * rows..][..self.heads * rows];
            let linear = linear.iter().map(|linear| &linear[query * rows..][..rows]);
            let mut attention = Attention {
                attn_weight: attn[query * rows..][..n].to_vec(),
                mixture: log_mixture[query * rows..][..n]
                    .iter()
                    .map(|log| log.exp())
                    .collect(),
                head_weights: gate,
                head_attn: heads
                    .chunks(rows)
                    .chain(linear)
                    .map(|head| head[..n].iter().map(|log| log.exp()).collect())
                    .collect(),
                levels,
                types,
            };
            favour(&mut attention, input.named, self.alpha);
            if let Some(head) = self.feedback_head {
                keep_first(&mut attention, head, self.alpha);
            }
            if attention
                .attn_weight
                .iter()
                .chain(&attention.head_weights)
                .any(|v| !v.is_finite())
            {
                return Err(ModelError::compute("attention weights are not finite"));
            }
            results.push(attention);
        }
        Ok(results)
    }

    fn tensor<const D: usize>(&self, data: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(data, shape), &self.device)
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ModelError> {
    tensor.try_into_vec_as::<f32>().map_err(ModelError::compute)
}

/// The gate's decision stands even when there is nothing to attend to.
fn without_candidates(gate: Vec<f32>, levels: Vec<f32>, types: Vec<f32>) -> Attention {
    Attention {
        attn_weight: Vec::new(),
        mixture: Vec::new(),
        head_attn: vec![Vec::new(); gate.len()],
        head_weights: gate,
        levels,
        types,
    }
}
