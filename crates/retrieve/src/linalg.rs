//! Small vector helpers.

/// Scalar product. Sixteen partial sums, so that the compiler can use vector registers (it may not
/// reorder a plain float sum).
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    pulp::Arch::new().dispatch(Dot(a, b))
}

/// [`dot`], compiled for the widest registers of this processor.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl pulp::NullaryFnOnce for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let (a16, a_rest) = self.0.as_chunks::<16>();
        let (b16, b_rest) = self.1.as_chunks::<16>();
        let mut sums = [0.0f32; 16];
        for (x, y) in a16.iter().zip(b16) {
            for i in 0..16 {
                sums[i] += x[i] * y[i];
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// Euclidean norm.
pub fn norm(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}

/// Scales `a` to length one; a vector of (almost) no length stays as it is.
pub fn normalise(a: &mut [f32]) {
    let n = norm(a);
    if n > 1e-9 {
        a.iter_mut().for_each(|x| *x /= n);
    }
}
