//! Logistic regression on a few features: the simple baseline that a score is held against.

/// Ridge on the weights of standardised features.
const RIDGE: f64 = 1.0;
const STEPS: usize = 50;

/// Weights, one a feature, and the constant; with what standardises the features.
#[derive(Debug, Clone)]
pub(super) struct Logistic {
    means: Vec<f64>,
    deviations: Vec<f64>,
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits by Newton's method. `rows` are features, all of one length.
    pub(super) fn fit(rows: &[&[f64]], positive: &[bool]) -> Self {
        let width = rows.first().map_or(0, |row| row.len());
        let count = rows.len().max(1) as f64;
        let means: Vec<f64> = (0..width).map(|at| rows.iter().map(|row| row[at]).sum::<f64>() / count).collect();
        let deviation = |at: usize| {
            let squares = rows.iter().map(|row| (row[at] - means[at]).powi(2)).sum::<f64>();
            (squares / count).sqrt().max(1e-12)
        };
        let deviations = (0..width).map(deviation).collect();
        let mut model = Self { means, deviations, weights: vec![0.0; width + 1] };
        let features: Vec<Vec<f64>> = rows.iter().map(|row| model.standardised(row)).collect();
        for _ in 0..STEPS {
            let step = model.newton(&features, positive);
            let size = step.iter().map(|value| value.abs()).fold(0.0, f64::max);
            model.weights.iter_mut().zip(&step).for_each(|(weight, step)| *weight += step);
            if size < 1e-9 {
                break;
            }
        }
        model
    }

    /// The logarithm of the odds.
    pub(super) fn score(&self, row: &[f64]) -> f64 {
        product(&self.weights, &self.standardised(row))
    }

    fn standardised(&self, row: &[f64]) -> Vec<f64> {
        let features = row.iter().zip(&self.means).zip(&self.deviations);
        features.map(|((value, mean), deviation)| (value - mean) / deviation).chain([1.0]).collect()
    }

    fn newton(&self, features: &[Vec<f64>], positive: &[bool]) -> Vec<f64> {
        let width = self.weights.len();
        let mut gradient: Vec<f64> = self.weights.iter().map(|weight| -RIDGE * weight).collect();
        let mut hessian = vec![vec![0.0; width]; width];
        // The constant is not held back.
        gradient[width - 1] = 0.0;
        (0..width - 1).for_each(|at| hessian[at][at] = RIDGE);
        hessian[width - 1][width - 1] = 1e-9;
        for (row, positive) in features.iter().zip(positive) {
            let chance = 1.0 / (1.0 + (-product(&self.weights, row)).exp());
            let error = f64::from(u8::from(*positive)) - chance;
            for at in 0..width {
                gradient[at] += error * row[at];
                for other in 0..width {
                    hessian[at][other] += chance * (1.0 - chance) * row[at] * row[other];
                }
            }
        }
        solve(hessian, gradient)
    }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves a symmetric positive definite system by Cholesky's decomposition.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for at in 0..size {
        for row in at..size {
            let sum: f64 = (0..at).map(|k| matrix[row][k] * matrix[at][k]).sum();
            let value = matrix[row][at] - sum;
            matrix[row][at] = if row == at { value.max(1e-12).sqrt() } else { value / matrix[at][at] };
        }
    }
    for at in 0..size {
        let sum: f64 = (0..at).map(|k| matrix[at][k] * right[k]).sum();
        right[at] = (right[at] - sum) / matrix[at][at];
    }
    for at in (0..size).rev() {
        let sum: f64 = (at + 1..size).map(|k| matrix[k][at] * right[k]).sum();
        right[at] = (right[at] - sum) / matrix[at][at];
    }
    right
}

/// A model for each of `count` folds, which has seen no row of it.
pub(super) fn by_fold(rows: &[Vec<f64>], positive: &[bool], folds: &[usize], count: usize) -> Vec<Logistic> {
    let without = |fold: usize| {
        let seen = (0..rows.len()).filter(|index| folds[*index] != fold);
        let (train, labels): (Vec<&[f64]>, Vec<bool>) =
            seen.map(|index| (rows[index].as_slice(), positive[index])).unzip();
        Logistic::fit(&train, &labels)
    };
    (0..count).map(without).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cross_validated(rows: &[Vec<f64>], positive: &[bool], folds: &[usize]) -> Vec<f64> {
        let models = by_fold(rows, positive, folds, 10);
        rows.iter().zip(folds).map(|(row, fold)| models[*fold].score(row)).collect()
    }

    #[test]
    fn systems_are_solved() {
        let solved = solve(vec![vec![4.0, 2.0], vec![2.0, 3.0]], vec![10.0, 9.0]);
        assert!((solved[0] - 1.5).abs() < 1e-9 && (solved[1] - 2.0).abs() < 1e-9, "{solved:?}");
    }

    #[test]
    fn the_feature_that_tells_is_found() {
        let rows: Vec<Vec<f64>> =
            (0..200).map(|n| vec![f64::from((n * 7) % 13), if n % 2 == 0 { 100.0 } else { 101.0 }]).collect();
        let positive: Vec<bool> = (0..200).map(|n| n % 2 == 1).collect();
        let folds: Vec<usize> = (0..200).map(|n| n % 5).collect();
        let scores = cross_validated(&rows, &positive, &folds);
        assert!(scores.iter().zip(&positive).all(|(score, positive)| (*score > 0.0) == *positive), "{scores:?}");
    }

    #[test]
    fn noise_tells_nothing() {
        let rows: Vec<Vec<f64>> = (0..300u64).map(|n| vec![((n * 2_654_435_761) % 1000) as f64]).collect();
        let positive: Vec<bool> = (0..300u64).map(|n| (n * 40_503) % 7 < 3).collect();
        let folds: Vec<usize> = (0..300).map(|n| n % 10).collect();
        let scores = cross_validated(&rows, &positive, &folds);
        let clips: Vec<super::super::rank::Ranked<'_>> = scores
            .iter()
            .zip(&positive)
            .map(|(value, positive)| super::super::rank::Ranked { value: *value, positive: *positive, group: "" })
            .collect();
        let area = super::super::rank::auroc(&clips).unwrap();
        assert!((0.35..0.65).contains(&area), "{area}");
    }
}
