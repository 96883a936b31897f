//! Small symmetric matrices in double precision.

use crate::error::InvalidValue;

/// Relative to the largest eigenvalue, how far below 0 one may be by rounding.
const TOLERANCE: f64 = 1e-6;

/// The sweeps of Jacobi's method. It converges quadratically; six suffice for a hundred rows.
const SWEEPS: usize = 30;

/// Returns a matrix of zeros but for its diagonal.
pub(super) fn diagonal<const K: usize>(values: [f32; K]) -> [[f32; K]; K] {
    let mut matrix = [[0.0; K]; K];
    for i in 0..K {
        matrix[i][i] = values[i];
    }
    matrix
}

/// Returns the symmetric part of a matrix.
pub(super) fn symmetric<const K: usize>(matrix: &[[f32; K]; K]) -> [[f64; K]; K] {
    let half = |i: usize, j: usize| 0.5 * f64::from(matrix[i][j]);
    std::array::from_fn(|i| std::array::from_fn(|j| half(i, j) + half(j, i)))
}

/// Refuses a matrix that is not finite or not symmetric.
fn check_symmetric<const K: usize>(
    field: &'static str,
    matrix: &[[f32; K]; K],
    expected: &str,
) -> Result<(), InvalidValue> {
    for i in 0..K {
        for j in 0..K {
            let (a, b) = (matrix[i][j], matrix[j][i]);
            if !a.is_finite() {
                return Err(InvalidValue::new(field, format_args!("a matrix with {a} at ({i}, {j})"), expected));
            }
            if (a - b).abs() > 1e-6 * (a.abs() + b.abs()) {
                let value = format_args!("a matrix with {a} at ({i}, {j}) but {b} at ({j}, {i})");
                return Err(InvalidValue::new(field, value, expected));
            }
        }
    }
    Ok(())
}

/// Refuses a matrix that is not symmetric and positive definite.
pub(super) fn check_definite<const K: usize>(field: &'static str, matrix: &[[f32; K]; K]) -> Result<(), InvalidValue> {
    let expected = "symmetric, positive definite and finite";
    check_symmetric(field, matrix, expected)?;
    match cholesky(&mut symmetric(matrix)) {
        Ok(()) => Ok(()),
        Err((i, pivot)) => {
            Err(InvalidValue::new(field, format_args!("a matrix whose pivot {i} is {pivot:.3e}"), expected))
        }
    }
}

/// Refuses a matrix that is not symmetric and positive semidefinite.
pub(super) fn check_semidefinite<const K: usize>(
    field: &'static str,
    matrix: &[[f32; K]; K],
) -> Result<(), InvalidValue> {
    let expected = "symmetric, positive semidefinite and finite";
    check_symmetric(field, matrix, expected)?;
    let mut values = symmetric(matrix).as_flattened().to_vec();
    diagonalize(&mut values, &mut vec![0.0; K * K]);
    let eigenvalues = || values.iter().step_by(K + 1);
    let least = eigenvalues().fold(f64::INFINITY, |least, value| least.min(*value));
    let largest = eigenvalues().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if least < -TOLERANCE * largest {
        return Err(InvalidValue::new(field, format_args!("a matrix with the eigenvalue {least:.3e}"), expected));
    }
    Ok(())
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor L. Returns the index of a pivot that is not
/// positive and finite, and the pivot, if there is one.
#[inline(always)]
pub(super) fn cholesky<const K: usize>(matrix: &mut [[f64; K]; K]) -> Result<(), (usize, f64)> {
    for i in 0..K {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let left = matrix[i][j] - dot;
            if i > j {
                matrix[i][j] = left / matrix[j][j];
            } else if left > 0.0 && left.is_finite() {
                matrix[i][i] = left.sqrt();
            } else {
                return Err((i, left));
            }
        }
    }
    Ok(())
}

/// Solves L Lᵀ X = B in place, given L.
#[inline(always)]
pub(super) fn solve<const K: usize, const C: usize>(l: &[[f64; K]; K], b: &mut [[f64; C]; K]) {
    for i in 0..K {
        for k in 0..i {
            let (factor, row) = (l[i][k], b[k]);
            b[i].iter_mut().zip(row).for_each(|(b, above)| *b -= factor * above);
        }
        b[i].iter_mut().for_each(|b| *b /= l[i][i]);
    }
    for i in (0..K).rev() {
        for k in i + 1..K {
            let (factor, row) = (l[k][i], b[k]);
            b[i].iter_mut().zip(row).for_each(|(b, below)| *b -= factor * below);
        }
        b[i].iter_mut().for_each(|b| *b /= l[i][i]);
    }
}

/// Replaces a symmetric matrix, row by row, by the nearest one that is positive semidefinite (in the Frobenius norm):
/// negative eigenvalues become 0. `scratch` is as large.
pub(super) fn project(matrix: &mut [f64], scratch: &mut [f64]) {
    scratch.copy_from_slice(matrix);
    if is_semidefinite(scratch) {
        return;
    }
    let n = matrix.len().isqrt();
    diagonalize(matrix, scratch);
    // Eigenvectors are the rows of `scratch`. Scaled by the roots of their eigenvalues, their products are the matrix.
    for k in 0..n {
        let root = matrix[k * n + k].max(0.0).sqrt();
        scratch[k * n..][..n].iter_mut().for_each(|v| *v *= root);
    }
    for i in 0..n {
        for j in 0..n {
            matrix[i * n + j] = (0..n).map(|k| scratch[k * n + i] * scratch[k * n + j]).sum();
        }
    }
}

/// Whether a symmetric matrix is positive semidefinite, by elimination, which takes a small part of the time that its
/// eigenvalues take. False in case of doubt. The matrix is overwritten.
fn is_semidefinite(matrix: &mut [f64]) -> bool {
    let n = matrix.len().isqrt();
    let tolerance = TOLERANCE * (0..n).fold(0.0, |largest: f64, i| largest.max(matrix[i * n + i]));
    for k in 0..n {
        let pivot = matrix[k * n + k];
        if pivot <= tolerance {
            // The row must be 0, too.
            if pivot < 0.0 || (k + 1..n).any(|i| matrix[i * n + k].abs() > TOLERANCE * tolerance) {
                return false;
            }
            continue;
        }
        for i in k + 1..n {
            let factor = matrix[i * n + k] / pivot;
            for j in k + 1..=i {
                matrix[i * n + j] -= factor * matrix[j * n + k];
            }
        }
    }
    true
}

/// Diagonalizes a symmetric matrix, row by row, by Jacobi's rotations: its eigenvalues are on the diagonal, and the
/// rows of `vectors` are the eigenvectors. (G. Golub, C. Van Loan, *Matrix Computations*, section 8.5.)
fn diagonalize(matrix: &mut [f64], vectors: &mut [f64]) {
    let n = matrix.len().isqrt();
    vectors.fill(0.0);
    vectors.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    let size: f64 = matrix.iter().map(|v| v * v).sum();
    for _ in 0..SWEEPS {
        let off_diagonal = |(i, j): (usize, usize)| matrix[i * n + j] * matrix[i * n + j];
        let pairs = || (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        if pairs().map(off_diagonal).sum::<f64>() <= 1e-26 * size {
            break;
        }
        for (p, q) in pairs() {
            let entry = matrix[p * n + q];
            if entry == 0.0 {
                continue;
            }
            let ratio = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * entry);
            let tangent = ratio.signum() / (ratio.abs() + ratio.hypot(1.0));
            let cosine = 1.0 / tangent.hypot(1.0);
            let sine = tangent * cosine;
            for k in 0..n {
                rotate(matrix, (k * n + p, k * n + q), cosine, sine);
            }
            for k in 0..n {
                rotate(matrix, (p * n + k, q * n + k), cosine, sine);
                rotate(vectors, (p * n + k, q * n + k), cosine, sine);
            }
        }
    }
}

/// Rotates the vector of two entries.
fn rotate(matrix: &mut [f64], (p, q): (usize, usize), cosine: f64, sine: f64) {
    let (a, b) = (matrix[p], matrix[q]);
    (matrix[p], matrix[q]) = (cosine * a - sine * b, sine * a + cosine * b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::Random;

    /// VᵀΛV with the rows of a random orthogonal matrix V.
    fn with_eigenvalues<const K: usize>(random: &mut Random, eigenvalues: [f64; K]) -> Vec<f64> {
        let mut v: [[f64; K]; K] = [(); K].map(|()| [(); K].map(|()| f64::from(random.normal())));
        for i in 0..K {
            for j in 0..i {
                let dot: f64 = (0..K).map(|k| v[i][k] * v[j][k]).sum();
                for k in 0..K {
                    v[i][k] -= dot * v[j][k];
                }
            }
            let length = v[i].iter().map(|v| v * v).sum::<f64>().sqrt();
            v[i].iter_mut().for_each(|v| *v /= length);
        }
        let entry = |i: usize, j: usize| (0..K).map(|k| eigenvalues[k] * v[k][i] * v[k][j]).sum();
        (0..K * K).map(|ij| entry(ij / K, ij % K)).collect()
    }

    #[test]
    fn a_projection_drops_negative_eigenvalues_and_nothing_else() {
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-11);
        for seed in 0..20 {
            let negative = [5.0, 2.0, 2.0, 0.0, -1e-3, -1.0, -7.0];
            let indefinite = with_eigenvalues(&mut Random::new(seed), negative);
            let positive = with_eigenvalues(&mut Random::new(seed), negative.map(|value| value.max(0.0)));
            let mut projected = indefinite.clone();
            project(&mut projected, &mut vec![0.0; 49]);
            assert!(near(&projected, &positive), "{projected:?}, but must be {positive:?}");
            let again = projected.clone();
            project(&mut projected, &mut vec![0.0; 49]);
            assert!(near(&projected, &again));
        }
        let rotation = [0.0, 3.0, 3.0, 0.0];
        let mut projected = rotation;
        project(&mut projected, &mut [0.0; 4]);
        assert!(near(&projected, &[1.5; 4]), "{projected:?}");
    }

    #[test]
    fn a_matrix_that_is_semidefinite_is_not_changed() {
        for diagonal in [[1.0, 0.0, 3.0], [0.0; 3], [1e-9, 1e9, 0.0]] {
            let mut matrix = [0.0; 9];
            (0..3).for_each(|i| matrix[4 * i] = diagonal[i]);
            let before = matrix;
            project(&mut matrix, &mut [0.0; 9]);
            assert_eq!(matrix, before);
        }
    }

    #[test]
    fn a_system_is_solved_by_its_factor() {
        let matrix = [[4.0, 2.0, 0.5], [2.0, 3.0, -1.0], [0.5, -1.0, 2.0]];
        let x = [[1.0, -2.0], [0.5, 4.0], [3.0, 0.25]];
        let mut b: [[f64; 2]; 3] =
            std::array::from_fn(|i| std::array::from_fn(|c| (0..3).map(|k| matrix[i][k] * x[k][c]).sum()));
        let mut l = matrix;
        cholesky(&mut l).unwrap();
        solve(&l, &mut b);
        assert!(b.as_flattened().iter().zip(x.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-14), "{b:?}");
        assert_eq!(cholesky(&mut [[1.0, 1.0], [1.0, 1.0]]), Err((1, 0.0)));
    }
}
